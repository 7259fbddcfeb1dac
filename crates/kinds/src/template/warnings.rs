//! Warnings about a pod or a pod template: accepted, but probably not meant (S-20).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use stead_api::Quantity;

use crate::check::{list, text};
use crate::path::Path;

/// Node labels that were renamed.
const RENAMED_LABELS: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    ("beta.kubernetes.io/instance-type", "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
];

/// Annotation prefixes that no longer do anything.
const DEAD_ANNOTATIONS: &[(&str, &str)] = &[
    ("seccomp.security.alpha.kubernetes.io/pod", "non-functional in v1.27+; use the \"seccompProfile\" field instead"),
    (
        "container.seccomp.security.alpha.kubernetes.io/",
        "non-functional in v1.27+; use the \"seccompProfile\" field instead",
    ),
    (
        "container.apparmor.security.beta.kubernetes.io/",
        "deprecated since v1.30; use the \"appArmorProfile\" field instead",
    ),
];

pub fn of_pod(at: Path, meta: &ObjectMeta, spec: Option<&PodSpec>) -> Vec<String> {
    let mut warnings = Vec::new();
    for key in meta.annotations.iter().flatten().map(|(key, _)| key) {
        for (prefix, message) in DEAD_ANNOTATIONS {
            if key.starts_with(prefix) {
                warnings.push(format!("metadata.annotations[{key}]: {message}"));
            }
        }
    }
    let Some(spec) = spec else { return warnings };
    for (label, message) in RENAMED_LABELS {
        if spec.node_selector.as_ref().is_some_and(|selector| selector.contains_key(*label)) {
            warnings.push(format!("{}: {message}", at.child("nodeSelector").key(label).field()));
        }
    }
    for (index, secret) in list(&spec.image_pull_secrets).iter().enumerate() {
        if secret.name.is_empty() {
            let all = at.child("imagePullSecrets");
            warnings.push(format!("{}: invalid empty name \"\"", all.index(index).child("name").field()));
        }
    }
    if spec.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0) {
        let field = at.child("terminationGracePeriodSeconds").field();
        warnings.push(format!("{field}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    for (index, volume) in list(&spec.volumes).iter().enumerate() {
        if volume.git_repo.is_some() {
            let all = at.child("volumes");
            let field = all.index(index).child("gitRepo").field();
            warnings.push(format!("{field}: deprecated in v1.11, and disabled by default in v1.33+"));
        }
    }
    for (field, containers) in [("initContainers", list(&spec.init_containers)), ("containers", &spec.containers[..])] {
        let all = at.child(field);
        for (index, container) in containers.iter().enumerate() {
            of_container(all.index(index), container, &mut warnings);
        }
    }
    warnings
}

fn of_container(at: Path, container: &Container, warnings: &mut Vec<String>) {
    let mut seen: BTreeMap<&str, bool> = BTreeMap::new();
    for (index, variable) in list(&container.env).iter().enumerate() {
        // `A=$(A) more` extends the earlier one on purpose.
        let extends = text(&variable.value).contains(&format!("$({})", variable.name));
        if seen.insert(&variable.name, true).is_some() && !extends {
            let all = at.child("env");
            warnings.push(format!(
                "{}: hides previous definition of \"{}\", which may be dropped when using apply",
                all.index(index).field(),
                variable.name
            ));
        }
    }
    let ports = list(&container.ports);
    for (index, port) in ports.iter().enumerate() {
        let twin = ports[..index].iter().position(|other| {
            (other.container_port, text(&other.protocol), other.host_port, &other.host_ip)
                == (port.container_port, text(&port.protocol), port.host_port, &port.host_ip)
        });
        if let Some(twin) = twin {
            let all = at.child("ports");
            let (field, first) = (all.index(index).field(), all.index(twin).field());
            warnings.push(format!("{field}: duplicate port definition with {first}"));
        }
    }
    let Some(resources) = &container.resources else { return };
    for (side, amounts) in [("limits", &resources.limits), ("requests", &resources.requests)] {
        for name in ["memory", "ephemeral-storage"] {
            let amount = amounts.as_ref().and_then(|amounts| amounts.get(name));
            let fractional = amount.and_then(|amount| amount.0.parse::<Quantity>().ok());
            if let (Some(amount), Some(quantity)) = (amount, fractional)
                && quantity != Quantity::from_int(quantity.value())
            {
                let at = at.child("resources");
                let field = at.child(side).key(name).field();
                warnings
                    .push(format!("{field}: fractional byte value \"{}\" is invalid, must be an integer", amount.0));
            }
        }
    }
}
