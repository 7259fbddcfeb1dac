//! Pods leave a node whose NoExecute taints they do not tolerate, or no longer (F-02).
//!
//! The deletion is graceful: the object stays until the node has stopped the pod (F-03).
//! Upstream: pkg/controller/tainteviction.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use serde_json::json;
use stead_api::Key;
use stead_store::Event;

use crate::facts;
use crate::names::{NODE, POD};
use crate::plan::{Controller, Note, Plan, Settles, View, Watch};
use crate::scheduler::tolerates;

pub const CONTROLLER: Controller = Controller {
    name: "taint-eviction-controller",
    settles: Settles::Always,
    watches: &[Watch { kind: NODE, keys: pods_of_node }, Watch { kind: POD, keys: placed_pod }],
    reconcile,
};

fn expelling(node: &Node) -> Vec<Taint> {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_ref());
    taints.into_iter().flatten().filter(|taint| taint.effect == "NoExecute").cloned().collect()
}

fn pods_of_node(view: &View, event: &Event) -> Vec<Key> {
    let taints = |node: &Arc<stead_api::Object>| expelling(&node.view::<Node>());
    if event.deleted || event.old.as_ref().map(taints).unwrap_or_default() == taints(&event.object) {
        return Vec::new();
    }
    let pods = facts::with_field(view, POD, "spec.nodeName", &event.key().name);
    pods.into_iter().map(|pod| pod.key.clone()).collect()
}

fn placed_pod(view: &View, event: &Event) -> Vec<Key> {
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default();
    let pod = event.object.view::<Pod>();
    let name = node(&pod);
    let was_there = event.old.as_ref().is_some_and(|old| node(&old.view::<Pod>()) == name);
    if event.deleted || was_there || name.is_empty() {
        return Vec::new();
    }
    let found = view.get(NODE, "", &name).filter(|node| !expelling(&node.view::<Node>()).is_empty());
    found.map(|_| event.key().clone()).into_iter().collect()
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let Some(object) = view.snapshot.get(key).filter(|pod| !pod.meta.is_deleting()) else { return plan };
    let pod = object.view::<Pod>();
    let Some(spec) = pod.spec.as_ref() else { return plan };
    let Some(node) = view.get(NODE, "", spec.node_name.as_deref().unwrap_or_default()) else { return plan };
    let taints = expelling(&node.view::<Node>());
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let mut leaves: Option<Timestamp> = None;
    for taint in &taints {
        let fitting = || tolerations.iter().filter(|t| tolerates(std::slice::from_ref(t), taint));
        // The shortest time that a toleration gives; one without a time tolerates for ever.
        let seconds =
            if fitting().next().is_none() { Some(0) } else { fitting().filter_map(|t| t.toleration_seconds).min() };
        // A time that has yet to come was told before the clock was set back.
        let since = match taint.time_added.as_ref().map(|t| t.0) {
            Some(at) if at > view.now => view.started,
            at => at.unwrap_or(view.now),
        };
        if let Some(seconds) = seconds {
            let at = facts::after(since, seconds.max(0));
            leaves = Some(leaves.map_or(at, |earlier| earlier.min(at)));
        }
    }
    match leaves {
        None => {}
        Some(at) if at > view.now => plan.wake(at),
        Some(_) => evict(view, object, &mut plan),
    }
    plan
}

fn evict(view: &View, object: &Arc<stead_api::Object>, plan: &mut Plan) {
    let told = facts::pod_condition(&object.view::<Pod>(), "DisruptionTarget").is_some_and(|c| c.status == "True");
    if !told {
        let mut value = object.value();
        let mut conditions = facts::list(&value["status"]["conditions"]).to_vec();
        let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": facts::time(view.now)});
        facts::set_condition(&mut conditions, condition);
        value["status"]["conditions"] = json!(conditions);
        plan.update_status(POD, value);
    }
    let message = format!("Marking for deletion Pod {}/{}", object.key.namespace, object.key.name);
    plan.note(Note::normal(&object.key, "TaintManagerEviction", message));
    plan.delete(object);
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::fixture::{World, show};

    fn check(tolerations: &str, expected: Expect) {
        let node = r#"node n {"spec":{"taints":[{"key":"node.kubernetes.io/unreachable","effect":"NoExecute","timeAdded":"1970-01-12T13:45:00Z"}]}}"#;
        let pod = format!(
            r#"pod web-0 node=n {{"spec":{{"tolerations":[{tolerations}]}},"status":{{"conditions":[{{"type":"DisruptionTarget","status":"True"}}]}}}}"#
        );
        let world = World::of(&format!("{node}\n {pod}"));
        expected.assert_eq(&show(&world, &reconcile(&world.view(), &Key::new(POD, "default", "web-0"))));
    }

    #[test]
    fn pods_leave_when_their_toleration_ends_f02() {
        let toleration = |seconds: &str| {
            format!(r#"{{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute"{seconds}}}"#)
        };
        check(
            &toleration(r#","tolerationSeconds":300"#),
            expect![[r#"
            wake in 200 s
        "#]],
        );
        check(
            &toleration(r#","tolerationSeconds":60"#),
            expect![[r#"
            delete pods/default/web-0
            event pods/default/web-0 Normal TaintManagerEviction: Marking for deletion Pod default/web-0
        "#]],
        );
        check(&toleration(""), expect![""]);
        check(
            "",
            expect![[r#"
            delete pods/default/web-0
            event pods/default/web-0 Normal TaintManagerEviction: Marking for deletion Pod default/web-0
        "#]],
        );
    }
}
