//! One attempt of a container as the machine wants it: command, environment, mounts, user and limits, all decided.
//!
//! Upstream: `generateContainerConfig` of the kubelet (security context merge, cgroup values, OOM score, runAsNonRoot).

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{self as core, Pod};

use crate::action::{
    ContainerRef, ContainerSpec, Device, Image, Mount, Propagation, Seccomp, Security, TerminationMessage,
};
use crate::env;
use crate::files;
use crate::limits;
use crate::plan::Around;
use crate::state::PodState;
use crate::volume;

/// The container's next attempt.
///
/// # Errors
/// The text of CreateContainerConfigError.
pub fn spec(
    pod: &PodState,
    typed: &Pod,
    container: &core::Container,
    image: &Image,
    around: &Around,
) -> Result<ContainerSpec, String> {
    let security = security(typed, container);
    check_user(pod, typed, container, &security, image)?;
    let variables = env::environment(pod, typed, container, around)?;
    let none = Default::default();
    let expand = |list: &Option<Vec<String>>| {
        let lookup = env::lookup(&variables, &none);
        list.iter().flatten().map(|t| env::expand(t, &lookup)).collect()
    };
    let (command, args) = (expand(&container.command), expand(&container.args));
    let mounts = mounts(typed, container, &variables, around)?;
    let has_own_hosts = mounts.iter().any(|m| m.container_path == Path::new("/etc/hosts"));
    Ok(ContainerSpec {
        container: ContainerRef {
            pod: pod.pod.uid.clone(),
            name: container.name.clone(),
            attempt: pod.next_attempt(&container.name),
        },
        image_id: image.id.clone(),
        command,
        args,
        working_dir: container.working_dir.clone().filter(|d| !d.is_empty()),
        devices: devices(container),
        etc_hosts: (!has_own_hosts).then(|| files::hosts(pod, typed, around.config)),
        security,
        resources: limits::resources(container.resources.as_ref()),
        oom_score_adj: limits::oom_score_adj(typed, container, around.config.machine.memory_bytes),
        process_namespace_of: target(pod, &container.name)?,
        tty: container.tty == Some(true),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        termination_message: TerminationMessage {
            path: container.termination_message_path.as_deref().unwrap_or("/dev/termination-log").into(),
            fallback_to_logs_on_error: container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError"),
        },
        env: variables,
        mounts,
    })
}

/// The running container in whose process namespace an ephemeral one starts.
fn target(pod: &PodState, name: &str) -> Result<Option<ContainerRef>, String> {
    let Some(target) = pod.target_of(name) else { return Ok(None) };
    let running = pod.newest(target).filter(|_| pod.is_running(target));
    let running = running.ok_or_else(|| format!("unable to find target container {target}"))?;
    Ok(Some(running.container.clone()))
}

fn mounts(
    typed: &Pod,
    container: &core::Container,
    variables: &[(String, String)],
    around: &Around,
) -> Result<Vec<Mount>, String> {
    let none = Default::default();
    let lookup = env::lookup(variables, &none);
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let sub_path = match (mount.sub_path_expr.as_deref(), mount.sub_path.as_deref()) {
            (Some(expression), _) if !expression.is_empty() => {
                let path = env::expand(expression, &lookup);
                if path.contains("$(") {
                    return Err(format!("missing value for a variable of subPathExpr \"{expression}\""));
                }
                Some(path)
            }
            (_, Some(path)) if !path.is_empty() => Some(path.to_owned()),
            (_, _) => None,
        };
        if sub_path.as_ref().is_some_and(|path| path.starts_with('/') || path.split('/').any(|part| part == "..")) {
            return Err(format!("subPath \"{}\" must not be absolute or contain '..'", sub_path.unwrap_or_default()));
        }
        mounts.push(Mount {
            volume: mount.name.clone(),
            container_path: absolute(&mount.mount_path),
            sub_path,
            read_only: mount.read_only == Some(true) || volume::is_read_only(typed, &mount.name, around.snapshot),
            propagation: match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => Propagation::HostToContainer,
                Some("Bidirectional") => Propagation::Bidirectional,
                Some(_) | None => Propagation::None,
            },
        });
    }
    Ok(mounts)
}

fn devices(container: &core::Container) -> Vec<Device> {
    let all = container.volume_devices.iter().flatten();
    all.map(|d| Device { volume: d.name.clone(), container_path: absolute(&d.device_path), read_only: false }).collect()
}

fn absolute(path: &str) -> PathBuf {
    if path.starts_with('/') { PathBuf::from(path) } else { PathBuf::from(format!("/{path}")) }
}

/// The container's securityContext over the pod's.
fn security(typed: &Pod, container: &core::Container) -> Security {
    let pod = typed.spec.as_ref().and_then(|s| s.security_context.clone()).unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let id = |value: Option<i64>| value.and_then(|v| u32::try_from(v).ok());
    let mut groups: Vec<u32> =
        pod.supplemental_groups.iter().flatten().filter_map(|g| u32::try_from(*g).ok()).collect();
    groups.extend(id(pod.fs_group));
    let capabilities = own.capabilities.unwrap_or_default();
    let seccomp = own.seccomp_profile.or(pod.seccomp_profile);
    Security {
        run_as_user: id(own.run_as_user.or(pod.run_as_user)),
        run_as_group: id(own.run_as_group.or(pod.run_as_group)),
        supplementary_groups: groups,
        privileged: own.privileged == Some(true),
        capabilities_add: capabilities.add.unwrap_or_default(),
        capabilities_drop: capabilities.drop.unwrap_or_default(),
        read_only_root: own.read_only_root_filesystem == Some(true),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        seccomp: match seccomp.as_ref().map(|s| s.type_.as_str()) {
            Some("RuntimeDefault") => Seccomp::RuntimeDefault,
            Some("Localhost") => Seccomp::Localhost(seccomp.and_then(|s| s.localhost_profile).unwrap_or_default()),
            Some(_) | None => Seccomp::Unconfined,
        },
        unmasked_proc: own.proc_mount.as_deref() == Some("Unmasked"),
    }
}

/// `runAsNonRoot`.
fn check_user(
    pod: &PodState,
    typed: &Pod,
    container: &core::Container,
    security: &Security,
    image: &Image,
) -> Result<(), String> {
    let of_pod = typed.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|s| s.run_as_non_root);
    let own = container.security_context.as_ref().and_then(|s| s.run_as_non_root);
    if own.or(of_pod) != Some(true) {
        return Ok(());
    }
    let place = format!("(pod: \"{}\", container: {})", pod.full_name(), container.name);
    let user = image.config.user.split(':').next().unwrap_or_default();
    match (security.run_as_user, user.parse::<u32>()) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy {place}")),
        (Some(_), _) => Ok(()),
        (None, Ok(0)) => Err(format!("container has runAsNonRoot and image will run as root {place}")),
        (None, Ok(_)) => Ok(()),
        (None, Err(_)) if user.is_empty() => {
            Err(format!("container has runAsNonRoot and image will run as root {place}"))
        }
        (None, Err(_)) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root {place}"
        )),
    }
}
