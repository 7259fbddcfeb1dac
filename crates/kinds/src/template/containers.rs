//! Checks of containers (SC-01, SC-02).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec, VolumeDevice, VolumeMount};
use stead_api::Errors;
use stead_api::names::dns1123_label;

use super::volumes::{Volumes, is_claim};
use super::{env, probes, resources, security};
use crate::check::{ip, list, local_path, name, no_backsteps, one_of, port_name, port_number, required_name, text};
use crate::path::Path;

/// Checks the init and main containers of a pod together: names and host ports are unique over them. Gives the names.
pub fn validate_all(at: Path, spec: &PodSpec, volumes: &Volumes, errors: &mut Errors) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut host_ports = BTreeSet::new();
    if spec.containers.is_empty() {
        at.child("containers").required(errors, "");
    }
    let grace = spec.termination_grace_period_seconds.unwrap_or(30);
    let groups = [("containers", &spec.containers[..]), ("initContainers", list(&spec.init_containers))];
    for (field, containers) in groups {
        let all = at.child(field);
        for (index, container) in containers.iter().enumerate() {
            let at = all.index(index);
            required_name(at.child("name"), &container.name, dns1123_label, errors);
            if !container.name.is_empty() && !names.insert(container.name.clone()) {
                at.child("name").duplicate(errors, container.name.as_str());
            }
            validate_one(at, container, volumes, errors);
            let is_sidecar = container.restart_policy.as_deref() == Some("Always");
            if field == "initContainers" {
                validate_init(at, container, is_sidecar, errors);
            } else if !text(&container.restart_policy).is_empty() {
                at.child("restartPolicy").forbidden(errors, "may not be set for non-init containers");
            }
            if field == "containers" || is_sidecar {
                probes::validate_container(at, container, grace, errors);
            }
            let ports = list(&container.ports);
            validate_ports(at.child("ports"), ports, spec.host_network == Some(true), errors);
            for (place, port) in ports.iter().enumerate() {
                let unique = (port.host_port, text(&port.protocol).to_owned(), text(&port.host_ip).to_owned());
                // Other init containers run one by one: each may have what another had.
                let is_alone = field == "initContainers" && !is_sidecar;
                let same = |other: &ContainerPort| {
                    (other.host_port, text(&other.protocol), text(&other.host_ip))
                        == (unique.0, unique.1.as_str(), unique.2.as_str())
                };
                if port.host_port.unwrap_or(0) != 0
                    && (if is_alone { ports[..place].iter().any(same) } else { !host_ports.insert(unique.clone()) })
                {
                    let key =
                        format!("{}/{}/{}", text(&port.protocol), text(&port.host_ip), port.host_port.unwrap_or(0));
                    at.child("ports").index(place).child("hostPort").duplicate(errors, key);
                }
            }
        }
    }
    names
}

fn validate_init(at: Path, container: &Container, is_sidecar: bool, errors: &mut Errors) {
    one_of(at.child("restartPolicy"), text(&container.restart_policy), &["Always"], true, errors);
    if is_sidecar {
        return;
    }
    for (field, is_set) in [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ] {
        if is_set {
            at.child(field).forbidden(errors, "may not be set for init containers without restartPolicy=Always");
        }
    }
}

pub(super) fn validate_one(at: Path, container: &Container, volumes: &Volumes, errors: &mut Errors) {
    let image = text(&container.image);
    if image.is_empty() {
        at.child("image").required(errors, "");
    } else if image.trim() != image {
        at.child("image").invalid(errors, image, "must not have leading or trailing whitespace");
    }
    let policies = ["Always", "IfNotPresent", "Never"];
    one_of(at.child("imagePullPolicy"), text(&container.image_pull_policy), &policies, false, errors);
    let policies = ["FallbackToLogsOnError", "File"];
    one_of(at.child("terminationMessagePolicy"), text(&container.termination_message_policy), &policies, false, errors);
    env::validate(at.child("env"), list(&container.env), errors);
    env::validate_from(at.child("envFrom"), list(&container.env_from), errors);
    let privileged = container.security_context.as_ref().is_some_and(|context| context.privileged == Some(true));
    validate_mounts(at.child("volumeMounts"), container, volumes, privileged, errors);
    validate_devices(at.child("volumeDevices"), list(&container.volume_devices), volumes, errors);
    if let Some(found) = &container.resources {
        resources::validate(at.child("resources"), found, errors);
    }
    let policies = list(&container.resize_policy);
    for (index, policy) in policies.iter().enumerate() {
        let all = at.child("resizePolicy");
        let at = all.index(index);
        if policies[..index].iter().any(|earlier| earlier.resource_name == policy.resource_name) {
            at.duplicate(errors, policy.resource_name.as_str());
        }
        one_of(at.child("resourceName"), &policy.resource_name, &["cpu", "memory"], false, errors);
        one_of(at.child("restartPolicy"), &policy.restart_policy, &["NotRequired", "RestartContainer"], false, errors);
    }
    if let Some(context) = &container.security_context {
        security::validate_container(at.child("securityContext"), context, errors);
    }
}

fn validate_ports(at: Path, ports: &[ContainerPort], host_network: bool, errors: &mut Errors) {
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let at = at.index(index);
        let port_label = text(&port.name);
        name(at.child("name"), port_label, port_name, errors);
        if !port_label.is_empty() && !names.insert(port_label) {
            at.child("name").duplicate(errors, port_label);
        }
        if port.container_port == 0 {
            at.child("containerPort").required(errors, "");
        } else {
            port_number(at.child("containerPort"), port.container_port.into(), errors);
        }
        let host_port = port.host_port.unwrap_or(0);
        if host_port != 0 {
            port_number(at.child("hostPort"), host_port.into(), errors);
        }
        if host_network && host_port != port.container_port {
            let detail = "must match `hostPort` when `hostNetwork` is true";
            at.child("containerPort").invalid(errors, port.container_port, detail);
        }
        one_of(at.child("protocol"), text(&port.protocol), &["SCTP", "TCP", "UDP"], false, errors);
        if !text(&port.host_ip).is_empty() {
            ip(at.child("hostIP"), text(&port.host_ip), errors);
        }
    }
}

fn validate_mounts(at: Path, container: &Container, volumes: &Volumes, privileged: bool, errors: &mut Errors) {
    let mut paths = BTreeSet::new();
    for (index, mount) in list(&container.volume_mounts).iter().enumerate() {
        let at = at.index(index);
        validate_mount_name(at.child("name"), &mount.name, volumes, errors);
        if let Some(volume) = volumes.get(mount.name.as_str()) {
            let is_device = list(&container.volume_devices).iter().any(|device| device.name == mount.name);
            if is_device && is_claim(volume) {
                let detail = "must not already exist in volumeDevices";
                at.child("name").invalid(errors, mount.name.as_str(), detail);
            }
        }
        if mount.mount_path.is_empty() {
            at.child("mountPath").required(errors, "");
        } else if !paths.insert(mount.mount_path.as_str()) {
            at.child("mountPath").invalid(errors, mount.mount_path.as_str(), "must be unique");
        }
        validate_sub_path(at, mount, errors);
        let propagation = text(&mount.mount_propagation);
        one_of(at.child("mountPropagation"), propagation, &["Bidirectional", "HostToContainer", "None"], true, errors);
        if propagation == "Bidirectional" && !privileged {
            let detail = "Bidirectional mount propagation is available only to privileged containers";
            at.child("mountPropagation").forbidden(errors, detail);
        }
        let recursive = text(&mount.recursive_read_only);
        one_of(at.child("recursiveReadOnly"), recursive, &["Disabled", "Enabled", "IfPossible"], true, errors);
        if matches!(recursive, "Enabled" | "IfPossible") && mount.read_only != Some(true) {
            let detail = "may only be specified when readOnly is true";
            at.child("recursiveReadOnly").forbidden(errors, detail);
        }
    }
}

fn validate_sub_path(at: Path, mount: &VolumeMount, errors: &mut Errors) {
    let (path, expression) = (text(&mount.sub_path), text(&mount.sub_path_expr));
    local_path(at.child("subPath"), path, errors);
    if !expression.is_empty() {
        if !path.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            at.child("subPathExpr").invalid(errors, expression, detail);
        }
        local_path(at.child("subPathExpr"), expression, errors);
    }
}

fn validate_mount_name(at: Path, volume: &str, volumes: &Volumes, errors: &mut Errors) {
    if volume.is_empty() {
        at.required(errors, "");
    }
    if !volumes.contains_key(volume) {
        at.not_found(errors, volume);
    }
}

fn validate_devices(at: Path, devices: &[VolumeDevice], volumes: &Volumes, errors: &mut Errors) {
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for (index, device) in devices.iter().enumerate() {
        let at = at.index(index);
        validate_mount_name(at.child("name"), &device.name, volumes, errors);
        if volumes.get(device.name.as_str()).is_some_and(|volume| !is_claim(volume)) {
            let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
            at.child("name").invalid(errors, device.name.as_str(), detail);
        }
        if !names.insert(&device.name) {
            at.child("name").invalid(errors, device.name.as_str(), "must be unique");
        }
        if device.device_path.is_empty() {
            at.child("devicePath").required(errors, "");
        } else if !paths.insert(&device.device_path) {
            at.child("devicePath").invalid(errors, device.device_path.as_str(), "must be unique");
        }
        no_backsteps(at.child("devicePath"), &device.device_path, errors);
    }
}
