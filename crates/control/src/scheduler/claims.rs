//! The claims of a pod: which they are, and are they bound.
//!
//! Rows V-05, V-06. Upstream: plugin volumebinding.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use stead_api::Object;

use crate::names::{CLAIM, STORAGE_CLASS, VOLUME};
use crate::plan::View;
use crate::volume::matching;

pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// The claims of a pod that all exist.
#[derive(Clone)]
pub struct Claims<'a> {
    /// Bound, with their volumes.
    pub bound: Vec<(&'a Arc<Object>, &'a Arc<Object>)>,
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
