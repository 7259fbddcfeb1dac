//! One volume's next step: protection, phase, reclaim (V-11, V-12, V-13).

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolume;
use serde_json::json;
use stead_api::Object;

use super::objects::{VOLUME_PROTECTION, claim_spec, has_finalizer, with_finalizer, without_finalizer};
use super::{matching, provision};
use crate::names::{CLAIM, DIRECTORY_PROVISIONER, VOLUME};
use crate::plan::{Note, Plan, View};

pub fn reconcile(view: &View, volume: &Arc<Object>) -> Plan {
    let mut plan = Plan::none();
    if volume.meta.is_deleting() {
        finish_deletion(view, volume, &mut plan);
        return plan;
    }
    if !has_finalizer(volume, VOLUME_PROTECTION) {
        plan.update(VOLUME, with_finalizer(volume, VOLUME_PROTECTION));
        return plan;
    }
    let typed = volume.view::<PersistentVolume>();
    let reference = typed.spec.as_ref().and_then(|s| s.claim_ref.clone());
    let Some(reference) = reference else {
        set_phase(volume, "Available", &mut plan);
        return plan;
    };
    let (namespace, name) = (reference.namespace.unwrap_or_default(), reference.name.unwrap_or_default());
    let uid = reference.uid.unwrap_or_default();
    if uid.is_empty() {
        // Reserved for a claim that may come.
        set_phase(volume, "Available", &mut plan);
        return plan;
    }
    match view.get(CLAIM, &namespace, &name).filter(|claim| claim.meta.uid == uid) {
        None => release(volume, &mut plan),
        Some(claim) => match claim_spec(claim).volume_name.unwrap_or_default() {
            bound if bound == *volume.key.name => set_phase(volume, "Bound", &mut plan),
            none if none.is_empty() => {}
            _ => give_up(volume, &mut plan),
        },
    }
    plan
}

/// V-13: protection ends when no claim is bound any more.
fn finish_deletion(view: &View, volume: &Arc<Object>, plan: &mut Plan) {
    let is_bound = volume.value()["status"]["phase"] == "Bound" && owner(view, volume).is_some();
    if is_bound {
        return;
    }
    if has_finalizer(volume, VOLUME_PROTECTION) {
        plan.update(VOLUME, without_finalizer(volume, VOLUME_PROTECTION));
    } else if has_finalizer(volume, DIRECTORY_PROVISIONER) && provision::node_of(view, volume).is_none() {
        // The node that had the directory is no more, so nobody can delete it.
        plan.update(VOLUME, without_finalizer(volume, DIRECTORY_PROVISIONER));
    }
}

fn owner<'a>(view: &View<'a>, volume: &Object) -> Option<&'a Arc<Object>> {
    let typed = volume.view::<PersistentVolume>();
    let reference = typed.spec.as_ref()?.claim_ref.as_ref()?;
    let claim = view.get(CLAIM, reference.namespace.as_deref()?, reference.name.as_deref()?)?;
    matching::names_claim(volume, claim).then_some(claim)
}

fn set_phase(volume: &Arc<Object>, phase: &str, plan: &mut Plan) {
    let mut value = volume.value();
    if value["status"]["phase"] != phase {
        value["status"]["phase"] = json!(phase);
        if let Some(status) = value["status"].as_object_mut() {
            status.shift_remove("message");
            status.shift_remove("reason");
        }
        plan.update_status(VOLUME, value);
    }
}

/// The claim is gone (V-11).
fn release(volume: &Arc<Object>, plan: &mut Plan) {
    let typed = volume.view::<PersistentVolume>();
    let phase = typed.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
    if !matches!(phase, "Released" | "Failed") {
        return set_phase(volume, "Released", plan);
    }
    let policy = typed.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref()).unwrap_or("Retain");
    let provisioner = volume.meta.annotation("pv.kubernetes.io/provisioned-by");
    match (policy, provisioner) {
        ("Retain", _) => {}
        ("Delete", Some(DIRECTORY_PROVISIONER)) => plan.delete(volume),
        // Somebody else's provisioner deletes what it has made.
        ("Delete", Some(_)) => {}
        ("Delete", None) if phase != "Failed" => {
            fail(
                volume,
                "VolumeFailedDelete",
                "error getting deleter volume plugin for volume: no deletable volume plugin matched",
                plan,
            );
        }
        ("Recycle", _) if phase != "Failed" => {
            fail(volume, "VolumeFailedRecycle", "no volume plugin found for volume; Recycle is deprecated", plan);
        }
        _ => {}
    }
}

fn fail(volume: &Arc<Object>, reason: &'static str, message: &str, plan: &mut Plan) {
    let mut value = volume.value();
    value["status"]["phase"] = json!("Failed");
    value["status"]["message"] = json!(message);
    plan.update_status(VOLUME, value);
    plan.note(Note::warning(&volume.key, reason, message));
}

/// The claim that this volume was meant for took another one.
fn give_up(volume: &Arc<Object>, plan: &mut Plan) {
    if volume.meta.annotation("pv.kubernetes.io/provisioned-by") == Some(DIRECTORY_PROVISIONER) {
        return plan.delete(volume);
    }
    if volume.meta.annotation(matching::BOUND_BY_CONTROLLER).is_some() {
        let mut value = volume.value();
        if let Some(spec) = value["spec"].as_object_mut() {
            spec.shift_remove("claimRef");
        }
        if let Some(annotations) = value["metadata"]["annotations"].as_object_mut() {
            annotations.shift_remove(matching::BOUND_BY_CONTROLLER);
        }
        plan.update(VOLUME, value);
    }
}
