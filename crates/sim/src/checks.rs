//! The invariants of ARCHITECTURE.md as functions: each gets what it judges and says `Ok` or what is wrong.
//!
//! They look at durable states and at the machines alone, never into the parts under test, so a wrong part cannot hide itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Service};
use stead_api::{Key, Object, Revision};
use stead_control::Plan;
use stead_control::names::{CLAIM, NODE, POD, SERVICE, VOLUME};
use stead_control::plan::Action;
use stead_node::machine::FakeMachine;
use stead_store::{Event, Record, Snapshot, durable};

use crate::ledger::Ledger;

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
    };
}

checks! {
    DURABLE = "Durable": "no reply, event or answer depends on a revision that is not on disk";
    ORDERED = "Ordered": "a watch delivers by revision, and one write is one event";
    UNIQUE = "Unique": "no event is delivered twice by a cursor";
    RELIABLE = "Reliable": "a cursor drops nothing; one that has fallen behind is told so";
    RESUMABLE = "Resumable": "a new cursor at a seen revision goes on where the old one stopped";
    BOOKMARKED = "Bookmarked": "a bookmark's revision promises that everything up to it was delivered";
    FOLD = "Fold": "the snapshot is the fold of the records; restoring twice gives equal snapshots";
    LEVEL = "Level": "a plan depends only on snapshot, key and now; wiping all status and restarting restores it";
    NAMED = "Named": "every update and delete in a plan carries the uid, and the resourceVersion where content matters";
    STABLE = "Stable": "once faults and users stop, the desired state is reached and nothing is written any more";
    AT_MOST_ONE = "AtMostOne": "at most one live container set per pod identity in the whole cluster, unless a user forced it";
    ORDER = "Order": "OrderedReady: web-n is made only when all below are ready; a claim exists before its pod; removal from the top";
    KEPT = "Kept": "no claim or volume is deleted unless a policy or a user said so";
    BUDGET = "Budget": "an eviction leaves as many healthy pods as the disruption budget asks for";
    ADDRESS = "Address": "no two Services have the same address";
    BOUNDED = "Bounded": "every queue, history, body, loop and retry has a named limit";
    HEALTHY = "Healthy": "nothing panics, and no request is answered with an internal error";
}

pub fn violated<T>(check: &'static Check, detail: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { check, detail: detail.into() })
}

/// Durable: what is published is what the disk holds.
pub fn durable(published: &Snapshot, disk: &BTreeMap<Key, Bytes>, revision: Revision) -> Verdict {
    if published.revision() != revision {
        return violated(&DURABLE, format!("published {} where the disk is at {revision}", published.revision()));
    }
    let mut stored = disk.iter();
    for object in published.all() {
        match stored.next() {
            Some((key, json)) if *key == object.key && *json == object.json => {}
            other => {
                return violated(
                    &DURABLE,
                    format!("{} is published, the disk has {:?}", object.key, other.map(|o| o.0)),
                );
            }
        }
    }
    match stored.next() {
        Some((key, _)) => violated(&DURABLE, format!("{key} is on disk and not published")),
        None => Ok(()),
    }
}

/// Durable: what left the server in an earlier life is known in this one.
pub fn remembered(restored: Revision, told: Revision) -> Verdict {
    if restored < told {
        return violated(&DURABLE, format!("revision {told} was told, and only {restored} was restored"));
    }
    Ok(())
}

/// Fold: restoring the records gives this snapshot.
pub fn fold(plane: &Snapshot, registry: &stead_kinds::Registry, records: Vec<Record>, revision: Revision) -> Verdict {
    match durable::restore(revision, records.into_iter(), |kind| registry.fields(kind)) {
        Ok(again) if again == *plane => Ok(()),
        Ok(_) => violated(&FOLD, "two restores differ"),
        Err(error) => violated(&FOLD, format!("the records do not restore: {error}")),
    }
}

/// Named: what a plan changes, it names.
pub fn named(plans: &[(&'static str, Key, Plan)]) -> Verdict {
    for (controller, key, plan) in plans {
        for action in &plan.actions {
            let fine = match action {
                Action::Create { .. } => true,
                Action::Update { value, .. }
                | Action::UpdateStatus { value, .. }
                | Action::UpdateSubresource { value, .. } => {
                    let has = |field: &str| value["metadata"][field].as_str().is_some_and(|text| !text.is_empty());
                    has("uid") && has("resourceVersion")
                }
                Action::Delete { uid, .. } | Action::Bind { uid, .. } => !uid.is_empty(),
            };
            if !fine {
                return violated(&NAMED, format!("{controller} for {key}: {action:?}"));
            }
        }
    }
    Ok(())
}

/// AtMostOne: over all machines, by the names that their sandboxes carry.
pub fn at_most_one<'a>(machines: impl Iterator<Item = &'a FakeMachine>, ledger: &Ledger) -> Verdict {
    let mut live: BTreeMap<(&str, &str), BTreeSet<(usize, &str)>> = BTreeMap::new();
    for (index, machine) in machines.enumerate() {
        for container in machine.running() {
            let uid = container.container.pod.as_str();
            let Some(sandbox) = machine.sandboxes.get(uid) else {
                return violated(&AT_MOST_ONE, format!("a container of {uid} runs without a sandbox"));
            };
            let name = (sandbox.pod.namespace.as_str(), sandbox.pod.name.as_str());
            live.entry(name).or_default().insert((index, uid));
        }
    }
    for (name, holders) in live.iter().filter(|(_, holders)| holders.len() > 1) {
        let unforced = holders.iter().filter(|(_, uid)| !ledger.forced.contains(*uid)).count();
        let machines: BTreeSet<usize> = holders.iter().map(|(machine, _)| *machine).collect();
        if unforced > 1 || machines.len() < holders.len() {
            return violated(&AT_MOST_ONE, format!("{}/{} runs as {holders:?} (machine, uid)", name.0, name.1));
        }
    }
    Ok(())
}

/// AtMostOne: a pod's object goes only when nothing of it runs, for its name is free from then on.
pub fn gone_when_removed<'a>(mut machines: impl Iterator<Item = &'a FakeMachine>, ledger: &Ledger) -> Verdict {
    let alive = |uid: &str, machine: &FakeMachine| machine.running().any(|c| c.container.pod == uid);
    for uid in &ledger.just_removed {
        if !ledger.forced.contains(uid) && machines.any(|machine| alive(uid, machine)) {
            return violated(&AT_MOST_ONE, format!("pod {uid} was removed while it runs"));
        }
    }
    Ok(())
}

pub fn is_ready(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let ready = |c: &k8s_openapi::api::core::v1::PodCondition| c.type_ == "Ready" && c.status == "True";
    status.phase.as_deref() == Some("Running") && status.conditions.iter().flatten().any(ready)
}

/// The set that controls an object, if it exists, and the object's ordinal.
fn set_of(ledger: &Ledger, object: &Object) -> Option<(Arc<StatefulSet>, i32)> {
    let owner = object.meta.controller().filter(|owner| owner.kind == "StatefulSet")?;
    let set = ledger.find(stead_control::names::STATEFUL_SET, &object.key.namespace, &owner.name)?;
    let ordinal = object.key.name.rsplit_once('-')?.1.parse().ok()?;
    (set.meta.uid == owner.uid).then(|| (set.view::<StatefulSet>(), ordinal))
}

fn is_ordered(set: &StatefulSet) -> bool {
    set.spec.as_ref().is_some_and(|s| s.pod_management_policy.as_deref() != Some("Parallel"))
}

fn first_ordinal(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.ordinals.as_ref()).and_then(|o| o.start).unwrap_or(0)
}

/// Order: of a pod that appears.
pub fn order_of_creation(ledger: &Ledger, event: &Event) -> Verdict {
    let pod = &event.object;
    if event.old.is_some() || event.deleted {
        return Ok(());
    }
    let Some((set, ordinal)) = set_of(ledger, pod) else { return Ok(()) };
    for volume in pod.view::<Pod>().spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let Some(claim) = &volume.persistent_volume_claim else { continue };
        if ledger.find(CLAIM, &pod.key.namespace, &claim.claim_name).is_none() {
            return violated(&ORDER, format!("{} was made before its claim {}", pod.key, claim.claim_name));
        }
    }
    let set_name = set.metadata.name.as_deref().unwrap_or_default();
    for lower in first_ordinal(&set)..ordinal {
        let name = format!("{set_name}-{lower}");
        let found = ledger.find(POD, &pod.key.namespace, &name);
        let fine = found.is_some_and(|o| !o.meta.is_deleting() && is_ready(&o.view::<Pod>()));
        if is_ordered(&set) && !fine {
            return violated(&ORDER, format!("{} was made while {name} was not ready", pod.key));
        }
    }
    Ok(())
}

/// Order: of a pod that its set takes away because there are too many.
pub fn order_of_removal(ledger: &Ledger, event: &Event) -> Verdict {
    let pod = &event.object;
    let starts = pod.meta.is_deleting() && event.old.as_ref().is_some_and(|old| !old.meta.is_deleting());
    let Some((set, ordinal)) = set_of(ledger, pod).filter(|(set, _)| starts && is_ordered(set)) else { return Ok(()) };
    let replicas = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    let is_going = set.metadata.deletion_timestamp.is_some();
    if is_going || ordinal < first_ordinal(&set) + replicas || ledger.is_touched(pod) || ledger.is_expelled(pod) {
        return Ok(());
    }
    let set_name = set.metadata.name.as_deref().unwrap_or_default();
    let higher = ledger.list(POD).find(|other| {
        other.key.namespace == pod.key.namespace
            && set_of(ledger, other).is_some_and(|(s, n)| n > ordinal && s.metadata.uid == set.metadata.uid)
    });
    match higher {
        Some(higher) => violated(&ORDER, format!("{} of {set_name} goes before {}", pod.key, higher.key)),
        None => Ok(()),
    }
}

/// Kept: of a claim or a volume that goes.
pub fn kept(ledger: &Ledger, event: &Event) -> Verdict {
    let object = &event.object;
    let went = match &event.old {
        Some(old) => !old.meta.is_deleting() && (event.deleted || object.meta.is_deleting()),
        None => false,
    };
    if !went || ledger.is_touched(object) {
        return Ok(());
    }
    let by_policy = match object.key.kind {
        // A retention policy gives claims an owner; without one nobody but a user may take it.
        CLAIM => !object.meta.owner_references.is_empty(),
        _ => {
            let volume = object.view::<PersistentVolume>();
            let policy = volume.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref());
            policy == Some("Delete") && !has_claim(ledger, &volume)
        }
    };
    if by_policy { Ok(()) } else { violated(&KEPT, format!("{} goes, and nobody asked for it", object.key)) }
}

fn has_claim(ledger: &Ledger, volume: &PersistentVolume) -> bool {
    let claim = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    let found = claim.and_then(|c| {
        let name = c.name.as_deref().unwrap_or_default();
        ledger
            .find(CLAIM, c.namespace.as_deref().unwrap_or_default(), name)
            .filter(|o| Some(&o.meta.uid) == c.uid.as_ref())
    });
    found.is_some()
}

/// Kept: of a directory that a node is told to delete.
pub fn kept_directory(ledger: &Ledger, path: &std::path::Path) -> Verdict {
    for object in ledger.list(VOLUME) {
        let volume = object.view::<PersistentVolume>();
        let Some(spec) = &volume.spec else { continue };
        let own = spec.host_path.as_ref().map(|h| &h.path).or(spec.local.as_ref().map(|l| &l.path));
        if own.is_some_and(|own| std::path::Path::new(own) == path) && has_claim(ledger, &volume) {
            return violated(&KEPT, format!("the directory of {} is deleted, and its claim is there", object.key));
        }
    }
    Ok(())
}

/// Address: of a Service that appears or changes.
pub fn address(ledger: &Ledger, event: &Event) -> Verdict {
    let own = |object: &Object| object.view::<Service>().spec.as_ref().and_then(|s| s.cluster_ip.clone());
    let Some(address) = own(&event.object).filter(|ip| !ip.is_empty() && ip != "None" && !event.deleted) else {
        return Ok(());
    };
    let other = ledger.list(SERVICE).find(|o| o.key != event.object.key && own(o).as_ref() == Some(&address));
    match other {
        Some(other) => violated(&ADDRESS, format!("{} and {} have {address}", other.key, event.object.key)),
        None => Ok(()),
    }
}

/// The pods and claims in a few words each, for a failure.
pub fn summary(snapshot: &Snapshot) -> String {
    let pods = snapshot.list(POD, "").map(|object| {
        let pod = object.view::<Pod>();
        let node = object.field("spec.nodeName").unwrap_or_default();
        let deleting = if object.meta.is_deleting() { " deleting" } else { "" };
        let ready = if is_ready(&pod) { " ready" } else { "" };
        format!("{} {} on {node:?}{ready}{deleting} {}", object.key, object.meta.uid, object.value()["status"])
    });
    let claims = snapshot
        .list(CLAIM, "")
        .map(|o| format!("{} {} {}", o.key, o.meta.is_deleting(), o.value()["status"]["phase"]));
    pods.chain(claims).collect::<Vec<_>>().join("\n  ")
}

/// Whether the desired state is reached; if not, what is missing.
pub fn is_desired(snapshot: &Snapshot, machines: &[&FakeMachine]) -> Result<(), String> {
    for object in snapshot.all() {
        let is_protected = matches!(object.key.kind, CLAIM | VOLUME);
        // A claim that a user deleted stays as long as a pod uses it.
        if object.meta.is_deleting() && !is_protected {
            return Err(format!("{} is still being deleted", object.key));
        }
        workload_is_desired(object)?;
    }
    for object in snapshot.list(POD, "") {
        if snapshot.find(NODE, "", object.field("spec.nodeName").unwrap_or_default()).is_none() {
            return Err(format!("{} has no node: {}", object.key, object.value()["status"]));
        }
    }
    for object in snapshot.list(CLAIM, "") {
        let claim = object.view::<PersistentVolumeClaim>();
        let is_bound = claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
        let pods = snapshot
            .list(POD, "")
            .any(|pod| pod.json.windows(object.key.name.len()).any(|w| w == object.key.name.as_bytes()));
        if !is_bound && pods {
            return Err(format!("{} is not bound", object.key));
        }
    }
    let known: BTreeSet<&str> = snapshot.list(POD, "").map(|o| o.meta.uid.as_str()).collect();
    for machine in machines {
        if let Some(left) = machine.sandboxes.keys().find(|uid| !known.contains(uid.as_str())) {
            return Err(format!("pod {left} is left on a machine"));
        }
    }
    Ok(())
}

fn workload_is_desired(object: &Object) -> Result<(), String> {
    let value = match object.key.kind {
        stead_control::names::STATEFUL_SET | stead_control::names::DEPLOYMENT | stead_control::names::REPLICA_SET => {
            object.value()
        }
        _ => return Ok(()),
    };
    let (spec, status) = (&value["spec"], &value["status"]);
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    let is_fine = number("replicas") == wanted
        && number("readyReplicas") == wanted
        && number("availableReplicas") == wanted
        && number("observedGeneration") == object.meta.generation;
    if !is_fine {
        return Err(format!("{} wants {wanted}: {value}", object.key));
    }
    let strategy = &spec["updateStrategy"];
    let is_whole =
        strategy["type"] == "RollingUpdate" && strategy["rollingUpdate"]["partition"].as_i64().unwrap_or(0) == 0;
    if object.key.kind == stead_control::names::STATEFUL_SET
        && is_whole
        && status["currentRevision"] != status["updateRevision"]
    {
        return Err(format!("{} has not rolled out: {status}", object.key));
    }
    Ok(())
}
