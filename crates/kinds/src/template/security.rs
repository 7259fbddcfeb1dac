//! Checks of security contexts, of the pod and of a container.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{AppArmorProfile, PodSpec, SeccompProfile, SecurityContext};
use serde_json::json;
use stead_api::Errors;

use super::windows;
use crate::check::{list, one_of, text};
use crate::path::Path;

fn id(at: Path, id: Option<i64>, errors: &mut Errors) {
    if let Some(id) = id.filter(|id| !(0..=i64::from(i32::MAX)).contains(id)) {
        at.invalid(errors, id, "must be between 0 and 2147483647, inclusive");
    }
}

pub fn validate_pod(at: Path, spec: &PodSpec, errors: &mut Errors) {
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        at.child("shareProcessNamespace").invalid(errors, true, detail);
    }
    let Some(context) = &spec.security_context else { return };
    id(at.child("fsGroup"), context.fs_group, errors);
    id(at.child("runAsUser"), context.run_as_user, errors);
    id(at.child("runAsGroup"), context.run_as_group, errors);
    for (index, group) in list(&context.supplemental_groups).iter().enumerate() {
        id(at.child("supplementalGroups").index(index), Some(*group), errors);
    }
    let policy = text(&context.fs_group_change_policy);
    one_of(at.child("fsGroupChangePolicy"), policy, &["Always", "OnRootMismatch"], true, errors);
    let policy = text(&context.supplemental_groups_policy);
    one_of(at.child("supplementalGroupsPolicy"), policy, &["Merge", "Strict"], true, errors);
    let sysctls = list(&context.sysctls);
    for (index, sysctl) in sysctls.iter().enumerate() {
        let at = at.child("sysctls");
        let at = at.index(index);
        if !sysctl.name.is_empty() && sysctls[..index].iter().any(|before| before.name == sysctl.name) {
            at.child("name").duplicate(errors, sysctl.name.as_str());
        }
        if sysctl.name.is_empty() {
            at.child("name").required(errors, "");
        } else if !is_sysctl(&sysctl.name) {
            let regex = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            let detail = format!("must have at most 253 characters and match regex {regex}");
            at.child("name").invalid(errors, sysctl.name.as_str(), detail);
        }
    }
    seccomp(at.child("seccompProfile"), context.seccomp_profile.as_ref(), errors);
    apparmor(at.child("appArmorProfile"), context.app_armor_profile.as_ref(), errors);
    if let Some(options) = &context.windows_options {
        windows::validate(at.child("windowsOptions"), options, errors);
    }
}

/// Annotations that say something of the pod's containers or of who made it.
pub fn validate_annotations(
    at: Path,
    annotations: Option<&BTreeMap<String, String>>,
    spec: &PodSpec,
    errors: &mut Errors,
) {
    for (key, value) in annotations.into_iter().flatten() {
        if key == MIRROR && text(&spec.node_name).is_empty() {
            let detail = "must set spec.nodeName if mirror pod annotation is set";
            at.key(key).invalid(errors, value.as_str(), detail);
        }
        let Some(container) = key.strip_prefix(APPARMOR) else { continue };
        let mut containers = spec.containers.iter().chain(list(&spec.init_containers)).map(|one| &one.name);
        let mut ephemeral = list(&spec.ephemeral_containers).iter().map(|one| &one.name);
        if !containers.any(|name| name == container) && !ephemeral.any(|name| name == container) {
            at.key(key).invalid(errors, container, "container not found");
        }
        let is_profile = matches!(value.as_str(), "" | "runtime/default" | "unconfined");
        if !is_profile && !value.starts_with("localhost/") {
            at.key(key).invalid(errors, value.as_str(), format!("invalid AppArmor profile name: {value:?}"));
        }
    }
}

/// Whose mirror a pod is, is said when it is made.
pub fn validate_mirror(
    at: Path,
    new: Option<&BTreeMap<String, String>>,
    old: Option<&BTreeMap<String, String>>,
    errors: &mut Errors,
) {
    let of = |annotations: Option<&BTreeMap<String, String>>| annotations.and_then(|all| all.get(MIRROR)).cloned();
    match (of(new), of(old)) {
        (new, Some(old)) if new.as_ref() != Some(&old) => {
            at.key(MIRROR).forbidden(errors, "may not remove or update mirror pod annotation");
        }
        (Some(_), None) => at.key(MIRROR).forbidden(errors, "may not add mirror pod annotation"),
        _ => {}
    }
}

/// Marks a pod that the kubelet made of a file.
const MIRROR: &str = "kubernetes.io/config.mirror";
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

fn apparmor(at: Path, profile: Option<&AppArmorProfile>, errors: &mut Errors) {
    const PROFILE_MAX: usize = 4095;
    let Some(profile) = profile else { return };
    let name_at = at.child("localhostProfile");
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("Localhost", name) => {
            let name = text(name);
            if name.trim() != name {
                name_at.invalid(errors, name, "must not be padded with whitespace");
            } else if name.is_empty() {
                name_at.required(errors, "must be set when AppArmor type is Localhost");
            }
            if name.len() > PROFILE_MAX {
                name_at.too_long(errors, PROFILE_MAX);
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            name_at.invalid(errors, name.as_str(), "can only be set when AppArmor type is Localhost");
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => at.child("type").required(errors, "type is required when appArmorProfile is set"),
        (other, _) => {
            at.child("type").not_supported(errors, other, &["Localhost", "RuntimeDefault", "Unconfined"]);
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let is_edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= 253
        && name.split(['.', '/']).all(|segment| {
            let bytes = segment.as_bytes();
            bytes.first().is_some_and(is_edge)
                && bytes.last().is_some_and(is_edge)
                && bytes.iter().all(|byte| is_edge(byte) || b"-_".contains(byte))
        })
}

fn seccomp(at: Path, profile: Option<&SeccompProfile>, errors: &mut Errors) {
    let Some(profile) = profile else { return };
    one_of(at.child("type"), &profile.type_, &["Localhost", "RuntimeDefault", "Unconfined"], false, errors);
    match (profile.type_.as_str(), text(&profile.localhost_profile)) {
        ("Localhost", "") => {
            at.child("localhostProfile").required(errors, "must be set when seccomp type is Localhost");
        }
        ("Localhost", path) => crate::check::local_path(at.child("localhostProfile"), path, errors),
        (_, "") => {}
        (_, path) => {
            let detail = "can only be set when seccomp type is Localhost";
            at.child("localhostProfile").invalid(errors, path, detail);
        }
    }
}

pub fn validate_container(at: Path, context: &SecurityContext, errors: &mut Errors) {
    id(at.child("runAsUser"), context.run_as_user, errors);
    id(at.child("runAsGroup"), context.run_as_group, errors);
    one_of(at.child("procMount"), text(&context.proc_mount), &["Default", "Unmasked"], true, errors);
    seccomp(at.child("seccompProfile"), context.seccomp_profile.as_ref(), errors);
    apparmor(at.child("appArmorProfile"), context.app_armor_profile.as_ref(), errors);
    if let Some(options) = &context.windows_options {
        windows::validate(at.child("windowsOptions"), options, errors);
    }
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            at.invalid(errors, json!(context), detail);
        }
        let adds = context.capabilities.as_ref().map_or(&[][..], |capabilities| list(&capabilities.add));
        if adds.iter().any(|capability| capability == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            at.invalid(errors, json!(context), detail);
        }
    }
}
