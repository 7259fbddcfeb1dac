//! The columns of `kubectl get pods`: READY, STATUS and RESTARTS as kubectl's users know them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodSpec, PodStatus};
use serde_json::Value;
use stead_api::Object;

use crate::check::{list, text};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN, wide};
use crate::{Column, human};

pub const COLUMNS: &[Column] = &[
    NAME_COLUMN,
    columns::text("Ready", |object, _| ready(object), "How many of the pod's containers are ready."),
    columns::text("Status", |object, _| summary(&object.view()).reason.into(), "What the pod is doing."),
    columns::text("Restarts", restarts, "How often containers were restarted, and how long ago the last time."),
    AGE_COLUMN,
    wide(columns::text("IP", |object, _| or_none(ip(&object.view())), "The pod's address.")),
    wide(columns::path("Node", "spec.nodeName", "The node the pod is bound to.")),
    wide(columns::path("Nominated Node", "status.nominatedNodeName", "The node that is being cleared for the pod.")),
    wide(columns::text("Readiness Gates", |object, _| readiness_gates(&object.view()), "Gates that are open, of all.")),
];

/// What a pod's row says.
#[derive(Debug, Default, PartialEq)]
pub struct Summary {
    pub ready: usize,
    pub total: usize,
    pub reason: String,
    pub restarts: i32,
    pub last_restart: Option<Timestamp>,
}

fn ready(object: &Object) -> Value {
    let summary = summary(&object.view());
    format!("{}/{}", summary.ready, summary.total).into()
}

fn restarts(object: &Object, now: Timestamp) -> Value {
    let summary = summary(&object.view());
    match summary.last_restart {
        Some(at) if summary.restarts != 0 => format!("{} ({} ago)", summary.restarts, human::since(at, now)).into(),
        _ => summary.restarts.to_string().into(),
    }
}

fn or_none(text: String) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

fn ip(pod: &Pod) -> String {
    let Some(status) = &pod.status else { return String::new() };
    list(&status.pod_ips).first().map(|found| found.ip.clone()).unwrap_or_default()
}

fn readiness_gates(pod: &Pod) -> Value {
    let gates = pod.spec.as_ref().map_or(&[][..], |spec| list(&spec.readiness_gates));
    if gates.is_empty() {
        return "<none>".into();
    }
    let open = gates.iter().filter(|gate| condition(pod.status.as_ref(), &gate.condition_type)).count();
    format!("{open}/{}", gates.len()).into()
}

fn condition(status: Option<&PodStatus>, name: &str) -> bool {
    let conditions = status.map_or(&[][..], |status| list(&status.conditions));
    conditions.iter().any(|condition| condition.type_ == name && condition.status == "True")
}

/// Counts a container's restarts, and remembers when it last ended.
fn count_restarts(summary: &mut Summary, container: &ContainerStatus) {
    summary.restarts += container.restart_count;
    let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    if let Some(at) = ended.and_then(|ended| ended.finished_at.as_ref()) {
        summary.last_restart = summary.last_restart.max(Some(at.0));
    }
}

fn exit_reason(prefix: &str, ended: &ContainerStateTerminated) -> String {
    match (text(&ended.reason), ended.signal.unwrap_or(0)) {
        ("", 0) => format!("{prefix}ExitCode:{}", ended.exit_code),
        ("", signal) => format!("{prefix}Signal:{signal}"),
        (reason, _) => format!("{prefix}{reason}"),
    }
}

fn waiting_reason(state: Option<&ContainerState>) -> &str {
    state.and_then(|state| state.waiting.as_ref()).map_or("", |waiting| text(&waiting.reason))
}

pub fn summary(pod: &Pod) -> Summary {
    let empty_status = PodStatus::default();
    let empty_spec = PodSpec::default();
    let (status, spec) = (pod.status.as_ref().unwrap_or(&empty_status), pod.spec.as_ref().unwrap_or(&empty_spec));
    let sidecars: BTreeSet<&str> = list(&spec.init_containers)
        .iter()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"))
        .map(|container| container.name.as_str())
        .collect();
    let mut summary = Summary {
        total: spec.containers.len() + sidecars.len(),
        reason: match text(&status.reason) {
            "" => text(&status.phase).to_owned(),
            reason => reason.to_owned(),
        },
        ..Summary::default()
    };
    let is_gated = list(&status.conditions)
        .iter()
        .any(|c| c.type_ == "PodScheduled" && c.reason.as_deref() == Some("SchedulingGated"));
    if is_gated {
        summary.reason = "SchedulingGated".to_owned();
    }
    let initializing = summarize_init(&mut summary, status, list(&spec.init_containers).len(), &sidecars);
    if !initializing || condition(Some(status), "Initialized") {
        summary.restarts = 0;
        summary.last_restart = None;
        let all_init = list(&status.init_container_statuses);
        all_init
            .iter()
            .filter(|container| sidecars.contains(container.name.as_str()))
            .for_each(|container| count_restarts(&mut summary, container));
        summarize_main(&mut summary, status);
    }
    let is_over = matches!(text(&status.phase), "Succeeded" | "Failed");
    if pod.metadata.deletion_timestamp.is_some() {
        if text(&status.reason) == "NodeLost" {
            summary.reason = "Unknown".to_owned();
        } else if !is_over {
            summary.reason = "Terminating".to_owned();
        }
    }
    summary
}

/// Goes through the init containers up to the first that is not done; true when there is one.
fn summarize_init(summary: &mut Summary, status: &PodStatus, total: usize, sidecars: &BTreeSet<&str>) -> bool {
    for (index, container) in list(&status.init_container_statuses).iter().enumerate() {
        count_restarts(summary, container);
        let state = container.state.as_ref();
        let ended = state.and_then(|state| state.terminated.as_ref());
        let waiting = waiting_reason(state);
        match ended {
            Some(ended) if ended.exit_code == 0 => continue,
            _ if sidecars.contains(container.name.as_str()) && container.started == Some(true) => {
                summary.ready += usize::from(container.ready);
                continue;
            }
            Some(ended) => summary.reason = exit_reason("Init:", ended),
            None if !waiting.is_empty() && waiting != "PodInitializing" => {
                summary.reason = format!("Init:{waiting}");
            }
            None => summary.reason = format!("Init:{index}/{total}"),
        }
        return true;
    }
    false
}

/// Goes through the main containers from the last to the first, so that the first one's trouble is shown.
fn summarize_main(summary: &mut Summary, status: &PodStatus) {
    let mut any_running = false;
    for container in list(&status.container_statuses).iter().rev() {
        count_restarts(summary, container);
        let state = container.state.as_ref();
        let waiting = waiting_reason(state);
        if !waiting.is_empty() {
            summary.reason = waiting.to_owned();
        } else if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
            summary.reason = exit_reason("", ended);
        } else if container.ready && state.is_some_and(|state| state.running.is_some()) {
            any_running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && any_running {
        let reason = if condition(Some(status), "Ready") { "Running" } else { "NotReady" };
        summary.reason = reason.to_owned();
    }
}
