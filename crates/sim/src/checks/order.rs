//! In which order sets make and remove their pods, and how many a ReplicaSet has.

use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use stead_api::{KindName, Object};
use stead_control::names::{CLAIM, POD, REPLICA_SET, STATEFUL_SET};
use stead_store::Event;

use super::{
    COUNTED, ORDER, Verdict, begins_to_go, first_ordinal, is_finished, is_ordered, is_ready, replicas, violated,
};
use crate::ledger::Ledger;

/// Order: of a pod that appears.
pub fn of_creation(ledger: &Ledger, event: &Event) -> Verdict {
    let pod = &event.object;
    if event.old.is_some() || event.deleted {
        return Ok(());
    }
    let Some((set, ordinal)) = ledger.set_of(pod) else { return Ok(()) };
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
pub fn of_removal(ledger: &Ledger, event: &Event) -> Verdict {
    let pod = &event.object;
    let starts = begins_to_go(event);
    let Some((set, ordinal)) = ledger.set_of(pod).filter(|(set, _)| starts && is_ordered(set)) else { return Ok(()) };
    let is_going = set.metadata.deletion_timestamp.is_some();
    if is_going || ordinal < first_ordinal(&set) + replicas(&set) || ledger.is_excused(pod) {
        return Ok(());
    }
    let set_name = set.metadata.name.as_deref().unwrap_or_default();
    let higher = ledger.list(POD).find(|other| {
        other.key.namespace == pod.key.namespace
            && ledger.set_of(other).is_some_and(|(s, n)| n > ordinal && s.metadata.uid == set.metadata.uid)
    });
    match higher {
        Some(higher) => violated(&ORDER, format!("{} of {set_name} goes before {}", pod.key, higher.key)),
        None => Ok(()),
    }
}

const WEBHOOKS: KindName = "validatingwebhookconfigurations.admissionregistration.k8s.io";

/// Order, after a commit: a Parallel set has made every pod that nothing but another pod could keep it from making.
pub fn of_parallel(ledger: &Ledger) -> Verdict {
    // Whoever is asked about pods may keep one back, and is asked about one after the other.
    if ledger.list(WEBHOOKS).next().is_some() {
        return Ok(());
    }
    for object in ledger.list(STATEFUL_SET).filter(|set| !set.meta.is_deleting()) {
        let set = object.view::<StatefulSet>();
        let namespace = &*object.key.namespace;
        if is_ordered(&set) || ledger.is_namespace_going(namespace) {
            continue;
        }
        let ordinals = || first_ordinal(&set)..first_ordinal(&set) + replicas(&set);
        let pod = |ordinal: i32| ledger.find(POD, namespace, &format!("{}-{ordinal}", object.key.name));
        let is_strange = |pod: &Object| pod.meta.controller().is_none_or(|owner| owner.uid != object.meta.uid);
        // What cannot be made is tried again later, and with it what comes after.
        if ordinals().any(|n| pod(n).is_some_and(|pod| is_strange(pod)) || waits_for_claim(ledger, object, &set, n)) {
            continue;
        }
        if let Some(missing) = ordinals().find(|n| pod(*n).is_none()) {
            return violated(&ORDER, format!("{missing} is missing in {}, a Parallel set", object.key));
        }
    }
    Ok(())
}

/// Whether a claim of the ordinal is on its way out, so that its pod cannot be made yet.
fn waits_for_claim(ledger: &Ledger, object: &Object, set: &StatefulSet, ordinal: i32) -> bool {
    let templates = set.spec.as_ref().and_then(|s| s.volume_claim_templates.as_ref());
    templates.into_iter().flatten().any(|template| {
        let template = template.metadata.name.as_deref().unwrap_or_default();
        let name = format!("{template}-{}-{ordinal}", object.key.name);
        let claim = ledger.find(CLAIM, &object.key.namespace, &name);
        claim.is_some_and(|c| c.meta.is_deleting() || c.meta.owner_references.iter().any(|o| o.kind == "Pod"))
    })
}

/// Counted: of a pod that a ReplicaSet makes or takes.
pub fn of_count(ledger: &Ledger, event: &Event) -> Verdict {
    let pod = &event.object;
    let makes = event.old.is_none() && !event.deleted;
    let takes = begins_to_go(event) && !ledger.is_excused(pod);
    let Some(owner) = pod.meta.controller().filter(|o| o.kind == "ReplicaSet" && (makes || takes)) else {
        return Ok(());
    };
    let set = ledger.find(REPLICA_SET, &pod.key.namespace, &owner.name).filter(|set| set.meta.uid == owner.uid);
    let Some(set) = set.filter(|set| !set.meta.is_deleting()) else { return Ok(()) };
    let wanted = set.view::<ReplicaSet>().spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    let is_active = |other: &Object| {
        other.meta.controller().is_some_and(|o| o.uid == owner.uid)
            && !other.meta.is_deleting()
            && !is_finished(&other.view::<Pod>())
    };
    let active = ledger.list(POD).filter(|other| is_active(other)).count() as i64;
    let wrong = if makes { active >= i64::from(wanted) } else { active <= i64::from(wanted) };
    if wrong {
        let verb = if makes { "made" } else { "taken" };
        return violated(&COUNTED, format!("{} was {verb}: {} wants {wanted} and had {active}", pod.key, set.key));
    }
    Ok(())
}
