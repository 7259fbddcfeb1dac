//! Pods that nobody will finish: those of a node that is gone (F-08) or out of service (F-06), and too many finished ones.
//!
//! **AtMostOne**: this is the only controller that removes a pod without its node's consent, and only where a person has said that the
//! node is gone for good: the Node object was deleted, 40 seconds ago, or carries the out-of-service taint while not ready. A node that
//! is merely silent keeps its pods (F-03).
//! Upstream: pkg/controller/podgc.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;
use stead_api::request::Propagation;
use stead_api::{Key, Object};
use stead_store::Event;

use crate::facts;
use crate::names::{NODE, POD};
use crate::plan::{Action, Controller, Plan, Settles, View, Watch};
use crate::scheduler::is_ready;

pub const NAME: &str = "pod-garbage-collector";
const QUARANTINE_SECONDS: i64 = 40;
/// Upstream's --terminated-pod-gc-threshold.
const FINISHED_PODS_MAX: usize = 12_500;
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
const GONE_MESSAGE: &str = "PodGC: node no longer exists";

pub const CONTROLLER: Controller = Controller {
    name: NAME,
    settles: Settles::Never,
    watches: &[Watch { kind: POD, keys: woken_by_pod }, Watch { kind: NODE, keys: woken_by_node }],
    reconcile,
};

fn woken_by_pod(_: &View, event: &Event) -> Vec<Key> {
    if event.deleted {
        return Vec::new();
    }
    let pod = event.object.view::<Pod>();
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|s| s.node_name.clone());
    let placed = event.old.as_ref().is_none_or(|old| node(&old.view::<Pod>()) != node(&pod));
    let going = event.object.meta.is_deleting() && event.old.as_ref().is_none_or(|old| !old.meta.is_deleting());
    let finished = facts::is_finished(&pod);
    if placed || going || finished { vec![event.key().clone()] } else { Vec::new() }
}

fn woken_by_node(view: &View, event: &Event) -> Vec<Key> {
    let is_out = |node: &Arc<Object>| is_out_of_service(&node.view::<Node>());
    let came_or_went = event.deleted || event.old.is_none();
    let changed = !came_or_went && is_out(&event.object) && !event.old.as_ref().is_some_and(is_out);
    if !came_or_went && !changed {
        return Vec::new();
    }
    let pods = facts::with_field(view, POD, "spec.nodeName", &event.key().name);
    pods.into_iter().map(|pod| pod.key.clone()).collect()
}

fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_ref());
    !is_ready(node) && taints.into_iter().flatten().any(|taint| taint.key == OUT_OF_SERVICE)
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let Some(object) = view.snapshot.get(key) else { return plan };
    let pod = object.view::<Pod>();
    let name = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default();
    if !name.is_empty() {
        match view.get(NODE, "", name) {
            None => of_gone_node(view, object, &pod, &mut plan),
            Some(node) => {
                if object.meta.is_deleting() && is_out_of_service(&node.view::<Node>()) {
                    remove(object, &mut plan);
                }
            }
        }
    }
    if plan.is_empty() && facts::is_finished(&pod) && !object.meta.is_deleting() && is_one_too_many(view, object) {
        plan.delete(object);
    }
    plan
}

/// The condition that tells of the coming removal also remembers since when the node is gone.
fn of_gone_node(view: &View, object: &Arc<Object>, pod: &Pod, plan: &mut Plan) {
    let told = facts::pod_condition(pod, "DisruptionTarget")
        .filter(|c| c.status == "True" && c.message.as_deref() == Some(GONE_MESSAGE));
    let since: Option<Timestamp> = told.and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0);
    let Some(since) = since else {
        let mut value = object.value();
        let mut conditions = facts::list(&value["status"]["conditions"]).to_vec();
        conditions.retain(|c| c["type"] != "DisruptionTarget");
        conditions.push(json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
            "message": GONE_MESSAGE, "lastTransitionTime": facts::time(view.now)}));
        value["status"]["conditions"] = json!(conditions);
        plan.update_status(POD, value);
        plan.wake(facts::after(view.now, QUARANTINE_SECONDS));
        return;
    };
    match facts::after(since, QUARANTINE_SECONDS) {
        ends if ends > view.now => plan.wake(ends),
        _ => remove(object, plan),
    }
}

fn remove(object: &Object, plan: &mut Plan) {
    plan.actions.push(Action::Delete {
        key: object.key.clone(),
        uid: object.meta.uid.clone(),
        propagation: Propagation::Background,
        grace_seconds: Some(0),
        on_success: None,
        on_failure: None,
    });
}

fn is_one_too_many(view: &View, object: &Object) -> bool {
    if view.snapshot.count(POD) <= FINISHED_PODS_MAX {
        return false;
    }
    let finished = ["Failed", "Succeeded"].iter().flat_map(|phase| facts::with_field(view, POD, "status.phase", phase));
    let mut all: Vec<_> = finished.map(|pod| (pod.meta.creation_timestamp, pod.key.clone())).collect();
    let surplus = all.len().saturating_sub(FINISHED_PODS_MAX);
    all.sort();
    all.iter().take(surplus).any(|(_, key)| *key == object.key)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::fixture::{World, show};

    fn check(text: &str, expected: Expect) {
        let world = World::of(text);
        expected.assert_eq(&show(&world, &reconcile(&world.view(), &Key::new(POD, "default", "web-0"))));
    }

    #[test]
    fn pods_of_a_removed_node_go_after_a_quarantine_f08() {
        check("node n\n pod web-0 node=n", expect![""]);
        check(
            "pod web-0 node=n",
            expect![[r#"
            status Pod web-0 {"conditions":[{"type":"DisruptionTarget","status":"True","reason":"DeletionByPodGC","message":"PodGC: node no longer exists","lastTransitionTime":"1970-01-12T13:46:40Z"}]}
            wake in 40 s
        "#]],
        );
        let told = |at| {
            format!(
                r#"pod web-0 node=n {{"status":{{"conditions":[{{"type":"DisruptionTarget","status":"True","message":"{GONE_MESSAGE}","lastTransitionTime":"{at}"}}]}}}}"#
            )
        };
        check(
            &told("1970-01-12T13:46:10Z"),
            expect![[r#"
            wake in 10 s
        "#]],
        );
        check(
            &told("1970-01-12T13:46:00Z"),
            expect![[r#"
            delete pods/default/web-0 grace=0
        "#]],
        );
    }

    #[test]
    fn only_the_taint_removes_pods_of_a_dead_node_f03_f06() {
        let node = |taint: &str| {
            format!(
                r#"node n {{"spec":{{"taints":[{taint}]}},"status":{{"conditions":[{{"type":"Ready","status":"Unknown"}}]}}}}"#
            )
        };
        check(&format!("{}\n pod web-0 node=n deleting", node("")), expect![""]);
        let taint = r#"{"key":"node.kubernetes.io/out-of-service","effect":"NoExecute"}"#;
        check(
            &format!("{}\n pod web-0 node=n deleting", node(taint)),
            expect![[r#"
            delete pods/default/web-0 grace=0
        "#]],
        );
        check(&format!("{}\n pod web-0 node=n", node(taint)), expect![""]);
    }
}
