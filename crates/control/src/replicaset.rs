//! ReplicaSet → pods, and ReplicationController → pods, which is the same under an older name.
//!
//! Guarantees: as many active pods as asked for, made in slow-start batches, removed in upstream's ranking (unassigned before assigned,
//! Pending before Running, not ready before ready, lower deletion cost, more replicas on the node, younger first).
//! Rows F-04 (replaces a pod at once, even on a dead node: a terminating pod does not count).
//! Upstream: pkg/controller/replicaset.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as TypedSelector;
use serde_json::{Value, json};
use stead_api::{Key, KindName, LabelSelector, Object};
use stead_store::Event;

use crate::facts::{self, Availability};
use crate::names::{POD, REPLICA_SET, REPLICATION_CONTROLLER};
use crate::plan::{Action, Blame, Controller, Note, Plan, Settles, View, Watch};

/// How many pods one plan makes or removes (upstream: 500 per sync, in slow-start batches).
const PODS_PER_PLAN_MAX: usize = 100;
/// The condition of a set whose pods cannot be made or removed.
pub const REPLICA_FAILURE: &str = "ReplicaFailure";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

pub const CONTROLLER: Controller = Controller {
    name: "replicaset-controller",
    settles: Settles::AfterStatus,
    watches: &[
        Watch { kind: REPLICA_SET, keys: |_, event| vec![event.key().clone()] },
        Watch { kind: POD, keys: |view, event| sets_of_pod(view, event, &SETS) },
    ],
    reconcile,
};

pub const OF_CONTROLLERS: Controller = Controller {
    name: "replication-controller",
    settles: Settles::AfterStatus,
    watches: &[
        Watch { kind: REPLICATION_CONTROLLER, keys: |_, event| vec![event.key().clone()] },
        Watch { kind: POD, keys: |view, event| sets_of_pod(view, event, &CONTROLLERS) },
    ],
    reconcile,
};

/// What tells the two kinds apart.
struct Names {
    storage: KindName,
    api_version: &'static str,
    kind: &'static str,
}

const SETS: Names = Names { storage: REPLICA_SET, api_version: "apps/v1", kind: "ReplicaSet" };
const CONTROLLERS: Names = Names { storage: REPLICATION_CONTROLLER, api_version: "v1", kind: "ReplicationController" };

fn names(set: &Object) -> &'static Names {
    if set.key.kind == REPLICATION_CONTROLLER { &CONTROLLERS } else { &SETS }
}

/// What a set asks for, whichever kind it is.
#[derive(Default)]
struct Wanted {
    replicas: Option<i32>,
    min_ready_seconds: Option<i32>,
    selector: TypedSelector,
    template: Option<PodTemplateSpec>,
}

fn wanted(set: &Object) -> Wanted {
    if set.key.kind == REPLICATION_CONTROLLER {
        let typed = set.view::<ReplicationController>();
        return typed.spec.as_ref().map_or(Wanted::default(), |spec| Wanted {
            replicas: spec.replicas,
            min_ready_seconds: spec.min_ready_seconds,
            selector: stead_kinds::replicationcontroller::selector(spec),
            template: spec.template.clone(),
        });
    }
    let typed = set.view::<ReplicaSet>();
    typed.spec.as_ref().map_or(Wanted::default(), |spec| Wanted {
        replicas: spec.replicas,
        min_ready_seconds: spec.min_ready_seconds,
        selector: spec.selector.clone(),
        template: spec.template.clone(),
    })
}

fn sets_of_pod(view: &View, event: &Event, of: &Names) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    for object in event.old.iter().chain([&event.object]) {
        if let Some(owner) = object.meta.controller().filter(|owner| owner.kind == of.kind) {
            keys.push(Key::new(of.storage, &object.key.namespace, &owner.name));
        }
    }
    keys.dedup();
    let pod = &event.object;
    if pod.meta.controller().is_none() && !event.deleted && !pod.meta.labels.is_empty() {
        let sets = view.snapshot.list(of.storage, &pod.key.namespace);
        keys.extend(sets.filter(|set| selector(set).matches(&pod.meta.labels)).map(|set| set.key.clone()));
    }
    keys
}

fn selector(set: &Object) -> LabelSelector {
    LabelSelector::from_typed(Some(&wanted(set).selector)).unwrap_or(LabelSelector::Nothing)
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let Some(set) = view.snapshot.get(key) else { return Plan::none() };
    let mut plan = Plan::none();
    let selector = selector(set);
    if selector.is_everything() || selector == LabelSelector::Nothing {
        return plan;
    }
    let uid = &set.meta.uid;
    for pod in facts::controlled(view, POD, uid) {
        if !selector.matches(&pod.meta.labels) && !pod.meta.is_deleting() {
            plan.update(POD, facts::released(pod, uid));
        }
    }
    let matching = facts::select(view, POD, &key.namespace, &selector);
    if !set.meta.is_deleting() {
        let is_orphan = |pod: &&&Arc<Object>| {
            pod.meta.controller().is_none() && !pod.meta.is_deleting() && !facts::is_finished(&pod.view::<Pod>())
        };
        for pod in matching.iter().filter(is_orphan) {
            plan.update(
                POD,
                facts::adopted(pod, facts::controller_reference(names(set).api_version, names(set).kind, set)),
            );
        }
    }
    if !plan.actions.is_empty() {
        return plan;
    }
    let mine: Vec<_> = matching.into_iter().filter(|pod| facts::is_controlled_by(pod, uid)).collect();
    let is_active = |pod: &&Arc<Object>| !pod.meta.is_deleting() && !facts::is_finished(&pod.view::<Pod>());
    let active: Vec<_> = mine.iter().copied().filter(is_active).collect();
    let terminating =
        mine.iter().filter(|pod| pod.meta.is_deleting() && !facts::is_finished(&pod.view::<Pod>())).count();
    status(view, set, &active, terminating, &mut plan);
    if !set.meta.is_deleting() {
        scale(view, set, &active, &mut plan);
    }
    plan
}

fn scale(view: &View, set: &Arc<Object>, active: &[&Arc<Object>], plan: &mut Plan) {
    let wanted = usize::try_from(wanted(set).replicas.unwrap_or(1)).unwrap_or(0);
    let about = || set.key.clone();
    let blame = |reason| {
        let (condition, status, prefix) = (REPLICA_FAILURE, "True", "");
        Some(Blame { about: about(), condition, status, reason, prefix, replaces: false })
    };
    if active.len() < wanted {
        plan.blame = blame("FailedCreate");
        let pod = new_pod(set);
        for _ in 0..(wanted - active.len()).min(PODS_PER_PLAN_MAX) {
            plan.actions.push(Action::Create {
                kind: POD,
                value: pod.clone(),
                on_success: Some(Note::normal(&set.key, "SuccessfulCreate", "Created pod: {name}")),
                on_failure: Some(Note::warning(&set.key, "FailedCreate", "Error creating: {error}")),
            });
        }
        return;
    }
    let surplus = active.len() - wanted;
    plan.blame = blame("FailedDelete");
    for pod in to_remove(view, set, active).into_iter().take(surplus.min(PODS_PER_PLAN_MAX)) {
        let name = &pod.key.name;
        plan.delete_noted(
            pod,
            Some(Note::normal(&set.key, "SuccessfulDelete", format!("Deleted pod: {name}"))),
            Some(Note::warning(&set.key, "FailedDelete", "Error deleting: {error}")),
        );
    }
}

fn new_pod(set: &Arc<Object>) -> Value {
    let value = set.value();
    let template = &value["spec"]["template"];
    let mut metadata = json!({"generateName": format!("{}-", set.key.name), "namespace": &*set.key.namespace,
        "ownerReferences": [facts::controller_reference(names(set).api_version, names(set).kind, set)]});
    for field in ["labels", "annotations", "finalizers"] {
        if !template["metadata"][field].is_null() {
            metadata[field] = template["metadata"][field].clone();
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
}

/// The pods in the order in which they are given up.
fn to_remove<'a>(view: &View, set: &Object, active: &[&'a Arc<Object>]) -> Vec<&'a Arc<Object>> {
    let mut on_node: BTreeMap<String, usize> = BTreeMap::new();
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default();
    // Pods of all ReplicaSets of one Deployment count, so that an old one gives way where the new one has a pod.
    let owner = set.meta.controller().map_or(&set.meta.uid, |owner| &owner.uid);
    let siblings = view.snapshot.owned(owner).filter(|o| o.key.kind == REPLICA_SET).map(|o| o.meta.uid.as_str());
    for uid in siblings.chain([set.meta.uid.as_str()]).collect::<std::collections::BTreeSet<_>>() {
        for pod in facts::controlled(view, POD, uid) {
            *on_node.entry(node(&pod.view::<Pod>())).or_insert(0) += 1;
        }
    }
    let mut pods: Vec<(&Arc<Object>, Arc<Pod>)> = active.iter().map(|pod| (*pod, pod.view::<Pod>())).collect();
    pods.sort_by(|(a, pod_a), (b, pod_b)| {
        let rank = |object: &Object, pod: &Pod| {
            let cost: i64 = object.meta.annotation(DELETION_COST).and_then(|c| c.parse().ok()).unwrap_or(0);
            let phase = match facts::phase(pod) {
                "Pending" => 0,
                "Running" => 2,
                _ => 1,
            };
            let on_node = on_node.get(&node(pod)).copied().unwrap_or(0);
            (!node(pod).is_empty(), phase, facts::is_ready(pod), cost, std::cmp::Reverse(on_node))
        };
        rank(a, pod_a).cmp(&rank(b, pod_b)).then_with(|| younger(a, pod_a, b, pod_b)).then_with(|| a.key.cmp(&b.key))
    });
    pods.into_iter().map(|(pod, _)| pod).collect()
}

/// Ready for less time first, then made later first.
fn younger(a: &Object, pod_a: &Pod, b: &Object, pod_b: &Pod) -> Ordering {
    let since =
        |pod: &Pod| facts::pod_condition(pod, "Ready").and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0);
    let ready = match (facts::is_ready(pod_a), facts::is_ready(pod_b)) {
        (true, true) => since(pod_b).cmp(&since(pod_a)),
        _ => Ordering::Equal,
    };
    ready.then_with(|| b.meta.creation_timestamp.cmp(&a.meta.creation_timestamp))
}

fn status(view: &View, set: &Arc<Object>, active: &[&Arc<Object>], terminating: usize, plan: &mut Plan) {
    let spec = wanted(set);
    let template = spec.template.and_then(|t| t.metadata).and_then(|m| m.labels).unwrap_or_default();
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let (mut fully_labeled, mut ready, mut available) = (0, 0, 0);
    for object in active {
        let pod = object.view::<Pod>();
        fully_labeled += i64::from(template.iter().all(|(k, v)| object.meta.label(k) == Some(v)));
        match facts::availability(&pod, min_ready, view.now) {
            Availability::Available => {
                ready += 1;
                available += 1;
            }
            Availability::At(at) => {
                ready += 1;
                plan.wake(at);
            }
            Availability::NotReady => {}
        }
    }
    let mut value = set.value();
    let old = value["status"].clone();
    let mut status = json!({"replicas": active.len()});
    let counts = [
        ("fullyLabeledReplicas", fully_labeled),
        ("readyReplicas", ready),
        ("availableReplicas", available),
        ("terminatingReplicas", terminating as i64),
    ];
    for (field, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        status[field] = json!(count);
    }
    status["observedGeneration"] = json!(set.meta.generation);
    // What could not be done is done, or is not wanted any more.
    let is_settled = i64::from(spec.replicas.unwrap_or(1)) == active.len() as i64;
    let mut conditions = facts::list(&old["conditions"]).to_vec();
    conditions.retain(|one| !is_settled || one["type"] != REPLICA_FAILURE);
    if !conditions.is_empty() {
        status["conditions"] = json!(conditions);
    }
    if !same_status(&old, &status) {
        value["status"] = status;
        plan.update_status(names(set).storage, value);
    }
}

fn same_status(old: &Value, new: &Value) -> bool {
    let counts = [
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "terminatingReplicas",
        "observedGeneration",
    ];
    counts.iter().all(|field| old[*field].as_i64().unwrap_or(0) == new[*field].as_i64().unwrap_or(0))
        && facts::list(&old["conditions"]) == facts::list(&new["conditions"])
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::fixture::{World, show};

    fn check(text: &str, expected: Expect) {
        let world = World::of(text);
        let plan = reconcile(&world.view(), &Key::new(REPLICA_SET, "default", "web"));
        expected.assert_eq(&show(&world, &plan));
    }

    #[test]
    fn missing_pods_are_made_and_terminating_ones_replaced_at_once_f04() {
        check(
            "rs web {\"spec\":{\"replicas\":2}}\n pod web-a owner=rs:web ready deleting",
            expect![[r#"
            status ReplicaSet web {"terminatingReplicas":1,"observedGeneration":1}
            create Pod web-
            create Pod web-
        "#]],
        );
    }

    #[test]
    fn a_replication_controller_is_the_same_by_its_older_name() {
        let world = World::of("rc web {\"spec\":{\"replicas\":2}}\n pod web-a owner=rc:web ready\n pod web-b running");
        let plan = reconcile(&world.view(), &Key::new(REPLICATION_CONTROLLER, "default", "web"));
        expect![[r#"
            update Pod web-b {"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ReplicationController","name":"web","uid":"rc-web","controller":true,"blockOwnerDeletion":true}]}}
        "#]]
        .assert_eq(&show(&world, &plan));
    }

    #[test]
    fn surplus_pods_go_in_upstreams_ranking() {
        check(
            r#"rs web {"spec":{"replicas":1}}
               pod web-old owner=rs:web ready=500 node=a created=900
               pod web-young owner=rs:web ready=10 node=b created=20
               pod web-cheap owner=rs:web ready=600 node=b created=700 annotation=controller.kubernetes.io/pod-deletion-cost:-5
               pod web-broken owner=rs:web running node=b
               pod web-unbound owner=rs:web"#,
            expect![[r#"
                status ReplicaSet web {"replicas":5,"fullyLabeledReplicas":5,"readyReplicas":3,"availableReplicas":3,"observedGeneration":1}
                delete pods/default/web-unbound
                delete pods/default/web-broken
                delete pods/default/web-cheap
                delete pods/default/web-young
            "#]],
        );
    }

    #[test]
    fn orphans_are_adopted_and_strangers_released() {
        check(
            "rs web\n pod web-a ready\n pod web-b owner=rs:web ready {\"metadata\":{\"labels\":{\"app\":\"x\"}}}",
            expect![[r#"
                update Pod web-b {"metadata":{"ownerReferences":[]}}
                update Pod web-a {"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web","uid":"rs-web","controller":true,"blockOwnerDeletion":true}]}}
            "#]],
        );
    }

    #[test]
    fn availability_waits_for_min_ready_seconds() {
        check(
            "rs web {\"spec\":{\"minReadySeconds\":30}}\n pod web-a owner=rs:web ready=10",
            expect![[r#"
            status ReplicaSet web {"replicas":1,"fullyLabeledReplicas":1,"readyReplicas":1,"observedGeneration":1}
            wake in 20 s
        "#]],
        );
    }
}
