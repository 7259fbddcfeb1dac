//! Generic ephemeral volumes: a claim that lives as long as its pod.
//!
//! The claim `<pod>-<volume>` is owned by the pod; one of that name with another owner is not used, and the pod waits.
//! Upstream: pkg/controller/volume/ephemeral.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use stead_api::{Key, Object};
use stead_store::Event;

use crate::facts;
use crate::names::{CLAIM, POD};
use crate::plan::{Action, Controller, Note, Plan, Settles, View, Watch};

pub const CONTROLLER: Controller = Controller {
    name: "ephemeral-volume-controller",
    settles: Settles::Always,
    watches: &[Watch { kind: POD, keys: new_pod }, Watch { kind: CLAIM, keys: pod_of_claim }],
    reconcile,
};

fn is_ephemeral(pod: &Object) -> bool {
    let typed = pod.view::<Pod>();
    typed.spec.as_ref().and_then(|s| s.volumes.as_ref()).into_iter().flatten().any(|v| v.ephemeral.is_some())
}

fn new_pod(_: &View, event: &Event) -> Vec<Key> {
    if event.old.is_none() && is_ephemeral(&event.object) { vec![event.key().clone()] } else { Vec::new() }
}

/// A claim that went leaves its pod without.
fn pod_of_claim(view: &View, event: &Event) -> Vec<Key> {
    let owner = event.object.meta.controller().filter(|owner| event.deleted && owner.kind == "Pod");
    let pod =
        owner.and_then(|owner| view.get(POD, &event.key().namespace, &owner.name)).filter(|pod| is_ephemeral(pod));
    pod.map(|pod| pod.key.clone()).into_iter().collect()
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let Some(pod) = view.snapshot.get(key).filter(|pod| !pod.meta.is_deleting() && is_ephemeral(pod)) else {
        return plan;
    };
    let value = pod.value();
    for volume in facts::list(&value["spec"]["volumes"]).iter().filter(|volume| volume["ephemeral"].is_object()) {
        claim(view, pod, volume, &mut plan);
    }
    plan
}

fn claim(view: &View, pod: &Arc<Object>, volume: &Value, plan: &mut Plan) {
    let name = format!("{}-{}", pod.key.name, volume["name"].as_str().unwrap_or_default());
    if let Some(claim) = view.get(CLAIM, &pod.key.namespace, &name) {
        if !facts::is_controlled_by(claim, &pod.meta.uid) {
            let message = format!("PVC \"{name}\" was not created for pod \"{}\" (pod is not owner)", pod.key.name);
            plan.note(Note::warning(&pod.key, "FailedBinding", message));
        }
        return;
    }
    let template = &volume["ephemeral"]["volumeClaimTemplate"];
    let mut metadata = json!({"name": name, "namespace": &*pod.key.namespace,
        "ownerReferences": [facts::controller_reference("v1", "Pod", pod)]});
    for field in ["labels", "annotations"] {
        if template["metadata"][field].is_object() {
            metadata[field] = template["metadata"][field].clone();
        }
    }
    plan.actions.push(Action::Create {
        kind: CLAIM,
        value: json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": template["spec"]}),
        on_success: None,
        on_failure: Some(Note::warning(&pod.key, "FailedCreate", format!("ephemeral volume controller failed to create PVC {name}: {{error}}"))),
    });
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::fixture::{World, show};

    fn check(more: &str, expected: Expect) {
        let pod = r#"pod web-0 {"spec":{"volumes":[{"name":"tmp","ephemeral":{"volumeClaimTemplate":{"spec":{"accessModes":["ReadWriteOnce"]}}}}]}}"#;
        let world = World::of(&format!("{pod}\n {more}"));
        expected.assert_eq(&show(&world, &reconcile(&world.view(), &Key::new(POD, "default", "web-0"))));
    }

    #[test]
    fn an_ephemeral_volume_gets_its_claim_and_no_other() {
        check(
            "",
            expect![[r#"
            create PersistentVolumeClaim web-0-tmp
        "#]],
        );
        check("pvc web-0-tmp owner=pod:web-0", expect![""]);
        check(
            "pvc web-0-tmp",
            expect![[r#"
            event pods/default/web-0 Warning FailedBinding: PVC "web-0-tmp" was not created for pod "web-0" (pod is not owner)
        "#]],
        );
    }
}
