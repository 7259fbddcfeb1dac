//! HorizontalPodAutoscaler status: there are no metrics to scale by, and it says so.
//!
//! The target's scale is read, so that a target which does not exist is told apart from metrics that do not.
//! Upstream: pkg/controller/podautoscaler.

use std::sync::Arc;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde_json::{Value, json};
use stead_api::{Key, Object};
use stead_kinds::Subresource;

use crate::facts;
use crate::names::{AUTOSCALER, DEPLOYMENT, REPLICA_SET, REPLICATION_CONTROLLER, STATEFUL_SET};
use crate::plan::{Controller, Plan, Settles, View, Watch};

pub const CONTROLLER: Controller = Controller {
    name: "horizontal-pod-autoscaler",
    settles: Settles::Always,
    watches: &[
        Watch { kind: AUTOSCALER, keys: |_, event| vec![event.key().clone()] },
        Watch { kind: DEPLOYMENT, keys: of_target },
        Watch { kind: REPLICA_SET, keys: of_target },
        Watch { kind: STATEFUL_SET, keys: of_target },
        Watch { kind: REPLICATION_CONTROLLER, keys: of_target },
    ],
    reconcile,
};

fn of_target(view: &View, event: &stead_store::Event) -> Vec<Key> {
    let key = event.key();
    let names = |scaler: &&Arc<Object>| {
        scaler.view::<HorizontalPodAutoscaler>().spec.scale_target_ref.name.as_str() == &*key.name
    };
    view.snapshot.list(AUTOSCALER, &key.namespace).filter(names).map(|scaler| scaler.key.clone()).collect()
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let Some(object) = view.snapshot.get(key) else { return plan };
    let scaler = object.view::<HorizontalPodAutoscaler>();
    let target = &scaler.spec.scale_target_ref;
    let current = replicas(view, key, target.api_version.as_deref().unwrap_or("v1"), &target.kind, &target.name);
    let mut value = object.value();
    let mut conditions = facts::list(&value["status"]["conditions"]).to_vec();
    let mut say = |kind: &str, status: &str, reason: &str, message: String| {
        let condition = json!({"type": kind, "status": status, "lastTransitionTime": facts::time(view.now),
            "reason": reason, "message": message});
        facts::set_condition(&mut conditions, condition);
    };
    match current {
        Some(_) => {
            let message = "the HPA controller was able to get the target's current scale".to_owned();
            say("AbleToScale", "True", "SucceededGetScale", message);
            let name = value["spec"]["metrics"][0]["resource"]["name"].as_str().unwrap_or("cpu").to_owned();
            let why = format!(
                "the HPA was unable to compute the replica count: failed to get {name} utilization: unable to get metrics for resource {name}: unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)"
            );
            say("ScalingActive", "False", "FailedGetResourceMetric", why);
        }
        None => {
            let message = format!(
                "the HPA controller was unable to get the target's current scale: {} \"{}\" not found",
                plural(view, target.api_version.as_deref().unwrap_or("v1"), &target.kind),
                target.name
            );
            say("AbleToScale", "False", "FailedGetScale", message);
        }
    }
    value["status"]["conditions"] = json!(conditions);
    value["status"]["currentMetrics"] = Value::Null;
    value["status"]["desiredReplicas"] = json!(value["status"]["desiredReplicas"].as_i64().unwrap_or(0));
    if let Some(current) = current {
        value["status"]["currentReplicas"] = json!(current);
    }
    if value["status"] != object.value()["status"] {
        plan.update_status(AUTOSCALER, value);
    }
    plan
}

fn plural(view: &View, api_version: &str, kind: &str) -> String {
    match view.registry.of_kind(api_version, kind) {
        Some(kind) if kind.group.is_empty() => kind.plural.to_owned(),
        Some(kind) => format!("{}.{}", kind.plural, kind.group),
        None => kind.to_lowercase(),
    }
}

/// How many pods the target says it has.
fn replicas(view: &View, key: &Key, api_version: &str, kind: &str, name: &str) -> Option<i64> {
    let kind = view.registry.of_kind(api_version, kind)?;
    let path = kind.subresources.iter().find_map(|one| match one {
        Subresource::Scale { status, .. } => Some(*status),
        _ => None,
    })?;
    let target = view.get(kind.storage, &key.namespace, name)?.value();
    let found = path.split('.').fold(&target, |at, part| &at[part]);
    Some(found.as_i64().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::fixture::{World, show};

    #[test]
    fn it_says_that_there_are_no_metrics_or_no_target() {
        let text = r#"hpa web {"spec":{"maxReplicas":3,"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"web"}}}"#;
        let plan = |text: &str| {
            let world = World::of(text);
            show(&world, &reconcile(&world.view(), &Key::new(AUTOSCALER, "default", "web")))
        };
        expect![[r#"
            status HorizontalPodAutoscaler web {"conditions":[{"type":"AbleToScale","status":"False","lastTransitionTime":"1970-01-12T13:46:40Z","reason":"FailedGetScale","message":"the HPA controller was unable to get the target's current scale: deployments.apps \"web\" not found"}],"currentMetrics":null,"desiredReplicas":0}
        "#]]
        .assert_eq(&plan(text));
        expect![[r#"
            status HorizontalPodAutoscaler web {"conditions":[{"type":"AbleToScale","status":"True","lastTransitionTime":"1970-01-12T13:46:40Z","reason":"SucceededGetScale","message":"the HPA controller was able to get the target's current scale"},{"type":"ScalingActive","status":"False","lastTransitionTime":"1970-01-12T13:46:40Z","reason":"FailedGetResourceMetric","message":"the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)"}],"currentMetrics":null,"desiredReplicas":0,"currentReplicas":0}
        "#]]
        .assert_eq(&plan(&format!("{text}\n deploy web")));
    }
}
