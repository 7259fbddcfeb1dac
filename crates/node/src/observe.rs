//! What the machine said, put into the pods' states, with the events that tell users about it.
//!
//! Guarantees: every observation is about its attempt; a late one about an earlier attempt changes nothing of the newest. An
//! action that failed is tried again later, never dropped, unless the thing it names is gone.

use std::sync::Arc;

use jiff::Timestamp;

use crate::action::{
    Action, Container, ContainerRef, ContainerState, Failure, Hook, Image, Observation, ProbeKind, ProbeResult, Reason,
    Resources, Sandbox, SandboxState,
};
use crate::agent::{NodeAgent, image_id};
use crate::event::Note;
use crate::image;
use crate::limits;
use crate::state::{BACKOFF_FIRST, BACKOFF_MAX, Busy, HookState, ImageWait, PodState, Retry, Run};

impl NodeAgent {
    pub(crate) fn observed(&mut self, now: Timestamp, observation: Observation) {
        match observation {
            Observation::Image { image, found } => self.image_answered(now, &image, found.map(Arc::new)),
            Observation::PullProgress { .. } | Observation::ImageRemoved { .. } => {}
            Observation::Sandbox(sandbox) => self.sandbox_made(sandbox),
            Observation::Volumes { pod } => self.with_pod(&pod, |state| {
                state.busy.remove(&Busy::Volumes);
                state.volumes = state.volumes_asked.clone();
                state.volumes_retry = None;
            }),
            Observation::SandboxStopped { pod } => self.with_pod(&pod, stopped),
            Observation::PodRemoved { pod } => self.pod_removed(&pod),
            Observation::Container(container) => self.container_answered(now, container),
            Observation::Exited(container) => self.container_ended(now, container),
            Observation::Resized { container, resources } => self.resized(&container, &resources),
            Observation::ContainerRemoved { container } => self.container_removed(&container),
            Observation::Probed { container, kind, result, at } => self.probed(now, &container, kind, &result, at),
            Observation::HookDone { container, hook, result, .. } => self.hook_done(now, &container, hook, result),
            Observation::Disk(room) => self.disk_seen(now, &room),
            Observation::PodsOnDisk(found) => self.evict_for_disk(now, &found),
            Observation::PodEmptied { pod } => self.with_pod(&pod, |state| {
                state.busy.remove(&Busy::EmptyPod);
                state.is_emptied = true;
            }),
            Observation::DirectoryDeleted { path } => self.directory_deleted(&path),
            Observation::Failed { action, failure, at: _ } => self.failed(now, *action, failure),
        }
    }

    fn with_pod(&mut self, uid: &str, change: impl FnOnce(&mut PodState)) {
        if let Some(state) = self.pods.get_mut(uid) {
            change(state);
            self.dirty.insert(uid.to_owned());
        }
    }

    fn sandbox_made(&mut self, sandbox: Sandbox) {
        let uid = sandbox.pod.uid.clone();
        self.with_pod(&uid, |state| {
            state.busy.remove(&Busy::Sandbox);
            state.sandbox = Some(sandbox);
            state.sandbox_retry = None;
            state.volumes = None;
            state.volumes_asked = None;
            state.is_torn_down = false;
            // What ended with the earlier sandbox was not the containers' fault: no back-off for a reboot.
            for run in state.runs.values_mut() {
                run.restarts = 0;
                run.restart_at = None;
            }
        });
    }

    fn pod_removed(&mut self, uid: &str) {
        let Some(state) = self.pods.get_mut(uid) else { return };
        state.busy.remove(&Busy::RemovePod);
        state.sandbox = None;
        state.containers.clear();
        if state.object.is_none() {
            self.forget(uid);
        } else {
            self.dirty.insert(uid.to_owned());
        }
    }

    /// The answer to an action about a container.
    fn container_answered(&mut self, now: Timestamp, container: Container) {
        let reference = container.container.clone();
        let Some(state) = self.state_by_container(&reference) else { return };
        let was_start = state.busy.remove(&Busy::Start(reference.name.clone()));
        if was_start {
            state.run(&reference.name).failed_start = None;
        } else if matches!(container.state, ContainerState::Running { .. }) {
            // It outlived its stop: stop it again.
            state.run(&reference.name).stop = None;
        }
        let is_ended = matches!(container.state, ContainerState::Exited(_));
        state.put(container, now);
        if was_start {
            self.tell(&reference.pod, &Note::normal("Created", "Container created").of(&reference.name), now);
            self.tell(&reference.pod, &Note::normal("Started", "Container started").of(&reference.name), now);
        }
        if is_ended {
            self.tell_backoff(now, &reference);
        }
    }

    fn container_ended(&mut self, now: Timestamp, container: Container) {
        let reference = container.container.clone();
        let Some(state) = self.state_by_container(&reference) else { return };
        state.put(container, now);
        self.tell_backoff(now, &reference);
    }

    /// A container that ended and has to wait before it starts again.
    fn tell_backoff(&mut self, now: Timestamp, container: &ContainerRef) {
        let Some(state) = self.pods.get(&container.pod) else { return };
        let (Some(typed), name) = (&state.spec, &container.name) else { return };
        let waits = state.runs.get(name).and_then(|r| r.restart_at).is_some_and(|at| at > now);
        let is_newest = state.newest(name).is_some_and(|n| n.container.attempt == container.attempt);
        let is_wanted = crate::pod::will_restart(state, typed, name);
        let goes_on = state.object.as_ref().is_some_and(|o| !o.meta.is_deleting());
        if !(waits && is_newest && goes_on && is_wanted) || crate::pod::outcome(state, typed, now).is_some() {
            return;
        }
        let text = format!("Back-off restarting failed container {name} in pod {}", state.full_name());
        self.tell(&container.pod, &Note::warning("BackOff", text).of(name), now);
    }

    fn container_removed(&mut self, container: &ContainerRef) {
        let Some(state) = self.state_by_container(container) else { return };
        state.busy.remove(&Busy::Remove(container.clone()));
        if let Some(all) = state.containers.get_mut(&container.name) {
            all.remove(&container.attempt);
        }
    }

    /// A container has other limits; another change may have been granted since.
    fn resized(&mut self, container: &ContainerRef, resources: &Resources) {
        let Some(state) = self.state_by_container(container) else { return };
        state.busy.remove(&Busy::Resize(container.name.clone()));
        let granted = state.container_spec(&container.name).and_then(|c| c.resources.clone());
        let Some(run) = self.newest_run(container) else { return };
        run.resize_retry = None;
        if limits::resources(granted.as_ref()) == *resources {
            run.applied = Some(granted.unwrap_or_default());
        }
    }

    /// The run of a container, if the attempt is still its newest.
    fn newest_run(&mut self, container: &ContainerRef) -> Option<&mut Run> {
        let state = self.state_by_container(container)?;
        let is_newest = state.newest(&container.name).is_some_and(|n| n.container.attempt == container.attempt);
        if is_newest { Some(state.run(&container.name)) } else { None }
    }

    fn probed(
        &mut self,
        now: Timestamp,
        container: &ContainerRef,
        kind: ProbeKind,
        result: &ProbeResult,
        at: Timestamp,
    ) {
        let Some(spec) = self.pods.get(&container.pod).and_then(|s| s.container_spec(&container.name)).cloned() else {
            return;
        };
        let Some(run) = self.newest_run(container) else { return };
        if let Some(note) = run.probes.answered(&spec, kind, result, at.min(now)) {
            self.tell(&container.pod, &note, now);
        }
    }

    fn hook_done(&mut self, now: Timestamp, container: &ContainerRef, hook: Hook, result: Result<(), String>) {
        let Some(run) = self.newest_run(container) else { return };
        let note = match (hook, result) {
            (Hook::PostStart, result) => {
                run.post_start = HookState::Done;
                result.err().map(|_| {
                    run.must_restart = Some("FailedPostStartHook".into());
                    Note::warning("FailedPostStartHook", "PostStartHook failed")
                })
            }
            (Hook::PreStop, result) => {
                run.pre_stop = HookState::Done;
                result.err().map(|_| Note::warning("FailedPreStopHook", "PreStopHook failed"))
            }
        };
        if let Some(note) = note {
            self.tell(&container.pod, &note.of(&container.name), now);
        }
    }

    /// An image was looked for or pulled.
    fn image_answered(&mut self, now: Timestamp, name: &str, found: Option<Arc<Image>>) {
        let Some(op) = self.images.remove(name) else { return };
        self.dirty.extend(op.others);
        if let Some(image) = &found {
            self.image_ids.insert(image.id.clone(), image_id(image));
        }
        for (uid, container) in op.waiters {
            let Some(state) = self.pods.get_mut(&uid) else { continue };
            self.dirty.insert(uid.clone());
            let spec = state.container_spec(&container).cloned().unwrap_or_default();
            let run = state.run(&container);
            let note = match &found {
                Some(image) => {
                    run.image = ImageWait::Found(Arc::clone(image));
                    run.image_retry = None;
                    state.image_ids.insert(image.id.clone(), image_id(image));
                    Some(Note::normal("Pulled", pulled(name, image, op.is_pull.then_some(op.since), now)))
                }
                None if image::policy(&spec) == "Never" => {
                    let text = format!("Container image \"{name}\" is not present with pull policy of Never");
                    let failure = Failure { reason: Reason::ErrImageNeverPull, message: text.clone() };
                    fail_image(run, failure, now);
                    Some(Note::warning("ErrImageNeverPull", text))
                }
                None => {
                    run.image = ImageWait::Missing;
                    None
                }
            };
            if let Some(note) = note {
                self.tell(&uid, &note.of(&container), now);
            }
        }
    }

    fn image_failed(&mut self, now: Timestamp, name: &str, failure: &Failure) {
        let Some(op) = self.images.remove(name) else { return };
        self.dirty.extend(op.others);
        for (uid, container) in op.waiters {
            let Some(state) = self.pods.get_mut(&uid) else { continue };
            self.dirty.insert(uid.clone());
            let is_first = state.run(&container).image_retry.is_none();
            fail_image(state.run(&container), failure.clone(), now);
            let reason = failure.reason.as_str();
            let failed = format!("Failed to pull image \"{name}\": {}", failure.message);
            for note in [Note::warning("Failed", failed), Note::warning("Failed", format!("Error: {reason}"))] {
                self.tell(&uid, &note.of(&container), now);
            }
            if is_first || op.is_pull {
                let text = format!("Back-off pulling image \"{name}\"");
                self.tell(&uid, &Note::normal("BackOff", text).of(&container), now);
                self.tell(&uid, &Note::warning("Failed", "Error: ImagePullBackOff").of(&container), now);
            }
        }
    }

    /// An action could not be performed.
    fn failed(&mut self, now: Timestamp, action: Action, failure: Failure) {
        match action {
            Action::FindImage { image } | Action::PullImage { image, .. } => self.image_failed(now, &image, &failure),
            Action::RemoveImage { .. } => self.image_not_removed(now, &failure),
            Action::LookAtDisk => self.disk.lost(now),
            // The next look asks again.
            Action::MeasurePods { .. } => {}
            Action::EmptyPod { pod } => self.with_pod(&pod, |state| {
                state.busy.remove(&Busy::EmptyPod);
                state.cleanup_retry = Some(Retry::of_machine(state.cleanup_retry.as_ref(), failure, now));
            }),
            Action::EnsureSandbox(spec) => {
                let text = failure.message.clone();
                self.with_pod(&spec.pod.uid, |state| {
                    state.busy.remove(&Busy::Sandbox);
                    state.sandbox_retry = Some(Retry::of_machine(state.sandbox_retry.as_ref(), failure, now));
                });
                self.tell(&spec.pod.uid, &Note::warning("FailedCreatePodSandBox", text), now);
            }
            Action::EnsureVolumes { pod, .. } => {
                let text = failure.message.clone();
                self.with_pod(&pod, |state| {
                    state.busy.remove(&Busy::Volumes);
                    lose_sandbox(state, &failure);
                    state.volumes_retry = Some(Retry::of_machine(state.volumes_retry.as_ref(), failure, now));
                });
                self.tell(&pod, &Note::warning("FailedMount", text), now);
            }
            Action::StopSandbox { pod } if failure.reason == Reason::NotFound => self.with_pod(&pod, stopped),
            Action::RemovePod { pod } if failure.reason == Reason::NotFound => self.pod_removed(&pod),
            Action::StopSandbox { pod } | Action::RemovePod { pod } => {
                let text = failure.message.clone();
                self.with_pod(&pod, |state| {
                    state.busy.remove(&Busy::StopSandbox);
                    state.busy.remove(&Busy::RemovePod);
                    state.cleanup_retry = Some(Retry::of_machine(state.cleanup_retry.as_ref(), failure, now));
                });
                self.tell(&pod, &Note::warning("FailedKillPod", text), now);
            }
            Action::EnsureContainer(spec) => self.start_failed(now, &spec.container, failure),
            Action::StopContainer { container, .. } => self.stop_failed(now, &container, failure),
            Action::RemoveContainer { container } => self.container_removed(&container),
            Action::ResizeContainer { container, .. } => {
                if let Some(state) = self.state_by_container(&container) {
                    state.busy.remove(&Busy::Resize(container.name.clone()));
                    let run = state.run(&container.name);
                    run.resize_retry = Some(Retry::of_machine(run.resize_retry.as_ref(), failure, now));
                }
            }
            Action::Probe { container, kind, .. } => {
                let spec = self.pods.get(&container.pod).and_then(|s| s.container_spec(&container.name)).cloned();
                if let (Some(spec), Some(run)) = (spec, self.newest_run(&container)) {
                    run.probes.lost(&spec, kind, now);
                }
            }
            Action::RunHook { container, hook, .. } => self.hook_done(now, &container, hook, Err(failure.message)),
            Action::DeleteDirectory { path } => self.directory_not_deleted(now, &path, failure),
        }
    }

    fn start_failed(&mut self, now: Timestamp, container: &ContainerRef, failure: Failure) {
        let text = format!("Error: {}", failure.message);
        let Some(state) = self.state_by_container(container) else { return };
        state.busy.remove(&Busy::Start(container.name.clone()));
        lose_sandbox(state, &failure);
        let run = state.run(&container.name);
        run.image = ImageWait::Unasked;
        let earlier = run.failed_start.take();
        let retry = Retry::after(earlier.as_ref(), failure, now, BACKOFF_FIRST, BACKOFF_MAX);
        run.failed_start = Some(retry.clone());
        run.start_retry = Some(retry);
        self.tell(&container.pod, &Note::warning("Failed", text).of(&container.name), now);
    }

    fn stop_failed(&mut self, now: Timestamp, container: &ContainerRef, failure: Failure) {
        let is_gone = failure.reason == Reason::NotFound;
        let Some(state) = self.state_by_container(container) else { return };
        if is_gone {
            if let Some(all) = state.containers.get_mut(&container.name) {
                all.remove(&container.attempt);
            }
            return;
        }
        let retry = Retry::of_machine(None, failure, now);
        if let Some(stop) = &mut state.run(&container.name).stop {
            stop.retry_at = Some(retry.at);
        }
    }
}

/// Namespaces and mounts are gone.
fn stopped(state: &mut PodState) {
    state.busy.remove(&Busy::StopSandbox);
    state.cleanup_retry = None;
    state.sandbox_retry = None;
    state.is_torn_down = true;
    state.volumes = None;
    state.volumes_asked = None;
    if let Some(sandbox) = &mut state.sandbox {
        sandbox.state = SandboxState::NotReady;
    }
}

/// The machine does not know the pod: its sandbox has to be made anew.
fn lose_sandbox(state: &mut PodState, failure: &Failure) {
    if let (Reason::NotFound, Some(sandbox)) = (failure.reason, &mut state.sandbox) {
        sandbox.state = SandboxState::NotReady;
        state.volumes = None;
        state.volumes_asked = None;
    }
}

fn fail_image(run: &mut Run, failure: Failure, now: Timestamp) {
    run.image = ImageWait::Unasked;
    run.image_retry = Some(Retry::after(run.image_retry.as_ref(), failure, now, BACKOFF_FIRST, BACKOFF_MAX));
}

fn pulled(name: &str, image: &Image, since: Option<Timestamp>, now: Timestamp) -> String {
    match since {
        Some(since) => {
            let took = format!("{:.3}s", now.duration_since(since).as_secs_f64());
            let size = image.size_bytes;
            format!(
                "Successfully pulled image \"{name}\" in {took} ({took} including waiting). Image size: {size} bytes."
            )
        }
        None => format!("Container image \"{name}\" already present on machine and can be accessed by the pod"),
    }
}
