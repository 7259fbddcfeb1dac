//! The claims of a pod: are they bound, where are their volumes, and what must be promised before the pod can be bound.
//!
//! Rows V-05 … V-07, V-14, V-15, F-11.
//! Upstream: plugins volumebinding, volumerestrictions.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::json;
use stead_api::Object;

use super::terms::node_selector_matches;
use super::{Place, Wanted};
use crate::facts;
use crate::names::{CLAIM, NODE, POD, STORAGE_CLASS, VOLUME};
use crate::plan::{Plan, View};
use crate::volume::matching;

pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// The claims of a pod that all exist.
pub struct Claims<'a> {
    /// Bound, with their volumes.
    bound: Vec<(&'a Arc<Object>, &'a Arc<Object>)>,
    /// Unbound claims of classes that wait for the first consumer, each with the volumes that fit it, best first.
    pub waiting: Vec<(&'a Arc<Object>, Vec<&'a Arc<Object>>)>,
    /// The node that a waiting claim was promised to.
    pub promised: Option<String>,
}

/// Names of the claims that a pod's volumes use; an ephemeral volume's claim is `<pod>-<volume>`.
pub fn claim_names(pod_name: &str, pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_ref());
    let name = |volume: &k8s_openapi::api::core::v1::Volume| match (&volume.persistent_volume_claim, &volume.ephemeral)
    {
        (Some(source), _) => Some(source.claim_name.clone()),
        (None, Some(_)) => Some(format!("{pod_name}-{}", volume.name)),
        _ => None,
    };
    volumes.into_iter().flatten().filter_map(name).collect()
}

pub fn uses_claims(pod: &Pod) -> bool {
    !claim_names("", pod).is_empty()
}

/// Sorts the pod's claims.
///
/// # Errors
/// Why no node can have the pod.
pub fn claims<'a>(view: &View<'a>, object: &Object, pod: &Pod) -> Result<Claims<'a>, String> {
    let mut claims = Claims { bound: Vec::new(), waiting: Vec::new(), promised: None };
    for name in claim_names(&object.key.name, pod) {
        let claim = view
            .get(CLAIM, &object.key.namespace, &name)
            .ok_or_else(|| format!("persistentvolumeclaim \"{name}\" not found"))?;
        if claim.meta.is_deleting() {
            return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
        }
        let typed = claim.view::<PersistentVolumeClaim>();
        let volume = typed.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default();
        if matching::is_bound(claim) {
            let volume = view.get(VOLUME, "", volume).ok_or_else(|| {
                format!("persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\"")
            })?;
            claims.bound.push((claim, volume));
        } else if waits_for_consumer(view, &typed) && volume.is_empty() {
            claims.promised = claims.promised.or(claim.meta.annotation(SELECTED_NODE).map(str::to_owned));
            claims.waiting.push((claim, matching::candidates(view, claim)));
        } else {
            return Err("pod has unbound immediate PersistentVolumeClaims".into());
        }
    }
    Ok(claims)
}

pub fn waits_for_consumer(view: &View, claim: &PersistentVolumeClaim) -> bool {
    let class = claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()).unwrap_or_default();
    view.get(STORAGE_CLASS, "", class).is_some_and(|class| {
        class.view::<StorageClass>().volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
    })
}

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
            && !facts::is_finished(&pod)
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
