//! Nodes that fall silent: conditions, taints, and which pods must leave.
//!
//! A node renews its lease; what counts is when this server saw that it did, not what the node's clock or an earlier life of ours
//! said the time was, for a clock may be set back. After 50 s without (60 s for a new one) its conditions become Unknown, its pods not ready, and it is tainted
//! (F-01). Pods leave when they no longer tolerate it (F-02): they are asked to; their objects stay until the node says they are gone
//! (F-03), so no second pod of an identity can start (**AtMostOne**).
//! Upstream: pkg/controller/nodelifecycle and tainteviction. Eviction rates (F-09) are not limited.

pub mod eviction;

use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use stead_api::{Key, Object};

use crate::facts;
use crate::memory::{Heard, Memory};
use crate::names::{LEASE, NODE, NODE_LEASES, POD};
use crate::plan::{Controller, Note, Plan, Settles, View, Watch};

const GRACE_SECONDS: i64 = 50;
const STARTUP_GRACE_SECONDS: i64 = 60;

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

pub const CONTROLLER: Controller = Controller {
    name: "node-controller",
    settles: Settles::Never,
    watches: &[
        Watch { kind: NODE, keys: |_, event| vec![event.key().clone()] },
        Watch {
            kind: LEASE,
            keys: |_, event| match &*event.key().namespace {
                NODE_LEASES => vec![Key::new(NODE, "", &event.key().name)],
                _ => Vec::new(),
            },
        },
    ],
    reconcile,
};

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let Some(object) = view.snapshot.get(key).filter(|node| !node.meta.is_deleting()) else { return plan };
    let node = object.view::<Node>();
    let (heard, grace) = heartbeat(view, object, &node);
    let ends = facts::after(heard.at, grace);
    plan.remember = Some(Memory::Node(heard));
    if ends <= view.now {
        if silence(view, object, &node, &mut plan) {
            return plan;
        }
    } else {
        plan.wake(ends);
    }
    if taint(view, object, &node, &mut plan) {
        return plan;
    }
    if !crate::scheduler::is_ready(&node) {
        unready_pods(view, object, &mut plan);
    }
    plan
}

/// When the node was last heard of, and how long it may be silent after that.
fn heartbeat(view: &View, object: &Object, node: &Node) -> (Heard, i64) {
    let lease = view.get(LEASE, NODE_LEASES, &object.key.name);
    let renewed = lease.and_then(|lease| lease.view::<Lease>().spec.as_ref()?.renew_time.as_ref().map(|t| t.0));
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|c| c.type_ == "Ready");
    let posted = ready.and_then(|c| c.last_heartbeat_time.as_ref()).map(|t| t.0);
    let first = match renewed.max(posted) {
        // While the server was away nobody could be heard.
        Some(last) => last.max(view.started),
        None => object.meta.creation_timestamp.unwrap_or(view.now),
    };
    let at = match view.memory {
        Some(Memory::Node(before)) if before.renewed == renewed && before.posted >= posted => before.at,
        Some(Memory::Node(_)) => view.now,
        _ => first.min(view.now),
    };
    let grace = if renewed.or(posted).is_some() { GRACE_SECONDS } else { STARTUP_GRACE_SECONDS };
    (Heard { renewed, posted, at }, grace)
}

/// Nothing is known any more. True when that is news.
fn silence(view: &View, object: &Arc<Object>, node: &Node, plan: &mut Plan) -> bool {
    let mut value = object.value();
    let mut conditions = facts::list(&value["status"]["conditions"]).to_vec();
    let mut changed = false;
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let old = conditions.iter().find(|c| c["type"] == kind);
        if old.is_some_and(|c| c["status"] == "Unknown") {
            continue;
        }
        let (reason, message) = match old {
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
        };
        let heartbeat = old
            .map_or_else(|| json!(object.meta.creation_timestamp.map(facts::time)), |c| c["lastHeartbeatTime"].clone());
        let condition = json!({"type": kind, "status": "Unknown", "reason": reason, "message": message,
            "lastHeartbeatTime": heartbeat, "lastTransitionTime": facts::time(view.now)});
        changed |= facts::set_condition(&mut conditions, condition);
    }
    if !changed {
        return false;
    }
    value["status"]["conditions"] = json!(conditions);
    plan.update_status(NODE, value);
    if crate::scheduler::is_ready(node) {
        let message = format!("Node {} status is now: NodeNotReady", object.key.name);
        plan.note(Note::normal(&object.key, "NodeNotReady", message));
    }
    true
}

/// The taints that conditions and spec.unschedulable ask for; others are left as they are. True when something changes.
fn taint(view: &View, object: &Arc<Object>, node: &Node, plan: &mut Plan) -> bool {
    let condition = |kind: &str| {
        let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
        conditions.into_iter().flatten().find(|c| c.type_ == kind).map(|c| c.status.clone()).unwrap_or_default()
    };
    let ready = condition("Ready");
    // A node that has just registered has no conditions yet: nothing may be scheduled, but nothing need leave.
    let is_true = |kind: &str| condition(kind) == "True";
    let wanted = [
        (NOT_READY, "NoSchedule", ready == "False" || ready.is_empty()),
        (NOT_READY, "NoExecute", ready == "False"),
        (UNREACHABLE, "NoSchedule", ready == "Unknown"),
        (UNREACHABLE, "NoExecute", ready == "Unknown"),
        ("node.kubernetes.io/memory-pressure", "NoSchedule", is_true("MemoryPressure")),
        ("node.kubernetes.io/disk-pressure", "NoSchedule", is_true("DiskPressure")),
        ("node.kubernetes.io/pid-pressure", "NoSchedule", is_true("PIDPressure")),
        ("node.kubernetes.io/network-unavailable", "NoSchedule", is_true("NetworkUnavailable")),
        (
            "node.kubernetes.io/unschedulable",
            "NoSchedule",
            node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true),
        ),
    ];
    let mut value = object.value();
    let before = facts::list(&value["spec"]["taints"]).to_vec();
    let mut taints = before.clone();
    for (key, effect, is_wanted) in wanted {
        let is_it = |taint: &Value| taint["key"] == key && taint["effect"] == effect;
        match (taints.iter().any(is_it), is_wanted) {
            (false, true) if effect == "NoExecute" => {
                taints.push(json!({"key": key, "effect": effect, "timeAdded": facts::time(view.now)}));
            }
            (false, true) => taints.push(json!({"key": key, "effect": effect})),
            (true, false) => taints.retain(|taint| !is_it(taint)),
            _ => {}
        }
    }
    if taints == before {
        return false;
    }
    value["spec"]["taints"] = json!(taints);
    plan.update(NODE, value);
    true
}

/// Pods of a node that is not ready are not ready either, so that no Service sends to them.
fn unready_pods(view: &View, node: &Arc<Object>, plan: &mut Plan) {
    for object in facts::with_field(view, POD, "spec.nodeName", &node.key.name) {
        if !facts::is_ready(&object.view::<Pod>()) {
            continue;
        }
        let mut value = object.value();
        for condition in value["status"]["conditions"].as_array_mut().into_iter().flatten() {
            if condition["type"] == "Ready" {
                condition["status"] = json!("False");
                condition["lastTransitionTime"] = facts::time(view.now);
            }
        }
        plan.update_status(POD, value);
        plan.note(Note::warning(&object.key, "NodeNotReady", "Node is not ready"));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::fixture::{World, show};

    fn check(text: &str, expected: Expect) {
        let world = World::of(text);
        expected.assert_eq(&show(&world, &reconcile(&world.view(), &Key::new(NODE, "", "n"))));
    }

    const SILENT: &str = r#""Unknown","lastHeartbeatTime":"1970-01-12T13:40:00Z""#;

    #[test]
    fn a_node_is_unknown_after_fifty_seconds_without_its_lease_f01() {
        let lease = r#"lease kube-node-lease/n {"spec":{"renewTime":"1970-01-12T13:46:00.000000Z"}}"#;
        check(
            &format!("node n\n {lease}"),
            expect![[r#"
            wake in 10 s
        "#]],
        );
        check(
            &format!("node n\n {}", lease.replace("46:00", "45:50")),
            expect![[r#"
            status Node n {"conditions":[{"type":"Ready","status":"Unknown","reason":"NodeStatusUnknown","message":"Kubelet stopped posting node status.","lastHeartbeatTime":null,"lastTransitionTime":"1970-01-12T13:46:40Z"},{"type":"MemoryPressure","status":"Unknown","reason":"NodeStatusNeverUpdated","message":"Kubelet never posted node status.","lastHeartbeatTime":"1970-01-01T00:00:00Z","lastTransitionTime":"1970-01-12T13:46:40Z"},{"type":"DiskPressure","status":"Unknown","reason":"NodeStatusNeverUpdated","message":"Kubelet never posted node status.","lastHeartbeatTime":"1970-01-01T00:00:00Z","lastTransitionTime":"1970-01-12T13:46:40Z"},{"type":"PIDPressure","status":"Unknown","reason":"NodeStatusNeverUpdated","message":"Kubelet never posted node status.","lastHeartbeatTime":"1970-01-01T00:00:00Z","lastTransitionTime":"1970-01-12T13:46:40Z"}]}
            event nodes/n Normal NodeNotReady: Node n status is now: NodeNotReady
        "#]],
        );
    }

    #[test]
    fn what_counts_is_when_a_sign_of_life_was_seen_f01() {
        let heard = |seconds: i64, renewed: &str, memory: Option<Heard>| {
            let lease = format!(r#"lease kube-node-lease/n {{"spec":{{"renewTime":"{renewed}"}}}}"#);
            let mut world = World::of(&format!("node n {{\"status\":{{\"conditions\":[]}}}}\n {lease}"));
            world.now = facts::after(world.now, seconds);
            let memory = memory.map(Memory::Node);
            let view = View { memory: memory.as_ref(), ..world.view() };
            let node = view.get(NODE, "", "n").expect("the node");
            let (heard, grace) = heartbeat(&view, node, &node.view::<Node>());
            assert_eq!(grace, GRACE_SECONDS);
            heard
        };
        let at = |seconds| facts::after(World::of("").now, seconds);
        let ahead = "1970-01-13T00:00:00.000000Z";
        let first = heard(0, ahead, None);
        assert_eq!(first.at, at(0), "a time that has yet to come counts from now");
        let again = heard(40, ahead, Some(first));
        assert_eq!(again, first, "the same sign is no new one");
        let back = heard(40, "1970-01-12T12:00:00.000000Z", Some(again));
        assert_eq!(back.at, at(40), "another is, whatever time its node says it is");
    }

    #[test]
    fn a_silent_node_is_tainted_and_its_pods_are_not_ready() {
        let conditions: Vec<String> = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"]
            .iter()
            .map(|kind| format!(r#"{{"type":"{kind}","status":{SILENT}}}"#))
            .collect();
        let status = format!(r#""status":{{"conditions":[{}]}}"#, conditions.join(","));
        check(
            &format!("node n {{{status}}}"),
            expect![[r#"
            update Node n {"spec":{"taints":[{"key":"node.kubernetes.io/unreachable","effect":"NoSchedule"},{"key":"node.kubernetes.io/unreachable","effect":"NoExecute","timeAdded":"1970-01-12T13:46:40Z"}]}}
        "#]],
        );
        let taints = r#""spec":{"taints":[{"key":"node.kubernetes.io/unreachable","effect":"NoSchedule"},{"key":"node.kubernetes.io/unreachable","effect":"NoExecute"}]}"#;
        check(
            &format!("node n {{{status},{taints}}}\n pod web-0 node=n ready"),
            expect![[r#"
            status Pod web-0 {"conditions":[{"type":"Ready","status":"False","lastTransitionTime":"1970-01-12T13:46:40Z"}]}
            event pods/default/web-0 Warning NodeNotReady: Node is not ready
        "#]],
        );
    }

    #[test]
    fn a_node_that_is_back_loses_its_taints_and_a_cordoned_one_has_its_own() {
        let status =
            r#""status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"1970-01-12T13:46:30Z"}]}"#;
        let spec = r#""spec":{"unschedulable":true,"taints":[{"key":"mine","effect":"NoSchedule"},{"key":"node.kubernetes.io/unreachable","effect":"NoExecute"}]}"#;
        check(
            &format!("node n {{{status},{spec}}}"),
            expect![[r#"
            update Node n {"spec":{"taints":[{"key":"mine","effect":"NoSchedule"},{"key":"node.kubernetes.io/unschedulable","effect":"NoSchedule"}]}}
            wake in 40 s
        "#]],
        );
    }
}
