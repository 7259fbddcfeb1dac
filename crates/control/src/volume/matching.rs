//! Which volume fits a claim (V-07): one that names the claim, else the smallest that is big enough.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeSpec};
use serde_json::{Value, json};
use stead_api::{LabelSelector, Object, Quantity};

use super::objects::claim_spec;
use crate::names::VOLUME;
use crate::plan::View;

pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

/// The claim has a volume and the binding was completed once.
pub fn is_bound(claim: &Object) -> bool {
    claim.meta.annotation(BIND_COMPLETED).is_some()
        && claim
            .view::<k8s_openapi::api::core::v1::PersistentVolumeClaim>()
            .spec
            .as_ref()
            .is_some_and(|s| s.volume_name.as_deref().is_some_and(|name| !name.is_empty()))
}

/// The volume's claimRef is this claim: by name, and by uid where it has one.
pub fn names_claim(volume: &Object, claim: &Object) -> bool {
    let typed = volume.view::<PersistentVolume>();
    typed.spec.as_ref().and_then(|s| s.claim_ref.as_ref()).is_some_and(|reference| {
        reference.name.as_deref() == Some(&*claim.key.name)
            && reference.namespace.as_deref() == Some(&*claim.key.namespace)
            && reference.uid.as_deref().is_none_or(|uid| uid.is_empty() || uid == claim.meta.uid)
    })
}

pub fn is_reserved_for(volume: &Object, claim: &Object) -> bool {
    names_claim(volume, claim) && claim_uid(volume).as_deref() == Some(&claim.meta.uid)
}

/// The uid in the volume's claimRef.
pub fn claim_uid(volume: &Object) -> Option<String> {
    volume.view::<PersistentVolume>().spec.as_ref()?.claim_ref.as_ref()?.uid.clone().filter(|uid| !uid.is_empty())
}

/// The volume again, promised to the claim.
pub fn reserved(volume: &Object, claim: &Object) -> Value {
    let mut value = volume.value();
    if value["spec"]["claimRef"].is_null() {
        value["metadata"]["annotations"][BOUND_BY_CONTROLLER] = json!("yes");
    }
    value["spec"]["claimRef"] = reference(claim);
    value
}

pub fn reference(claim: &Object) -> Value {
    json!({"kind": "PersistentVolumeClaim", "namespace": &*claim.key.namespace, "name": &*claim.key.name,
        "uid": claim.meta.uid, "apiVersion": "v1", "resourceVersion": claim.revision().to_string()})
}

/// The volume for a claim that need not wait for a node.
pub fn find<'a>(view: &View<'a>, claim: &Object) -> Option<&'a Arc<Object>> {
    candidates(view, claim).first().copied()
}

/// The volumes that fit a claim: one that names it, else the free ones from the smallest.
pub fn candidates<'a>(view: &View<'a>, claim: &Object) -> Vec<&'a Arc<Object>> {
    if let Some(volume) = promised(view, claim) {
        return if mismatch(volume, claim).is_none() { vec![volume] } else { Vec::new() };
    }
    let is_free = |volume: &&Arc<Object>| {
        !volume.meta.is_deleting()
            && volume.view::<PersistentVolume>().spec.as_ref().is_some_and(|s| s.claim_ref.is_none())
            && mismatch(volume, claim).is_none()
    };
    let mut free: Vec<_> = view.snapshot.list(VOLUME, "").filter(is_free).collect();
    free.sort_by_key(|volume| capacity(volume));
    free
}

/// The volume that names the claim, whether or not it fits.
pub fn promised<'a>(view: &View<'a>, claim: &Object) -> Option<&'a Arc<Object>> {
    // The one that was provisioned for it is found by its name.
    let names = |volume: &&Arc<Object>| !volume.meta.is_deleting() && names_claim(volume, claim);
    if let Some(own) = view.get(VOLUME, "", &format!("pvc-{}", claim.meta.uid)).filter(names) {
        return Some(own);
    }
    view.snapshot.list(VOLUME, "").find(names)
}

fn capacity(volume: &Object) -> Quantity {
    let typed = volume.view::<PersistentVolume>();
    let storage = typed.spec.as_ref().and_then(|s| s.capacity.as_ref()).and_then(|c| c.get("storage"));
    storage.and_then(|text| text.0.parse().ok()).unwrap_or(Quantity::ZERO)
}

pub fn requested(claim: &Object) -> Quantity {
    let spec = claim_spec(claim);
    let requests = spec.resources.and_then(|r| r.requests).unwrap_or_default();
    requests.get("storage").and_then(|text| text.0.parse().ok()).unwrap_or(Quantity::ZERO)
}

/// Why a volume does not fit a claim, in upstream's words.
pub fn mismatch(volume: &Object, claim: &Object) -> Option<&'static str> {
    let typed = volume.view::<PersistentVolume>();
    let none = PersistentVolumeSpec::default();
    let has = typed.spec.as_ref().unwrap_or(&none);
    let wants = claim_spec(claim);
    let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
    let mode = |text: &Option<String>| text.clone().unwrap_or_else(|| "Filesystem".into());
    if capacity(volume) < requested(claim) {
        return Some("requested PV is too small");
    }
    if or_empty(&has.storage_class_name) != or_empty(&wants.storage_class_name) {
        return Some("storageClassName does not match");
    }
    if or_empty(&has.volume_attributes_class_name) != or_empty(&wants.volume_attributes_class_name) {
        return Some("volumeAttributesClassName does not match");
    }
    if mode(&has.volume_mode) != mode(&wants.volume_mode) {
        return Some("incompatible volumeMode");
    }
    let offered = has.access_modes.as_deref().unwrap_or_default();
    if !wants.access_modes.iter().flatten().all(|mode| offered.contains(mode)) {
        return Some("incompatible accessMode");
    }
    let selector = match &wants.selector {
        None => LabelSelector::EVERYTHING,
        given => LabelSelector::from_typed(given.as_ref()).unwrap_or(LabelSelector::Nothing),
    };
    (!selector.matches(&volume.meta.labels)).then_some("selector does not match")
}
