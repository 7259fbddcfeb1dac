//! Makes a volume for a claim: a directory on one node (V-05, V-06, V-09).
//!
//! The volume is named `pvc-<claim uid>`, so a claim can never get two. Its path lies under the directory that the node has told us in
//! an annotation; its node affinity keeps its pods there; its finalizer lets the node delete the directory.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::json;
use stead_api::Object;

use super::matching;
use super::objects::{VOLUME_PROTECTION, claim_spec, was_told};
use crate::names::{CLAIM, DIRECTORY_PROVISIONER, NODE, VOLUME, VOLUMES_DIRECTORY};
use crate::plan::{Action, Note, Plan, View};
use crate::scheduler::SELECTED_NODE;

const HOSTNAME: &str = "kubernetes.io/hostname";

pub fn provision(view: &View, claim: &Arc<Object>, class_object: &Object, class: &StorageClass, plan: &mut Plan) {
    let name = format!("pvc-{}", claim.meta.uid);
    if view.get(VOLUME, "", &name).is_some() {
        return;
    }
    let fail = |plan: &mut Plan, why: String| {
        let message = format!("failed to provision volume with StorageClass \"{}\": {why}", class_object.key.name);
        if !was_told(view, claim, "ProvisioningFailed") {
            plan.note(Note::warning(&claim.key, "ProvisioningFailed", message));
        }
    };
    let spec = claim_spec(claim);
    if spec.volume_mode.as_deref() == Some("Block") {
        return fail(plan, "block volumes are not supported".into());
    }
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return fail(plan, "data sources are not supported".into());
    }
    if spec.selector.is_some() {
        return fail(plan, "claim.Spec.Selector is not supported for dynamic provisioning".into());
    }
    let selected = claim.meta.annotation(SELECTED_NODE);
    let node = match selected {
        Some(name) => view.get(NODE, "", name),
        None => any_node(view, claim),
    };
    let Some(node) = node else {
        let Some(gone) = selected else { return fail(plan, "no node is ready".into()) };
        // The node went away before the volume was made: let the scheduler choose again.
        debug_assert!(view.get(NODE, "", gone).is_none(), "looked up just now");
        let mut value = claim.value();
        if let Some(annotations) = value["metadata"]["annotations"].as_object_mut() {
            annotations.shift_remove(SELECTED_NODE);
        }
        return plan.update(CLAIM, value);
    };
    let Some(directory) = node.meta.annotation(VOLUMES_DIRECTORY) else {
        return fail(plan, format!("node \"{}\" has not told its directory for volumes", node.key.name));
    };
    let hostname = node.meta.label(HOSTNAME).unwrap_or(&node.key.name);
    let mut volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
    "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": DIRECTORY_PROVISIONER},
        "finalizers": [VOLUME_PROTECTION, DIRECTORY_PROVISIONER]},
    "spec": {
        "capacity": {"storage": matching::requested(claim).to_string()},
        "accessModes": spec.access_modes.unwrap_or_default(),
        "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
        "storageClassName": &*class_object.key.name,
        "volumeMode": "Filesystem",
        "hostPath": {"path": format!("{}/{name}", directory.trim_end_matches('/')), "type": "DirectoryOrCreate"},
        "claimRef": matching::reference(claim),
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions":
            [{"key": HOSTNAME, "operator": "In", "values": [hostname]}]}]}},
    }});
    if let Some(options) = class.mount_options.as_ref().filter(|options| !options.is_empty()) {
        volume["spec"]["mountOptions"] = json!(options);
    }
    let message = format!("Successfully provisioned volume {name} using {DIRECTORY_PROVISIONER}");
    plan.actions.push(Action::Create {
        kind: VOLUME,
        value: volume,
        on_success: Some(Note::normal(&claim.key, "ProvisioningSucceeded", message)),
        on_failure: Some(Note::warning(&claim.key, "ProvisioningFailed", "{error}")),
    });
}

/// For classes that bind at once: a ready node, a different one for different claims.
fn any_node<'a>(view: &View<'a>, claim: &Object) -> Option<&'a Arc<Object>> {
    let is_usable = |node: &&Arc<Object>| {
        let typed = node.view::<Node>();
        let is_closed = typed.spec.as_ref().and_then(|s| s.unschedulable) == Some(true);
        !is_closed && crate::scheduler::is_ready(&typed) && node.meta.annotation(VOLUMES_DIRECTORY).is_some()
    };
    let nodes: Vec<_> = view.snapshot.list(NODE, "").filter(is_usable).collect();
    let hash = claim.meta.uid.bytes().fold(0usize, |hash, b| hash.wrapping_mul(31).wrapping_add(b.into()));
    nodes.get(hash.checked_rem(nodes.len())?).copied()
}

/// The node that a provisioned volume lies on, if it still exists.
pub fn node_of<'a>(view: &View<'a>, volume: &Object) -> Option<&'a Arc<Object>> {
    let typed = volume.view::<PersistentVolume>();
    let required = typed.spec.as_ref()?.node_affinity.as_ref()?.required.clone()?;
    view.snapshot.list(NODE, "").find(|node| crate::scheduler::node_selector_matches(&required, node))
}
