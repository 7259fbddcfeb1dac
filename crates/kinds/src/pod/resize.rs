//! Subresource resize: the processors and memory of containers that run; the pod's class stays.
//!
//! Upstream: `ValidatePodResize`.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};
use stead_api::Errors;

use super::qos;
use crate::check::list;
use crate::path::Path;

const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// The old pod with the resources and resize policies of the body's containers, and nothing else of it.
pub fn merged(old: &Value, body: &Value) -> Value {
    let mut new = old.clone();
    for field in ["containers", "initContainers"] {
        let given = body["spec"][field].as_array().map_or(&[][..], Vec::as_slice);
        let stored = new["spec"].get_mut(field).and_then(Value::as_array_mut);
        for (container, given) in stored.into_iter().flatten().zip(given) {
            if container["name"] != given["name"] {
                continue;
            }
            for part in ["resources", "resizePolicy"] {
                match (&given[part], container.as_object_mut()) {
                    (Value::Null, Some(map)) => drop(map.shift_remove(part)),
                    (value, Some(map)) => drop(map.insert(part.into(), value.clone())),
                    (_, None) => {}
                }
            }
        }
    }
    new
}

pub fn validate(at: Path, new: (&Pod, &PodSpec), old: &PodSpec, errors: &mut Errors) {
    let (pod, spec) = new;
    let before = qos::class(&json!(old));
    let after = qos::class(&json!(spec));
    if before != after {
        let shown = pod.status.as_ref().and_then(|s| s.qos_class.clone()).unwrap_or_default();
        at.invalid(errors, shown, "Pod QOS Class may not change as a result of resizing");
    }
    let groups = [
        ("containers", &spec.containers[..], &old.containers[..]),
        ("initContainers", list(&spec.init_containers), list(&old.init_containers)),
    ];
    for (field, containers, before) in groups {
        let all = at.child(field);
        for (index, (container, before)) in containers.iter().zip(before).enumerate() {
            of_container(all.index(index), field, container, before, errors);
        }
    }
}

fn of_container(at: Path, field: &str, new: &Container, old: &Container, errors: &mut Errors) {
    let (now, before) = (new.resources.clone().unwrap_or_default(), old.resources.clone().unwrap_or_default());
    if now == before {
        return;
    }
    if field == "initContainers" && new.restart_policy.as_deref() != Some("Always") {
        at.child("resources").forbidden(errors, "resources for non-sidecar init containers are immutable");
        return;
    }
    let at = at.child("resources");
    for (side, word) in [("limits", "limits"), ("requests", "requests")] {
        let (kept, had) = (amounts(&now, side), amounts(&before, side));
        let is_gone = |name: &&str| had.contains_key(*name) && !kept.contains_key(*name);
        if RESIZABLE.iter().any(is_gone) {
            at.child(side).forbidden(errors, format!("resource {word} cannot be removed"));
        }
        let others = |all: &std::collections::BTreeMap<String, Quantity>| {
            let mut all = all.clone();
            all.retain(|name, _| !RESIZABLE.contains(&name.as_str()));
            all
        };
        if others(&kept) != others(&had) {
            at.child(side).forbidden(errors, "only cpu and memory resources are mutable");
        }
    }
    if now.claims != before.claims {
        at.child("claims").forbidden(errors, "only cpu and memory resources are mutable");
    }
}

fn amounts(of: &ResourceRequirements, side: &str) -> std::collections::BTreeMap<String, Quantity> {
    let side = if side == "limits" { &of.limits } else { &of.requests };
    side.clone().unwrap_or_default()
}
