//! A pod's surroundings without a process: pinned namespaces, shared memory, its files, its cgroup.
//!
//! Guarantees: every pin and tmpfs lies below one tmpfs of the pod, so that one detached unmount takes all of it away; no pause
//! process; what a reboot took is noticed by the boot id and made anew.
//! Upstream: pod sandboxes of the CRI; sysctls as the runtime applies them in the pod's own namespaces.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::mount::MountFlags;
use stead_node::action::{NodeFile, Observation, Reason, Sandbox, SandboxSpec, SandboxState, Volume};

use crate::fault::Fault;
use crate::record::{self, SandboxRecord, check_name, remove_all};
use crate::{Host, mount, sys};

const SHM: &str = "mode=1777,size=65536k";

impl Host {
    pub(crate) fn ensure_sandbox(&self, spec: &SandboxSpec) -> Result<Observation, Fault> {
        let fault = |e: io::Error| {
            let message = format!("Failed to create pod sandbox: {e}");
            Fault { reason: Reason::FailedCreatePodSandBox, message }
        };
        let _pod = self.locks.lock(&spec.pod.uid);
        let known = self.sandbox_record(&spec.pod.uid).map_err(fault)?;
        if let Some(record) = known.filter(|r| r.attempt == spec.attempt && self.is_ready(r)) {
            return Ok(Observation::Sandbox(self.present_sandbox(&record)));
        }
        let made = self.clear_sandbox(&spec.pod.uid).and_then(|()| self.make_sandbox(spec));
        if made.is_err() {
            let _ = self.clear_sandbox(&spec.pod.uid);
        }
        made.map(|record| Observation::Sandbox(self.present_sandbox(&record))).map_err(fault)
    }

    /// What an earlier sandbox of the pod, or half of one, left behind. Volumes stay: they may have been set up before.
    fn clear_sandbox(&self, uid: &str) -> io::Result<()> {
        self.kill_containers_of(uid)?;
        self.cgroups.kill_all(&self.hold_group(uid))?;
        let run = self.paths.pod_run(uid);
        for pin in mount::mounts_below(&run.join("ns"))? {
            mount::unmount(&pin)?;
        }
        mount::unmount(&run.join("shm"))?;
        self.detach_network(uid)
    }

    fn make_sandbox(&self, spec: &SandboxSpec) -> io::Result<SandboxRecord> {
        let uid = &spec.pod.uid;
        let dir = self.paths.sandbox(uid);
        fs::create_dir_all(&dir)?;
        self.ensure_pod_run(uid)?;
        let pins = self.paths.pod_run(uid).join("ns");
        fs::create_dir_all(&pins)?;
        mount::tmpfs(
            &self.paths.pod_run(uid).join("shm"),
            SHM,
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        )?;
        let hostname = if spec.host_network {
            rustix::system::uname().nodename().to_string_lossy().into_owned()
        } else {
            spec.hostname.clone()
        };
        let (mut ip, mut netns) = (None, None);
        if !spec.host_network {
            // After a reboot a pod keeps its address when nobody else has it.
            let earlier = self.sandbox_record(uid)?.and_then(|record| record.ip);
            let pod = self.attach_network(uid, &pins, earlier)?;
            ip = pod.0;
            netns = Some(pod.1);
        }
        pin_namespaces(spec, &pins, &hostname, netns.as_deref())?;
        self.cgroups.ensure(&self.pod_group(uid), &spec.resources)?;
        if spec.share_process_namespace && !spec.host_pid {
            self.hold_process_namespace(uid, &pins.join("pid"))?;
        }
        let text = node_file(&spec.resolv_conf, "/etc/resolv.conf")?;
        fs::write(dir.join("resolv.conf"), text)?;
        fs::write(dir.join("hostname"), format!("{hostname}\n"))?;
        let record = SandboxRecord {
            uid: uid.clone(),
            namespace: spec.pod.namespace.clone(),
            name: spec.pod.name.clone(),
            attempt: spec.attempt,
            ip,
            netns,
            hostname,
            host_network: spec.host_network,
            host_pid: spec.host_pid,
            host_ipc: spec.host_ipc,
            share_pid: spec.share_process_namespace,
            created_at: jiff::Timestamp::now(),
            boot_id: self.machine.boot_id.clone(),
            ready: true,
        };
        record::write(&dir.join("sandbox.json"), &record)?;
        Ok(record)
    }

    /// A process namespace lives as long as its first process: one of ours that only reaps, in the pod's cgroup.
    fn hold_process_namespace(&self, uid: &str, pin: &Path) -> io::Result<()> {
        fs::write(pin, "")?;
        let mut command = Command::new("/proc/self/exe");
        command.args(["shim", "hold"]).arg(pin).arg(self.hold_group(uid)).current_dir("/").env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let output = command.output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_string())),
        }
    }

    fn hold_group(&self, uid: &str) -> String {
        // No container is called so: their names have no dot.
        format!("{}/hold.pid", self.pod_group(uid))
    }

    pub(crate) fn sandbox_record(&self, uid: &str) -> io::Result<Option<SandboxRecord>> {
        check_name(uid)?;
        record::read(&self.paths.sandbox(uid).join("sandbox.json"))
    }

    /// Namespaces do not outlive a boot.
    pub(crate) fn is_ready(&self, record: &SandboxRecord) -> bool {
        let pins = self.paths.pod_run(&record.uid).join("ns");
        record.ready
            && record.boot_id == self.machine.boot_id
            && mount::is_mount_point(&pins.join("uts")).unwrap_or(false)
    }

    pub(crate) fn present_sandbox(&self, record: &SandboxRecord) -> Sandbox {
        Sandbox {
            pod: record.pod(),
            attempt: record.attempt,
            ip: record.ip,
            state: if self.is_ready(record) { SandboxState::Ready } else { SandboxState::NotReady },
            created_at: record.created_at,
        }
    }

    /// The pod's tmpfs: pins, secrets and subPaths live and die with it.
    fn ensure_pod_run(&self, uid: &str) -> io::Result<()> {
        check_name(uid)?;
        mount::tmpfs(&self.paths.pod_run(uid), "mode=755", MountFlags::NOSUID | MountFlags::NODEV)
    }

    pub(crate) fn ensure_volumes(&self, uid: &str, volumes: &[Volume]) -> Result<Observation, Fault> {
        let _pod = self.locks.lock(uid);
        let fault = |name: &str, e: io::Error| Fault {
            reason: Reason::FailedMount,
            message: format!("MountVolume.SetUp failed for volume {name:?} : {e}"),
        };
        let sandbox = self.paths.sandbox(uid);
        self.ensure_pod_run(uid).and_then(|()| fs::create_dir_all(&sandbox)).map_err(|e| fault("", e))?;
        let now = jiff::Timestamp::now();
        let mut places = std::collections::BTreeMap::new();
        for volume in volumes {
            check_name(&volume.name).map_err(|e| fault(&volume.name, e))?;
            let at = mount::place(volume, &sandbox, &self.paths.pod_run(uid));
            mount::ensure_volume(volume, &at, now).map_err(|e| fault(&volume.name, e))?;
            places.insert(volume.name.clone(), at);
        }
        record::write(&sandbox.join("volumes.json"), &places).map_err(|e| fault("", e))?;
        Ok(Observation::Volumes { pod: uid.to_string() })
    }

    pub(crate) fn stop_sandbox(&self, uid: &str) -> Result<Observation, Fault> {
        let fault = |e: io::Error| Fault { reason: Reason::FailedKillPod, message: format!("error killing pod: {e}") };
        self.kill_containers_of(uid).map_err(fault)?;
        let _pod = self.locks.lock(uid);
        if let Some(mut record) = self.sandbox_record(uid).map_err(fault)? {
            record.ready = false;
            // A full disk must not keep a pod from ending; without its pins it is not ready either.
            let _ = record::write(&self.paths.sandbox(uid).join("sandbox.json"), &record);
        }
        self.tear_down(uid).map_err(fault)?;
        Ok(Observation::SandboxStopped { pod: uid.to_string() })
    }

    /// Network, mounts and cgroup; the records and emptyDirs stay.
    fn tear_down(&self, uid: &str) -> io::Result<()> {
        check_name(uid)?;
        for rootfs in mount::mounts_below(&self.paths.sandbox(uid))? {
            mount::unmount(&rootfs)?;
        }
        self.detach_network(uid)?;
        mount::unmount(&self.paths.pod_run(uid))?;
        match fs::remove_dir(self.paths.pod_run(uid)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let group = self.pod_group(uid);
        self.cgroups.kill_all(&group)?;
        self.cgroups.remove(&group)
    }

    pub(crate) fn remove_pod(&self, uid: &str) -> Result<Observation, Fault> {
        self.stop_sandbox(uid)?;
        let _pod = self.locks.lock(uid);
        let fault = |e: io::Error| Fault { reason: Reason::FailedKillPod, message: format!("error removing pod: {e}") };
        let record = self.sandbox_record(uid).map_err(fault)?;
        self.forget_containers_of(uid);
        if let Some(record) = record {
            remove_all(&self.paths.logs(&record.pod())).map_err(fault)?;
        }
        remove_all(&self.paths.sandbox(uid)).map_err(fault)?;
        Ok(Observation::PodRemoved { pod: uid.to_string() })
    }
}

pub(crate) fn node_file(file: &NodeFile, path: &str) -> io::Result<String> {
    match file {
        NodeFile::Text(text) => Ok(text.clone()),
        NodeFile::FromNode { append } => match fs::read_to_string(path) {
            Ok(text) => Ok(text + append),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(append.clone()),
            Err(e) => Err(e),
        },
    }
}

/// Makes the pod's ipc and uts namespaces and its sysctls in a thread of its own, whose namespaces are then kept by mounts.
fn pin_namespaces(spec: &SandboxSpec, pins: &Path, hostname: &str, netns: Option<&Path>) -> io::Result<()> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("sandbox".into()).spawn_scoped(scope, || {
            sys::unshare(libc::CLONE_NEWIPC | libc::CLONE_NEWUTS)?;
            if let Some(path) = netns {
                sys::setns(fs::File::open(path)?.as_fd(), libc::CLONE_NEWNET)?;
                // As Docker has it: a container's non-root user may listen on port 80 of its own network.
                let _ = fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
                let _ = fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
            }
            rustix::system::sethostname(hostname.as_bytes())?;
            for (name, value) in &spec.sysctls {
                set_sysctl(name, value, spec)?;
            }
            for kind in ["ipc", "uts"] {
                let pin = pins.join(kind);
                fs::write(&pin, "")?;
                rustix::mount::mount_bind(format!("/proc/thread-self/ns/{kind}"), &pin)?;
            }
            Ok(())
        })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the sandbox thread panicked")))
    })
}

/// Only what belongs to a namespace of the pod: else a pod would change the node.
fn set_sysctl(name: &str, value: &str, spec: &SandboxSpec) -> io::Result<()> {
    let ipc = ["kernel.sem", "kernel.shm", "kernel.msg", "fs.mqueue."];
    let is_ipc = ipc.iter().any(|prefix| name.starts_with(prefix)) && !spec.host_ipc;
    let is_net = name.starts_with("net.") && !spec.host_network;
    if !is_ipc && !is_net || name.contains('/') || name.contains("..") {
        return Err(io::Error::other(format!("sysctl {name:?} is not namespaced for this pod")));
    }
    fs::write(Path::new("/proc/sys").join(name.replace('.', "/")), value)
        .map_err(|e| io::Error::new(e.kind(), format!("set sysctl {name}={value}: {e}")))
}
