//! What to do next for one pod: the wish of the API server against what is on the machine.
//!
//! Guarantees: level, not edge: the plan depends on the pod's state, the snapshot and now alone, so it is the same after a lost
//! memory. Init containers run one by one; a sidecar holds up what follows until it has started (SC-01, SC-02); main containers
//! start in their order, a postStart hook holding up the later ones. Nothing starts while an earlier pod of the same name is
//! on this machine. A container that may not start yet says why in `waiting`.
//! Upstream: `computePodActions` of the kubelet; the end of a pod is in stop.rs.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{self as core, Pod, PodSpec};

use crate::action::{Action, Container, ContainerState, Exit, Hook, SandboxState};
use crate::container;
use crate::event::Note;
use crate::facts::{is_sidecar, post_start};
use crate::files;
use crate::image;
use crate::limits;
use crate::plan::{Around, ImageWant, Plan};
use crate::question;
use crate::resize;
use crate::state::{Busy, EVICTED, HookState, ImageWait, Outcome, PodState, Run, Waiting};
use crate::stop;
use crate::volume;

/// Ended attempts kept per container beside the newest: what `kubectl logs --previous` reads.
const ENDED_KEPT: usize = 1;
/// A failed pull is shown as ErrImagePull for this long before it is ImagePullBackOff.
const ERROR_SHOWN: SignedDuration = SignedDuration::from_secs(2);

/// The next actions of one pod.
pub fn plan_pod(pod: &PodState, around: &Around, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if pod.busy.contains(&Busy::RemovePod) {
        return plan;
    }
    match (&pod.object, &pod.spec) {
        (Some(_), _) if pod.is_fenced || pod.shutdown_at.is_some() => stop::end(pod, now, &mut plan),
        (Some(object), Some(typed)) if !object.meta.is_deleting() => match (outcome(pod, typed, now), &typed.spec) {
            (None, Some(spec)) => Running { pod, typed, spec, around, now }.plan(&mut plan),
            (Some(_), _) | (_, None) => stop::end(pod, now, &mut plan),
        },
        (Some(_), _) => stop::end(pod, now, &mut plan),
        (None, _) => stop::remove(pod, now, &mut plan),
    }
    plan
}

/// How the pod ended, if it did.
pub fn outcome(pod: &PodState, typed: &Pod, now: Timestamp) -> Option<Outcome> {
    let spec = typed.spec.as_ref()?;
    let status = typed.status.as_ref();
    let settled = |phase| {
        let (reason, message) = status.map(|s| (s.reason.clone(), s.message.clone())).unwrap_or_default();
        Some(Outcome { phase, reason, message })
    };
    match status.and_then(|s| s.phase.as_deref()) {
        Some("Succeeded") => return settled("Succeeded"),
        Some("Failed") => return settled("Failed"),
        _ => {}
    }
    if let Some(why) = &pod.rejected {
        let message = format!("Pod was rejected: {}", why.message);
        return Some(Outcome { phase: "Failed", reason: Some(why.reason.clone()), message: Some(message) });
    }
    if let Some(message) = &pod.evicted {
        return Some(Outcome { phase: "Failed", reason: Some(EVICTED.into()), message: Some(message.clone()) });
    }
    if deadline(pod, typed).is_some_and(|at| now >= at) {
        let message = "Pod was active on the node longer than the specified deadline";
        return Some(Outcome {
            phase: "Failed",
            reason: Some("DeadlineExceeded".into()),
            message: Some(message.into()),
        });
    }
    let failed_init = spec.init_containers.iter().flatten().filter(|c| !is_sidecar(c)).any(|c| {
        let is_failed = exit_of(pod, &c.name).is_some_and(|exit| exit.code != 0 && !restarts_init(spec, c, exit));
        is_failed && !is_initialized(pod, spec)
    });
    if failed_init {
        return Some(Outcome { phase: "Failed", reason: None, message: None });
    }
    let ends: Option<Vec<&Exit>> = spec
        .containers
        .iter()
        .map(|c| exit_of(pod, &c.name).filter(|exit| !restarts(spec, c, exit) && !pod.busy.contains(&start_of(c))))
        .collect();
    let phase = if ends?.iter().all(|exit| exit.code == 0) { "Succeeded" } else { "Failed" };
    Some(Outcome { phase, reason: None, message: None })
}

/// When `activeDeadlineSeconds` ends the pod.
fn deadline(pod: &PodState, typed: &Pod) -> Option<Timestamp> {
    let seconds = typed.spec.as_ref()?.active_deadline_seconds?;
    let start = typed.status.as_ref().and_then(|s| s.start_time.as_ref()).map_or(pod.seen_at, |t| t.0);
    Some(start + SignedDuration::from_secs(seconds))
}

fn start_of(container: &core::Container) -> Busy {
    Busy::Start(container.name.clone())
}

/// The end of the newest attempt, in whatever sandbox it ran.
fn exit_of<'a>(pod: &'a PodState, name: &str) -> Option<&'a Exit> {
    match &pod.newest(name)?.state {
        ContainerState::Exited(exit) => Some(exit),
        ContainerState::Running { .. } => None,
    }
}

/// Main containers have begun in this sandbox: init containers are not run again.
pub fn is_initialized(pod: &PodState, spec: &PodSpec) -> bool {
    spec.containers.iter().any(|c| pod.current(&c.name).is_some() || pod.busy.contains(&start_of(c)))
}

/// Whether a main container that ended so is started again (SC-07 included).
fn restarts(spec: &PodSpec, container: &core::Container, exit: &Exit) -> bool {
    let by_rule = container.restart_policy_rules.iter().flatten().any(|rule| {
        let Some(codes) = &rule.exit_codes else { return false };
        let is_listed = codes.values.iter().flatten().any(|code| *code == exit.code);
        rule.action == "Restart" && is_listed == (codes.operator == "In")
    });
    let policy = container.restart_policy.as_deref().or(spec.restart_policy.as_deref()).unwrap_or("Always");
    by_rule
        || match policy {
            "Never" => false,
            "OnFailure" => exit.code != 0,
            _ => true,
        }
}

/// Whether a container that has ended is to be started again.
pub fn will_restart(pod: &PodState, typed: &Pod, name: &str) -> bool {
    let (Some(spec), Some(exit)) = (&typed.spec, exit_of(pod, name)) else { return false };
    let init = spec.init_containers.iter().flatten().find(|c| c.name == name);
    match (init, spec.containers.iter().find(|c| c.name == name)) {
        (Some(sidecar), _) if is_sidecar(sidecar) => true,
        (Some(init), _) => exit.code != 0 && restarts_init(spec, init, exit),
        (None, Some(main)) => restarts(spec, main, exit),
        (None, None) => false,
    }
}

/// Whether an init container that failed so is started again: only Never says no.
fn restarts_init(spec: &PodSpec, container: &core::Container, exit: &Exit) -> bool {
    let own = container.restart_policy.as_deref().or(spec.restart_policy.as_deref());
    own != Some("Never") || restarts(spec, container, exit)
}

/// A pod that is to run.
struct Running<'a> {
    pod: &'a PodState,
    typed: &'a Pod,
    spec: &'a PodSpec,
    around: &'a Around<'a>,
    now: Timestamp,
}

impl<'a> Running<'a> {
    fn plan(&self, plan: &mut Plan) {
        if let Some(at) = deadline(self.pod, self.typed) {
            plan.wake(at);
        }
        if self.around.is_name_taken {
            return;
        }
        let mut next = self.next_starts();
        // Whatever stage the pod is in: they are there to look into it.
        next.extend(self.pod.ephemeral.iter().filter(|c| !self.pod.was_started(&c.name)));
        for container in &next {
            self.want_image(container, plan);
        }
        let is_mounted = self.sandbox_and_volumes(plan);
        for container in next {
            self.start(container, is_mounted, plan);
        }
        if is_mounted {
            self.keep(plan);
        }
        self.collect_garbage(plan);
    }

    /// The sandbox and the volumes, in this order; true when containers can start.
    fn sandbox_and_volumes(&self, plan: &mut Plan) -> bool {
        let pod = self.pod;
        let wanted = match volume::resolve(self.typed, self.around, self.now, &mut plan.tokens) {
            Ok(volumes) => Some(volumes),
            Err(volume::Unready::Token) => None,
            Err(volume::Unready::Problem(problem)) => {
                plan.mount_problem = Some(problem);
                None
            }
        };
        if let Some(at) = volume::refresh_at(self.typed, self.around, self.now) {
            plan.wake(at);
        }
        if !pod.is_sandbox_ready() {
            // Its namespaces are gone under it: what still runs belongs to nothing.
            if pod.is_any_running() {
                if !pod.busy.contains(&Busy::StopSandbox) && !self.waits(pod.cleanup_retry.as_ref(), plan) {
                    plan.actions.push(Action::StopSandbox { pod: pod.pod.uid.clone() });
                }
                return false;
            }
            if wanted.is_some() && !self.waits(pod.sandbox_retry.as_ref(), plan) && !pod.busy.contains(&Busy::Sandbox) {
                self.ensure_sandbox(plan);
            }
            return false;
        }
        if let Some(volumes) = wanted {
            let is_new = pod.volumes_asked.as_ref() != Some(&volumes) || pod.volumes_retry.is_some();
            if is_new && !self.waits(pod.volumes_retry.as_ref(), plan) && !pod.busy.contains(&Busy::Volumes) {
                plan.actions.push(Action::EnsureVolumes { pod: pod.pod.uid.clone(), volumes });
            }
        }
        pod.volumes.is_some()
    }

    fn waits(&self, retry: Option<&crate::state::Retry>, plan: &mut Plan) -> bool {
        match retry {
            Some(retry) if self.now < retry.at => {
                plan.wake(retry.at);
                true
            }
            Some(_) | None => false,
        }
    }

    fn ensure_sandbox(&self, plan: &mut Plan) {
        let attempt = match &self.pod.sandbox {
            None => 0,
            Some(sandbox) => {
                if sandbox.state == SandboxState::NotReady && !self.pod.containers.is_empty() {
                    let message = "Pod sandbox changed, it will be killed and re-created.";
                    plan.notes.push(Note::normal("SandboxChanged", message));
                }
                sandbox.attempt + 1
            }
        };
        let spec = files::sandbox(self.pod, self.typed, self.spec, self.around.config, attempt);
        plan.actions.push(Action::EnsureSandbox(Box::new(spec)));
    }

    /// The containers that should run and do not, in order.
    fn next_starts(&self) -> Vec<&'a core::Container> {
        let (pod, spec) = (self.pod, self.spec);
        let is_initialized = is_initialized(pod, spec);
        let mut next = Vec::new();
        for container in spec.init_containers.iter().flatten() {
            let is_passed = match pod.current(&container.name).map(|c| &c.state) {
                None if is_initialized && !is_sidecar(container) => true,
                None => {
                    next.push(container);
                    false
                }
                Some(ContainerState::Running { .. }) => is_sidecar(container) && self.has_started(container),
                Some(ContainerState::Exited(exit)) if !is_sidecar(container) && (exit.code == 0 || is_initialized) => {
                    true
                }
                Some(ContainerState::Exited(_)) => {
                    next.push(container);
                    false
                }
            };
            if !is_passed && !is_initialized {
                return next;
            }
        }
        for container in &spec.containers {
            let exit = exit_of(pod, &container.name);
            if !pod.is_running(&container.name) && exit.is_none_or(|exit| restarts(spec, container, exit)) {
                next.push(container);
            }
            if post_start(container).is_some() && !self.is_post_start_done(container) {
                break;
            }
        }
        next
    }

    fn is_post_start_done(&self, container: &core::Container) -> bool {
        let is_done = self.pod.runs.get(&container.name).is_some_and(|run| run.post_start == HookState::Done);
        is_done || exit_of(self.pod, &container.name).is_some()
    }

    /// A sidecar lets the next container go when its hook is done and its startup probe has succeeded.
    fn has_started(&self, container: &core::Container) -> bool {
        let hook_done = post_start(container).is_none() || self.is_post_start_done(container);
        hook_done && self.pod.runs.get(&container.name).is_some_and(|run| run.probes.has_started(container))
    }

    /// Finds or pulls the image of a container that is to start (imagePullPolicy).
    fn want_image(&self, container: &core::Container, plan: &mut Plan) {
        let run = self.pod.runs.get(&container.name);
        if self.pod.busy.contains(&start_of(container))
            || run.and_then(|r| r.restart_at).is_some_and(|at| at > self.now)
        {
            return;
        }
        let image = container.image.clone().unwrap_or_default();
        let is_asked = run.is_some_and(|r| !matches!(r.image, ImageWait::Unasked | ImageWait::Missing));
        if is_asked {
            return;
        }
        if let Some(retry) = run.and_then(|r| r.image_retry.as_ref()).filter(|retry| self.now < retry.at) {
            plan.waiting.insert(container.name.clone(), image::waiting(&image, retry, self.now, ERROR_SHOWN));
            plan.wake(retry.at);
            if self.now < retry.since + ERROR_SHOWN {
                plan.wake(retry.since + ERROR_SHOWN);
            }
            return;
        }
        let is_missing = run.is_some_and(|r| r.image == ImageWait::Missing);
        let is_pull = is_missing || image::policy(container) == "Always";
        let credentials = if is_pull { image::credentials(self.typed, &image, self.around.snapshot) } else { None };
        plan.images.push(ImageWant { container: container.name.clone(), image, is_pull, credentials });
    }

    /// Starts a container, or says why it waits.
    fn start(&self, container: &core::Container, is_mounted: bool, plan: &mut Plan) {
        let pod = self.pod;
        let Some(run) = pod.runs.get(&container.name) else { return };
        if pod.busy.contains(&start_of(container)) {
            return;
        }
        if let Some(at) = run.restart_at.filter(|at| self.now < *at) {
            plan.waiting.insert(container.name.clone(), crash_loop(pod, container, run.restarts));
            plan.wake(at);
            return;
        }
        let Some(image) = run.image_found().filter(|_| is_mounted) else { return };
        if let Some(retry) = run.start_retry.as_ref().filter(|retry| self.now < retry.at) {
            let failure = &retry.failure;
            let waiting = Waiting { reason: failure.reason.as_str().into(), message: Some(failure.message.clone()) };
            plan.waiting.insert(container.name.clone(), waiting);
            plan.wake(retry.at);
            return;
        }
        match container::spec(pod, self.typed, container, image, self.around) {
            Ok(spec) => plan.actions.push(Action::EnsureContainer(Box::new(spec))),
            Err(message) => {
                let waiting = Waiting { reason: "CreateContainerConfigError".into(), message: Some(message) };
                plan.waiting.insert(container.name.clone(), waiting);
            }
        }
    }

    /// Hooks, probes and restarts of what runs.
    fn keep(&self, plan: &mut Plan) {
        for container in self.spec.init_containers.iter().flatten().chain(&self.spec.containers) {
            let Some(current) = self.pod.current(&container.name) else { continue };
            let ContainerState::Running { started_at } = &current.state else { continue };
            let Some(run) = self.pod.runs.get(&container.name) else { continue };
            if let Some(why) = self.restart_reason(container) {
                stop::restart(self.pod, self.spec, container, &why, self.now, plan);
                continue;
            }
            self.resize(container, current, run, plan);
            if let (Some(handler), HookState::NotRun) = (post_start(container), run.post_start) {
                let check = question::hook_action(self.pod, container, handler);
                let (hook, timeout) = (Hook::PostStart, question::HOOK_TIMEOUT);
                plan.actions.push(Action::RunHook { container: current.container.clone(), hook, check, timeout });
            }
            question::ask_due(self.pod, container, current, *started_at, self.now, plan);
        }
    }

    /// Makes the resources true that were granted since the container started.
    fn resize(&self, container: &core::Container, current: &Container, run: &Run, plan: &mut Plan) {
        let granted = container.resources.clone().unwrap_or_default();
        let is_due = run.applied.as_ref().is_some_and(|applied| *applied != granted);
        let is_busy = self.pod.busy.contains(&Busy::Resize(container.name.clone()));
        if is_due && !is_busy && !self.waits(run.resize_retry.as_ref(), plan) {
            plan.actions.push(Action::ResizeContainer {
                container: current.container.clone(),
                resources: limits::resources(Some(&granted)),
                pod_resources: limits::pod_resources(self.spec),
            });
        }
    }

    /// Why a running container must be restarted, as the Killing event says it.
    fn restart_reason(&self, container: &core::Container) -> Option<String> {
        let run = self.pod.runs.get(&container.name)?;
        let name = &container.name;
        if let Some(why) = &run.must_restart {
            return Some(why.clone());
        }
        if let Some(kind) = run.probes.failed(container) {
            return Some(format!("Container {name} failed {kind} probe, will be restarted"));
        }
        if run.applied.as_ref().is_some_and(|applied| resize::needs_restart(container, applied)) {
            return Some(format!("Container {name} resize requires restart"));
        }
        let is_changed = run.started_image.is_some() && run.started_image != container.image;
        is_changed.then(|| format!("Container {name} definition changed, will be restarted"))
    }

    /// Removes ended attempts beyond the one that `logs --previous` reads.
    fn collect_garbage(&self, plan: &mut Plan) {
        for all in self.pod.containers.values() {
            for old in all.values().rev().skip(1 + ENDED_KEPT) {
                let is_ended = matches!(old.state, ContainerState::Exited(_));
                if is_ended && !self.pod.busy.contains(&Busy::Remove(old.container.clone())) {
                    plan.actions.push(Action::RemoveContainer { container: old.container.clone() });
                }
            }
        }
    }
}

fn crash_loop(pod: &PodState, container: &core::Container, restarts: u32) -> Waiting {
    let wait = go_duration(crate::state::backoff(restarts).as_secs());
    let message = format!("back-off {wait} restarting failed container={} pod={}", container.name, pod.full_name());
    Waiting { reason: "CrashLoopBackOff".into(), message: Some(message) }
}

/// Seconds as Go prints a duration: `10s`, `2m40s`, `5m0s`.
pub fn go_duration(seconds: i64) -> String {
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}
