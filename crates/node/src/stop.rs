//! How containers and pods come down.
//!
//! Guarantees: main containers first, then sidecars in reverse order (SC-03); preStop, then the stop signal, then SIGKILL when
//! the grace period is over; only when nothing runs and nothing is on its way are namespaces and mounts given back. A shorter
//! grace asked for later shortens what is under way.
//! Upstream: `killPodWithSyncResult` and `killContainer` of the kubelet.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{self as core, Pod, PodSpec};

use crate::action::{Action, ContainerState, Hook};
use crate::event::Note;
use crate::facts::{is_sidecar, pre_stop};
use crate::plan::Plan;
use crate::question;
use crate::state::{Busy, EVICTED, HookState, PodState, Stop};

/// What a container gets between the stop signal and SIGKILL even when a hook has used up the grace period.
const GRACE_MIN: SignedDuration = SignedDuration::from_secs(2);
/// For the node's sake there is no more time than this (`immediateEvictionGracePeriodSeconds`).
const GRACE_OF_EVICTED: SignedDuration = SignedDuration::from_secs(1);
/// When the spec does not say.
const GRACE_DEFAULT_SECONDS: i64 = 30;

/// Takes a pod down; its logs and records stay.
pub fn end(pod: &PodState, now: Timestamp, plan: &mut Plan) {
    plan.is_ending = true;
    let kill_at = kill_at(pod, now);
    keep_asking(pod, now, plan);
    let mut is_waiting = false;
    for group in groups(pod) {
        let live: Vec<&str> = group.iter().map(String::as_str).filter(|name| is_live(pod, name)).collect();
        for name in &live {
            stop_container(pod, name, kill_at, grace(pod), &format!("Stopping container {name}"), now, plan);
        }
        if !live.is_empty() {
            is_waiting = true;
            if now < kill_at {
                plan.wake(kill_at);
                break;
            }
        }
    }
    if is_waiting || !pod.is_at_rest() || pod.busy.contains(&Busy::StopSandbox) {
        return;
    }
    let uid = || pod.pod.uid.clone();
    let next = match needs_teardown(pod) {
        true => Action::StopSandbox { pod: uid() },
        // The disk is what it had to go for.
        false if is_to_be_emptied(pod) => Action::EmptyPod { pod: uid() },
        false => return,
    };
    match &pod.cleanup_retry {
        Some(retry) if now < retry.at => plan.wake(retry.at),
        Some(_) | None => plan.actions.push(next),
    }
}

/// Whether an evicted pod still holds what it wrote.
pub fn is_to_be_emptied(pod: &PodState) -> bool {
    let told = pod.spec.as_ref().and_then(|typed| typed.status.as_ref()).and_then(|status| status.reason.as_deref());
    let is_evicted = pod.evicted.is_some() || told == Some(EVICTED);
    is_evicted && has_remains(pod) && !pod.is_emptied && !pod.busy.contains(&Busy::EmptyPod)
}

/// Readiness is asked until the end: a server that drains connections says so. Startup and liveness are not.
fn keep_asking(pod: &PodState, now: Timestamp, plan: &mut Plan) {
    let Some(spec) = pod.spec.as_ref().and_then(|p| p.spec.as_ref()).filter(|_| pod.object.is_some()) else { return };
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let only_readiness = core::Container { liveness_probe: None, startup_probe: None, ..container.clone() };
        let has_started = pod.runs.get(&container.name).is_some_and(|r| r.probes.has_started(container));
        let Some(current) = pod.newest(&container.name).filter(|_| has_started) else { continue };
        if let ContainerState::Running { started_at } = current.state {
            question::ask_due(pod, &only_readiness, current, started_at, now, plan);
        }
    }
}

/// Takes down a pod that the API server does not have, and forgets it.
pub fn remove(pod: &PodState, now: Timestamp, plan: &mut Plan) {
    end(pod, now, plan);
    if !plan.actions.is_empty() || !is_down(pod) || !has_remains(pod) {
        return;
    }
    match &pod.cleanup_retry {
        Some(retry) if now < retry.at => plan.wake(retry.at),
        Some(_) | None => plan.actions.push(Action::RemovePod { pod: pod.pod.uid.clone() }),
    }
}

/// Restarts one container of a pod that goes on.
pub fn restart(
    pod: &PodState,
    spec: &PodSpec,
    container: &core::Container,
    why: &str,
    now: Timestamp,
    plan: &mut Plan,
) {
    let run = pod.runs.get(&container.name);
    let own = run.and_then(|r| r.probes.failed_grace(container));
    let seconds = own.or(spec.termination_grace_period_seconds).unwrap_or(GRACE_DEFAULT_SECONDS);
    let since = run.and_then(|r| r.stopping_since).unwrap_or(now);
    let grace = SignedDuration::from_secs(seconds.max(1));
    stop_container(pod, &container.name, since + grace, grace, why, now, plan);
}

/// Containers, namespaces and mounts are gone: the deletion may be confirmed.
pub fn is_down(pod: &PodState) -> bool {
    pod.is_at_rest() && !needs_teardown(pod) && !pod.busy.contains(&Busy::StopSandbox)
}

/// Whether the machine may hold anything of the pod, logs included.
pub fn has_remains(pod: &PodState) -> bool {
    pod.is_torn_down || pod.sandbox.is_some() || !pod.containers.is_empty()
}

fn needs_teardown(pod: &PodState) -> bool {
    let was_touched = pod.sandbox.is_some()
        || pod.sandbox_retry.is_some()
        || pod.volumes_asked.is_some()
        || !pod.containers.is_empty();
    was_touched && !pod.is_torn_down
}

fn is_live(pod: &PodState, name: &str) -> bool {
    pod.is_running(name) || pod.busy.contains(&Busy::Start(name.to_owned()))
}

fn grace(pod: &PodState) -> SignedDuration {
    // The object went without waiting for us: somebody has forced it.
    if pod.object.is_none() {
        return GRACE_MIN;
    }
    if pod.evicted.is_some() {
        return GRACE_OF_EVICTED;
    }
    let deletion = pod.object.as_ref().filter(|o| o.meta.is_deleting());
    let deletion = deletion.and_then(|o| o.meta.deletion_grace_period_seconds);
    let spec = || pod.spec.as_ref()?.spec.as_ref()?.termination_grace_period_seconds;
    SignedDuration::from_secs(deletion.or_else(spec).unwrap_or(GRACE_DEFAULT_SECONDS).max(1))
}

/// When the whole pod is killed: counted from when its end was first seen, and for deletions not later than the API server said.
fn kill_at(pod: &PodState, now: Timestamp) -> Timestamp {
    let counted = pod.ending_since.unwrap_or(now) + grace(pod);
    let counted = pod.shutdown_at.map_or(counted, |at| counted.min(at));
    match pod.object.as_ref().and_then(|o| o.meta.deletion_timestamp) {
        Some(at) => counted.min(at + SignedDuration::from_secs(1)),
        None => counted,
    }
}

/// When a pod that is on its way down is killed at the latest.
pub fn last_kill_at(pod: &PodState) -> Option<Timestamp> {
    pod.ending_since.map(|since| kill_at(pod, since))
}

/// The order of SC-03; containers that the spec does not know come first.
fn groups(pod: &PodState) -> Vec<Vec<String>> {
    let spec = pod.spec.as_ref().and_then(|p: &std::sync::Arc<Pod>| p.spec.as_ref());
    let sidecars: Vec<String> = spec
        .into_iter()
        .flat_map(|s| s.init_containers.iter().flatten())
        .filter(|c| is_sidecar(c))
        .map(|c| c.name.clone())
        .collect();
    let mut names: Vec<String> = pod.containers.keys().cloned().collect();
    for busy in &pod.busy {
        if let Busy::Start(name) = busy {
            names.push(name.clone());
        }
    }
    names.sort();
    names.dedup();
    let first = names.into_iter().filter(|name| !sidecars.contains(name)).collect();
    std::iter::once(first).chain(sidecars.into_iter().rev().map(|name| vec![name])).collect()
}

/// Hook, signal, kill: the next of them that is due.
fn stop_container(
    pod: &PodState,
    name: &str,
    kill_at: Timestamp,
    grace: SignedDuration,
    why: &str,
    now: Timestamp,
    plan: &mut Plan,
) {
    let Some(container) = pod.newest(name).filter(|_| pod.is_running(name)) else { return };
    let run = pod.runs.get(name);
    let left = kill_at.duration_since(now).max(SignedDuration::ZERO);
    match run.and_then(|r| r.stop.as_ref()) {
        Some(Stop { retry_at: Some(at), .. }) if now < *at => return plan.wake(*at),
        Some(Stop { retry_at: None, kill_at: told }) if *told <= kill_at.max(now) + GRACE_MIN => return,
        Some(_) => return plan.actions.push(signal(container, pod, name, left)),
        None => {}
    }
    if run.is_none_or(|r| r.stopping_since.is_none()) {
        plan.notes.push(Note::normal("Killing", why).of(name));
    }
    let hook = run.map(|r| r.pre_stop).unwrap_or_default();
    let spec = pod.container_spec(name).filter(|_| hook == HookState::NotRun && !left.is_zero());
    if let Some((spec, handler)) = spec.and_then(|spec| Some((spec, pre_stop(spec)?))) {
        let check = question::hook_action(pod, spec, handler);
        let (container, timeout) = (container.container.clone(), unsigned(left));
        plan.actions.push(Action::RunHook { container, hook: Hook::PreStop, check, timeout });
        return plan.wake(kill_at);
    }
    if hook == HookState::Running && !left.is_zero() {
        return plan.wake(kill_at);
    }
    plan.actions.push(signal(container, pod, name, left.max(GRACE_MIN.min(grace))));
}

fn signal(container: &crate::action::Container, pod: &PodState, name: &str, left: SignedDuration) -> Action {
    let lifecycle = pod.container_spec(name).and_then(|c| c.lifecycle.as_ref());
    let signal = lifecycle.and_then(|l| l.stop_signal.clone());
    Action::StopContainer { container: container.container.clone(), signal, grace: unsigned(left) }
}

fn unsigned(duration: SignedDuration) -> Duration {
    Duration::try_from(duration).unwrap_or_default()
}
