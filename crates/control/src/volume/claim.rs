//! One claim's next step: protection, class, volume, status.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use stead_api::Object;

use super::matching::{self, BIND_COMPLETED, BOUND_BY_CONTROLLER};
use super::objects::{claim_spec, class_of, default_class, has_finalizer, was_told, with_finalizer, without_finalizer};
use super::provision;
use crate::names::{CLAIM, DIRECTORY_PROVISIONER, POD, VOLUME};
use crate::plan::{Note, Plan, View};
use crate::scheduler::{SELECTED_NODE, claim_names};

const PROTECTION: &str = "kubernetes.io/pvc-protection";
pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";

pub fn reconcile(view: &View, claim: &Arc<Object>) -> Plan {
    let mut plan = Plan::none();
    if claim.meta.is_deleting() {
        if has_finalizer(claim, PROTECTION) && users(view, claim).is_empty() {
            plan.update(CLAIM, without_finalizer(claim, PROTECTION));
        }
        return plan;
    }
    if !has_finalizer(claim, PROTECTION) {
        plan.update(CLAIM, with_finalizer(claim, PROTECTION));
        return plan;
    }
    if matching::is_bound(claim) {
        keep(view, claim, &mut plan)
    } else {
        bind(view, claim, &mut plan)
    }
    plan
}

/// The pods that keep a claim from going: those that were given a node and are not shut down (V-13).
fn users<'a>(view: &View<'a>, claim: &Object) -> Vec<&'a Arc<Object>> {
    let uses = |pod: &&Arc<Object>| {
        if is_shut_down(pod) {
            return false;
        }
        let typed = pod.view::<Pod>();
        let node = typed.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default();
        !node.is_empty() && claim_names(&pod.key.name, &typed).iter().any(|name| **name == *claim.key.name)
    };
    view.snapshot.list(POD, &claim.key.namespace).filter(uses).collect()
}

/// Nothing of the pod runs any more: its node said so, or somebody deleted it by force. It may still wait for finalizers, among
/// them the garbage collector's, which waits for the claim when the pod owns it.
pub fn is_shut_down(pod: &Object) -> bool {
    pod.meta.is_deleting() && pod.meta.deletion_grace_period_seconds == Some(0)
}

fn bind(view: &View, claim: &Arc<Object>, plan: &mut Plan) {
    let spec = claim_spec(claim);
    if spec.storage_class_name.is_none()
        && spec.volume_name.as_deref().unwrap_or_default().is_empty()
        && let Some(class) = default_class(view)
    {
        // V-03: also claims that were made before there was a default class.
        let mut value = claim.value();
        value["spec"]["storageClassName"] = json!(&*class.key.name);
        plan.update(CLAIM, value);
        return;
    }
    match spec.volume_name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => bind_to_named(view, claim, name, plan),
        None => bind_to_any(view, claim, plan),
    }
}

/// The user has chosen the volume.
fn bind_to_named(view: &View, claim: &Arc<Object>, name: &str, plan: &mut Plan) {
    let Some(volume) = view.get(VOLUME, "", name) else { return pending(claim, plan) };
    let is_free = volume.value()["spec"]["claimRef"].is_null();
    if matching::names_claim(volume, claim) {
        return bind_to(claim, volume, plan);
    }
    if !is_free {
        let message = format!("volume \"{name}\" already bound to a different claim.");
        tell_once(view, claim, Note::warning(&claim.key, "FailedBinding", message), plan);
        return pending(claim, plan);
    }
    match matching::mismatch(volume, claim) {
        Some(why) => {
            let message = format!("Cannot bind to requested volume \"{name}\": {why}");
            tell_once(view, claim, Note::warning(&claim.key, "VolumeMismatch", message), plan);
            pending(claim, plan);
        }
        None => bind_to(claim, volume, plan),
    }
}

fn bind_to_any(view: &View, claim: &Arc<Object>, plan: &mut Plan) {
    let class = class_of(view, claim);
    let waits = class.as_ref().is_some_and(|(_, c)| c.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
    // A claim that waits for its consumer takes only the volume that the scheduler has reserved for it (V-06).
    let found = if waits {
        matching::promised(view, claim).filter(|volume| matching::mismatch(volume, claim).is_none())
    } else {
        matching::find(view, claim)
    };
    if let Some(volume) = found {
        return bind_to(claim, volume, plan);
    }
    let selected = claim.meta.annotation(SELECTED_NODE);
    let note = match &class {
        Some(_) if waits && selected.is_none() => Some(waiting_note(view, claim)),
        Some((object, class)) if class.provisioner == DIRECTORY_PROVISIONER => {
            return provision::provision(view, claim, object, class, plan);
        }
        Some((_, class)) if class.provisioner == "kubernetes.io/no-provisioner" => None,
        Some((_, class)) => {
            let provisioner = &class.provisioner;
            if claim.meta.annotation(STORAGE_PROVISIONER) != Some(provisioner) {
                let mut value = claim.value();
                value["metadata"]["annotations"][STORAGE_PROVISIONER] = json!(provisioner);
                plan.update(CLAIM, value);
            }
            let message = format!(
                "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
            );
            Some(Note::normal(&claim.key, "ExternalProvisioning", message))
        }
        None => match claim_spec(claim).storage_class_name.unwrap_or_default().as_str() {
            "" => {
                let message = "no persistent volumes available for this claim and no storage class is set";
                Some(Note::normal(&claim.key, "FailedBinding", message))
            }
            name => {
                let message = format!("storageclass.storage.k8s.io \"{name}\" not found");
                Some(Note::warning(&claim.key, "ProvisioningFailed", message))
            }
        },
    };
    if let Some(note) = note {
        tell_once(view, claim, note, plan);
    }
    pending(claim, plan);
}

fn waiting_note(view: &View, claim: &Object) -> Note {
    let waits = |pod: &&Arc<Object>| {
        claim_names(&pod.key.name, &pod.view::<Pod>()).iter().any(|name| **name == *claim.key.name)
    };
    match view.snapshot.list(POD, &claim.key.namespace).find(waits) {
        Some(pod) => {
            let message = format!("waiting for pod {} to be scheduled", pod.key.name);
            Note::normal(&claim.key, "WaitForPodScheduled", message)
        }
        None => {
            let message = "waiting for first consumer to be created before binding";
            Note::normal(&claim.key, "WaitForFirstConsumer", message)
        }
    }
}

fn tell_once(view: &View, claim: &Object, note: Note, plan: &mut Plan) {
    if !was_told(view, claim, note.reason) {
        plan.note(note);
    }
}

fn pending(claim: &Object, plan: &mut Plan) {
    let value = claim.value();
    if value["status"]["phase"] != "Pending" {
        set_status(value, json!({"phase": "Pending"}), plan);
    }
}

fn set_status(mut claim: Value, status: Value, plan: &mut Plan) {
    for (field, value) in status.as_object().into_iter().flatten() {
        claim["status"][field] = value.clone();
    }
    plan.update_status(CLAIM, claim);
}

/// V-08: both sides name each other. The statuses follow, when each side is looked at again.
fn bind_to(claim: &Arc<Object>, volume: &Arc<Object>, plan: &mut Plan) {
    if !matching::is_reserved_for(volume, claim) {
        plan.update(VOLUME, matching::reserved(volume, claim));
    }
    let mut value = claim.value();
    if value["spec"]["volumeName"].as_str().unwrap_or_default().is_empty() {
        value["spec"]["volumeName"] = json!(&*volume.key.name);
        value["metadata"]["annotations"][BOUND_BY_CONTROLLER] = json!("yes");
    }
    value["metadata"]["annotations"][BIND_COMPLETED] = json!("yes");
    if let Some(provisioner) = volume.meta.annotation("pv.kubernetes.io/provisioned-by") {
        value["metadata"]["annotations"][STORAGE_PROVISIONER] = json!(provisioner);
    }
    plan.update(CLAIM, value);
}

/// A bound claim stays Bound as long as its volume names it; else it is Lost.
fn keep(view: &View, claim: &Arc<Object>, plan: &mut Plan) {
    let name = claim_spec(claim).volume_name.unwrap_or_default();
    let value = claim.value();
    let lost = |reason: &'static str, message: &str, plan: &mut Plan| {
        if value["status"]["phase"] != "Lost" {
            set_status(value.clone(), json!({"phase": "Lost"}), plan);
            plan.note(Note::warning(&claim.key, reason, message));
        }
    };
    let Some(volume) = view.get(VOLUME, "", &name) else {
        return lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!", plan);
    };
    let pv = volume.value();
    if pv["spec"]["claimRef"].is_null() {
        return plan.update(VOLUME, matching::reserved(volume, claim));
    }
    if !matching::names_claim(volume, claim) {
        let message = "Two claims are bound to the same volume, this one is bound incorrectly";
        return lost("ClaimMisbound", message, plan);
    }
    if expand(view, claim, volume, plan) {
        return;
    }
    let status =
        json!({"phase": "Bound", "accessModes": pv["spec"]["accessModes"], "capacity": pv["spec"]["capacity"]});
    if ["phase", "accessModes", "capacity"].iter().any(|field| value["status"][*field] != status[*field]) {
        set_status(value, status, plan);
    }
}

/// V-16: a directory grows by being told so. True when the volume is to be written.
fn expand(view: &View, claim: &Object, volume: &Arc<Object>, plan: &mut Plan) -> bool {
    let is_directory = volume.meta.annotation("pv.kubernetes.io/provisioned-by") == Some(DIRECTORY_PROVISIONER);
    let allows = class_of(view, claim).is_some_and(|(_, class)| class.allow_volume_expansion == Some(true));
    let too_small = matching::mismatch(volume, claim) == Some("requested PV is too small");
    if !(is_directory && allows && too_small) {
        return false;
    }
    let mut value = volume.value();
    value["spec"]["capacity"]["storage"] = json!(matching::requested(claim).to_string());
    plan.update(VOLUME, value);
    plan.note(Note::normal(
        &claim.key,
        "VolumeResizeSuccessful",
        format!("Resize volume {} succeeded", volume.key.name),
    ));
    true
}
