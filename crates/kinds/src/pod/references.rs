//! The ConfigMaps, Secrets and claims that a pod names: what wakes it when it changes, and what its node may read.

use k8s_openapi::api::core::v1::{Container, Pod, Volume};

use crate::template::ephemeral::as_container;

/// Kind and name of each in the pod's namespace.
pub fn references(typed: &Pod) -> Vec<(&'static str, String)> {
    let mut names: Vec<(&'static str, String)> = Vec::new();
    let Some(spec) = &typed.spec else { return names };
    let pod_name = typed.metadata.name.as_deref().unwrap_or_default();
    for volume in spec.volumes.iter().flatten() {
        names.extend(volume.config_map.iter().map(|s| ("configmaps", s.name.clone())));
        names.extend(volume.secret.iter().map(|s| ("secrets", s.secret_name.clone().unwrap_or_default())));
        names.extend(volume.persistent_volume_claim.iter().map(|s| ("persistentvolumeclaims", s.claim_name.clone())));
        names
            .extend(volume.ephemeral.iter().map(|_| ("persistentvolumeclaims", format!("{pod_name}-{}", volume.name))));
        names.extend(driver_secrets(volume).map(|name| ("secrets", name)));
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            names.extend(source.config_map.iter().map(|s| ("configmaps", s.name.clone())));
            names.extend(source.secret.iter().map(|s| ("secrets", s.name.clone())));
        }
    }
    let ephemeral: Vec<Container> = spec.ephemeral_containers.iter().flatten().map(as_container).collect();
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()).chain(&ephemeral) {
        for source in container.env_from.iter().flatten() {
            names.extend(source.config_map_ref.iter().map(|s| ("configmaps", s.name.clone())));
            names.extend(source.secret_ref.iter().map(|s| ("secrets", s.name.clone())));
        }
        for source in container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
            names.extend(source.config_map_key_ref.iter().map(|s| ("configmaps", s.name.clone())));
            names.extend(source.secret_key_ref.iter().map(|s| ("secrets", s.name.clone())));
        }
    }
    names.extend(spec.image_pull_secrets.iter().flatten().map(|s| ("secrets", s.name.clone())));
    names.sort();
    names.dedup();
    names
}

/// Secrets that a volume's driver needs on the node.
fn driver_secrets(volume: &Volume) -> impl Iterator<Item = String> {
    let csi = volume.csi.as_ref().and_then(|csi| csi.node_publish_secret_ref.as_ref());
    let iscsi = volume.iscsi.as_ref().and_then(|iscsi| iscsi.secret_ref.as_ref());
    let cephfs = volume.cephfs.as_ref().and_then(|cephfs| cephfs.secret_ref.as_ref());
    let rbd = volume.rbd.as_ref().and_then(|rbd| rbd.secret_ref.as_ref());
    let flex = volume.flex_volume.as_ref().and_then(|flex| flex.secret_ref.as_ref());
    [csi, iscsi, cephfs, rbd, flex].into_iter().flatten().map(|reference| reference.name.clone())
}
