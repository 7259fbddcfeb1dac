//! Where the volumes of a pod's claims are or may be made, and what must be promised before the pod can be bound.
//!
//! Rows V-05 … V-07, V-14, V-15, F-11.
//! Upstream: plugins volumebinding, volumerestrictions.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::json;
use stead_api::Object;

use super::claims::{SELECTED_NODE, claim_names};
use super::place::{Place, Wanted};
use super::terms::node_selector_matches;
use crate::names::{CLAIM, NODE, POD, STORAGE_CLASS, VOLUME};
use crate::plan::Plan;
use crate::volume::matching;

/// V-15: another pod uses a claim of this pod that only one pod may use.
pub fn is_exclusive_in_use(wanted: &Wanted) -> bool {
    let is_exclusive = |claim: &&Arc<Object>| {
        let typed = claim.view::<PersistentVolumeClaim>();
        let modes = typed.spec.as_ref().and_then(|s| s.access_modes.as_ref());
        modes.into_iter().flatten().any(|mode| mode == "ReadWriteOncePod")
    };
    let all = wanted
        .claims
        .bound
        .iter()
        .map(|(claim, _)| *claim)
        .chain(wanted.claims.waiting.iter().map(|(claim, _)| *claim));
    let exclusive: Vec<String> = all.filter(is_exclusive).map(|claim| claim.key.name.to_string()).collect();
    if exclusive.is_empty() {
        return false;
    }
    wanted.view.snapshot.list(POD, &wanted.object.key.namespace).any(|other| {
        let pod = other.view::<Pod>();
        let is_placed = pod.spec.as_ref().is_some_and(|s| s.node_name.as_deref().is_some_and(|n| !n.is_empty()));
        other.key != wanted.object.key
            && is_placed
            && wanted.counts(other, &pod)
            && claim_names(&other.key.name, &pod).iter().any(|name| exclusive.contains(name))
    })
}

/// Can the pod's volumes be used on, or made for, this node?
pub fn check(wanted: &Wanted, place: &Place) -> Result<(), &'static str> {
    let is_reachable = |(_, volume): &(&Arc<Object>, &Arc<Object>)| reaches(volume, place.object);
    if !wanted.claims.bound.iter().all(is_reachable) {
        return Err("node(s) had volume node affinity conflict");
    }
    for (claim, candidates) in &wanted.claims.waiting {
        let has_volume = candidates.iter().any(|volume| reaches(volume, place.object));
        if !has_volume && !may_provision(wanted, claim, place) {
            return Err("node(s) didn't find available persistent volumes to bind");
        }
    }
    Ok(())
}

/// Does a volume's node affinity allow this node?
pub fn reaches(volume: &Object, node: &Object) -> bool {
    let typed = volume.view::<PersistentVolume>();
    let affinity = typed.spec.as_ref().and_then(|s| s.node_affinity.as_ref()).and_then(|a| a.required.as_ref());
    affinity.is_none_or(|required| node_selector_matches(required, node))
}

fn may_provision(wanted: &Wanted, claim: &Object, place: &Place) -> bool {
    let typed = claim.view::<PersistentVolumeClaim>();
    let class = typed.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()).unwrap_or_default();
    let Some(class) = wanted.view.get(STORAGE_CLASS, "", class) else { return false };
    let class = class.view::<StorageClass>();
    if class.provisioner == "kubernetes.io/no-provisioner" {
        return false;
    }
    let term_allows = |term: &k8s_openapi::api::core::v1::TopologySelectorTerm| {
        let labels = term.match_label_expressions.iter().flatten();
        labels.into_iter().all(|e| place.label(&e.key).is_some_and(|v| e.values.iter().any(|allowed| allowed == v)))
    };
    let topologies = class.allowed_topologies.as_deref().unwrap_or_default();
    topologies.is_empty() || topologies.iter().any(term_allows)
}

/// Tells the volume controller where the claims will be used: a volume that is there is reserved for the claim, else the claim gets the
/// node's name and is provisioned there. A claim that has its promise already is waited for.
pub fn promise(wanted: &Wanted, place: &Place, plan: &mut Plan) {
    let node = &*place.object.key.name;
    debug_assert!(wanted.view.get(NODE, "", node).is_some(), "places are nodes");
    let mut taken = Vec::new();
    for (claim, candidates) in &wanted.claims.waiting {
        let is_usable = |volume: &&&Arc<Object>| !taken.contains(&&volume.key) && reaches(volume, place.object);
        if let Some(volume) = candidates.iter().find(is_usable) {
            taken.push(&volume.key);
            if !matching::is_reserved_for(volume, claim) {
                plan.update(VOLUME, matching::reserved(volume, claim));
            }
        } else if claim.meta.annotation(SELECTED_NODE) != Some(node) {
            let mut value = claim.value();
            value["metadata"]["annotations"][SELECTED_NODE] = json!(node);
            plan.update(CLAIM, value);
        }
    }
}
