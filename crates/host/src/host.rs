//! The machine as one cluster sees it: makes actions true and says what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use stead_node::action::{
    Action, ContainerRef, ContainerState, Credentials, Failure, Image, Machine, Observation, Reason, Room, World,
};

use crate::cgroup::Cgroups;
use crate::fault::Fault;
use crate::image::{BUILT_IN, ImageError, ImageStore};
use crate::locks::Locks;
use crate::network::Network;
use crate::record::{self, Known, Paths, check_name, remove_all};
use crate::watch::Watcher;
use crate::{image_load, image_pull, log, machine, mount, spec, sys};

/// What a host is opened with.
#[derive(Clone)]
pub struct HostConfig {
    pub data_dir: PathBuf,
    /// Short, of lower-case letters, digits and `-`: part of cgroup, mount and interface names.
    pub cluster_id: String,
    /// The node's name. Several nodes of one cluster on one machine have a data directory each.
    pub node: String,
    /// Shared by the nodes of this process; `None`: pods get a network namespace with nothing in it.
    pub network: Option<Arc<Network>>,
    /// Registries (`host:port`) that are spoken to over plain HTTP; loopback ones always are.
    pub insecure_registries: Vec<String>,
    /// Shared by the nodes of this process; `None`: the store below `data_dir`.
    pub images: Option<Arc<ImageStore>>,
}

/// Why the host cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("running containers needs root: start stead with sudo")]
    NotRoot,
    #[error("{0}: {1}")]
    Machine(String, #[source] io::Error),
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// The machine as one cluster sees it.
pub struct Host {
    pub(crate) config: HostConfig,
    pub(crate) paths: Paths,
    pub(crate) cgroups: Cgroups,
    pub(crate) limits: spec::Limits,
    pub(crate) machine: Machine,
    pub(crate) images: Arc<ImageStore>,
    pub(crate) locks: Locks,
    pub(crate) inner: Arc<Inner>,
    pub(crate) watcher: Watcher,
}

/// What the watcher's thread shares.
pub(crate) struct Inner {
    pub(crate) paths: Paths,
    pub(crate) cgroups: Cgroups,
    pub(crate) containers: Mutex<BTreeMap<ContainerRef, Known>>,
    /// A container ended.
    pub(crate) changed: Condvar,
    pub(crate) sender: Mutex<Box<dyn FnMut(Observation) + Send>>,
}

impl Inner {
    pub(crate) fn state(&self) -> MutexGuard<'_, BTreeMap<ContainerRef, Known>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tell(&self, observation: Observation) {
        (self.sender.lock().unwrap_or_else(PoisonError::into_inner))(observation);
    }
}

impl Host {
    /// Finds what is there and watches it. `sender` gets what comes unasked; it must not block for long.
    pub fn open(config: HostConfig, sender: impl FnMut(Observation) + Send + 'static) -> Result<Host, HostError> {
        if !rustix::process::geteuid().is_root() {
            return Err(HostError::NotRoot);
        }
        let at = |what: &str| {
            let what = what.to_string();
            move |e| HostError::Machine(what, e)
        };
        let paths = Paths::new(&config.data_dir, &config.cluster_id, &config.node);
        check_name(&config.cluster_id).map_err(at("the cluster's id"))?;
        check_name(&config.node).map_err(at("the node's name"))?;
        for dir in [paths.sandboxes(), paths.volumes(), paths.run.clone()] {
            std::fs::create_dir_all(&dir).map_err(at(&format!("create {}", dir.display())))?;
        }
        let cgroups = Cgroups::detect().map_err(at("find the control groups"))?;
        let inner = Arc::new(Inner {
            paths: paths.clone(),
            cgroups: cgroups.clone(),
            containers: Mutex::new(BTreeMap::new()),
            changed: Condvar::new(),
            sender: Mutex::new(Box::new(sender)),
        });
        let of_watcher = inner.clone();
        let watcher = Watcher::start(move |key| of_watcher.ended(&key, true)).map_err(at("watch containers"))?;
        let host = Host {
            images: match &config.images {
                Some(store) => store.clone(),
                None => Arc::new(ImageStore::open(&config.data_dir.join("images"))?),
            },
            limits: spec::Limits::of_this_process().map_err(at("read the process's limits"))?,
            machine: machine::read(&config.data_dir).map_err(at("read the machine's facts"))?,
            locks: Locks::default(),
            config,
            paths,
            cgroups,
            inner,
            watcher,
        };
        host.adopt_all().map_err(at("find running containers"))?;
        host.remove_strays().map_err(at("remove leftovers"))?;
        Ok(host)
    }

    /// Makes the action true. Blocks; safe from many threads at once.
    pub fn perform(&self, action: Action) -> Observation {
        let result = match &action {
            Action::FindImage { image } => self.find_image(image),
            Action::PullImage { image, credentials } => self.pull_image(image, credentials.as_ref()),
            Action::RemoveImage { image } => self.remove_image(image),
            Action::EnsureSandbox(spec) => self.ensure_sandbox(spec),
            Action::EnsureVolumes { pod, volumes } => self.ensure_volumes(pod, volumes),
            Action::StopSandbox { pod } => self.stop_sandbox(pod),
            Action::RemovePod { pod } => self.remove_pod(pod),
            Action::EnsureContainer(spec) => self.ensure_container(spec),
            Action::StopContainer { container, signal, grace } => {
                self.stop_container(container, signal.as_deref(), *grace)
            }
            Action::ResizeContainer { container, resources, pod_resources } => {
                self.resize_container(container, resources, pod_resources)
            }
            Action::RemoveContainer { container } => self.remove_container(container),
            Action::Probe { container, kind, check, timeout } => Ok(Observation::Probed {
                container: container.clone(),
                kind: *kind,
                result: self.probe(container, check, *timeout),
                at: Timestamp::now(),
            }),
            Action::RunHook { container, hook, check, timeout } => Ok(Observation::HookDone {
                container: container.clone(),
                hook: *hook,
                result: self.run_hook(container, check, *timeout),
                at: Timestamp::now(),
            }),
            Action::LookAtDisk => self.look_at_disk(),
            Action::MeasurePods { pods } => Ok(Observation::PodsOnDisk(self.measure_pods(pods))),
            Action::EmptyPod { pod } => self.empty_pod(pod),
            Action::DeleteDirectory { path } => self.delete_directory(path),
        };
        result.unwrap_or_else(|fault| Observation::Failed {
            action: Box::new(action),
            failure: Failure { reason: fault.reason, message: fault.message },
            at: Timestamp::now(),
        })
    }

    /// Everything that exists, for an agent that starts.
    pub fn observe(&self) -> io::Result<World> {
        let mut world = World { images: self.images.list(), ..World::default() };
        for entry in std::fs::read_dir(self.paths.sandboxes())? {
            if let Some(uid) = entry?.file_name().to_str()
                && let Some(record) = self.sandbox_record(uid)?
            {
                world.sandboxes.push(self.present_sandbox(&record));
            }
        }
        world.containers = self.inner.state().values().map(Known::present).collect();
        Ok(world)
    }

    /// The facts a node reports of itself.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// `stead image load`: every image of a docker-archive or OCI layout. `progress` is told bytes done and in all.
    pub fn load_images(&self, path: &Path, progress: &dyn Fn(u64, u64)) -> Result<Vec<Image>, ImageError> {
        image_load::load(&self.images, path, progress)
    }

    /// `stead image pull`: fetches the image, here or not.
    pub fn pull(
        &self,
        image: &str,
        credentials: Option<&Credentials>,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Image, ImageError> {
        // Two pods that want the same image fetch it once.
        let _image = self.locks.lock(&format!("image {image}"));
        image_pull::pull(&self.images, image, credentials, &self.config.insecure_registries, progress)
    }

    pub fn images(&self) -> Vec<Image> {
        self.images.list()
    }

    /// The log of an attempt, to read or to follow.
    pub fn logs(&self, key: &ContainerRef, options: log::Options) -> io::Result<log::Reader> {
        let known = self.known(key).ok_or(io::ErrorKind::NotFound)?;
        log::Reader::open(&known.record.shim.log, options)
    }

    /// Where the log of an attempt is.
    pub fn log_path(&self, key: &ContainerRef) -> Option<PathBuf> {
        self.known(key).map(|known| known.record.shim.log)
    }

    /// For a reader that follows: has the attempt ended (or gone)?
    pub fn has_ended(&self, key: &ContainerRef) -> bool {
        self.known(key).is_none_or(|known| !known.is_running())
    }

    fn node_group(&self) -> String {
        format!("/stead-{}/{}", self.config.cluster_id, self.config.node)
    }

    pub(crate) fn pod_group(&self, uid: &str) -> String {
        format!("{}/{uid}", self.node_group())
    }

    pub(crate) fn container_group(&self, key: &ContainerRef) -> String {
        format!("{}/{}", self.pod_group(&key.pod), key.name)
    }

    fn find_image(&self, image: &str) -> Result<Observation, Fault> {
        let found = self.images.find(image).map_err(image_fault)?;
        Ok(Observation::Image { image: image.to_string(), found })
    }

    fn pull_image(&self, image: &str, credentials: Option<&Credentials>) -> Result<Observation, Fault> {
        // Told at most a hundred times, however small the pieces.
        let told = std::sync::atomic::AtomicU64::new(0);
        let progress = |done_bytes: u64, total_bytes: u64| {
            let percent = done_bytes * 100 / total_bytes.max(1);
            if percent > told.fetch_max(percent, std::sync::atomic::Ordering::Relaxed) {
                self.inner.tell(Observation::PullProgress { image: image.to_string(), done_bytes, total_bytes });
            }
        };
        let found = self.pull(image, credentials, &progress).map_err(image_fault)?;
        Ok(Observation::Image { image: image.to_string(), found: Some(found) })
    }

    fn remove_image(&self, image: &str) -> Result<Observation, Fault> {
        let in_use: BTreeSet<String> = self.inner.state().values().map(|k| k.record.image_id.clone()).collect();
        self.images
            .remove(image, &in_use)
            .map_err(|e| Fault { reason: Reason::FailedCleanup, message: e.to_string() })?;
        Ok(Observation::ImageRemoved { image: image.to_string() })
    }

    fn look_at_disk(&self) -> Result<Observation, Fault> {
        let (total_bytes, free_bytes) = machine::disk(&self.config.data_dir)
            .map_err(|e| Fault { reason: Reason::FailedCleanup, message: format!("look at the disk: {e}") })?;
        let is_built_in = |image: &Image| image.names.iter().any(|name| name == BUILT_IN);
        let images = self.images.list().into_iter().filter(|image| !is_built_in(image)).collect();
        Ok(Observation::Disk(Room { total_bytes, free_bytes, images }))
    }

    fn delete_directory(&self, path: &Path) -> Result<Observation, Fault> {
        let fault = |message: String| Fault { reason: Reason::FailedCleanup, message };
        let volumes = self.paths.volumes();
        let inner = path.strip_prefix(&volumes).ok().map(|p| p.components().collect::<Vec<_>>());
        let is_inside = inner.is_some_and(|parts| {
            !parts.is_empty() && parts.iter().all(|part| matches!(part, std::path::Component::Normal(_)))
        });
        if !is_inside {
            return Err(fault(format!("{} is not below {}", path.display(), volumes.display())));
        }
        match std::fs::remove_dir_all(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(fault(format!("delete {}: {e}", path.display()))),
            _ => Ok(Observation::DirectoryDeleted { path: path.to_path_buf() }),
        }
    }

    /// Groups and mounts of pods that have no record: a crash came between making and writing them down.
    fn remove_strays(&self) -> io::Result<()> {
        for uid in self.cgroups.children(&self.node_group()) {
            if !self.paths.sandbox(&uid).join("sandbox.json").exists() {
                self.cgroups.kill_all(&self.pod_group(&uid))?;
                self.cgroups.remove(&self.pod_group(&uid))?;
            }
        }
        for uid in record::names_in(&self.paths.pods_run())? {
            if !self.paths.sandbox(&uid).join("sandbox.json").exists() {
                self.detach_network(&uid)?;
                mount::unmount(&self.paths.pod_run(&uid))?;
                std::fs::remove_dir(self.paths.pod_run(&uid))?;
            }
        }
        Ok(())
    }

    /// Kills what still runs and takes away what carries the cluster's name outside the data directory. Records, logs and
    /// volumes stay.
    pub fn leave(&self) -> io::Result<()> {
        for uid in record::names_in(&self.paths.sandboxes())? {
            self.stop_sandbox(&uid).map_err(|fault| io::Error::other(fault.message))?;
        }
        self.cgroups.remove(&self.node_group())?;
        let cluster = format!("/stead-{}", self.config.cluster_id);
        // Another node of the cluster still has its groups; the last one takes the rest.
        if self.cgroups.children(&cluster).iter().all(|group| group == "shims") {
            self.cgroups.kill_all(&cluster)?;
            self.cgroups.remove(&cluster)?;
            remove_all(&self.paths.run)?;
        }
        Ok(())
    }

    /// A namespace and, with a network, an address: `wanted` again if it can be had.
    pub(crate) fn attach_network(
        &self,
        uid: &str,
        pins: &Path,
        wanted: Option<IpAddr>,
    ) -> io::Result<(Option<IpAddr>, PathBuf)> {
        if let Some(network) = &self.config.network {
            let wanted = wanted.and_then(|ip| match ip {
                IpAddr::V4(ip) => Some(ip),
                IpAddr::V6(_) => None,
            });
            let pod = network.ensure_pod(&self.config.node, uid, wanted).map_err(io::Error::other)?;
            return Ok((Some(IpAddr::V4(pod.ip)), pod.netns));
        }
        let pin = pins.join("net");
        std::fs::write(&pin, "")?;
        let target = pin.clone();
        let thread = std::thread::Builder::new().name("network".into()).spawn(move || {
            sys::unshare(libc::CLONE_NEWNET)?;
            rustix::mount::mount_bind("/proc/thread-self/ns/net", &target).map_err(io::Error::from)
        })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the network thread panicked")))?;
        Ok((None, pin))
    }

    pub(crate) fn detach_network(&self, uid: &str) -> io::Result<()> {
        match &self.config.network {
            Some(network) => network.remove_pod(uid).map_err(io::Error::other),
            None => Ok(()),
        }
    }

    /// Running attempts by name: what exec, attach and logs mean when no attempt is given.
    pub fn current(&self, pod: &str, name: &str) -> Option<ContainerRef> {
        let state = self.inner.state();
        let mut attempts = state.values().filter(|k| k.record.pod == pod && k.record.name == name);
        let running = attempts.clone().find(|k| matches!(k.state, ContainerState::Running { .. }));
        running.or(attempts.next_back()).map(|k| k.record.key())
    }
}

fn image_fault(error: ImageError) -> Fault {
    let message = error.to_string();
    match error {
        ImageError::InvalidName(..) => Fault { reason: Reason::InvalidImageName, message },
        _ => Fault { reason: Reason::ErrImagePull, message },
    }
}
