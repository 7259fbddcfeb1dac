//! What a probe or a hook asks, in the machine's words.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{self as core, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::action::{Action, Check, Container, HookAction};
use crate::facts::post_start;
use crate::plan::Plan;
use crate::probe::{of, threshold};
use crate::state::{HookState, PodState};

/// Asks what is due of a running container.
pub fn ask_due(
    pod: &PodState,
    container: &core::Container,
    current: &Container,
    running_since: Timestamp,
    now: Timestamp,
    plan: &mut Plan,
) {
    let Some(run) = pod.runs.get(&container.name) else { return };
    if post_start(container).is_some() && run.post_start != HookState::Done {
        return;
    }
    let (due, wake) = run.probes.due(container, running_since, now);
    for kind in due {
        let Some(probe) = of(container, kind) else { continue };
        let Some(check) = check(pod, container, probe) else { continue };
        let timeout = Duration::from_secs(threshold(probe.timeout_seconds, 1).unsigned_abs().into());
        plan.actions.push(Action::Probe { container: current.container.clone(), kind, check, timeout });
    }
    if let Some(at) = wake {
        plan.wake(at);
    }
}

/// The question in the machine's words.
fn check(pod: &PodState, container: &core::Container, probe: &Probe) -> Option<Check> {
    if let Some(exec) = &probe.exec {
        return Some(Check::Exec { command: exec.command.clone().unwrap_or_default() });
    }
    if let Some(get) = &probe.http_get {
        return http(pod, container, get);
    }
    if let Some(socket) = &probe.tcp_socket {
        return tcp(pod, container, socket);
    }
    let grpc = probe.grpc.as_ref()?;
    let address = SocketAddr::new(pod.ip(), u16::try_from(grpc.port).ok()?);
    Some(Check::Grpc { address, service: grpc.service.clone().unwrap_or_default() })
}

/// An HTTP question of a probe or a hook.
pub fn http(pod: &PodState, container: &core::Container, get: &core::HTTPGetAction) -> Option<Check> {
    let headers = get.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect();
    let path = get.path.clone().unwrap_or_default();
    Some(Check::Http {
        https: get.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("https")),
        host: get.host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| pod.ip().to_string()),
        port: port(container, &get.port)?,
        path: if path.starts_with('/') { path } else { format!("/{path}") },
        headers,
    })
}

/// A TCP question. A host name is not looked up: the machine asks addresses.
pub fn tcp(pod: &PodState, container: &core::Container, socket: &core::TCPSocketAction) -> Option<Check> {
    let host = socket.host.as_deref().filter(|h| !h.is_empty());
    let ip = host.map_or(Some(pod.ip()), |h| h.parse().ok())?;
    Some(Check::Tcp { address: SocketAddr::new(ip, port(container, &socket.port)?) })
}

/// A port by number, or by its name among the container's ports.
fn port(container: &core::Container, port: &IntOrString) -> Option<u16> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
            named.map(|p| p.container_port).or_else(|| name.parse().ok())?
        }
    };
    u16::try_from(number).ok().filter(|n| *n > 0)
}

/// A postStart hook has no limit of its own upstream; this one only keeps a lost hook from holding a pod for ever.
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// What a lifecycle handler asks. A handler that names nothing does nothing.
pub fn hook_action(pod: &PodState, container: &core::Container, handler: &LifecycleHandler) -> HookAction {
    let check = if let Some(exec) = &handler.exec {
        Some(Check::Exec { command: exec.command.clone().unwrap_or_default() })
    } else if let Some(get) = &handler.http_get {
        http(pod, container, get)
    } else if let Some(socket) = &handler.tcp_socket {
        tcp(pod, container, socket)
    } else {
        None
    };
    let seconds = handler.sleep.as_ref().map_or(0, |s| s.seconds.max(0));
    check.map_or(HookAction::Sleep(Duration::from_secs(seconds.unsigned_abs())), HookAction::Run)
}
