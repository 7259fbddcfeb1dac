//! Ephemeral containers: added to a pod that runs, to look into it; never changed, restarted or taken away.
//!
//! They say nothing that the pod's life could rest on: no ports, probes, hooks or resources, no part of a volume.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, PodSpec};
use stead_api::Errors;
use stead_api::names::dns1123_label;

use super::containers::validate_one;
use super::volumes::Volumes;
use crate::check::{list, required_name, text};
use crate::path::Path;

const NOT_HERE: &str = "cannot be set for an Ephemeral Container";

/// What an ephemeral container has in common with any other.
pub fn as_container(of: &EphemeralContainer) -> Container {
    let of = of.clone();
    Container {
        name: of.name,
        image: of.image,
        command: of.command,
        args: of.args,
        working_dir: of.working_dir,
        env: of.env,
        env_from: of.env_from,
        volume_mounts: of.volume_mounts,
        volume_devices: of.volume_devices,
        termination_message_path: of.termination_message_path,
        termination_message_policy: of.termination_message_policy,
        image_pull_policy: of.image_pull_policy,
        security_context: of.security_context,
        stdin: of.stdin,
        stdin_once: of.stdin_once,
        tty: of.tty,
        ..Container::default()
    }
}

/// Checks them all; `at` is the list. `names` are those of the other containers.
pub(super) fn validate(at: Path, spec: &PodSpec, volumes: &Volumes, mut names: BTreeSet<String>, errors: &mut Errors) {
    let others = names.clone();
    for (index, container) in list(&spec.ephemeral_containers).iter().enumerate() {
        let at = at.index(index);
        required_name(at.child("name"), &container.name, dns1123_label, errors);
        validate_one(at, &as_container(container), volumes, errors);
        if !container.name.is_empty() && !names.insert(container.name.clone()) {
            at.child("name").duplicate(errors, container.name.as_str());
        }
        let target = text(&container.target_container_name);
        if !target.is_empty() && !others.contains(target) {
            at.child("targetContainerName").not_found(errors, target);
        }
        for field in fields_not_allowed(container) {
            at.child(field).forbidden(errors, NOT_HERE);
        }
        for (place, mount) in list(&container.volume_mounts).iter().enumerate() {
            let mounts = at.child("volumeMounts");
            for (field, path) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
                if !text(path).is_empty() {
                    mounts.index(place).child(field).forbidden(errors, NOT_HERE);
                }
            }
        }
    }
}

fn fields_not_allowed(of: &EphemeralContainer) -> Vec<&'static str> {
    let resources = of.resources.as_ref();
    let fields = [
        ("ports", !list(&of.ports).is_empty()),
        ("resources", resources.is_some_and(|r| r.limits.is_some() || r.requests.is_some() || r.claims.is_some())),
        ("resizePolicy", !list(&of.resize_policy).is_empty()),
        ("restartPolicy", of.restart_policy.is_some()),
        ("restartPolicyRules", !list(&of.restart_policy_rules).is_empty()),
        ("livenessProbe", of.liveness_probe.is_some()),
        ("readinessProbe", of.readiness_probe.is_some()),
        ("startupProbe", of.startup_probe.is_some()),
        ("lifecycle", of.lifecycle.is_some()),
    ];
    fields.into_iter().filter(|(_, is_set)| *is_set).map(|(field, _)| field).collect()
}

/// What is there stays as it is; the order is free, since patches do not keep it.
pub fn validate_update(at: Path, new: &PodSpec, old: &PodSpec, errors: &mut Errors) {
    for before in list(&old.ephemeral_containers) {
        let name = &before.name;
        match list(&new.ephemeral_containers).iter().find(|now| now.name == *name) {
            None => at.forbidden(errors, format!("existing ephemeral containers {name:?} may not be removed\n")),
            Some(now) if now != before => {
                at.forbidden(errors, format!("existing ephemeral containers {name:?} may not be changed\n"));
            }
            Some(_) => {}
        }
    }
}
