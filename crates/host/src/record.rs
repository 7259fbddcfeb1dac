//! Where things lie on disk, and the small records from which everything is found again after a restart.
//!
//! ```text
//! <data>/pods/<ns>_<name>_<uid>/<container>/<attempt>.log      logs in CRI format (rotated: .log.1 … .log.4)
//! <data>/sandboxes/<uid>/sandbox.json, hosts, hostname, resolv.conf, volumes/<name>/
//! <data>/sandboxes/<uid>/containers/<name>/lock                held by the shim of the running attempt
//! <data>/sandboxes/<uid>/containers/<name>/<attempt>/          container.json, config.json, running.json, exit.json,
//!                                                              upper/, work/, rootfs/, termination-log
//! <data>/volumes/, <data>/images/                              provisioned volumes; the image store
//! <run>/<node>/pods/<uid>/                                     tmpfs of the pod: ns/, shm/, volumes/, sub/
//! <run>/lc/<id>/, <run>/s/<id>                                 libcontainer's state; the shims' sockets
//! ```
//! Guarantees: a record is replaced whole (write aside, rename); `exit.json` is also synced, since it is the only trace of an end.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stead_node::action::{Container, ContainerRef, ContainerState, PodRef};

/// Where a cluster keeps what does not outlive a boot; there is one for as long as it has anything on the machine.
pub fn run_dir(cluster: &str) -> PathBuf {
    Path::new("/run/stead").join(cluster)
}

/// All paths of one cluster on one machine.
#[derive(Debug, Clone)]
pub struct Paths {
    pub data: PathBuf,
    /// Of the cluster: paths of sockets, which must be short.
    pub run: PathBuf,
    node_run: PathBuf,
}

impl Paths {
    pub fn new(data: &Path, cluster: &str, node: &str) -> Paths {
        let run = run_dir(cluster);
        Paths { data: data.to_path_buf(), node_run: run.join(node), run }
    }
    pub fn sandboxes(&self) -> PathBuf {
        self.data.join("sandboxes")
    }
    pub fn sandbox(&self, uid: &str) -> PathBuf {
        self.sandboxes().join(uid)
    }
    pub fn containers(&self, uid: &str, name: &str) -> PathBuf {
        self.sandbox(uid).join("containers").join(name)
    }
    pub fn container(&self, c: &ContainerRef) -> PathBuf {
        self.containers(&c.pod, &c.name).join(c.attempt.to_string())
    }
    pub fn rootfs(&self, c: &ContainerRef) -> PathBuf {
        self.container(c).join("rootfs")
    }
    pub fn pods_run(&self) -> PathBuf {
        self.node_run.join("pods")
    }
    pub fn pod_run(&self, uid: &str) -> PathBuf {
        self.pods_run().join(uid)
    }
    pub fn logs(&self, pod: &PodRef) -> PathBuf {
        self.data.join("pods").join(format!("{}_{}_{}", pod.namespace, pod.name, pod.uid))
    }
    pub fn libcontainer(&self) -> PathBuf {
        self.run.join("lc")
    }
    pub fn socket(&self, id: &str) -> PathBuf {
        self.run.join("s").join(&id[..16])
    }
    pub fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }
}

/// `sandbox.json`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxRecord {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub attempt: u32,
    pub ip: Option<IpAddr>,
    pub netns: Option<PathBuf>,
    pub hostname: String,
    pub host_network: bool,
    pub host_pid: bool,
    pub host_ipc: bool,
    pub share_pid: bool,
    pub created_at: Timestamp,
    pub boot_id: String,
    pub ready: bool,
}

impl SandboxRecord {
    pub fn pod(&self) -> PodRef {
        PodRef { uid: self.uid.clone(), namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

/// `container.json`: written before the shim starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub id: String,
    pub pod: String,
    pub name: String,
    pub attempt: u32,
    pub image_id: String,
    pub boot_id: String,
    pub stop_signal: i32,
    pub created_at: Timestamp,
    pub fallback_to_logs_on_error: bool,
    pub shim: ShimSpec,
}

impl ContainerRecord {
    pub fn key(&self) -> ContainerRef {
        ContainerRef { pod: self.pod.clone(), name: self.name.clone(), attempt: self.attempt }
    }
}

/// What the shim needs to know beyond the bundle.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShimSpec {
    pub libcontainer_root: PathBuf,
    pub socket: PathBuf,
    pub cgroup: String,
    pub log: PathBuf,
    pub tty: bool,
    pub stdin: bool,
    pub stdin_once: bool,
}

/// `running.json`: written by the shim when the command was started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunningRecord {
    pub pid: i32,
    pub started_at: Timestamp,
}

/// `exit.json`: written by the shim, or by the host for an end that nobody saw.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExitRecord {
    pub code: i32,
    pub signal: Option<i32>,
    pub oom_killed: bool,
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
    #[serde(default)]
    pub is_lost: bool,
    /// Why it never ran.
    #[serde(default)]
    pub error: Option<String>,
}

/// `None` when there is no such file; a damaged one is an error.
pub fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {e}", path.display()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Replaces the record whole.
pub fn write<T: Serialize>(path: &Path, record: &T) -> io::Result<()> {
    write_bytes(path, &serde_json::to_vec(record)?, false)
}

/// Replaces the record whole and waits until it is on disk.
pub fn write_durably<T: Serialize>(path: &Path, record: &T) -> io::Result<()> {
    write_bytes(path, &serde_json::to_vec(record)?, true)
}

pub fn write_bytes(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let aside = path.with_extension(format!("tmp{}", std::process::id()));
    let mut file = fs::File::create(&aside)?;
    file.write_all(bytes)?;
    if durable {
        file.sync_data()?;
    }
    fs::rename(&aside, path)?;
    if durable && let Some(dir) = path.parent() {
        fs::File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// The directories in `dir`; none when it does not exist.
pub fn names_in(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// What the host remembers of an attempt.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub record: ContainerRecord,
    pub state: ContainerState,
}

impl Known {
    pub fn present(&self) -> Container {
        Container {
            container: self.record.key(),
            id: self.record.id.clone(),
            image_id: self.record.image_id.clone(),
            state: self.state.clone(),
        }
    }
    pub fn is_running(&self) -> bool {
        matches!(self.state, ContainerState::Running { .. })
    }
}

/// Fine when it is not there.
pub(crate) fn remove_all(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Names become paths and cgroups: no separators, nothing hidden.
pub(crate) fn check_name(name: &str) -> io::Result<()> {
    let fits = !name.is_empty() && name.len() <= 253 && !name.starts_with('.') && !name.contains(['/', '\0']);
    if fits { Ok(()) } else { Err(io::Error::other(format!("invalid name {name:?}"))) }
}
