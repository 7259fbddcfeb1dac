//! StatefulSet → ControllerRevisions, claims, pods, status.
//!
//! Phases, in this order: adopt and release → revisions → status → replicas in order → condemned pods → rollout → history. Each phase
//! may end the plan; what it did wakes the set again.
//!
//! Guarantees:
//! - **Order** (B-10, B-11, B-13): under OrderedReady one pod is made or removed at a time; ordinal n is made only when all below are
//!   Available and not terminating; removal is from the highest ordinal; scale wins over update.
//! - **AtMostOne** (B-39): a pod is made only for an ordinal that has no pod object at all, terminating or finished ones included.
//! - **Kept** (B-29): claims are never deleted here; a retention policy only gives them an owner.
//!
//! Upstream: pkg/controller/statefulset; rows S-*, ST-*, B-*, CR-* of behaviour.

mod replica;
pub(crate) mod revision;
mod rollout;
mod set;
mod status;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use stead_api::{Key, LabelSelector, Object};
use stead_store::Event;

use crate::facts;
use crate::names::{CLAIM, CONTROLLER_REVISION, POD, STATEFUL_SET};
use crate::plan::{Controller, Plan, Settles, View, Watch};

pub(crate) use revision::Fnv32;
use revision::Revisions;
use set::{Member, Set, selector, wake_when_available};

/// How many pods one plan makes or removes under Parallel (upstream: slow-start batches of up to 500).
const PODS_PER_PLAN_MAX: usize = 100;

/// How long a pod that ended has existed at least when the next one of its name is made.
const REPLACED_AFTER_SECONDS: i64 = 1;

pub const CONTROLLER: Controller = Controller {
    name: "statefulset-controller",
    settles: Settles::AfterStatus,
    watches: &[
        Watch { kind: STATEFUL_SET, keys: |_, event| vec![event.key().clone()] },
        Watch { kind: POD, keys: sets_of_pod },
        Watch { kind: CONTROLLER_REVISION, keys: sets_of_revision },
        Watch { kind: CLAIM, keys: sets_of_claim },
    ],
    reconcile,
};

/// The owner before and after; a pod without one wakes the set that it could belong to by name, or whose name it leaves free.
fn sets_of_pod(view: &View, event: &Event) -> Vec<Key> {
    let mut keys = owners(event);
    if event.object.meta.controller().is_none()
        && let Some((set, _)) = replica::parent_and_ordinal(&event.key().name)
        && view.get(STATEFUL_SET, &event.key().namespace, set).is_some()
    {
        keys.push(Key::new(STATEFUL_SET, &event.key().namespace, set));
    }
    keys
}

fn sets_of_revision(view: &View, event: &Event) -> Vec<Key> {
    let keys = owners(event);
    if !keys.is_empty() || event.deleted {
        return keys;
    }
    let sets = view.snapshot.list(STATEFUL_SET, &event.key().namespace);
    sets.filter(|set| selector(&set.view::<StatefulSet>()).matches(&event.object.meta.labels))
        .map(|set| set.key.clone())
        .collect()
}

/// A claim that went may be one that a pod is waiting to have made anew (B-08, B-34, B-35).
fn sets_of_claim(view: &View, event: &Event) -> Vec<Key> {
    if !event.deleted {
        return Vec::new();
    }
    let name = &*event.key().name;
    let has_claim = |set: &&Arc<Object>| {
        let view = set.view::<StatefulSet>();
        let templates = view.spec.as_ref().and_then(|s| s.volume_claim_templates.as_ref());
        templates.into_iter().flatten().any(|template| {
            let template = template.metadata.name.as_deref().unwrap_or_default();
            name.strip_prefix(&format!("{template}-{}-", set.key.name)).is_some_and(|n| n.parse::<u32>().is_ok())
        })
    };
    view.snapshot.list(STATEFUL_SET, &event.key().namespace).filter(has_claim).map(|set| set.key.clone()).collect()
}

fn owners(event: &Event) -> Vec<Key> {
    let mut keys = Vec::new();
    for object in event.old.iter().chain([&event.object]) {
        if let Some(owner) = object.meta.controller().filter(|owner| owner.kind == "StatefulSet") {
            let key = Key::new(STATEFUL_SET, &object.key.namespace, &owner.name);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    keys
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let Some(object) = view.snapshot.get(key) else { return Plan::none() };
    let set = Set::of(*view, object);
    let mut plan = Plan::none();
    if set.selector.is_everything() || set.selector == LabelSelector::Nothing {
        return plan;
    }
    let candidates = facts::select(view, POD, set.namespace(), &set.selector);
    if adopt_and_release(&set, &candidates, &mut plan) {
        return plan;
    }
    let members = members(&set, &candidates);
    let Some(mut revisions) = revision::revisions(&set, &mut plan) else { return plan };
    status::write(&set, &members, &mut revisions, &mut plan);
    if !set.object.meta.is_deleting() {
        let (replicas, condemned) = split(&set, &members);
        let goes_on = keep_replicas(&set, &replicas, &revisions, &mut plan)
            && remove_condemned(&set, &replicas, &condemned, &mut plan);
        if goes_on && !set.is_on_delete() {
            rollout::replace(&set, &replicas, &revisions, &mut plan);
        }
    }
    revision::trim(&set, &members, &revisions, &mut plan);
    plan
}

/// B-24, B-25, B-28: takes in orphans that fit by label and name, lets go of pods whose labels no longer fit. True when there was
/// something to do: the next plan sees the outcome.
fn adopt_and_release(set: &Set, candidates: &[&Arc<Object>], plan: &mut Plan) -> bool {
    let before = plan.actions.len();
    let uid = &set.object.meta.uid;
    for pod in facts::controlled(&set.view, POD, uid) {
        let fits = set.selector.matches(&pod.meta.labels) && replica::ordinal_in(set.name(), &pod.key.name).is_some();
        if !fits && !pod.meta.is_deleting() {
            plan.update(POD, facts::released(pod, uid));
        }
    }
    if !set.object.meta.is_deleting() {
        for pod in candidates {
            let fits = pod.meta.controller().is_none() && replica::ordinal_in(set.name(), &pod.key.name).is_some();
            if fits && !pod.meta.is_deleting() {
                plan.update(POD, facts::adopted(pod, set.owner_reference()));
            }
        }
    }
    plan.actions.len() > before
}

fn members<'a>(set: &Set<'a>, candidates: &[&'a Arc<Object>]) -> Vec<Member<'a>> {
    let member = |object: &&'a Arc<Object>| {
        let ordinal = replica::ordinal_in(set.name(), &object.key.name)?;
        if !facts::is_controlled_by(object, &set.object.meta.uid) {
            return None;
        }
        let pod = object.view::<Pod>();
        let availability = facts::availability(&pod, set.min_ready_seconds(), set.view.now);
        Some(Member { object, pod, ordinal, availability })
    };
    candidates.iter().filter_map(member).collect()
}

/// Replicas by index (a missing pod is None), and the pods outside the range, lowest ordinal first (B-26).
fn split<'m, 'a>(set: &Set, members: &'m [Member<'a>]) -> (Vec<Option<&'m Member<'a>>>, Vec<&'m Member<'a>>) {
    let mut replicas: Vec<Option<&Member>> = (0..set.replicas()).map(|_| None).collect();
    let mut condemned = Vec::new();
    for member in members {
        match set.has_ordinal(member.ordinal) {
            true => replicas[(member.ordinal - set.start()) as usize] = Some(member),
            false => condemned.push(member),
        }
    }
    condemned.sort_by_key(|member| member.ordinal);
    (replicas, condemned)
}

/// Makes the replicas whole, in order (B-10, B-12, B-14, B-38). False when nothing else may happen before something changes.
fn keep_replicas(set: &Set, replicas: &[Option<&Member>], revisions: &Revisions, plan: &mut Plan) -> bool {
    let mut made = 0;
    for (index, member) in replicas.iter().enumerate() {
        let ordinal = set.start() + index as i64;
        let Some(member) = member else {
            // The pod's object is gone from the store: only now may its name be used again (B-39).
            debug_assert!(
                set.view
                    .get(POD, set.namespace(), &replica::pod_name(set, ordinal))
                    .is_none_or(|other| { !facts::is_controlled_by(other, &set.object.meta.uid) }),
                "AtMostOne"
            );
            let is_made = replica::create(set, ordinal, revisions, plan);
            made += usize::from(is_made);
            if set.is_ordered() || made == PODS_PER_PLAN_MAX {
                return false;
            }
            continue;
        };
        if facts::is_finished(&member.pod) {
            if !member.is_terminating() {
                replace(set, member, plan);
            }
            if set.is_ordered() {
                return false;
            }
            // Under Parallel the others do not wait for its successor.
            continue;
        }
        if facts::phase(&member.pod) == "Pending" {
            replica::create_claims(set, ordinal, plan);
        }
        if set.is_ordered() && (member.is_terminating() || !member.is_running_and_available()) {
            wake_when_available(member, plan);
            return false;
        }
        replica::repair(set, member, plan);
    }
    made == 0
}

/// B-14: makes room for another pod of the name. A pod that its node will not have ends at once, and so would its successors: they come
/// no faster than this.
fn replace(set: &Set, member: &Member, plan: &mut Plan) {
    let made = member.object.meta.creation_timestamp.unwrap_or(set.view.now);
    match facts::after(made, REPLACED_AFTER_SECONDS) {
        at if at > set.view.now => plan.wake(at),
        _ => replica::delete(set, member, plan),
    }
}

/// B-11: removes pods outside the range from the highest ordinal. False while that goes on.
fn remove_condemned(set: &Set, replicas: &[Option<&Member>], condemned: &[&Member], plan: &mut Plan) -> bool {
    let first_unhealthy = replicas
        .iter()
        .flatten()
        .chain(condemned)
        .find(|member| !member.is_healthy())
        .map(|member| member.object.key.clone());
    for member in condemned {
        replica::claim_retention(set, member, true, plan);
    }
    let mut removed = 0;
    for member in condemned.iter().rev() {
        if member.is_terminating() {
            if set.is_ordered() {
                return false;
            }
            continue;
        }
        let blocks = !member.is_running_and_available() && first_unhealthy.as_ref() != Some(&member.object.key);
        if set.is_ordered() && blocks {
            wake_when_available(member, plan);
            return false;
        }
        replica::delete(set, member, plan);
        removed += 1;
        if set.is_ordered() || removed == PODS_PER_PLAN_MAX {
            return false;
        }
    }
    removed == 0
}

#[cfg(test)]
mod tests;
