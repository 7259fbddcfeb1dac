//! `PodStatus` from the wish and what is on the machine, as the kubelet writes it.
//!
//! Guarantees: a function of the pod's state and now; condition times move only when a condition's status does; conditions of
//! others are kept. Ready follows in the same step as the container's start when there is no probe (SC-04).
//! Upstream: pkg/kubelet/status/generate.go, `generateAPIPodStatus`, `getPhase`, and the QoS rules.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    self as core, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, HostIP, Pod,
    PodCondition, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::action::{Container, ContainerState, Exit};
use crate::facts::{is_sidecar, post_start, qos_class};
use crate::pod::{self, is_initialized};
use crate::state::{HookState, Outcome, PodState, container_id};
use crate::stop;

/// The status that the API server should have.
pub fn pod_status(pod: &PodState, typed: &Pod, now: Timestamp) -> PodStatus {
    let old = typed.status.clone().unwrap_or_default();
    let Some(spec) = &typed.spec else { return old };
    let outcome = pod::outcome(pod, typed, now);
    if let (Some(_), Some(outcome)) = (&pod.rejected, &outcome) {
        return rejected(pod, typed, outcome.clone(), old);
    }
    let init = spec.init_containers.as_ref().map(|all| all.iter().map(|c| one(pod, spec, c)).collect::<Vec<_>>());
    let main: Vec<ContainerStatus> = spec.containers.iter().map(|c| one(pod, spec, c)).collect();
    let ephemeral: Vec<ContainerStatus> = pod.ephemeral.iter().map(|c| one_ephemeral(pod, spec, c)).collect();
    let ephemeral = (!ephemeral.is_empty()).then_some(ephemeral);
    let phase = phase(pod, typed, &main, outcome.as_ref());
    let is_over = matches!(phase, "Succeeded" | "Failed");
    let conditions = conditions(pod, typed, &old, init.as_deref().unwrap_or_default(), &main, phase, now);
    let ip = if spec.host_network == Some(true) { Some(pod.node_ip) } else { pod.sandbox.as_ref().and_then(|s| s.ip) };
    let ip = ip
        .filter(|_| pod.sandbox.is_some())
        .map(|ip| ip.to_string())
        .or_else(|| old.pod_ip.clone().filter(|_| is_over));
    let host_ip = pod.node_ip.to_string();
    let ended = outcome.filter(|_| is_over);
    PodStatus {
        phase: Some(phase.into()),
        reason: ended.as_ref().and_then(|o| o.reason.clone()),
        message: ended.as_ref().and_then(|o| o.message.clone()),
        conditions: Some(conditions),
        init_container_statuses: init.filter(|all| !all.is_empty()),
        container_statuses: Some(main),
        ephemeral_container_statuses: ephemeral,
        pod_ips: ip.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip: ip,
        host_ips: Some(vec![HostIP { ip: host_ip.clone() }]),
        host_ip: Some(host_ip),
        start_time: old.start_time.clone().or(Some(Time(pod.seen_at))),
        qos_class: Some(qos_class(typed).into()),
        observed_generation: typed.metadata.generation,
        ..old
    }
}

/// The status of a pod of which nothing was made.
fn rejected(pod: &PodState, typed: &Pod, outcome: Outcome, old: PodStatus) -> PodStatus {
    PodStatus {
        phase: Some(outcome.phase.into()),
        reason: outcome.reason,
        message: outcome.message,
        start_time: old.start_time.clone().or(Some(Time(pod.seen_at))),
        qos_class: Some(qos_class(typed).into()),
        observed_generation: typed.metadata.generation,
        ..old
    }
}

fn phase(pod: &PodState, typed: &Pod, main: &[ContainerStatus], outcome: Option<&Outcome>) -> &'static str {
    let is_deleting = typed.metadata.deletion_timestamp.is_some();
    let stored = typed.status.as_ref().and_then(|status| status.phase.as_deref());
    match outcome {
        // What the API server calls ended stays ended, whoever said so, while its containers are being stopped.
        Some(outcome) if stored == Some(outcome.phase) => outcome.phase,
        Some(outcome) if pod.is_at_rest() => outcome.phase,
        Some(_) => "Running",
        // A deleted pod ends like any other before it goes.
        None if is_deleting && stop::is_down(pod) && pod.is_torn_down => {
            let succeeded = |s: &ContainerStatus| {
                let ended = s.state.as_ref().and_then(|state| state.terminated.as_ref());
                ended.is_some_and(|t| t.exit_code == 0)
            };
            if main.iter().all(succeeded) { "Succeeded" } else { "Failed" }
        }
        // Upstream: Running once every main container has run.
        None if main.iter().all(has_run) => "Running",
        None => "Pending",
    }
}

fn has_run(status: &ContainerStatus) -> bool {
    let state = status.state.clone().unwrap_or_default();
    let last = status.last_state.clone().unwrap_or_default();
    state.running.is_some() || state.terminated.is_some() || last.terminated.is_some()
}

/// The status of one container.
fn one(pod: &PodState, spec: &PodSpec, container: &core::Container) -> ContainerStatus {
    let name = &container.name;
    let run = pod.runs.get(name);
    let newest = pod.newest(name);
    let is_hook_open = post_start(container).is_some()
        && run.is_some_and(|r| {
            r.must_restart.is_some() || (r.post_start != HookState::Done && r.stopping_since.is_none())
        });
    let waits = |state: &ContainerState| match state {
        ContainerState::Running { .. } => is_hook_open,
        ContainerState::Exited(_) => pod.waiting.contains_key(name),
    };
    let shown = newest.filter(|c| !waits(&c.state));
    let previous = |before: Option<u32>| {
        let all = pod.containers.get(name)?;
        all.values().rev().find(|c| before.is_none_or(|b| c.container.attempt < b))
    };
    let (state, last) = match (shown, newest) {
        (Some(shown), _) => (state_of(shown), previous(Some(shown.container.attempt))),
        (None, Some(newest)) if matches!(newest.state, ContainerState::Running { .. }) => {
            (waiting(pod, spec, name), previous(Some(newest.container.attempt)))
        }
        (None, _) => (waiting(pod, spec, name), previous(None)),
    };
    let is_running = shown.is_some_and(|c| matches!(c.state, ContainerState::Running { .. }));
    let is_started = is_running && run.is_some_and(|r| r.probes.has_started(container));
    let is_init = spec.init_containers.iter().flatten().any(|c| c.name == *name);
    let is_done = newest.is_some_and(|c| matches!(&c.state, ContainerState::Exited(exit) if exit.code == 0));
    let is_ready = if is_init && !is_sidecar(container) {
        is_done
    } else {
        is_running && run.is_some_and(|r| r.probes.is_ready(container))
    };
    let known = pod.api_status(name);
    ContainerStatus {
        name: name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: image_id(pod, name, newest, known),
        container_id: newest.map(|c| container_id(&c.id)),
        state: Some(state),
        last_state: Some(
            last.filter(|c| matches!(c.state, ContainerState::Exited(_))).map(state_of).unwrap_or_default(),
        ),
        restart_count: newest.map_or(known.map_or(0, |k| k.restart_count), |c| c.container.attempt.cast_signed()),
        ready: is_ready,
        started: Some(is_started),
        allocated_resources: container.resources.as_ref().and_then(|r| r.requests.clone()).filter(|r| !r.is_empty()),
        resources: Some(
            run.and_then(|r| r.applied.clone()).or_else(|| container.resources.clone()).unwrap_or_default(),
        ),
        ..ContainerStatus::default()
    }
}

/// Nothing probes it: it is never ready.
fn one_ephemeral(pod: &PodState, spec: &PodSpec, container: &core::Container) -> ContainerStatus {
    ContainerStatus { ready: false, started: None, ..one(pod, spec, container) }
}

fn image_id(pod: &PodState, name: &str, newest: Option<&Container>, known: Option<&ContainerStatus>) -> String {
    let Some(newest) = newest else { return String::new() };
    match pod.image_ids.get(&newest.image_id) {
        Some(digest) => digest.clone(),
        None => known
            .filter(|k| k.name == name && k.container_id.as_deref() == Some(&container_id(&newest.id)))
            .map(|k| k.image_id.clone())
            .unwrap_or_else(|| newest.image_id.clone()),
    }
}

fn waiting(pod: &PodState, spec: &PodSpec, name: &str) -> core::ContainerState {
    let (reason, message) = match pod.waiting.get(name) {
        Some(waiting) => (waiting.reason.clone(), waiting.message.clone()),
        None => {
            let has_inits = spec.init_containers.as_ref().is_some_and(|all| !all.is_empty());
            (if has_inits { "PodInitializing" } else { "ContainerCreating" }.into(), None)
        }
    };
    let waiting = ContainerStateWaiting { reason: Some(reason), message };
    core::ContainerState { waiting: Some(waiting), ..core::ContainerState::default() }
}

fn state_of(container: &Container) -> core::ContainerState {
    match &container.state {
        ContainerState::Running { started_at } => core::ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(Time(*started_at)) }),
            ..core::ContainerState::default()
        },
        ContainerState::Exited(exit) => core::ContainerState {
            terminated: Some(ContainerStateTerminated {
                container_id: Some(container_id(&container.id)),
                exit_code: exit.code,
                // Upstream leaves the signal out: the code tells it.
                signal: None,
                reason: Some(exit_reason(exit).into()),
                message: exit_message(exit),
                started_at: exit.started_at.map(Time),
                finished_at: Some(Time(exit.finished_at)),
            }),
            ..core::ContainerState::default()
        },
    }
}

fn exit_reason(exit: &Exit) -> &'static str {
    match exit {
        Exit { is_lost: true, .. } => "ContainerStatusUnknown",
        Exit { oom_killed: true, .. } => "OOMKilled",
        Exit { started_at: None, .. } => "StartError",
        Exit { code: 0, .. } => "Completed",
        Exit { .. } => "Error",
    }
}

fn exit_message(exit: &Exit) -> Option<String> {
    if exit.is_lost && exit.message.is_empty() {
        return Some("The container could not be located when the pod was terminated".into());
    }
    (!exit.message.is_empty()).then(|| exit.message.clone())
}

/// One condition's new value.
struct Is {
    is_true: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Is {
    fn yes() -> Is {
        Is { is_true: true, reason: None, message: None }
    }

    fn not(reason: &'static str, message: String) -> Is {
        Is { is_true: false, reason: Some(reason), message: (!message.is_empty()).then_some(message) }
    }

    fn completed() -> Is {
        Is { is_true: false, reason: Some("PodCompleted"), message: None }
    }
}

fn names(of: &[&ContainerStatus]) -> String {
    of.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(" ")
}

fn conditions(
    pod: &PodState,
    typed: &Pod,
    old: &PodStatus,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
    phase: &str,
    now: Timestamp,
) -> Vec<PodCondition> {
    let empty = PodSpec::default();
    let spec = typed.spec.as_ref().unwrap_or(&empty);
    let sidecars: Vec<&ContainerStatus> = init
        .iter()
        .filter(|s| spec.init_containers.iter().flatten().any(|c| c.name == s.name && is_sidecar(c)))
        .collect();
    let undone: Vec<&ContainerStatus> = init
        .iter()
        .filter(|s| if sidecars.iter().any(|side| side.name == s.name) { s.started != Some(true) } else { !s.ready })
        .collect();
    let initialized = if undone.is_empty() || is_initialized(pod, spec) {
        Is { is_true: true, reason: (phase == "Succeeded").then_some("PodCompleted"), message: None }
    } else {
        Is::not("ContainersNotInitialized", format!("containers with incomplete status: [{}]", names(&undone)))
    };
    let unready: Vec<&ContainerStatus> = sidecars.into_iter().chain(main).filter(|s| !s.ready).collect();
    let unready_text = format!("containers with unready status: [{}]", names(&unready));
    let containers_ready = match phase {
        "Succeeded" => Is::completed(),
        "Failed" => Is { is_true: false, reason: Some("PodFailed"), message: None },
        _ if unready.is_empty() => Is::yes(),
        _ => Is::not("ContainersNotReady", unready_text),
    };
    let ready = ready(spec, old, &containers_ready);
    let has_sandbox = pod.is_sandbox_ready() && !pod.is_torn_down;
    let mut list: BTreeMap<&str, Is> = BTreeMap::from([
        ("PodReadyToStartContainers", Is { is_true: has_sandbox, reason: None, message: None }),
        ("Initialized", initialized),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Is::yes()),
    ]);
    if let Some(message) = &pod.evicted {
        let reason = Some("TerminationByKubelet");
        list.insert("DisruptionTarget", Is { is_true: true, reason, message: Some(message.clone()) });
    }
    list.extend(resizing(pod, spec));
    merge(old.conditions.as_deref().unwrap_or_default(), list, typed.metadata.generation, now)
}

/// A resize that waits, and one that is under way.
fn resizing(pod: &PodState, spec: &PodSpec) -> Vec<(&'static str, Is)> {
    let mut list = Vec::new();
    if let Some(refusal) = pod.resize.as_ref().and_then(|asked| asked.refusal.as_ref()) {
        let is = Is { is_true: true, reason: Some(refusal.reason), message: Some(refusal.message.clone()) };
        list.push(("PodResizePending", is));
    }
    let is_under_way = |container: &core::Container| {
        let applied = pod.runs.get(&container.name).and_then(|run| run.applied.as_ref());
        let granted = container.resources.clone().unwrap_or_default();
        pod.is_running(&container.name) && applied.is_some_and(|applied| *applied != granted)
    };
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let moving: Vec<&core::Container> = all.filter(|c| is_under_way(c)).collect();
    if !moving.is_empty() {
        let failed = moving.iter().find_map(|c| pod.runs.get(&c.name)?.resize_retry.as_ref());
        let message = failed.map(|retry| retry.failure.message.clone());
        list.push(("PodResizeInProgress", Is { is_true: true, reason: failed.map(|_| "Error"), message }));
    }
    list
}

/// Ready is ContainersReady and every readiness gate.
fn ready(spec: &PodSpec, old: &PodStatus, containers_ready: &Is) -> Is {
    if !containers_ready.is_true {
        return Is { is_true: false, reason: containers_ready.reason, message: containers_ready.message.clone() };
    }
    let gates = spec.readiness_gates.iter().flatten().map(|g| g.condition_type.as_str());
    let mut closed = Vec::new();
    for gate in gates {
        match old.conditions.iter().flatten().find(|c| c.type_ == gate).map(|c| c.status.as_str()) {
            Some("True") => {}
            Some(_) => closed.push(format!("the status of pod readiness gate \"{gate}\" is not \"True\", but False")),
            None => closed.push(format!("corresponding condition of pod readiness gate \"{gate}\" does not exist.")),
        }
    }
    if closed.is_empty() { Is::yes() } else { Is::not("ReadinessGatesNotReady", closed.join(", ")) }
}

/// Conditions that are there only while they are true.
pub const PASSING: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

const ORDER: [&str; 8] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "DisruptionTarget",
    "PodResizePending",
    "PodResizeInProgress",
];

/// Our conditions in the kubelet's order, then those of others.
fn merge(
    old: &[PodCondition],
    mut ours: BTreeMap<&str, Is>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<PodCondition> {
    let mut all = Vec::new();
    for name in ORDER {
        let Some(is) = ours.remove(name) else { continue };
        let status = if is.is_true { "True" } else { "False" };
        let before = old.iter().find(|c| c.type_ == name);
        // A time that has yet to come was written before the clock was set back.
        let since = before.filter(|c| c.status == status).and_then(|c| c.last_transition_time.clone());
        let since = since.filter(|since| since.0 <= now);
        all.push(PodCondition {
            type_: name.into(),
            status: status.into(),
            reason: is.reason.map(str::to_owned),
            message: is.message,
            last_transition_time: since.or(Some(Time(now))),
            last_probe_time: None,
            observed_generation: generation,
        });
    }
    let is_kept = |c: &&PodCondition| !PASSING.contains(&c.type_.as_str()) && all.iter().all(|a| a.type_ != c.type_);
    let others: Vec<PodCondition> = old.iter().filter(is_kept).cloned().collect();
    all.extend(others);
    all
}
