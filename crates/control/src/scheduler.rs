//! Pods without a node → a node, or the reason why there is none.
//!
//! One key is one pod: filter the nodes, score those that fit, bind. A claim that waits for its first consumer is told the node first
//! (V-06); the pod is bound once its claims are, which the volume controller does in the same step.
//!
//! Guarantees: a pod is bound once (binding is refused on a bound pod); what is decided is a function of the snapshot, so two pods never
//! get the same last place. Bounded: scoring stops at `FEASIBLE_NODES_MAX` nodes, starting at a place that depends on the pod.
//! A pod that fits nowhere is looked at again when a node, a claim or another pod changes.
//! Upstream: pkg/scheduler, its default filter and score plugins; messages as its events print them. `preempt.rs` makes room where there
//! is none.

mod affinity;
mod claims;
mod filter;
mod place;
mod preempt;
mod resources;
mod score;
mod terms;
mod volumes;

pub(crate) use claims::{SELECTED_NODE, claim_names};
pub(crate) use filter::is_ready;
pub(crate) use terms::{node_matches, node_selector_matches, tolerates};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;
use stead_api::{Key, Object};
use stead_store::Event;

use place::{Place, Wanted};
use preempt::Outcome;

use crate::facts;
use crate::names::{CLAIM, NODE, POD, STORAGE_CLASS, VOLUME};
use crate::plan::{Action, Controller, Note, Plan, Settles, View, Watch};
use crate::volume::matching;

/// How many nodes that fit are compared.
const FEASIBLE_NODES_MAX: usize = 32;
const NAME: &str = "default-scheduler";

pub const CONTROLLER: Controller = Controller {
    name: NAME,
    settles: Settles::Never,
    watches: &[
        Watch { kind: POD, keys: woken_by_pod },
        Watch { kind: NODE, keys: woken_by_node },
        Watch { kind: CLAIM, keys: woken_by_claim },
        Watch { kind: VOLUME, keys: woken_by_volume },
        Watch { kind: STORAGE_CLASS, keys: |view, _| users_of_claims(view, "") },
    ],
    reconcile,
};

/// The pods that wait for a node.
fn waiting<'a>(view: &View<'a>) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
    facts::with_field(view, POD, "status.phase", "Pending").into_iter().filter(|pod| is_waiting(pod))
}

fn is_waiting(pod: &Object) -> bool {
    let node = pod.view::<Pod>().spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default();
    node.is_empty() && !pod.meta.is_deleting()
}

fn woken_by_pod(view: &View, event: &Event) -> Vec<Key> {
    let object = &event.object;
    if !event.deleted && is_waiting(object) {
        // Its own condition changes nothing that the scheduler looks at.
        let same_spec = event.old.as_ref().is_some_and(|old| {
            old.view::<Pod>().spec == object.view::<Pod>().spec && old.meta.labels == object.meta.labels
        });
        return if same_spec { Vec::new() } else { vec![object.key.clone()] };
    }
    let was_finished = |pod: &Arc<Object>| facts::is_finished(&pod.view::<Pod>());
    let freed = event.deleted || (was_finished(object) && !event.old.as_ref().is_some_and(was_finished));
    if freed {
        return waiting(view).map(|pod| pod.key.clone()).collect();
    }
    // One that found another place than the one that was cleared for it leaves that to others.
    let is_left = |old: &Arc<Object>| {
        let pod = object.view::<Pod>();
        let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref());
        place::nominated(&old.view::<Pod>()).is_some_and(|nominated| Some(nominated) != node)
    };
    if event.old.as_ref().is_some_and(|old| is_waiting(old) && is_left(old)) {
        return waiting(view).map(|pod| pod.key.clone()).collect();
    }
    // A pod that found its node may be the one that another wants to be near.
    let bound = event.old.as_ref().is_some_and(|old| is_waiting(old));
    if bound {
        let is_drawn = |pod: &&Arc<Object>| {
            let pod = pod.view::<Pod>();
            let affinity = pod.spec.as_ref().and_then(|s| s.affinity.as_ref());
            affinity.is_some_and(|a| a.pod_affinity.is_some())
        };
        return waiting(view).filter(is_drawn).map(|pod| pod.key.clone()).collect();
    }
    Vec::new()
}

/// A node that appears or changes in what filters look at.
fn woken_by_node(view: &View, event: &Event) -> Vec<Key> {
    if event.deleted {
        return Vec::new();
    }
    let node = event.object.view::<Node>();
    let same = event.old.as_ref().is_some_and(|old| {
        let before = old.view::<Node>();
        let allocatable = |n: &Node| n.status.as_ref().and_then(|s| s.allocatable.clone());
        before.spec == node.spec
            && old.meta.labels == event.object.meta.labels
            && allocatable(&before) == allocatable(&node)
            && filter::is_ready(&before) == filter::is_ready(&node)
    });
    if same { Vec::new() } else { waiting(view).map(|pod| pod.key.clone()).collect() }
}

/// A claim that comes, goes, is bound or loses its promise.
fn woken_by_claim(view: &View, event: &Event) -> Vec<Key> {
    let claim = &event.object;
    let state =
        |c: &Arc<Object>| (matching::is_bound(c), c.meta.is_deleting(), c.meta.annotation(SELECTED_NODE).is_some());
    let same = event.old.as_ref().is_some_and(|old| {
        let (before, after) = (state(old), state(claim));
        // A promise is our own word.
        before == after || (before.0, before.1, true) == after
    });
    if same && !event.deleted {
        return Vec::new();
    }
    let uses = |pod: &&Arc<Object>| {
        pod.key.namespace == claim.key.namespace
            && claim_names(&pod.key.name, &pod.view::<Pod>()).iter().any(|name| **name == *claim.key.name)
    };
    waiting(view).filter(uses).map(|pod| pod.key.clone()).collect()
}

/// A volume that is free for anybody.
fn woken_by_volume(view: &View, event: &Event) -> Vec<Key> {
    use k8s_openapi::api::core::v1::PersistentVolume;
    let free = |v: &Arc<Object>| v.view::<PersistentVolume>().spec.as_ref().is_some_and(|s| s.claim_ref.is_none());
    let is_news = free(&event.object) && !event.old.as_ref().is_some_and(free);
    if is_news { users_of_claims(view, "") } else { Vec::new() }
}

fn users_of_claims(view: &View, namespace: &str) -> Vec<Key> {
    let uses_claims = |pod: &&Arc<Object>| {
        (namespace.is_empty() || &*pod.key.namespace == namespace) && claims::uses_claims(&pod.view::<Pod>())
    };
    waiting(view).filter(uses_claims).map(|pod| pod.key.clone()).collect()
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let Some(object) = view.snapshot.get(key).filter(|pod| is_waiting(pod)) else { return Plan::none() };
    let pod = object.view::<Pod>();
    let Some(spec) = pod.spec.as_ref().filter(|_| !facts::is_finished(&pod)) else { return Plan::none() };
    if spec.scheduler_name.as_deref().is_some_and(|name| name != NAME) {
        return Plan::none();
    }
    if spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        let why = ("SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates");
        let mut plan = Plan::none();
        unscheduled(view, object, why, Nominated::AsBefore, None, &mut plan);
        return plan;
    }
    let claims = match claims::claims(view, object, &pod) {
        Ok(claims) => claims,
        Err(why) => return refused(view, object, &Refusal::Everywhere(why)),
    };
    let requests = resources::requests(spec);
    let without = BTreeSet::new();
    let wanted = Wanted { view: *view, object, pod: Arc::clone(&pod), requests, claims, without };
    match choose(&wanted) {
        Ok(place) => place_on(&wanted, &place),
        Err(refusal) => make_room(&wanted, &refusal),
    }
}

/// Why a pod fits nowhere.
enum Refusal<'a> {
    /// No node could change it.
    Everywhere(String),
    /// The reasons with the number of nodes each; and the nodes that might do if pods there went away.
    Nodes { reasons: BTreeMap<String, usize>, resolvable: Vec<&'a Arc<Object>> },
}

fn choose<'a>(wanted: &Wanted<'a>) -> Result<Place<'a>, Refusal<'a>> {
    let view = &wanted.view;
    let nodes: Vec<&Arc<Object>> = view.snapshot.list(NODE, "").collect();
    let surroundings = affinity::Surroundings::of(wanted, &nodes);
    // Claims that were promised to a node keep the pod there, as long as it fits, and so does room that was made for it.
    let kept = wanted.claims.promised.as_deref().or(place::nominated(&wanted.pod));
    if let Some(node) = kept.and_then(|name| view.get(NODE, "", name)) {
        let place = Place::of(wanted, node);
        if filter::check(wanted, &place, &surroundings).is_ok() {
            return Ok(place);
        }
    }
    let start = wanted.object.meta.uid.bytes().fold(0usize, |hash, b| hash.wrapping_mul(31).wrapping_add(b.into()));
    let mut feasible = Vec::new();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut resolvable = Vec::new();
    for index in 0..nodes.len() {
        let place = Place::of(wanted, nodes[(start + index) % nodes.len()]);
        match filter::check(wanted, &place, &surroundings) {
            Ok(()) => feasible.push(place),
            Err(refusal) => {
                resolvable.extend(refusal.is_resolvable.then_some(place.object));
                for reason in refusal.reasons {
                    *reasons.entry(reason).or_insert(0) += 1;
                }
            }
        }
        if feasible.len() == FEASIBLE_NODES_MAX {
            break;
        }
    }
    score::best(wanted, feasible, &surroundings).ok_or(Refusal::Nodes { reasons, resolvable })
}

/// Binds, or first promises the node to the claims that wait for it.
fn place_on(wanted: &Wanted, place: &Place) -> Plan {
    let mut plan = Plan::none();
    let node = &*place.object.key.name;
    if !wanted.claims.waiting.is_empty() {
        volumes::promise(wanted, place, &mut plan);
        return plan;
    }
    let pod = &wanted.object.key;
    let message = format!("Successfully assigned {}/{} to {node}", pod.namespace, pod.name);
    plan.actions.push(Action::Bind {
        pod: pod.clone(),
        uid: wanted.object.meta.uid.clone(),
        node: node.to_owned(),
        on_success: Some(Note::normal(pod, "Scheduled", message)),
    });
    plan
}

/// What keeps a pod from its place is taken away, if that is less than it; else it is told why it waits.
fn make_room(wanted: &Wanted, refusal: &Refusal) -> Plan {
    let (view, object) = (&wanted.view, wanted.object);
    let Refusal::Nodes { reasons, resolvable } = refusal else { return refused(view, object, refusal) };
    let total = view.snapshot.count(NODE);
    if total == 0 {
        return refused(view, object, refusal);
    }
    let why = format!("0/{total} nodes are available: {}.", counted(reasons));
    let outcome = preempt::find(wanted, resolvable);
    let (text, nominated) = match &outcome {
        Outcome::Victims(victims) => (why, Nominated::On(&victims.node.key.name)),
        Outcome::Waits(reason) => (format!("{why} preemption: {reason}"), Nominated::AsBefore),
        Outcome::InVain(found) => {
            let mut reasons = found.clone();
            if total > resolvable.len() {
                let rest = total - resolvable.len();
                *reasons.entry("Preemption is not helpful for scheduling".into()).or_insert(0) += rest;
            }
            let text = format!("{why} preemption: 0/{total} nodes are available: {}.", counted(&reasons));
            (text, Nominated::Nowhere)
        }
    };
    let mut plan = match &outcome {
        Outcome::Victims(victims) => preempt::evict(wanted, victims),
        Outcome::Waits(_) | Outcome::InVain(_) => Plan::none(),
    };
    let note = Note::warning(&object.key, "FailedScheduling", text.clone());
    unscheduled(view, object, ("Unschedulable", &text), nominated, Some(note), &mut plan);
    plan
}

/// `2 Insufficient cpu, 1 node(s) were unschedulable`
fn counted(reasons: &BTreeMap<String, usize>) -> String {
    let mut parts: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    parts.sort();
    parts.join(", ")
}

/// Where no pod that went away could help.
fn refused(view: &View, pod: &Object, refusal: &Refusal) -> Plan {
    let total = view.snapshot.count(NODE);
    let message = match refusal {
        Refusal::Everywhere(why) if total > 0 => format!(
            "0/{total} nodes are available: {why}. preemption: 0/{total} nodes are available: {total} Preemption is not helpful for scheduling."
        ),
        Refusal::Everywhere(_) | Refusal::Nodes { .. } => "no nodes available to schedule pods".to_owned(),
    };
    let note = Note::warning(&pod.key, "FailedScheduling", message.clone());
    let mut plan = Plan::none();
    unscheduled(view, pod, ("Unschedulable", &message), Nominated::Nowhere, Some(note), &mut plan);
    plan
}

/// What `status.nominatedNodeName` becomes.
enum Nominated<'n> {
    AsBefore,
    Nowhere,
    On(&'n str),
}

/// Condition PodScheduled False, the node that is being cleared, and the event, when one of them says something new.
fn unscheduled(
    view: &View,
    pod: &Object,
    (reason, message): (&str, &str),
    nominated: Nominated,
    note: Option<Note>,
    plan: &mut Plan,
) {
    let mut value = pod.value();
    let mut conditions = facts::list(&value["status"]["conditions"]).to_vec();
    let condition = json!({"type": "PodScheduled", "status": "False", "reason": reason, "message": message,
        "lastProbeTime": null, "lastTransitionTime": facts::time(view.now)});
    let mut is_changed = facts::set_condition(&mut conditions, condition);
    value["status"]["conditions"] = json!(conditions);
    let before = value["status"]["nominatedNodeName"].as_str().unwrap_or_default().to_owned();
    let after = match nominated {
        Nominated::AsBefore => &before,
        Nominated::Nowhere => "",
        Nominated::On(node) => node,
    };
    if before != after {
        is_changed = true;
        preempt::nominate(&mut value, after);
    }
    if is_changed {
        plan.update_status(POD, value);
        plan.events.extend(note);
    }
}

#[cfg(test)]
mod tests;
