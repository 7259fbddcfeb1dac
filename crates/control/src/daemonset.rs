//! DaemonSet → a pod on each node that it is for.
//!
//! Guarantees: a node that the pod tolerates and is meant for has one pod of the set; a node that it no longer fits loses its pod; a
//! rolling update keeps at most maxUnavailable nodes without an available pod, or adds at most maxSurge pods beside old ones.
//! Pods are placed by the scheduler, held to their node by affinity. Revisions are `revision.rs`.
//! Upstream: pkg/controller/daemon.

mod pods;
mod revision;
mod rollout;
mod seat;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec};
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use serde_json::json;
use stead_api::{Key, LabelSelector, Object};
use stead_store::Event;

use crate::facts::{self, Availability};
use crate::names::{DAEMON_SET, NODE, POD};
use crate::plan::{Controller, Note, Plan, Settles, View, Watch};
use crate::scheduler::{node_matches, tolerates};
use pods::{create, remove, tolerations};
use seat::{Member, Seat};

pub const CONTROLLER: Controller = Controller {
    name: "daemonset-controller",
    settles: Settles::AfterStatus,
    watches: &[
        Watch { kind: DAEMON_SET, keys: |_, event| vec![event.key().clone()] },
        Watch { kind: POD, keys: sets_of_pod },
        Watch { kind: NODE, keys: sets_of_node },
    ],
    reconcile,
};

/// A pod that failed is not replaced before it is this old, in seconds.
const FAILED_SECONDS: i64 = 10;

fn sets_of_pod(view: &View, event: &Event) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    for object in event.old.iter().chain([&event.object]) {
        if let Some(owner) = object.meta.controller().filter(|owner| owner.kind == "DaemonSet") {
            keys.push(Key::new(DAEMON_SET, &object.key.namespace, &owner.name));
        }
    }
    keys.dedup();
    let pod = &event.object;
    if pod.meta.controller().is_none() && !event.deleted && !pod.meta.labels.is_empty() {
        let sets = view.snapshot.list(DAEMON_SET, &pod.key.namespace);
        keys.extend(sets.filter(|set| selector(set).matches(&pod.meta.labels)).map(|set| set.key.clone()));
    }
    keys
}

/// Labels and taints say where pods may be; a heartbeat says nothing.
fn sets_of_node(view: &View, event: &Event) -> Vec<Key> {
    let same = |old: &Arc<Object>| {
        let taints = |object: &Object| object.view::<Node>().spec.as_ref().and_then(|spec| spec.taints.clone());
        old.meta.labels == event.object.meta.labels && taints(old) == taints(&event.object)
    };
    if !event.deleted && event.old.as_ref().is_some_and(same) {
        return Vec::new();
    }
    view.snapshot.list(DAEMON_SET, "").map(|set| set.key.clone()).collect()
}

fn selector(set: &Object) -> LabelSelector {
    let typed = set.view::<DaemonSet>();
    LabelSelector::from_typed(typed.spec.as_ref().map(|spec| &spec.selector)).unwrap_or(LabelSelector::Nothing)
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let Some(object) = view.snapshot.get(key) else { return plan };
    let selector = selector(object);
    if selector.is_everything() || selector == LabelSelector::Nothing {
        return plan;
    }
    claim(view, object, &selector, &mut plan);
    if !plan.actions.is_empty() {
        return plan;
    }
    let typed = object.view::<DaemonSet>();
    let empty = DaemonSetSpec::default();
    let spec = typed.spec.as_ref().unwrap_or(&empty);
    let is_going = object.meta.is_deleting();
    let Some(hash) = revision::ensure(view, object, &mut plan) else { return plan };
    let seats = seats(view, object, spec, &hash, &mut plan);
    if !is_going {
        manage(view, object, &hash, &seats, &mut plan);
        if plan.actions.is_empty() {
            rollout::roll(object, spec, &hash, &seats, &mut plan);
        }
        revision::trim(view, object, spec, &hash, &seats, &mut plan);
    }
    status(object, &seats, &mut plan);
    plan
}

/// Adopts pods that the selector picks, and lets go of those that it no longer does.
fn claim(view: &View, set: &Arc<Object>, selector: &LabelSelector, plan: &mut Plan) {
    let uid = &set.meta.uid;
    for pod in facts::controlled(view, POD, uid) {
        if !selector.matches(&pod.meta.labels) && !pod.meta.is_deleting() {
            plan.update(POD, facts::released(pod, uid));
        }
    }
    if set.meta.is_deleting() {
        return;
    }
    for pod in facts::select(view, POD, &set.key.namespace, selector) {
        if pod.meta.controller().is_none() && !pod.meta.is_deleting() {
            plan.update(POD, facts::adopted(pod, facts::controller_reference("apps/v1", "DaemonSet", set)));
        }
    }
}

/// The node that a pod is on, or is held to.
fn node_of(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = spec.node_name.as_ref().filter(|node| !node.is_empty()) {
        return Some(node.clone());
    }
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let fields = terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    fields.into_iter().find(|field| field.key == "metadata.name")?.values.as_ref()?.first().cloned()
}

/// Every node with the set's pods there; pods of nodes that are gone are left to the pod collector.
fn seats<'a>(view: &View<'a>, set: &Object, spec: &DaemonSetSpec, hash: &str, plan: &mut Plan) -> Vec<Seat<'a>> {
    let mut members: BTreeMap<String, Vec<Member>> = BTreeMap::new();
    for object in facts::controlled(view, POD, &set.meta.uid) {
        let pod = object.view::<Pod>();
        let Some(node) = node_of(&pod) else { continue };
        let is_available = match facts::availability(&pod, spec.min_ready_seconds.unwrap_or(0), view.now) {
            Availability::Available => true,
            Availability::At(at) => {
                plan.wake(at);
                false
            }
            Availability::NotReady => false,
        };
        let member = Member {
            object,
            is_current: object.meta.label(revision::LABEL) == Some(hash),
            is_ready: facts::is_ready(&pod),
            is_available,
        };
        members.entry(node).or_default().push(member);
    }
    let empty = PodSpec::default();
    let pod = spec.template.spec.as_ref().unwrap_or(&empty);
    let tolerations = tolerations(pod);
    let seat = |node: &'a Arc<Object>| {
        let typed = node.view::<Node>();
        let taints = typed.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let refuses =
            |effect: &str| taints.iter().any(|taint| taint.effect == effect && !tolerates(&tolerations, taint));
        let fits = node_matches(pod, node) && pod.node_name.as_deref().is_none_or(|name| name == &*node.key.name);
        let may_stay = fits && !refuses("NoExecute");
        Seat {
            node,
            should_run: may_stay && !refuses("NoSchedule"),
            may_stay,
            members: members.remove(&*node.key.name).unwrap_or_default(),
        }
    };
    view.snapshot.list(NODE, "").map(seat).collect()
}

/// Makes what is missing, removes what failed, is too much or may not stay.
fn manage(view: &View, set: &Arc<Object>, hash: &str, seats: &[Seat], plan: &mut Plan) {
    for seat in seats {
        let mut failed = false;
        for member in seat.members.iter().filter(|member| member.has_failed() && !member.is_going()) {
            failed = true;
            let made = member.object.meta.creation_timestamp.unwrap_or(view.now);
            match facts::after(made, FAILED_SECONDS) {
                at if at > view.now => plan.wake(at),
                _ => {
                    let key = &member.object.key;
                    let message = format!(
                        "Found failed daemon pod {}/{} on node {}, will try to kill it",
                        key.namespace, key.name, seat.node.key.name
                    );
                    plan.note(Note::warning(&set.key, "FailedDaemonPod", message));
                    remove(set, member, plan);
                }
            }
        }
        let mut alive: Vec<&Member> =
            seat.members.iter().filter(|member| !member.is_going() && !member.has_failed()).collect();
        if !seat.may_stay {
            alive.iter().for_each(|member| remove(set, member, plan));
        } else if seat.members.is_empty() && seat.should_run && !failed {
            create(set, hash, seat.node, plan);
        } else {
            // Of several of one template the eldest stays.
            alive.sort_by_key(|member| (member.object.meta.creation_timestamp, member.object.key.clone()));
            for of_current in [true, false] {
                for member in alive.iter().filter(|member| member.is_current == of_current).skip(1) {
                    remove(set, member, plan);
                }
            }
        }
    }
}

fn status(set: &Arc<Object>, seats: &[Seat], plan: &mut Plan) {
    let (mut desired, mut current, mut misplaced, mut ready, mut available, mut updated) = (0, 0, 0, 0, 0, 0);
    for seat in seats {
        if !seat.should_run {
            misplaced += i64::from(!seat.members.is_empty());
            continue;
        }
        desired += 1;
        current += i64::from(!seat.members.is_empty());
        let alive = || seat.members.iter().filter(|member| !member.is_going());
        ready += i64::from(alive().any(|member| member.is_ready));
        available += i64::from(alive().any(|member| member.is_available));
        updated += i64::from(alive().any(|member| member.is_current));
    }
    let mut value = set.value();
    let mut status = json!({"currentNumberScheduled": current, "numberMisscheduled": misplaced,
        "desiredNumberScheduled": desired, "numberReady": ready, "observedGeneration": set.meta.generation});
    for (field, count) in [
        ("updatedNumberScheduled", updated),
        ("numberAvailable", available),
        ("numberUnavailable", desired - available),
    ] {
        if count > 0 {
            status[field] = json!(count);
        }
    }
    for field in ["collisionCount", "conditions"] {
        if !value["status"][field].is_null() {
            status[field] = value["status"][field].clone();
        }
    }
    if value["status"] != status {
        value["status"] = status;
        plan.update_status(DAEMON_SET, value);
    }
}

#[cfg(test)]
mod tests;
