//! What may change in the spec of a pod that exists: images, a shorter deadline, more tolerations, and little else.

use k8s_openapi::api::core::v1::{Container, PodSpec, Toleration};
use serde_json::json;
use stead_api::Errors;

use crate::check::{list, semantically_equal};
use crate::path::Path;

const ALLOWED: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub fn validate(at: Path, new: &PodSpec, old: &PodSpec, errors: &mut Errors) {
    for (field, count, before) in [
        ("containers", new.containers.len(), old.containers.len()),
        ("initContainers", list(&new.init_containers).len(), list(&old.init_containers).len()),
    ] {
        if count != before {
            at.child(field).forbidden(errors, "pod updates may not add or remove containers");
            return;
        }
    }
    deadline(at.child("activeDeadlineSeconds"), new.active_deadline_seconds, old.active_deadline_seconds, errors);
    tolerations(at.child("tolerations"), list(&new.tolerations), list(&old.tolerations), errors);
    let mut same = new.clone();
    copy_images(&mut same.containers, &old.containers);
    if let (Some(containers), Some(before)) = (&mut same.init_containers, &old.init_containers) {
        copy_images(containers, before);
    }
    same.active_deadline_seconds = old.active_deadline_seconds;
    same.tolerations = old.tolerations.clone();
    if old.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0)
        && new.termination_grace_period_seconds == Some(1)
    {
        same.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    let gates = list(&old.scheduling_gates);
    if list(&new.scheduling_gates).iter().all(|gate| gates.contains(gate)) {
        same.scheduling_gates = old.scheduling_gates.clone();
    }
    let (same, old) = (json!(same), json!(old));
    if !semantically_equal(&same, &old) {
        at.forbidden(errors, format!("{ALLOWED}\n{}", difference(&same, &old)));
    }
}

fn copy_images(containers: &mut [Container], before: &[Container]) {
    for (container, before) in containers.iter_mut().zip(before) {
        container.image = before.image.clone();
    }
}

/// The top-level fields that differ, as lines of `-` before and `+` after.
fn difference(new: &serde_json::Value, old: &serde_json::Value) -> String {
    let mut lines = Vec::new();
    let nothing = serde_json::Value::Null;
    let names = old.as_object().into_iter().chain(new.as_object()).flat_map(|fields| fields.keys());
    let names: std::collections::BTreeSet<&String> = names.collect();
    for name in names {
        let (before, after) = (old.get(name).unwrap_or(&nothing), new.get(name).unwrap_or(&nothing));
        if !semantically_equal(before, after) {
            lines.push(format!("- {name}: {before}\n+ {name}: {after}\n"));
        }
    }
    lines.concat()
}

fn deadline(at: Path, new: Option<i64>, old: Option<i64>, errors: &mut Errors) {
    match (new, old) {
        (Some(new), Some(old)) if new > old => at.invalid(errors, new, "must be less than or equal to previous value"),
        (None, Some(_)) => {
            at.invalid(errors, serde_json::Value::Null, "must not update from a positive integer to nil value");
        }
        _ => {}
    }
}

fn tolerations(at: Path, new: &[Toleration], old: &[Toleration], errors: &mut Errors) {
    let same_but_seconds = |a: &Toleration, b: &Toleration| {
        (&a.key, &a.operator, &a.value, &a.effect) == (&b.key, &b.operator, &b.value, &b.effect)
    };
    if !old.iter().all(|kept| new.iter().any(|toleration| same_but_seconds(toleration, kept))) {
        at.forbidden(errors, "existing toleration can not be modified except its tolerationSeconds");
    }
}
