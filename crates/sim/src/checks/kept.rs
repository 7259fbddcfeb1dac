//! What becomes of claims and volumes.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use stead_api::Object;
use stead_control::names::CLAIM;
use stead_store::Event;

use super::{KEPT, Verdict, begins_to_go, owners, violated};
use crate::ledger::Ledger;

/// Kept: of a claim or a volume that goes.
pub fn of_removal(ledger: &Ledger, event: &Event) -> Verdict {
    let object = &event.object;
    if !begins_to_go(event) || ledger.is_touched(object) {
        return Ok(());
    }
    let by_policy = match object.key.kind {
        // A retention policy gives claims an owner; without one nobody but a user may take it.
        CLAIM => ledger.is_namespace_going(&object.key.namespace) || owners::are_all_gone(ledger, object),
        _ => {
            let volume = object.view::<PersistentVolume>();
            let policy = volume.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref());
            policy == Some("Delete") && !has_claim(ledger, &volume)
        }
    };
    if by_policy { Ok(()) } else { violated(&KEPT, format!("{} goes, and nobody asked for it", object.key)) }
}

/// Kept: of a claim's volume.
pub fn of_binding(ledger: &Ledger, event: &Event) -> Verdict {
    let claim = &event.object;
    let volume = |object: &Object| {
        let view = object.view::<PersistentVolumeClaim>();
        view.spec.as_ref().and_then(|s| s.volume_name.clone()).filter(|name| !name.is_empty())
    };
    let own = volume(claim);
    if let Some(old) = event.old.as_ref().and_then(|old| volume(old)).filter(|old| own.as_ref() != Some(old)) {
        return violated(&KEPT, format!("{} had volume {old} and has {own:?}", claim.key));
    }
    let Some(own) = own.filter(|_| !event.deleted) else { return Ok(()) };
    match ledger.list(CLAIM).find(|other| other.key != claim.key && volume(other).as_ref() == Some(&own)) {
        Some(other) => violated(&KEPT, format!("{} and {} have volume {own}", claim.key, other.key)),
        None => Ok(()),
    }
}

pub fn has_claim(ledger: &Ledger, volume: &PersistentVolume) -> bool {
    let claim = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    let found = claim.and_then(|c| {
        let name = c.name.as_deref().unwrap_or_default();
        ledger
            .find(CLAIM, c.namespace.as_deref().unwrap_or_default(), name)
            .filter(|o| Some(&o.meta.uid) == c.uid.as_ref())
    });
    found.is_some()
}
