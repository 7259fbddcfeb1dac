//! Claims ↔ volumes: match, provision, bind, reclaim, protect.
//!
//! Two kinds of keys: a claim and a volume; each is brought one step nearer to what it should be, and its change wakes the other.
//!
//! Guarantees:
//! - A volume serves one claim, and a claim one volume: both sides name the other with its uid (V-08).
//! - **Kept** (I10): a volume is deleted only when its claim is gone and its reclaim policy says Delete; a claim never.
//! - A claim in use by a pod and a volume in use by a claim outlive their deletion until they are free (V-13).
//!
//! A provisioned volume is a directory on one node (`stead.local/directory`): the node makes it when it mounts it, and clears the
//! volume's finalizer of that name when it has deleted it.
//! Upstream: pkg/controller/volume/{persistentvolume,pvcprotection,pvprotection}; rows V-03 … V-16.

mod claim;
pub mod ephemeral;
pub mod matching;
mod objects;
mod persistent;
mod provision;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use stead_api::{Key, Object};
use stead_store::Event;

use objects::{claim_spec, has_finalizer};

use crate::names::{CLAIM, DIRECTORY_PROVISIONER, NODE, POD, STORAGE_CLASS, VOLUME, VOLUMES_DIRECTORY};
use crate::plan::{Controller, Plan, Settles, View, Watch};
use crate::scheduler::{SELECTED_NODE, claim_names};

pub const CONTROLLER: Controller = Controller {
    name: "persistentvolume-controller",
    settles: Settles::Never,
    watches: &[
        Watch { kind: CLAIM, keys: woken_by_claim },
        Watch { kind: VOLUME, keys: woken_by_volume },
        Watch { kind: STORAGE_CLASS, keys: |view, _| unbound(view).map(|claim| claim.key.clone()).collect() },
        Watch { kind: POD, keys: woken_by_pod },
        Watch { kind: NODE, keys: woken_by_node },
    ],
    reconcile: |view, key| {
        let Some(object) = view.snapshot.get(key) else { return Plan::none() };
        if key.kind == CLAIM { claim::reconcile(view, object) } else { persistent::reconcile(view, object) }
    },
};

fn woken_by_claim(view: &View, event: &Event) -> Vec<Key> {
    let mut keys = vec![event.key().clone()];
    let volume = claim_spec(&event.object).volume_name.unwrap_or_default();
    if !volume.is_empty() {
        keys.push(Key::new(VOLUME, "", &volume));
    } else if event.deleted {
        // A volume may have been reserved for it.
        let is_for = |v: &&Arc<Object>| matching::names_claim(v, &event.object);
        keys.extend(view.snapshot.list(VOLUME, "").filter(is_for).map(|v| v.key.clone()));
    }
    keys
}

fn woken_by_volume(view: &View, event: &Event) -> Vec<Key> {
    let mut keys = vec![event.key().clone()];
    let volume = event.object.view::<PersistentVolume>();
    match volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) {
        Some(claim) => keys.push(Key::new(
            CLAIM,
            claim.namespace.as_deref().unwrap_or_default(),
            claim.name.as_deref().unwrap_or_default(),
        )),
        None if event.deleted => {}
        None => keys.extend(unbound(view).map(|claim| claim.key.clone())),
    }
    keys
}

/// A pod that comes may be the first consumer; one that goes may be the last that kept a claim.
fn woken_by_pod(_view: &View, event: &Event) -> Vec<Key> {
    let is_shut_down_now = |old: &Arc<Object>| claim::is_shut_down(&event.object) && !claim::is_shut_down(old);
    if !event.deleted && event.old.as_ref().is_some_and(|old| !is_shut_down_now(old)) {
        return Vec::new();
    }
    let pod = &event.object;
    let names = claim_names(&pod.key.name, &pod.view::<Pod>());
    names.iter().map(|name| Key::new(CLAIM, &pod.key.namespace, name)).collect()
}

/// A node that tells its volumes' directory may have claims waiting for it; one that is gone cannot delete directories any more.
fn woken_by_node(view: &View, event: &Event) -> Vec<Key> {
    let directory = |node: &Arc<Object>| node.meta.annotation(VOLUMES_DIRECTORY).map(str::to_owned);
    if event.deleted {
        let waits = |v: &&Arc<Object>| v.meta.is_deleting() && has_finalizer(v, DIRECTORY_PROVISIONER);
        return view.snapshot.list(VOLUME, "").filter(waits).map(|v| v.key.clone()).collect();
    }
    if event.old.as_ref().is_some_and(|old| directory(old) == directory(&event.object)) {
        return Vec::new();
    }
    let node = &*event.key().name;
    let waits = |claim: &&Arc<Object>| claim.meta.annotation(SELECTED_NODE).is_none_or(|selected| selected == node);
    unbound(view).filter(waits).map(|claim| claim.key.clone()).collect()
}

fn unbound<'a>(view: &View<'a>) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
    view.snapshot.list(CLAIM, "").filter(|claim| !matching::is_bound(claim))
}

#[cfg(test)]
mod tests;
