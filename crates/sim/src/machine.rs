//! A machine with faults: the fake machine of the node crate, whose actions take time and fail, and whose containers end.
//!
//! Contract: that of `stead_node::action`: one observation per action, `Exited` once per end. Only the times and the failures are
//! ours. Containers named `init` end by themselves, as init containers do.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use jiff::{SignedDuration, Timestamp};
use stead_node::action::{Action, ContainerRef, Failure, Observation, ProbeResult, Reason};
use stead_node::machine::FakeMachine;

use crate::chance::Chance;

pub struct Machine {
    pub fake: FakeMachine,
    /// Rises with every reboot.
    pub boot: u64,
}

/// What performing an action brought about.
pub struct Effects {
    pub observation: Observation,
    /// Ends that are told unasked.
    pub exits: Vec<Observation>,
    /// A container that was started, to end by itself later.
    pub ends: Option<(ContainerRef, SignedDuration, i32)>,
}

impl Machine {
    pub fn new(network: Ipv4Addr) -> Machine {
        let mut fake = FakeMachine::new(network);
        fake.images = Some(BTreeSet::new());
        Machine { fake, boot: 0 }
    }

    pub fn running(&self) -> BTreeSet<ContainerRef> {
        self.fake.running().map(|c| c.container.clone()).collect()
    }

    /// How long an action takes until it takes effect.
    pub fn duration(action: &Action, faults: bool, chance: &mut Chance) -> SignedDuration {
        match action {
            Action::StopContainer { grace, .. } => {
                let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX).min(60_000);
                // Most programs end at the signal, some only when they are killed.
                if chance.percent(if faults { 30 } else { 5 }) {
                    SignedDuration::from_millis(grace as i64)
                } else {
                    chance.millis(1, 300).min(SignedDuration::from_millis(grace as i64))
                }
            }
            Action::PullImage { .. } => chance.millis(20, if faults { 4000 } else { 400 }),
            _ if faults && chance.percent(3) => chance.millis(500, 8000),
            _ => chance.micros(200, 60_000),
        }
    }

    /// Performs an action now.
    pub fn perform(&mut self, action: Action, now: Timestamp, faults: bool, chance: &mut Chance) -> Effects {
        let before = self.running();
        if faults && chance.percent(4) {
            let observation = failure_of(action, now, chance);
            return Effects { observation, exits: Vec::new(), ends: None };
        }
        let observation = self.fake.perform(action, now);
        let after = self.running();
        let exits = before.difference(&after).filter_map(|c| self.fake.containers.get(c).cloned());
        let exits = exits.map(Observation::Exited).collect();
        let started = after.difference(&before).next().cloned();
        let ends = started.and_then(|container| end_of(container, faults, chance));
        Effects { observation, exits, ends }
    }

    /// The power fails and comes back.
    pub fn reboot(&mut self, now: Timestamp) {
        self.boot += 1;
        self.fake.reboot(now);
    }
}

fn end_of(container: ContainerRef, faults: bool, chance: &mut Chance) -> Option<(ContainerRef, SignedDuration, i32)> {
    if container.name == "init" {
        let code = i32::from(faults && chance.percent(20));
        return Some((container, chance.millis(10, 500), code));
    }
    if !faults || !chance.percent(15) {
        return None;
    }
    let code = *chance.pick(&[0, 1, 137]).unwrap_or(&1);
    Some((container, chance.millis(1, 40_000), code))
}

fn failure_of(action: Action, now: Timestamp, chance: &mut Chance) -> Observation {
    let reason = match &action {
        Action::Probe { container, kind, .. } => {
            let failure = ProbeResult::Failure("refused".into());
            let result = if chance.percent(20) { ProbeResult::Unknown("lost".into()) } else { failure };
            return Observation::Probed { container: container.clone(), kind: *kind, result, at: now };
        }
        Action::RunHook { container, hook, .. } => {
            let result = Err("the hook failed".into());
            return Observation::HookDone { container: container.clone(), hook: *hook, result, at: now };
        }
        Action::FindImage { .. } => Reason::ImageInspectError,
        Action::PullImage { .. } if chance.percent(50) => Reason::RegistryUnavailable,
        Action::PullImage { .. } => Reason::ErrImagePull,
        Action::EnsureSandbox(_) => Reason::FailedCreatePodSandBox,
        Action::EnsureVolumes { .. } => Reason::FailedMount,
        Action::EnsureContainer(_) if chance.percent(50) => Reason::CreateContainerError,
        Action::EnsureContainer(_) => Reason::RunContainerError,
        Action::StopContainer { .. } | Action::StopSandbox { .. } | Action::RemovePod { .. } => Reason::FailedKillPod,
        Action::RemoveImage { .. }
        | Action::RemoveContainer { .. }
        | Action::ResizeContainer { .. }
        | Action::DeleteDirectory { .. }
        | Action::MeasurePods { .. }
        | Action::EmptyPod { .. }
        | Action::LookAtDisk => Reason::FailedCleanup,
    };
    let failure = Failure { reason, message: "the machine failed".into() };
    Observation::Failed { action: Box::new(action), failure, at: now }
}

/// An action in a few words.
pub fn show(action: &Action) -> String {
    let of = |c: &ContainerRef| format!("{}/{}#{}", short(&c.pod), c.name, c.attempt);
    match action {
        Action::FindImage { image } => format!("find {image}"),
        Action::PullImage { image, .. } => format!("pull {image}"),
        Action::RemoveImage { image } => format!("remove image {image}"),
        Action::LookAtDisk => "look at the disk".into(),
        Action::MeasurePods { pods } => format!("measure {} pods", pods.len()),
        Action::ResizeContainer { container, .. } => format!("resize {}", of(container)),
        Action::EmptyPod { pod } => format!("empty pod {}", short(pod)),
        Action::EnsureSandbox(spec) => format!("sandbox {} {}#{}", spec.pod.name, short(&spec.pod.uid), spec.attempt),
        Action::EnsureVolumes { pod, .. } => format!("volumes {}", short(pod)),
        Action::StopSandbox { pod } => format!("stop sandbox {}", short(pod)),
        Action::RemovePod { pod } => format!("remove pod {}", short(pod)),
        Action::EnsureContainer(spec) => format!("start {}", of(&spec.container)),
        Action::StopContainer { container, grace, .. } => format!("stop {} grace={}", of(container), grace.as_secs()),
        Action::RemoveContainer { container } => format!("remove {}", of(container)),
        Action::Probe { container, kind, .. } => format!("probe {} {kind:?}", of(container)),
        Action::RunHook { container, hook, .. } => format!("hook {} {hook:?}", of(container)),
        Action::DeleteDirectory { path } => format!("delete {}", path.display()),
    }
}

/// An observation in a few words.
pub fn show_observation(observation: &Observation) -> String {
    match observation {
        Observation::Failed { action, failure, .. } => {
            format!("failed: {} ({})", show(action), failure.reason.as_str())
        }
        Observation::Container(c) => {
            format!("container {}/{}#{}", short(&c.container.pod), c.container.name, c.container.attempt)
        }
        Observation::Exited(c) => {
            format!("exited {}/{}#{}", short(&c.container.pod), c.container.name, c.container.attempt)
        }
        Observation::Sandbox(sandbox) => format!("sandbox {} {:?}", short(&sandbox.pod.uid), sandbox.state),
        Observation::SandboxStopped { pod } => format!("sandbox stopped {}", short(pod)),
        Observation::PodRemoved { pod } => format!("pod removed {}", short(pod)),
        Observation::Volumes { pod } => format!("volumes {}", short(pod)),
        Observation::Probed { container, kind, result, .. } => {
            format!("probed {}/{} {kind:?} {}", short(&container.pod), container.name, *result == ProbeResult::Success)
        }
        Observation::Image { image, found } => format!("image {image} {}", found.is_some()),
        Observation::HookDone { .. } => "hook done".into(),
        Observation::ContainerRemoved { .. } => "container removed".into(),
        Observation::Resized { .. } => "container resized".into(),
        Observation::ImageRemoved { .. }
        | Observation::PullProgress { .. }
        | Observation::DirectoryDeleted { .. }
        | Observation::PodsOnDisk(_)
        | Observation::PodEmptied { .. }
        | Observation::Disk(_) => "image or directory".into(),
    }
}

/// The beginning of a uid.
pub fn short(uid: &str) -> &str {
    uid.get(..8).unwrap_or(uid)
}
