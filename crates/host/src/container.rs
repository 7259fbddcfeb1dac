//! Create, start, stop, remove one container; adopt what ran before us.
//!
//! Guarantees: at most one container per (pod, name) lives at any time, across agents and crashes: the shim inherits a lock on
//! the name and holds it as long as it lives, and no new one starts before the name's cgroup is empty. An attempt runs once.
//! Nothing is left of an attempt that could not be started.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use stead_node::action::{
    ContainerRef, ContainerSpec, ContainerState, NodeFile, Observation, Reason, Resources, Seccomp,
};

use crate::fault::Fault;
use crate::record::{self, ContainerRecord, Known, RunningRecord, SandboxRecord, ShimSpec, check_name};
use crate::sandbox::node_file;
use crate::shim;
use crate::shim_protocol::{Request, Started, ask};
use crate::signal::{self, parse_signal};
use crate::spec::{self, BindMount, Context, DeviceNode};
use crate::{Host, log, mount, user};

/// A process that survives SIGKILL this long hangs in the kernel.
const KILL_WAIT: Duration = Duration::from_secs(30);
/// No more than this is what a container gets when nobody meant to wait: its pod was deleted by force, or a hook has used up the
/// grace period. A first process that would not even be told is not waited for then.
const UNHEARD_GRACE_MAX: Duration = Duration::from_secs(2);
/// A shim that does not answer this long is frozen (stopped, or the machine is out of memory).
const SHIM_WAIT: Duration = Duration::from_secs(30);
/// How long a shim may take from telling the end to its own.
const LEAVING_WAIT: Duration = Duration::from_secs(1);
const LEAVING_PAUSE: Duration = Duration::from_millis(2);

fn fault(reason: Reason, message: impl ToString) -> Fault {
    Fault { reason, message: message.to_string() }
}

impl Host {
    pub(crate) fn ensure_container(&self, spec: &ContainerSpec) -> Result<Observation, Fault> {
        let key = &spec.container;
        check_name(&key.name).and(check_name(&key.pod)).map_err(|e| fault(Reason::CreateContainerConfigError, e))?;
        let _name = self.locks.lock(&format!("{}/{}", key.pod, key.name));
        if let Some(known) = self.known(key) {
            return Ok(Observation::Container(known.present()));
        }
        let sandbox = self.sandbox_record(&key.pod).map_err(|e| fault(Reason::CreateContainerError, e))?;
        let sandbox = sandbox.filter(|s| self.is_ready(s));
        let sandbox = sandbox.ok_or_else(|| fault(Reason::NotFound, format!("pod {} has no sandbox", key.pod)))?;
        let lock = self.claim_name(key)?;
        let dir = self.paths.container(key);
        let result = fs::create_dir_all(&dir)
            .map_err(|e| fault(Reason::CreateContainerError, e))
            .and_then(|()| self.prepare(spec, &sandbox, &dir))
            .and_then(|record| Ok((self.start_shim(&dir, lock)?, record)));
        match result {
            Ok((running, record)) => self.adopt_started(record, running),
            Err(e) => {
                let _ = mount::unmount(&self.paths.rootfs(key));
                let _ = fs::remove_dir_all(&dir);
                Err(e)
            }
        }
    }

    /// The lock on the name, with nothing left of earlier attempts.
    fn claim_name(&self, key: &ContainerRef) -> Result<File, Fault> {
        let dir = self.paths.containers(&key.pod, &key.name);
        let busy = || fault(Reason::CreateContainerError, format!("an earlier attempt of {} still runs", key.name));
        let error = |e: io::Error| fault(Reason::CreateContainerError, e);
        fs::create_dir_all(&dir).map_err(error)?;
        let lock = File::options().create(true).append(true).open(dir.join("lock")).map_err(error)?;
        let until = Instant::now() + LEAVING_WAIT;
        loop {
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                // A shim tells the end a moment before it has let go of the name.
                Err(rustix::io::Errno::WOULDBLOCK) if !self.is_name_running(key) && Instant::now() < until => {
                    std::thread::sleep(LEAVING_PAUSE);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(busy()),
                Err(e) => return Err(error(e.into())),
            }
        }
        // Without a shim, whatever is in the group belongs to one that was killed.
        let group = self.container_group(key);
        self.cgroups.kill_all(&group).and_then(|()| self.cgroups.remove(&group)).map_err(error)?;
        Ok(lock)
    }

    fn is_name_running(&self, key: &ContainerRef) -> bool {
        let state = self.inner.state();
        state.values().any(|k| k.record.pod == key.pod && k.record.name == key.name && k.is_running())
    }

    fn prepare(&self, spec: &ContainerSpec, sandbox: &SandboxRecord, dir: &Path) -> Result<ContainerRecord, Fault> {
        let key = &spec.container;
        let create = |e: io::Error| fault(Reason::CreateContainerError, e);
        let loading = self.images.loading().map_err(|e| fault(Reason::CreateContainerError, e))?;
        let image = self.images.find(&spec.image_id).map_err(|e| fault(Reason::ImageInspectError, e))?;
        let image =
            image.ok_or_else(|| fault(Reason::ImageInspectError, format!("no such image: {}", spec.image_id)))?;
        let layers = self.images.layers(&image.id).unwrap_or_default();
        let root = self.paths.rootfs(key);
        mount::overlay(&layers, &dir.join("upper"), &dir.join("work"), &root, self.cgroups.is_v2).map_err(create)?;
        drop(loading);
        let security = &spec.security;
        let user = user::resolve(&root, &image.config.user, security.run_as_user, security.run_as_group)
            .map_err(|e| fault(Reason::CreateContainerError, e))?;
        if spec::command_line(spec, &image.config).is_empty() {
            return Err(fault(Reason::CreateContainerError, "no command specified"));
        }
        let working_dir = Path::new(spec::working_dir(spec, &image.config));
        if !working_dir.is_absolute() {
            return Err(fault(
                Reason::CreateContainerError,
                format!("working directory {working_dir:?} is not absolute"),
            ));
        }
        mount::open_or_make(&root, working_dir, 0o755).map_err(create)?;
        let (mounts, devices) = self.mounts_of(spec, sandbox, dir)?;
        let group = self.container_group(key);
        let pid_namespace = self.pid_namespace(sandbox, spec)?;
        let context = Context {
            sandbox,
            image: &image.config,
            user: &user,
            root: &root,
            cgroup: &group,
            is_cgroup_v2: self.cgroups.is_v2,
            pod_run: &self.paths.pod_run(&key.pod),
            mounts: &mounts,
            devices: &devices,
            pid_namespace: pid_namespace.as_deref(),
            unified: &self.cgroups.unified(&self.pod_group(&key.pod)),
            limits: &self.limits,
        };
        let config = spec::oci(spec, &context, self.seccomp_profile(&spec.security.seccomp)?);
        record::write(&dir.join("config.json"), &config).map_err(create)?;
        let stop_signal = image.config.stop_signal.as_deref().and_then(parse_signal).unwrap_or(libc::SIGTERM);
        let record = ContainerRecord {
            id: self.container_id(key),
            pod: key.pod.clone(),
            name: key.name.clone(),
            attempt: key.attempt,
            image_id: image.id,
            boot_id: self.machine.boot_id.clone(),
            stop_signal,
            created_at: jiff::Timestamp::now(),
            fallback_to_logs_on_error: spec.termination_message.fallback_to_logs_on_error,
            shim: ShimSpec {
                libcontainer_root: self.paths.libcontainer(),
                socket: self.paths.socket(&self.container_id(key)),
                cgroup: group,
                log: self.paths.logs(&sandbox.pod()).join(&key.name).join(format!("{}.log", key.attempt)),
                tty: spec.tty,
                stdin: spec.stdin,
                stdin_once: spec.stdin_once,
            },
        };
        record::write(&dir.join("container.json"), &record).map_err(create)?;
        Ok(record)
    }

    fn container_id(&self, key: &ContainerRef) -> String {
        let text = format!("{}/{}/{}/{}", self.config.cluster_id, key.pod, key.name, key.attempt);
        crate::image_unpack::sha256(text.as_bytes()).trim_start_matches("sha256:").to_string()
    }

    fn seccomp_profile(&self, seccomp: &Seccomp) -> Result<Option<serde_json::Value>, Fault> {
        let Seccomp::Localhost(name) = seccomp else { return Ok(None) };
        let refuse = |e: String| fault(Reason::CreateContainerError, format!("seccomp profile {name:?}: {e}"));
        if Path::new(name).components().any(|c| !matches!(c, std::path::Component::Normal(_))) {
            return Err(refuse("must be a relative path below the seccomp directory".into()));
        }
        let path = self.paths.data.join("seccomp").join(name);
        match record::read(&path).map_err(|e| refuse(e.to_string()))? {
            Some(profile) => Ok(Some(profile)),
            None => Err(refuse("no such file".into())),
        }
    }

    /// Volumes, then the files every container has.
    fn mounts_of(
        &self,
        spec: &ContainerSpec,
        sandbox: &SandboxRecord,
        dir: &Path,
    ) -> Result<(Vec<BindMount>, Vec<DeviceNode>), Fault> {
        let error = |e: io::Error| fault(Reason::CreateContainerError, e);
        let key = &spec.container;
        let pod_dir = self.paths.sandbox(&key.pod);
        let places: std::collections::BTreeMap<String, std::path::PathBuf> =
            record::read(&pod_dir.join("volumes.json")).map_err(error)?.unwrap_or_default();
        let place = |name: &str| {
            let missing = || fault(Reason::CreateContainerConfigError, format!("volume {name:?} is not set up"));
            places.get(name).ok_or_else(missing)
        };
        let mut mounts = Vec::new();
        for (number, wanted) in spec.mounts.iter().enumerate() {
            let mut source = place(&wanted.volume)?.clone();
            if let Some(sub_path) = wanted.sub_path.as_deref().filter(|s| !s.is_empty()) {
                let pin =
                    self.paths.pod_run(&key.pod).join("sub").join(format!("{}-{}-{number}", key.name, key.attempt));
                mount::pin_sub_path(&source, sub_path, &pin).map_err(|e| {
                    let text = format!("failed to prepare subPath for volumeMount {:?}: {e}", wanted.volume);
                    fault(Reason::CreateContainerConfigError, text)
                })?;
                source = pin;
            }
            let target = wanted.container_path.clone();
            mounts.push(BindMount { source, target, read_only: wanted.read_only, propagation: wanted.propagation });
        }
        if let Some(hosts) = &spec.etc_hosts {
            self.write_hosts(hosts, &pod_dir).map_err(error)?;
        }
        fs::write(dir.join("termination-log"), "").map_err(error)?;
        use std::os::unix::fs::PermissionsExt;
        let open = fs::Permissions::from_mode(0o666);
        fs::set_permissions(dir.join("termination-log"), open).map_err(error)?;
        let read_only = spec.security.read_only_root;
        let mut own = vec![
            (pod_dir.join("hostname"), "/etc/hostname", read_only),
            (pod_dir.join("resolv.conf"), "/etc/resolv.conf", read_only),
        ];
        if spec.etc_hosts.is_some() {
            own.push((pod_dir.join("hosts"), "/etc/hosts", read_only));
        }
        let message = spec.termination_message.path.display().to_string();
        if message.starts_with('/') {
            own.push((dir.join("termination-log"), &message, false));
        }
        for (source, target, read_only) in own {
            // A volume of the user at the same place wins.
            if mounts.iter().all(|m| m.target != Path::new(target)) {
                let propagation = stead_node::action::Propagation::None;
                mounts.push(BindMount { source, target: target.into(), read_only, propagation });
            }
        }
        let devices = spec
            .devices
            .iter()
            .map(|d| device_node(place(&d.volume)?, &d.container_path, d.read_only).map_err(error))
            .collect::<Result<_, _>>()?;
        if sandbox.host_network && spec.etc_hosts.is_none() {
            // The image's own file would lack the node's names.
            let source = Path::new("/etc/hosts").to_path_buf();
            let propagation = stead_node::action::Propagation::None;
            mounts.push(BindMount { source, target: "/etc/hosts".into(), read_only: true, propagation });
        }
        Ok((mounts, devices))
    }

    /// In place: running containers have the file mounted.
    fn write_hosts(&self, hosts: &NodeFile, pod_dir: &Path) -> io::Result<()> {
        let text = node_file(hosts, "/etc/hosts")?;
        let path = pod_dir.join("hosts");
        match fs::read_to_string(&path) {
            Ok(same) if same == text => Ok(()),
            _ => fs::write(path, text),
        }
    }

    /// The process namespace to join: another container's, or with `shareProcessNamespace` the pod's.
    fn pid_namespace(
        &self,
        sandbox: &SandboxRecord,
        spec: &ContainerSpec,
    ) -> Result<Option<std::path::PathBuf>, Fault> {
        if sandbox.share_pid {
            let pin = self.paths.pod_run(&spec.container.pod).join("ns/pid");
            return Ok(pin.exists().then_some(pin));
        }
        let Some(target) = &spec.process_namespace_of else { return Ok(None) };
        let is_running = self.known(target).is_some_and(|known| known.is_running());
        let running: Option<RunningRecord> =
            record::read(&self.paths.container(target).join("running.json")).unwrap_or_default();
        match running.filter(|_| is_running) {
            Some(running) => Ok(Some(format!("/proc/{}/ns/pid", running.pid).into())),
            None => {
                Err(fault(Reason::CreateContainerError, format!("target container {} is not running", target.name)))
            }
        }
    }

    fn start_shim(&self, dir: &Path, lock: File) -> Result<RunningRecord, Fault> {
        let run = |e: io::Error| fault(Reason::RunContainerError, format!("start the container's shim: {e}"));
        for parent in [self.paths.libcontainer(), self.paths.run.join("s")] {
            fs::create_dir_all(parent).map_err(run)?;
        }
        let complaints = File::options().create(true).append(true).open(dir.join("shim.log")).map_err(run)?;
        let (mut ready, child_end) = io::pipe().map_err(run)?;
        let mut command = Command::new("/proc/self/exe");
        command.args(["shim", "run"]).arg(dir).current_dir("/").env_clear();
        command.stdin(Stdio::from(lock)).stdout(child_end).stderr(complaints);
        let mut child = command.spawn().map_err(run)?;
        // The command holds our copies of the lock and of the pipe's end.
        drop(command);
        let mut answer = Vec::new();
        let read = ready.read_to_end(&mut answer);
        child.wait().map_err(run)?;
        read.map_err(run)?;
        match serde_json::from_slice(&answer) {
            Ok(Started::Running(running)) => Ok(running),
            Ok(Started::Failed(why)) => {
                let trace = fs::read_to_string(dir.join(shim::TRACE)).unwrap_or_default();
                Err(start_fault(trace.lines().next().unwrap_or(&why)))
            }
            Err(_) => {
                let complaints = fs::read_to_string(dir.join("shim.log")).unwrap_or_default();
                Err(fault(Reason::RunContainerError, format!("the container's shim died: {}", complaints.trim())))
            }
        }
    }

    fn adopt_started(&self, record: ContainerRecord, running: RunningRecord) -> Result<Observation, Fault> {
        let key = record.key();
        let known = Known { state: ContainerState::Running { started_at: running.started_at }, record };
        let answer = Observation::Container(known.present());
        let socket = UnixStream::connect(&known.record.shim.socket);
        self.inner.state().insert(key.clone(), known);
        let watched = socket.and_then(|socket| self.watcher.watch(key.clone(), socket));
        if watched.is_err() {
            // It ended before we could look: its record is there, or it is lost.
            self.inner.ended(&key, true);
        }
        Ok(self.known(&key).map_or(answer, |now| Observation::Container(now.present())))
    }

    pub(crate) fn known(&self, key: &ContainerRef) -> Option<Known> {
        self.inner.state().get(key).cloned()
    }

    fn not_found(key: &ContainerRef) -> Fault {
        fault(
            Reason::NotFound,
            format!("container {} attempt {} of pod {} is not here", key.name, key.attempt, key.pod),
        )
    }

    pub(crate) fn stop_container(
        &self,
        key: &ContainerRef,
        signal: Option<&str>,
        grace: Duration,
    ) -> Result<Observation, Fault> {
        let known = self.known(key).ok_or_else(|| Host::not_found(key))?;
        let number = match signal {
            Some(name) => parse_signal(name)
                .ok_or_else(|| fault(Reason::FailedKillPod, format!("unknown stop signal {name:?}")))?,
            None => known.record.stop_signal,
        };
        if known.is_running() && !grace.is_zero() {
            let _ = self.signal(&known.record, number);
        }
        let is_in_vain = grace <= UNHEARD_GRACE_MAX && self.is_deaf(key, number);
        if let Some(ended) = self.inner.wait_ended(key, if is_in_vain { Duration::ZERO } else { grace }) {
            return Ok(Observation::Container(ended.present()));
        }
        let _ = self.signal(&known.record, libc::SIGKILL);
        match self.inner.wait_ended(key, KILL_WAIT) {
            Some(ended) => Ok(Observation::Container(ended.present())),
            None => Err(fault(Reason::FailedKillPod, format!("container {} does not die", key.name))),
        }
    }

    /// Whether the first process has said nothing about a signal: the kernel keeps such signals from the first process of a
    /// process namespace. One that has just been started may not have come to it yet.
    fn is_deaf(&self, key: &ContainerRef, signal: i32) -> bool {
        let running: Option<RunningRecord> =
            record::read(&self.paths.container(key).join("running.json")).unwrap_or_default();
        let status = running.and_then(|running| fs::read_to_string(format!("/proc/{}/status", running.pid)).ok());
        status.is_some_and(|status| !signal::is_expected(&status, signal))
    }

    /// Fine when the shim is gone: then so is the container.
    fn signal(&self, record: &ContainerRecord, signal: i32) -> io::Result<()> {
        let mut socket = UnixStream::connect(&record.shim.socket)?;
        socket.set_read_timeout(Some(SHIM_WAIT))?;
        ask(&mut socket, &Request::Kill { signal }, &[])
    }

    pub(crate) fn kill_containers_of(&self, uid: &str) -> io::Result<()> {
        let running: Vec<Known> =
            self.inner.state().values().filter(|k| k.record.pod == uid && k.is_running()).cloned().collect();
        for known in &running {
            let _ = self.signal(&known.record, libc::SIGKILL);
        }
        for known in running {
            if self.inner.wait_ended(&known.record.key(), KILL_WAIT).is_none() {
                return Err(io::Error::other(format!("container {} does not die", known.record.name)));
            }
        }
        Ok(())
    }

    pub(crate) fn forget_containers_of(&self, uid: &str) {
        self.inner.state().retain(|key, _| key.pod != uid);
    }

    pub(crate) fn resize_container(
        &self,
        key: &ContainerRef,
        resources: &Resources,
        pod_resources: &Resources,
    ) -> Result<Observation, Fault> {
        let known = self.known(key).filter(|known| known.is_running());
        known.ok_or_else(|| Host::not_found(key))?;
        let group = self.container_group(key);
        let error = |e: io::Error| fault(Reason::RunContainerError, format!("resize container {}: {e}", key.name));
        if let (Some(limit), Ok(usage)) = (resources.memory_bytes, self.usage_of_container(key))
            && usage.working_set > limit
        {
            let used = usage.working_set;
            let why = format!("attempting to set a memory limit ({limit}) below current usage ({used})");
            return Err(error(io::Error::other(why)));
        }
        // A growing pod has to be large enough before its container is, a shrinking one small enough after it.
        let grown = self.cgroups.set_limits(&self.pod_group(&key.pod), pod_resources);
        self.cgroups.set_limits(&group, resources).map_err(error)?;
        grown.or_else(|_| self.cgroups.set_limits(&self.pod_group(&key.pod), pod_resources)).map_err(error)?;
        Ok(Observation::Resized { container: key.clone(), resources: resources.clone() })
    }

    pub(crate) fn remove_container(&self, key: &ContainerRef) -> Result<Observation, Fault> {
        check_name(&key.name).and(check_name(&key.pod)).map_err(|e| fault(Reason::FailedCleanup, e))?;
        let _name = self.locks.lock(&format!("{}/{}", key.pod, key.name));
        let done = Ok(Observation::ContainerRemoved { container: key.clone() });
        let Some(known) = self.known(key) else { return done };
        if known.is_running() {
            return Err(fault(Reason::FailedCleanup, format!("container {} still runs", key.name)));
        }
        let error = |e: io::Error| fault(Reason::FailedCleanup, format!("remove container {}: {e}", key.name));
        mount::unmount(&self.paths.rootfs(key)).map_err(error)?;
        for pin in mount::mounts_below(&self.paths.pod_run(&key.pod).join("sub")).map_err(error)? {
            let prefix = format!("{}-{}-", key.name, key.attempt);
            if pin.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&prefix)) {
                mount::unmount(&pin).map_err(error)?;
            }
        }
        log::remove(&known.record.shim.log).map_err(error)?;
        fs::remove_dir_all(self.paths.container(key)).map_err(error)?;
        self.inner.state().remove(key);
        done
    }

    /// At the start: what earlier agents left, running or ended.
    pub(crate) fn adopt_all(&self) -> io::Result<()> {
        for pod in record::names_in(&self.paths.sandboxes())? {
            for name in record::names_in(&self.paths.sandbox(&pod).join("containers"))? {
                for attempt in record::names_in(&self.paths.containers(&pod, &name))? {
                    let Ok(attempt) = attempt.parse() else { continue };
                    self.adopt(&ContainerRef { pod: pod.clone(), name: name.clone(), attempt })?;
                }
            }
        }
        Ok(())
    }

    fn adopt(&self, key: &ContainerRef) -> io::Result<()> {
        let dir = self.paths.container(key);
        let Some(record) = record::read::<ContainerRecord>(&dir.join("container.json"))? else {
            mount::unmount(&self.paths.rootfs(key))?;
            return fs::remove_dir_all(&dir);
        };
        if record.boot_id == self.machine.boot_id && !dir.join("exit.json").exists() {
            // A shim that is just starting answers when it has started, or hangs up when it could not.
            let alive = UnixStream::connect(&record.shim.socket).and_then(|mut socket| {
                socket.set_read_timeout(Some(SHIM_WAIT))?;
                match ask(&mut socket, &Request::Ping, &[]) {
                    // Frozen, but there: its container must not be taken for ended.
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(socket),
                    answer => answer.map(|()| socket),
                }
            });
            let running = record::read::<RunningRecord>(&dir.join("running.json"))?;
            if let (Ok(socket), Some(running)) = (alive, &running) {
                let state = ContainerState::Running { started_at: running.started_at };
                self.inner.state().insert(key.clone(), Known { record, state });
                return self.watcher.watch(key.clone(), socket);
            }
            if running.is_none() {
                let group = self.container_group(key);
                self.cgroups.kill_all(&group).and_then(|()| self.cgroups.remove(&group))?;
                mount::unmount(&self.paths.rootfs(key))?;
                return fs::remove_dir_all(&dir);
            }
        }
        let state = ContainerState::Running { started_at: record.created_at };
        self.inner.state().insert(key.clone(), Known { record, state });
        self.inner.ended(key, false);
        Ok(())
    }
}

/// The runtime's words made Kubernetes'.
fn start_fault(why: &str) -> Fault {
    let name = why.split_once("executable=").and_then(|(_, rest)| rest.split('"').nth(1));
    let message = match name {
        Some(name) if why.contains("not found in PATH") => {
            format!("failed to start container: exec: {name:?}: executable file not found in $PATH")
        }
        Some(name) if why.contains("correct permission") => {
            format!("failed to start container: exec: {name:?}: permission denied")
        }
        _ => format!("failed to start container: {why}"),
    };
    fault(Reason::RunContainerError, message)
}

fn device_node(source: &Path, target: &Path, read_only: bool) -> io::Result<DeviceNode> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let meta = fs::metadata(source)?;
    Ok(DeviceNode {
        path: target.display().to_string(),
        is_block: meta.file_type().is_block_device(),
        major: rustix::fs::major(meta.rdev()),
        minor: rustix::fs::minor(meta.rdev()),
        read_only,
    })
}
