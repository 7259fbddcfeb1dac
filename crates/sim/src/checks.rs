//! The invariants of ARCHITECTURE.md as functions: each gets what it judges and says `Ok` or what is wrong.
//!
//! They look at durable states and at the machines alone, never into the parts under test, so a wrong part cannot hide itself.
//! `disk.rs` judges commits, `machines.rs` what runs, the others single events against the state before them (`Ledger`), and
//! `desired.rs` the end.

pub mod desired;
pub mod disk;
pub mod kept;
pub mod machines;
pub mod order;
pub mod owners;
pub mod rollout;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;

/// An invariant, as ARCHITECTURE.md words it.
#[derive(Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub statement: &'static str,
}

/// An invariant that did not hold.
#[derive(Debug)]
pub struct Violation {
    pub check: &'static Check,
    pub detail: String,
}

pub type Verdict = Result<(), Violation>;

macro_rules! checks {
    ($($ident:ident = $name:literal: $statement:literal;)*) => {
        $(pub static $ident: Check = Check { name: $name, statement: $statement };)*
        /// Every invariant that is checked.
        pub static ALL: &[&Check] = &[$(&$ident),*];
    };
}

checks! {
    DURABLE = "Durable": "no reply, event or answer depends on a revision that is not on disk";
    ORDERED = "Ordered": "a watch delivers by revision, and one write is one event";
    UNIQUE = "Unique": "no event is delivered twice by a cursor";
    RELIABLE = "Reliable": "a cursor drops nothing; one that has fallen behind is told so";
    RESUMABLE = "Resumable": "a new cursor at a seen revision goes on where the old one stopped";
    BOOKMARKED = "Bookmarked": "a bookmark's revision promises that everything up to it was delivered";
    PAGED = "Paged": "the pages of a list are the list at one revision, or the client is told that it is gone";
    FOLD = "Fold": "the snapshot is the fold of the records; restoring twice gives equal snapshots";
    LEVEL = "Level": "a plan depends only on snapshot, key and now; wiping all status and restarting restores it";
    NAMED = "Named": "every update and delete in a plan carries the uid, and the resourceVersion where content matters";
    STABLE = "Stable": "once faults and users stop, the desired state is reached and nothing is written any more";
    AT_MOST_ONE = "AtMostOne": "at most one live container set per pod identity in the whole cluster, unless a user forced it";
    ORDER = "Order": "OrderedReady: web-n is made only when all below are ready; a claim exists before its pod; removal from the top; under Parallel none waits for another";
    ROLLOUT = "Rollout": "a rolling update takes outdated pods alone, none below the partition, and at most maxUnavailable at a time; below the partition pods are made at the current revision";
    COUNTED = "Counted": "a ReplicaSet makes a pod only when it has too few, and takes one only when it has too many";
    KEPT = "Kept": "no claim or volume is deleted unless a policy or a user said so; a volume serves one claim, and a claim keeps its volume";
    OWNED = "Owned": "what nobody asked to delete goes with its last owner and never while one lives; orphans stay; an owner deleted in the foreground goes last";
    CLOSED = "Closed": "nothing is made in a namespace that is going or gone, and a namespace goes only when it is empty";
    FINAL = "Final": "an object goes only without finalizers, a deletion is never taken back or put off, and a uid never changes";
    BUDGET = "Budget": "an eviction leaves as many healthy pods as the disruption budget asks for";
    ADDRESS = "Address": "no two Services have the same address";
    BOUNDED = "Bounded": "every queue, history, body, loop and retry has a named limit";
    HEALTHY = "Healthy": "nothing panics, and no request is answered with an internal error";
}

pub fn violated<T>(check: &'static Check, detail: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { check, detail: detail.into() })
}

pub fn is_ready(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let ready = |c: &k8s_openapi::api::core::v1::PodCondition| c.type_ == "Ready" && c.status == "True";
    status.phase.as_deref() == Some("Running") && status.conditions.iter().flatten().any(ready)
}

pub fn is_finished(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Failed" | "Succeeded"))
}

fn is_ordered(set: &StatefulSet) -> bool {
    set.spec.as_ref().is_some_and(|s| s.pod_management_policy.as_deref() != Some("Parallel"))
}

fn first_ordinal(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.ordinals.as_ref()).and_then(|o| o.start).unwrap_or(0)
}

fn replicas(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

/// Whether an event is the beginning of an object's end.
pub fn begins_to_go(event: &stead_store::Event) -> bool {
    let was_there = event.old.as_ref().is_some_and(|old| !old.meta.is_deleting());
    was_there && (event.deleted || event.object.meta.is_deleting())
}
