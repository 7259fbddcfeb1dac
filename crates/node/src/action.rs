//! The whole contract between the node agent and the machine: what to do ([`Action`]) and what was seen ([`Observation`]).
//!
//! Guarantees: plain data, no handles. Every action is an idempotent "ensure": asked twice, it answers twice and acts once,
//! so an agent that lost its memory observes the machine ([`World`]) and plans again. One action gives exactly one
//! observation, and [`Observation::Failed`] carries the action back. Only [`Observation::Exited`] and
//! [`Observation::PullProgress`] come unasked.
//! Assumes: names, commands, environment, mounts and users were decided by the agent (`$(VAR)` expanded, claims resolved to
//! directories, named ports to numbers); only what needs the image's own files (user names, entrypoint) is left to the host.
//! Upstream: the container runtime interface (CRI), whose size it has; volumes as kubelet's volume plugins write them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

/// `metadata.uid` of a pod.
pub type PodUid = String;

/// Which pod an action is about: the uid decides, the names are for people, logs and paths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodRef {
    pub uid: PodUid,
    pub namespace: String,
    pub name: String,
}

/// One run of one container of one pod. `attempt` starts at 0 and only grows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerRef {
    pub pod: PodUid,
    pub name: String,
    pub attempt: u32,
}

/// Something to make true on the machine.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Is the image here? Answers [`Observation::Image`], `found: None` when it is not. Never touches the network.
    FindImage { image: String },
    /// Fetch the image even if it is here. Answers [`Observation::Image`]; progress comes as [`Observation::PullProgress`].
    PullImage { image: String, credentials: Option<Credentials> },
    /// Forget the image (by name or id) and the layers that nothing else uses. Answers [`Observation::ImageRemoved`].
    RemoveImage { image: String },
    /// How much room there is, and which images could go. Answers [`Observation::Disk`].
    LookAtDisk,
    /// How much of the disk these pods have taken beside their volumes that last. Answers [`Observation::PodsOnDisk`].
    MeasurePods { pods: Vec<PodUid> },

    /// Namespaces, network, cgroup and directories of a pod. Answers [`Observation::Sandbox`].
    EnsureSandbox(Box<SandboxSpec>),
    /// Write and mount the pod's volumes; again with new contents to update files in place. Answers [`Observation::Volumes`].
    EnsureVolumes { pod: PodUid, volumes: Vec<Volume> },
    /// Kill what still runs, give back address, namespaces and volume mounts; logs, records and emptyDirs stay.
    /// Answers [`Observation::SandboxStopped`].
    StopSandbox { pod: PodUid },
    /// Give back what an ended pod wrote: its containers' writable layers and its emptyDirs; logs and records stay.
    /// Answers [`Observation::PodEmptied`].
    EmptyPod { pod: PodUid },
    /// `StopSandbox`, then forget the pod: logs, records, emptyDirs. Answers [`Observation::PodRemoved`].
    RemovePod { pod: PodUid },

    /// Create and start one attempt. Refused while another attempt of this name lives. Answers [`Observation::Container`],
    /// also when this attempt ran before (with the state it has now): it is never run a second time.
    EnsureContainer(Box<ContainerSpec>),
    /// Send the stop signal (the image's or SIGTERM when `None`), SIGKILL after `grace`; returns when it is gone.
    /// A later call with a shorter grace shortens the wait. Answers [`Observation::Container`].
    StopContainer { container: ContainerRef, signal: Option<String>, grace: Duration },
    /// Give a running attempt, and its pod as a whole, other limits. Answers [`Observation::Resized`].
    ResizeContainer { container: ContainerRef, resources: Resources, pod_resources: Resources },
    /// Remove an ended attempt: its root filesystem, record and log. Answers [`Observation::ContainerRemoved`].
    RemoveContainer { container: ContainerRef },

    /// Ask once. Answers [`Observation::Probed`].
    Probe { container: ContainerRef, kind: ProbeKind, check: Check, timeout: Duration },
    /// Run a lifecycle hook to its end (at most `timeout`). Answers [`Observation::HookDone`].
    RunHook { container: ContainerRef, hook: Hook, check: HookAction, timeout: Duration },

    /// Delete the directory of a provisioned volume (reclaim policy Delete); refused outside the volumes directory.
    /// Answers [`Observation::DirectoryDeleted`].
    DeleteDirectory { path: PathBuf },
}

/// Room on the file system that holds images, containers and volumes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Room {
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// All images but the built-in one, which is never in the way.
    pub images: Vec<Image>,
}

/// What a pod has taken of the disk, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodDisk {
    /// Writable layer and logs, by container.
    pub containers: BTreeMap<String, u64>,
    /// emptyDirs on disk.
    pub volumes: u64,
}

/// Something seen on the machine.
#[derive(Debug, Clone, PartialEq)]
pub enum Observation {
    Image {
        image: String,
        found: Option<Image>,
    },
    /// `total_bytes` is 0 until the manifest is known.
    PullProgress {
        image: String,
        done_bytes: u64,
        total_bytes: u64,
    },
    ImageRemoved {
        image: String,
    },
    Disk(Room),
    PodsOnDisk(BTreeMap<PodUid, PodDisk>),
    PodEmptied {
        pod: PodUid,
    },
    Sandbox(Sandbox),
    Volumes {
        pod: PodUid,
    },
    SandboxStopped {
        pod: PodUid,
    },
    PodRemoved {
        pod: PodUid,
    },
    /// The answer to an action about a container.
    Container(Container),
    /// A container ended by itself or by our signal. Comes once per end and agent life, unasked; it may overtake the answer
    /// that says `Running`, so an end is final: an attempt never runs again.
    Exited(Container),
    ContainerRemoved {
        container: ContainerRef,
    },
    Resized {
        container: ContainerRef,
        resources: Resources,
    },
    Probed {
        container: ContainerRef,
        kind: ProbeKind,
        result: ProbeResult,
        at: Timestamp,
    },
    /// `Err` holds the text for the event `FailedPostStartHook` / `FailedPreStopHook`.
    HookDone {
        container: ContainerRef,
        hook: Hook,
        result: Result<(), String>,
        at: Timestamp,
    },
    DirectoryDeleted {
        path: PathBuf,
    },
    Failed {
        action: Box<Action>,
        failure: Failure,
        at: Timestamp,
    },
}

/// Why an action could not be performed, in the words that a user reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub reason: Reason,
    /// The text of the event and of `state.waiting.message`.
    pub message: String,
}

/// The `waiting.reason` or event reason that a failure becomes ([`Reason::as_str`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    InvalidImageName,
    ErrImagePull,
    /// imagePullPolicy Never, and the image is not here. Said by the agent itself.
    ErrImageNeverPull,
    RegistryUnavailable,
    /// The image is not here (it was removed between resolve and create).
    ImageInspectError,
    CreateContainerConfigError,
    CreateContainerError,
    RunContainerError,
    FailedCreatePodSandBox,
    FailedMount,
    FailedKillPod,
    /// Removing an image, a container or a directory failed; tried again later.
    FailedCleanup,
    /// The action names a pod or an attempt that is not here.
    NotFound,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::InvalidImageName => "InvalidImageName",
            Reason::ErrImagePull => "ErrImagePull",
            Reason::ErrImageNeverPull => "ErrImageNeverPull",
            Reason::RegistryUnavailable => "RegistryUnavailable",
            Reason::ImageInspectError => "ImageInspectError",
            Reason::CreateContainerConfigError => "CreateContainerConfigError",
            Reason::CreateContainerError => "CreateContainerError",
            Reason::RunContainerError => "RunContainerError",
            Reason::FailedCreatePodSandBox => "FailedCreatePodSandBox",
            Reason::FailedMount => "FailedMount",
            Reason::FailedKillPod => "FailedKillPod",
            Reason::FailedCleanup => "FailedCleanup",
            Reason::NotFound => "NotFound",
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------- images

/// User name and password for one registry, from an image pull secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub username: String,
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// An image in the local store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `sha256:…` of the image's configuration.
    pub id: String,
    /// Normalised names with tag, e.g. `docker.io/library/nginx:latest`.
    pub names: Vec<String>,
    /// `name@sha256:…` of the manifests it was pulled by; `status.imageID` is the first one, else the id.
    pub digests: Vec<String>,
    pub size_bytes: u64,
    pub config: ImageConfig,
}

/// What an image says about how to run it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// `user`, `uid`, `user:group` … or empty for root. For `runAsNonRoot`: only a numeric user can be checked.
    pub user: String,
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub working_dir: String,
    /// `80/tcp`
    pub exposed_ports: Vec<String>,
    pub stop_signal: Option<String>,
}

// --------------------------------------------------------------------------------------------------------------- sandbox

#[derive(Debug, Clone, PartialEq)]
pub struct SandboxSpec {
    pub pod: PodRef,
    /// Rises when the sandbox must be made anew (after a reboot, or when it died).
    pub attempt: u32,
    /// Ignored with `host_network`.
    pub hostname: String,
    pub host_network: bool,
    pub host_pid: bool,
    pub host_ipc: bool,
    /// `shareProcessNamespace`.
    pub share_process_namespace: bool,
    pub resolv_conf: NodeFile,
    /// `net.*`, `kernel.shm*`, … as in `securityContext.sysctls`.
    pub sysctls: BTreeMap<String, String>,
    /// Limits of the pod's own cgroup, the sum over its containers; empty = none.
    pub resources: Resources,
}

/// A file that is either given or derived from the node's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeFile {
    Text(String),
    /// The node's file of the same name, as it is now, with `append` behind it.
    FromNode {
        append: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    pub pod: PodRef,
    pub attempt: u32,
    /// The pod's address; `None` on the host's network.
    pub ip: Option<IpAddr>,
    pub state: SandboxState,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxState {
    Ready,
    /// Stopped, or its namespaces went with a reboot.
    NotReady,
}

// --------------------------------------------------------------------------------------------------------------- volumes

#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    /// The name in `spec.volumes`.
    pub name: String,
    pub source: VolumeSource,
    /// Applied where upstream applies it: emptyDir, files and provisioned directories, not hostPath.
    pub fs_group: Option<FsGroup>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum VolumeSource {
    /// An empty directory that lives as long as the pod.
    EmptyDir,
    /// A tmpfs that lives as long as the pod; `None` = no limit of its own.
    Memory { size_bytes: Option<u64> },
    /// A path of the node. Checked and made as `hostPath.type` says.
    HostPath { path: PathBuf, kind: HostPathKind },
    /// The directory of a persistent volume, made (mode 0777) when missing; never removed here.
    Directory { path: PathBuf },
    /// A device node of the node, for `volumeDevices`.
    Block { device: PathBuf },
    /// Files from configMap, secret, downwardAPI, projected: swapped all at once through a `..data` symlink; on tmpfs.
    Files { files: BTreeMap<String, FileContent> },
}

/// `hostPath.type`; the default "" is `Any`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostPathKind {
    Any,
    DirectoryOrCreate,
    Directory,
    FileOrCreate,
    File,
    Socket,
    CharDevice,
    BlockDevice,
}

/// One file of a [`VolumeSource::Files`]; its key is a relative path without `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileContent {
    pub data: Vec<u8>,
    /// Permission bits, e.g. 0o644.
    pub mode: u32,
    /// Owner, when not root (service account tokens for a `runAsUser`).
    pub uid: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsGroup {
    pub gid: u32,
    /// `fsGroupChangePolicy: OnRootMismatch`: skip the walk when the root already fits.
    pub only_on_root_mismatch: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// A volume of the pod's last `EnsureVolumes`.
    pub volume: String,
    pub container_path: PathBuf,
    /// Inside the volume, already expanded; made as a directory when missing. Cannot leave the volume, symlinks included.
    pub sub_path: Option<String>,
    pub read_only: bool,
    pub propagation: Propagation,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Propagation {
    #[default]
    None,
    HostToContainer,
    Bidirectional,
}

/// `volumeDevices`: a block volume shown as a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub volume: String,
    pub container_path: PathBuf,
    pub read_only: bool,
}

// ------------------------------------------------------------------------------------------------------------ containers

#[derive(Debug, Clone, PartialEq)]
pub struct ContainerSpec {
    pub container: ContainerRef,
    /// The image's id or name as [`Observation::Image`] gave it.
    pub image_id: String,
    /// `command` and `args` as in the pod; empty ones are taken from the image by Kubernetes' rules.
    pub command: Vec<String>,
    pub args: Vec<String>,
    /// Complete, later entries win; the image's own are put before them.
    pub env: Vec<(String, String)>,
    pub working_dir: Option<String>,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    /// Written to the pod's hosts file before the start; containers of one pod share it. `None` leaves the image's file.
    pub etc_hosts: Option<NodeFile>,
    pub security: Security,
    pub resources: Resources,
    pub oom_score_adj: i32,
    /// The running container of the pod whose process namespace it shares; `None`: as the sandbox says.
    pub process_namespace_of: Option<ContainerRef>,
    pub tty: bool,
    pub stdin: bool,
    pub stdin_once: bool,
    pub termination_message: TerminationMessage,
}

/// The pod's and the container's securityContext, already merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// `None`: the image's user.
    pub run_as_user: Option<u32>,
    pub run_as_group: Option<u32>,
    /// `supplementalGroups` and `fsGroup`; the image's own groups of the user are added.
    pub supplementary_groups: Vec<u32>,
    pub privileged: bool,
    /// Names with or without `CAP_`, or `ALL`, added to (taken from) the runtime's default set.
    pub capabilities_add: Vec<String>,
    pub capabilities_drop: Vec<String>,
    pub read_only_root: bool,
    /// `allowPrivilegeEscalation: false`.
    pub no_new_privileges: bool,
    pub seccomp: Seccomp,
    /// `procMount: Unmasked`.
    pub unmasked_proc: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Seccomp {
    #[default]
    Unconfined,
    RuntimeDefault,
    /// A profile file of the node, relative to the data directory's `seccomp/`.
    Localhost(String),
}

/// Limits as the kernel takes them. `None` = no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// 1024 per core requested, at least 2.
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU per `cpu_period_us`.
    pub cpu_quota_us: Option<i64>,
    /// 100000 when not given.
    pub cpu_period_us: Option<u64>,
    pub memory_bytes: Option<u64>,
    pub pids: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminationMessage {
    /// `/dev/termination-log` by default.
    pub path: PathBuf,
    /// `FallbackToLogsOnError`: the log's end when the file is empty and the container failed.
    pub fallback_to_logs_on_error: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub container: ContainerRef,
    /// Hexadecimal; `status.containerID` is `stead://` and this.
    pub id: String,
    pub image_id: String,
    pub state: ContainerState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    Running { started_at: Timestamp },
    Exited(Exit),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// 128 + signal when killed by one.
    pub code: i32,
    pub signal: Option<i32>,
    pub oom_killed: bool,
    /// `None`: it never came to run its command.
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
    /// The termination message, at most 4096 bytes.
    pub message: String,
    /// The end was not seen: the machine was rebooted or the shim killed (`reason: ContainerStatusUnknown`, code 137).
    pub is_lost: bool,
}

// ---------------------------------------------------------------------------------------------------------------- probes

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

/// What a probe or an HTTP hook asks. Addresses are already the pod's (or `host`) with a numeric port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    Exec {
        command: Vec<String>,
    },
    /// Success: status 200 to 399. `https` is not verified, as upstream.
    Http {
        https: bool,
        host: String,
        port: u16,
        path: String,
        headers: Vec<(String, String)>,
    },
    Tcp {
        address: SocketAddr,
    },
    Grpc {
        address: SocketAddr,
        service: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeResult {
    Success,
    /// The text of the `Unhealthy` event behind "Readiness probe failed: ".
    Failure(String),
    /// Could not be asked at all (the container was not there): counts as nothing.
    Unknown(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    PostStart,
    PreStop,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookAction {
    Run(Check),
    Sleep(Duration),
}

// ----------------------------------------------------------------------------------------------------------------- world

/// Everything that exists on the machine: the answer after a restart, from which the agent plans again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct World {
    pub sandboxes: Vec<Sandbox>,
    /// Running ones and ended ones that were not removed, of all attempts.
    pub containers: Vec<Container>,
    pub images: Vec<Image>,
}

/// What the node reports of itself in `status.nodeInfo`, `capacity` and `addresses`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    pub machine_id: String,
    pub boot_id: String,
    pub kernel_version: String,
    pub os_image: String,
    /// `amd64`
    pub architecture: String,
    pub runtime_version: String,
    pub cpus: u32,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    pub disk_free_bytes: u64,
}
