//! A machine of memory alone: performs actions at once, runs nothing.
//!
//! Guarantees: keeps the contract of action.rs as the host does: idempotent, one observation per action, never two live attempts
//! of one container, an attempt never runs twice. Used by tests, the simulator and the nodes that only pretend (`--fake-nodes`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use jiff::Timestamp;

use crate::action::{
    Action, Container, ContainerRef, ContainerState, Exit, Failure, Image, ImageConfig, Observation, PodDisk, PodUid,
    ProbeResult, Reason, Room, Sandbox, SandboxState, World,
};

const DISK_BYTES: u64 = 1 << 40;

/// The machine's memory.
#[derive(Clone, Debug)]
pub struct FakeMachine {
    network: Ipv4Addr,
    next_address: u32,
    pub sandboxes: BTreeMap<PodUid, Sandbox>,
    pub containers: BTreeMap<ContainerRef, Container>,
    /// Images that are here; `None` stands for every image.
    pub images: Option<BTreeSet<String>>,
    /// Images that no registry has.
    pub unknown_images: BTreeSet<String>,
    pub directories: BTreeSet<std::path::PathBuf>,
    /// How much room there is.
    pub disk: Room,
    /// What pods have taken of it.
    pub pods_on_disk: BTreeMap<PodUid, PodDisk>,
}

impl FakeMachine {
    /// `network`: the first address that pods get is the one after it.
    pub fn new(network: Ipv4Addr) -> FakeMachine {
        FakeMachine {
            network,
            next_address: 1,
            sandboxes: BTreeMap::new(),
            containers: BTreeMap::new(),
            images: None,
            unknown_images: BTreeSet::new(),
            directories: BTreeSet::new(),
            pods_on_disk: BTreeMap::new(),
            disk: Room { total_bytes: DISK_BYTES, free_bytes: DISK_BYTES, images: Vec::new() },
        }
    }

    /// Everything that exists.
    pub fn observe(&self) -> World {
        World {
            sandboxes: self.sandboxes.values().cloned().collect(),
            containers: self.containers.values().cloned().collect(),
            images: Vec::new(),
        }
    }

    /// Performs one action.
    pub fn perform(&mut self, action: Action, now: Timestamp) -> Observation {
        match action {
            Action::FindImage { image } => {
                let is_here = self.images.as_ref().is_none_or(|all| all.contains(&image));
                Observation::Image { found: is_here.then(|| fake_image(&image)), image }
            }
            Action::PullImage { ref image, .. } if self.unknown_images.contains(image) => {
                let message = format!("{image}: not found");
                failed(action, Reason::ErrImagePull, message, now)
            }
            Action::PullImage { image, .. } => {
                self.images.as_mut().map(|all| all.insert(image.clone()));
                Observation::Image { found: Some(fake_image(&image)), image }
            }
            Action::LookAtDisk => {
                let images = self.images.iter().flatten().map(|name| fake_image(name)).collect();
                Observation::Disk(Room { images, ..self.disk.clone() })
            }
            Action::RemoveImage { image } => {
                let is_it = |name: &String| *name == image || fake_image(name).id == image;
                if let Some(all) = &mut self.images {
                    all.retain(|name| !is_it(name));
                }
                Observation::ImageRemoved { image }
            }
            Action::MeasurePods { pods } => {
                let of = |uid: PodUid| (uid.clone(), self.pods_on_disk.get(&uid).cloned().unwrap_or_default());
                Observation::PodsOnDisk(pods.into_iter().map(of).collect())
            }
            Action::EmptyPod { pod } => {
                self.pods_on_disk.remove(&pod);
                Observation::PodEmptied { pod }
            }
            Action::EnsureSandbox(spec) => {
                let known = self.sandboxes.get(&spec.pod.uid);
                if let Some(known) = known.filter(|k| k.attempt == spec.attempt && k.state == SandboxState::Ready) {
                    return Observation::Sandbox(known.clone());
                }
                let address = Ipv4Addr::from(u32::from(self.network) + self.next_address);
                self.next_address += 1;
                let ip = (!spec.host_network).then_some(IpAddr::V4(address));
                let sandbox =
                    Sandbox { pod: spec.pod, attempt: spec.attempt, ip, state: SandboxState::Ready, created_at: now };
                self.sandboxes.insert(sandbox.pod.uid.clone(), sandbox.clone());
                Observation::Sandbox(sandbox)
            }
            Action::EnsureVolumes { ref pod, .. } if !self.sandboxes.contains_key(pod) => {
                failed(action, Reason::NotFound, "no such pod".into(), now)
            }
            Action::EnsureVolumes { pod, .. } => Observation::Volumes { pod },
            Action::StopSandbox { pod } => {
                self.kill_all(&pod, now);
                if let Some(sandbox) = self.sandboxes.get_mut(&pod) {
                    sandbox.state = SandboxState::NotReady;
                }
                Observation::SandboxStopped { pod }
            }
            Action::RemovePod { pod } => {
                self.sandboxes.remove(&pod);
                self.containers.retain(|c, _| c.pod != pod);
                Observation::PodRemoved { pod }
            }
            Action::EnsureContainer(_) => self.start(action, now),
            Action::StopContainer { ref container, .. } if !self.containers.contains_key(container) => {
                failed(action, Reason::NotFound, "no such container".into(), now)
            }
            Action::StopContainer { container, .. } => {
                self.end(&container, 143, now);
                Observation::Container(self.containers[&container].clone())
            }
            Action::ResizeContainer { ref container, .. } if !self.containers.contains_key(container) => {
                failed(action, Reason::NotFound, "no such container".into(), now)
            }
            Action::ResizeContainer { container, resources, .. } => Observation::Resized { container, resources },
            Action::RemoveContainer { container } => {
                self.containers.remove(&container);
                Observation::ContainerRemoved { container }
            }
            Action::Probe { container, kind, .. } => {
                Observation::Probed { container, kind, result: ProbeResult::Success, at: now }
            }
            Action::RunHook { container, hook, .. } => {
                Observation::HookDone { container, hook, result: Ok(()), at: now }
            }
            Action::DeleteDirectory { path } => {
                self.directories.remove(&path);
                Observation::DirectoryDeleted { path }
            }
        }
    }

    fn start(&mut self, action: Action, now: Timestamp) -> Observation {
        let Action::EnsureContainer(spec) = &action else { unreachable!("only called to start") };
        let reference = spec.container.clone();
        if let Some(known) = self.containers.get(&reference) {
            return Observation::Container(known.clone());
        }
        if !self.sandboxes.get(&reference.pod).is_some_and(|s| s.state == SandboxState::Ready) {
            return failed(action, Reason::NotFound, "no such pod".into(), now);
        }
        let is_live = |c: &Container| matches!(c.state, ContainerState::Running { .. });
        let same = |c: &&ContainerRef| c.pod == reference.pod && c.name == reference.name;
        if self.containers.iter().any(|(c, state)| same(&c) && is_live(state)) {
            return failed(action, Reason::CreateContainerError, "another attempt is running".into(), now);
        }
        let container = Container {
            id: format!("{}-{}-{}", reference.pod, reference.name, reference.attempt),
            image_id: spec.image_id.clone(),
            state: ContainerState::Running { started_at: now },
            container: reference.clone(),
        };
        self.containers.insert(reference, container.clone());
        Observation::Container(container)
    }

    /// A running container ends; `None` when it was not running.
    pub fn end(&mut self, container: &ContainerRef, code: i32, now: Timestamp) -> Option<Observation> {
        let known = self.containers.get_mut(container)?;
        let ContainerState::Running { started_at } = known.state else { return None };
        known.state = ContainerState::Exited(Exit {
            code,
            signal: None,
            oom_killed: false,
            started_at: Some(started_at),
            finished_at: now,
            message: String::new(),
            is_lost: false,
        });
        Some(Observation::Exited(known.clone()))
    }

    /// The power fails and comes back: nothing runs, records stay.
    pub fn reboot(&mut self, now: Timestamp) {
        let pods: Vec<PodUid> = self.sandboxes.keys().cloned().collect();
        for pod in pods {
            self.kill_all(&pod, now);
        }
        self.sandboxes.values_mut().for_each(|s| s.state = SandboxState::NotReady);
    }

    fn kill_all(&mut self, pod: &str, now: Timestamp) {
        let all: Vec<ContainerRef> = self.containers.keys().filter(|c| c.pod == pod).cloned().collect();
        for container in all {
            self.end(&container, 137, now);
        }
    }

    /// The containers that run, for invariants.
    pub fn running(&self) -> impl Iterator<Item = &Container> {
        self.containers.values().filter(|c| matches!(c.state, ContainerState::Running { .. }))
    }
}

fn failed(action: Action, reason: Reason, message: String, at: Timestamp) -> Observation {
    Observation::Failed { action: Box::new(action), failure: Failure { reason, message }, at }
}

fn fake_image(name: &str) -> Image {
    Image {
        id: format!("sha256:{name}"),
        names: vec![name.to_owned()],
        digests: Vec::new(),
        size_bytes: 0,
        config: ImageConfig::default(),
    }
}
