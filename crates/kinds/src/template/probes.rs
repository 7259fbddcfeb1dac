//! Checks of probes and lifecycle hooks (SC-06, SC-08).

use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction};
use stead_api::Errors;

use crate::check::{list, not_negative, one_of, port, port_number, text};
use crate::path::Path;

pub fn validate_container(at: Path, container: &Container, grace: i64, errors: &mut Errors) {
    if let Some(lifecycle) = &container.lifecycle {
        for (field, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
            if let Some(hook) = hook {
                validate_hook(at.child("lifecycle").child(field), hook, grace, errors);
            }
        }
    }
    for (field, probe) in [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ] {
        let Some(probe) = probe else { continue };
        let at = at.child(field);
        validate_probe(at, probe, errors);
        if field == "readinessProbe" {
            if let Some(seconds) = probe.termination_grace_period_seconds {
                let detail = "must not be set for readinessProbes";
                at.child("terminationGracePeriodSeconds").invalid(errors, seconds, detail);
            }
        } else if probe.success_threshold.is_some_and(|threshold| threshold != 1) {
            at.child("successThreshold").invalid(errors, probe.success_threshold.unwrap_or(0), "must be 1");
        }
    }
}

fn validate_probe(at: Path, probe: &Probe, errors: &mut Errors) {
    let mut handlers = Handlers { at, found: 0 };
    handlers.exec(probe.exec.as_ref(), errors);
    handlers.http_get(probe.http_get.as_ref(), errors);
    handlers.tcp_socket(probe.tcp_socket.as_ref(), errors);
    if let Some(grpc) = &probe.grpc
        && handlers.first("grpc", errors)
    {
        port_number(at.child("grpc").child("port"), grpc.port.into(), errors);
    }
    if handlers.found == 0 {
        at.required(errors, "must specify a handler type");
    }
    for (field, number) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        not_negative(at.child(field), number, errors);
    }
    if let Some(seconds) = probe.termination_grace_period_seconds.filter(|seconds| *seconds <= 0) {
        at.child("terminationGracePeriodSeconds").invalid(errors, seconds, "must be greater than 0");
    }
}

fn validate_hook(at: Path, hook: &LifecycleHandler, grace: i64, errors: &mut Errors) {
    let mut handlers = Handlers { at, found: 0 };
    handlers.exec(hook.exec.as_ref(), errors);
    handlers.http_get(hook.http_get.as_ref(), errors);
    handlers.tcp_socket(hook.tcp_socket.as_ref(), errors);
    if let Some(sleep) = &hook.sleep
        && handlers.first("sleep", errors)
        && !(0..=grace.max(0)).contains(&sleep.seconds)
    {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        at.child("sleep").invalid(errors, sleep.seconds, detail);
    }
    if handlers.found == 0 {
        at.required(errors, "must specify a handler type");
    }
}

/// Exactly one handler may be given.
struct Handlers<'a> {
    at: Path<'a>,
    found: u32,
}

impl Handlers<'_> {
    /// Counts a handler; false, with an error, when there was one before.
    fn first(&mut self, field: &str, errors: &mut Errors) -> bool {
        self.found += 1;
        if self.found > 1 {
            self.at.child(field).forbidden(errors, "may not specify more than 1 handler type");
        }
        self.found == 1
    }

    fn exec(&mut self, exec: Option<&ExecAction>, errors: &mut Errors) {
        let Some(exec) = exec else { return };
        if self.first("exec", errors) && list(&exec.command).is_empty() {
            self.at.child("exec").child("command").required(errors, "");
        }
    }

    fn http_get(&mut self, get: Option<&HTTPGetAction>, errors: &mut Errors) {
        let Some(get) = get else { return };
        if !self.first("httpGet", errors) {
            return;
        }
        let at = self.at.child("httpGet");
        if text(&get.path).is_empty() {
            at.child("path").required(errors, "");
        }
        port(at.child("port"), &get.port, errors);
        one_of(at.child("scheme"), text(&get.scheme), &["HTTP", "HTTPS"], false, errors);
        for header in list(&get.http_headers) {
            if header.name.is_empty() || !header.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                let message = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
                at.child("httpHeaders").invalid(errors, header.name.as_str(), message);
            }
        }
    }

    fn tcp_socket(&mut self, socket: Option<&TCPSocketAction>, errors: &mut Errors) {
        let Some(socket) = socket else { return };
        if self.first("tcpSocket", errors) {
            port(self.at.child("tcpSocket").child("port"), &socket.port, errors);
        }
    }
}
