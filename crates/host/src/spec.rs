//! A container's OCI `config.json` from what the agent wants, what the image says and what this machine allows.
//!
//! Guarantees: everything the kernel would refuse here is clamped first (rlimits, oomScoreAdj, capabilities beyond the bounding
//! set), so a pod that runs on another machine runs here too.
//! Upstream: the OCI runtime specification; defaults as container runtimes of Kubernetes set them.

use std::path::Path;

use serde_json::{Value, json};
use stead_node::action::{ContainerSpec, ImageConfig, Propagation, Seccomp};

use crate::record::SandboxRecord;
use crate::user::User;

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// By number, as in capabilities(7).
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What the machine and the pod contribute.
pub struct Context<'a> {
    pub sandbox: &'a SandboxRecord,
    pub image: &'a ImageConfig,
    pub user: &'a User,
    pub root: &'a Path,
    pub cgroup: &'a str,
    pub is_cgroup_v2: bool,
    /// `/run/…/pods/<uid>`: namespaces and shared memory.
    pub pod_run: &'a Path,
    pub mounts: &'a [BindMount],
    pub devices: &'a [DeviceNode],
    /// The process namespace to join: the pod's, for `shareProcessNamespace`, or that of the container it looks into.
    pub pid_namespace: Option<&'a Path>,
    /// Files of the container's group on version 2, by name.
    pub unified: &'a std::collections::BTreeMap<&'static str, &'static str>,
    pub limits: &'a Limits,
}

/// A source on the node shown in the container.
#[derive(Debug, Clone)]
pub struct BindMount {
    pub source: std::path::PathBuf,
    pub target: std::path::PathBuf,
    pub read_only: bool,
    pub propagation: Propagation,
}

#[derive(Debug, Clone)]
pub struct DeviceNode {
    pub path: String,
    pub is_block: bool,
    pub major: u32,
    pub minor: u32,
    pub read_only: bool,
}

/// What this process may give away.
#[derive(Debug, Clone)]
pub struct Limits {
    pub bounding: u64,
    pub files_max: u64,
    pub oom_score_adj_min: i32,
}

impl Limits {
    pub fn of_this_process() -> std::io::Result<Limits> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let bounding = status.lines().find_map(|l| l.strip_prefix("CapBnd:"));
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        let bounding = bounding.and_then(|h| u64::from_str_radix(h.trim(), 16).ok()).unwrap_or(0);
        let own = std::fs::read_to_string("/proc/self/oom_score_adj")?.trim().parse().unwrap_or(0);
        // Below one's own score needs CAP_SYS_RESOURCE (24).
        let oom_score_adj_min = if bounding & (1 << 24) != 0 { -1000 } else { own };
        Ok(Limits { bounding, files_max: files.unwrap_or(1 << 20), oom_score_adj_min })
    }
}

/// `command` and `args` by Kubernetes' rules: a command hides the image's cmd too.
pub fn command_line(spec: &ContainerSpec, image: &ImageConfig) -> Vec<String> {
    let (entrypoint, args) = match (spec.command.is_empty(), spec.args.is_empty()) {
        (false, _) => (&spec.command, &spec.args),
        (true, false) => (&image.entrypoint, &spec.args),
        (true, true) => (&image.entrypoint, &image.cmd),
    };
    entrypoint.iter().chain(args).cloned().collect()
}

pub fn working_dir<'a>(spec: &'a ContainerSpec, image: &'a ImageConfig) -> &'a str {
    let all = [spec.working_dir.as_deref().unwrap_or(""), &image.working_dir];
    all.into_iter().find(|dir| !dir.is_empty()).unwrap_or("/")
}

fn environment(spec: &ContainerSpec, context: &Context) -> Vec<String> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut put = |name: &str, value: &str| match all.iter_mut().find(|(n, _)| n == name) {
        Some(entry) => entry.1 = value.to_string(),
        None => all.push((name.to_string(), value.to_string())),
    };
    let (name, value) = DEFAULT_PATH.split_once('=').unwrap_or_default();
    put(name, value);
    put("HOSTNAME", &context.sandbox.hostname);
    if spec.tty {
        put("TERM", "xterm");
    }
    put("HOME", &context.user.home);
    for entry in &context.image.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        put(name, value);
    }
    for (name, value) in &spec.env {
        put(name, value);
    }
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// The names the container gets, in the kernel's order, cut to what this process may give.
fn capabilities(spec: &ContainerSpec, context: &Context) -> Vec<String> {
    let plain = |name: &String| name.to_uppercase().trim_start_matches("CAP_").to_string();
    let add: Vec<String> = spec.security.capabilities_add.iter().map(plain).collect();
    let drop: Vec<String> = spec.security.capabilities_drop.iter().map(plain).collect();
    let is_all = |list: &[String]| list.iter().any(|c| c == "ALL");
    let wanted = |name: &str| {
        let added = is_all(&add) || add.iter().any(|c| c == name);
        let dropped = drop.iter().any(|c| c == name);
        if spec.security.privileged {
            return true;
        }
        // Version 2 has no device rules here: without mknod none are needed.
        let default = DEFAULT_CAPABILITIES.contains(&name) && !(name == "MKNOD" && context.is_cgroup_v2);
        if is_all(&drop) { add.iter().any(|c| c == name) } else { (default || added) && !dropped }
    };
    let bounding = context.limits.bounding;
    let numbered = CAPABILITIES.iter().enumerate().filter(|(number, _)| bounding & (1 << number) != 0);
    numbered.filter(|(_, name)| wanted(name)).map(|(_, name)| format!("CAP_{name}")).collect()
}

fn mounts(spec: &ContainerSpec, context: &Context) -> Vec<Value> {
    let privileged = spec.security.privileged;
    let system = |target: &str, kind: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": kind, "options": options});
    let access = if privileged { "rw" } else { "ro" };
    let mut all = vec![
        system("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        system("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        system("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        system("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        system("/sys", "sysfs", &["nosuid", "noexec", "nodev", access]),
        system("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", access]),
    ];
    let shm = if context.sandbox.host_ipc { Path::new("/dev/shm").to_path_buf() } else { context.pod_run.join("shm") };
    let shm = BindMount { source: shm, target: "/dev/shm".into(), read_only: false, propagation: Propagation::None };
    // A mount below another one comes after it.
    let mut binds: Vec<&BindMount> = std::iter::once(&shm).chain(context.mounts).collect();
    binds.sort_by_key(|m| m.target.components().count());
    let overridden = |value: &Value| binds.iter().any(|b| value["destination"] == b.target.display().to_string());
    all.retain(|system| !overridden(system));
    let bind_values = binds.iter().map(|b| {
        let propagation = match b.propagation {
            Propagation::None => "rprivate",
            Propagation::HostToContainer => "rslave",
            Propagation::Bidirectional => "rshared",
        };
        let access = if b.read_only { "ro" } else { "rw" };
        json!({"destination": b.target, "type": "bind", "source": b.source, "options": ["rbind", propagation, access]})
    });
    all.extend(bind_values);
    all
}

fn namespaces(context: &Context) -> Vec<Value> {
    let own = |kind: &str| json!({"type": kind});
    let at = |kind: &str, path: &Path| json!({"type": kind, "path": path});
    let pins = context.pod_run.join("ns");
    let sandbox = context.sandbox;
    let mut all = vec![own("mount"), own("cgroup")];
    match (sandbox.host_pid, context.pid_namespace) {
        (true, _) => {}
        (false, Some(path)) => all.push(at("pid", path)),
        (false, None) => all.push(own("pid")),
    }
    if !sandbox.host_ipc {
        all.push(at("ipc", &pins.join("ipc")));
    }
    if !sandbox.host_network {
        all.push(at("uts", &pins.join("uts")));
        all.push(at("network", sandbox.netns.as_deref().unwrap_or(&pins.join("net"))));
    }
    all
}

fn resources(spec: &ContainerSpec, context: &Context) -> Value {
    let limits = &spec.resources;
    let mut memory = serde_json::Map::new();
    if let Some(bytes) = limits.memory_bytes {
        memory.insert("limit".into(), json!(bytes));
    }
    let mut cpu = serde_json::Map::new();
    if let Some(shares) = limits.cpu_shares {
        cpu.insert("shares".into(), json!(shares.clamp(2, 262_144)));
    }
    if let Some(quota) = limits.cpu_quota_us.filter(|q| *q > 0) {
        cpu.insert("quota".into(), json!(quota));
        cpu.insert("period".into(), json!(limits.cpu_period_us.unwrap_or(100_000)));
    }
    let mut devices = vec![json!({"allow": spec.security.privileged, "access": "rwm"})];
    devices.extend(context.devices.iter().map(|d| {
        let access = if d.read_only { "r" } else { "rwm" };
        json!({"allow": true, "type": if d.is_block { "b" } else { "c" }, "major": d.major, "minor": d.minor, "access": access})
    }));
    let mut all = json!({"memory": memory, "cpu": cpu, "devices": devices});
    if !context.unified.is_empty() {
        all["unified"] = json!(context.unified);
    }
    if let Some(pids) = limits.pids {
        all["pids"] = json!({"limit": pids});
    }
    all
}

/// The whole `config.json`.
pub fn oci(spec: &ContainerSpec, context: &Context, seccomp_profile: Option<Value>) -> Value {
    let caps = capabilities(spec, context);
    let mut groups: Vec<u32> = context.user.groups.clone();
    groups.extend(&spec.security.supplementary_groups);
    groups.sort_unstable();
    groups.dedup();
    let files = context.limits.files_max.min(1 << 20);
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": spec.tty,
            "user": {"uid": context.user.uid, "gid": context.user.gid, "additionalGids": groups},
            "args": command_line(spec, context.image),
            "env": environment(spec, context),
            "cwd": working_dir(spec, context.image),
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps, "inheritable": [], "ambient": []},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": files, "soft": files}],
            "oomScoreAdj": spec.oom_score_adj.clamp(context.limits.oom_score_adj_min, 1000),
        },
        "root": {"path": context.root, "readonly": spec.security.read_only_root},
        "mounts": mounts(spec, context),
        "linux": {
            "namespaces": namespaces(context),
            "cgroupsPath": context.cgroup,
            "resources": resources(spec, context),
            "rootfsPropagation": "private",
        },
    });
    if spec.security.no_new_privileges {
        // Only when true: libcontainer takes any value for a yes when it decides how to load a seccomp profile.
        config["process"]["noNewPrivileges"] = json!(true);
    }
    let shares = context.mounts.iter().map(|m| m.propagation);
    if let Some(most) = shares.filter(|p| *p != Propagation::None).max_by_key(|p| *p == Propagation::Bidirectional) {
        config["linux"]["rootfsPropagation"] =
            json!(if most == Propagation::Bidirectional { "shared" } else { "slave" });
    }
    if !spec.security.privileged && !spec.security.unmasked_proc {
        config["linux"]["maskedPaths"] = json!(MASKED_PATHS);
        config["linux"]["readonlyPaths"] = json!(READONLY_PATHS);
    }
    let devices: Vec<Value> = context
        .devices
        .iter()
        .map(|d| {
            let kind = if d.is_block { "b" } else { "c" };
            json!({"path": d.path, "type": kind, "major": d.major, "minor": d.minor, "fileMode": 0o660, "uid": 0, "gid": 0})
        })
        .collect();
    config["linux"]["devices"] = json!(devices);
    if !spec.security.privileged {
        match (&spec.security.seccomp, seccomp_profile) {
            (Seccomp::RuntimeDefault, _) => config["linux"]["seccomp"] = crate::seccomp::default_profile(&caps),
            (Seccomp::Localhost(_), Some(profile)) => config["linux"]["seccomp"] = profile,
            _ => {}
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(command: &[&str], args: &[&str]) -> ContainerSpec {
        let own = |list: &[&str]| list.iter().map(|s| s.to_string()).collect();
        ContainerSpec { command: own(command), args: own(args), ..crate::fixture::container("uid", "main", 0) }
    }

    fn image() -> ImageConfig {
        ImageConfig { entrypoint: vec!["/entry".into()], cmd: vec!["cmd".into()], ..ImageConfig::default() }
    }

    #[test]
    fn commands_are_merged_by_kubernetes_table() {
        let line = |c: &[&str], a: &[&str]| command_line(&spec(c, a), &image()).join(" ");
        assert_eq!(line(&[], &[]), "/entry cmd");
        assert_eq!(line(&["/x"], &[]), "/x");
        assert_eq!(line(&[], &["y"]), "/entry y");
        assert_eq!(line(&["/x"], &["y"]), "/x y");
    }

    fn check_caps(add: &[&str], drop: &[&str], bounding: u64) -> String {
        let mut spec = spec(&[], &[]);
        spec.security.capabilities_add = add.iter().map(|s| s.to_string()).collect();
        spec.security.capabilities_drop = drop.iter().map(|s| s.to_string()).collect();
        let (sandbox, image) = (crate::fixture::sandbox_record("uid"), image());
        let user = User { uid: 0, gid: 0, groups: vec![], home: "/".into() };
        let limits = Limits { bounding, files_max: 10, oom_score_adj_min: 0 };
        let context = Context {
            sandbox: &sandbox,
            image: &image,
            user: &user,
            root: Path::new("/r"),
            cgroup: "/g",
            is_cgroup_v2: false,
            pod_run: Path::new("/p"),
            mounts: &[],
            devices: &[],
            pid_namespace: None,
            unified: &Default::default(),
            limits: &limits,
        };
        capabilities(&spec, &context).join(" ").replace("CAP_", "")
    }

    #[test]
    fn capabilities_are_default_plus_added_less_dropped_within_the_bounding_set() {
        let all = (1 << 41) - 1;
        assert_eq!(
            check_caps(&["NET_ADMIN"], &["MKNOD", "CAP_CHOWN"], all),
            "DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_ADMIN NET_RAW SYS_CHROOT \
             AUDIT_WRITE SETFCAP"
        );
        assert_eq!(check_caps(&["NET_BIND_SERVICE"], &["ALL"], all), "NET_BIND_SERVICE");
        assert_eq!(check_caps(&["SYS_RESOURCE"], &["ALL"], all & !(1 << 24)), "");
    }
}
