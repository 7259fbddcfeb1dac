//! Control groups of both layouts: one group per pod, one below it per container.
//!
//! Guarantees: `kill_all` returns when the group is empty, by waiting on process descriptors; `remove` leaves nothing in any
//! hierarchy. Version 2 needs no v1 mount and the other way round; a hybrid machine counts as version 1, as libcontainer has it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use stead_node::action::Resources;

const ROOT: &str = "/sys/fs/cgroup";
/// How long a killed process may take to be gone; longer means that it hangs in the kernel (a dead disk, say).
const KILL_WAIT: Duration = Duration::from_secs(10);

/// The machine's hierarchies.
#[derive(Debug, Clone)]
pub struct Cgroups {
    pub is_v2: bool,
    /// Mount points: one in version 2; the controllers' (and the named one) in version 1.
    roots: Vec<PathBuf>,
}

impl Cgroups {
    pub fn detect() -> io::Result<Cgroups> {
        if Path::new(ROOT).join("cgroup.controllers").exists() {
            return Ok(Cgroups { is_v2: true, roots: vec![PathBuf::from(ROOT)] });
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let mut roots: Vec<PathBuf> = mounts.lines().filter_map(v1_mount_point).collect();
        roots.sort();
        roots.dedup();
        if roots.is_empty() {
            return Err(io::Error::other(
                "no cgroup file system is mounted: mount cgroup2 at /sys/fs/cgroup (mount -t cgroup2 none /sys/fs/cgroup)",
            ));
        }
        Ok(Cgroups { is_v2: false, roots })
    }

    fn dirs<'a>(&'a self, group: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
        let relative = group.trim_start_matches('/');
        self.roots.iter().map(move |root| root.join(relative))
    }

    pub(crate) fn controller_dir(&self, controller: &str, group: &str) -> Option<PathBuf> {
        let relative = group.trim_start_matches('/');
        if self.is_v2 {
            return Some(self.roots[0].join(relative));
        }
        let names = |root: &&PathBuf| {
            root.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.split(',').any(|c| c == controller))
        };
        self.roots.iter().find(names).map(|root| root.join(relative))
    }

    fn make(&self, dir: &Path) -> io::Result<()> {
        match fs::create_dir_all(dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        if dir.join("cpuset.cpus").exists() && !self.is_v2 {
            inherit_cpuset(dir)?;
        }
        Ok(())
    }

    /// Makes the group and sets its limits. `None` limits are left alone.
    pub fn ensure(&self, group: &str, limits: &Resources) -> io::Result<()> {
        if self.is_v2 {
            self.enable_controllers(group)?;
        }
        for dir in self.dirs(group) {
            self.make(&dir)?;
        }
        self.set_limits(group, limits)
    }

    /// Sets the limits of a group that is there. `None` limits are left alone.
    pub fn set_limits(&self, group: &str, limits: &Resources) -> io::Result<()> {
        for (controller, file, value) in limit_files(self.is_v2, limits) {
            if let Some(dir) = self.controller_dir(controller, group) {
                fs::write(dir.join(file), &value)
                    .map_err(|e| io::Error::new(e.kind(), format!("set {file} of {group} to {value}: {e}")))?;
            }
        }
        Ok(())
    }

    /// Lets the children of every group above `group` have limits (version 2).
    fn enable_controllers(&self, group: &str) -> io::Result<()> {
        let mut dir = self.roots[0].clone();
        let available = fs::read_to_string(dir.join("cgroup.controllers"))?;
        let parts: Vec<&str> = group.trim_matches('/').split('/').collect();
        for part in std::iter::once("").chain(parts) {
            dir.push(part);
            match fs::create_dir(&dir) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
            for controller in available.split_whitespace().filter(|c| ["cpu", "memory", "pids"].contains(c)) {
                // A group with processes of its own refuses; then the limit's write says so.
                let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
        Ok(())
    }

    /// Moves the calling process into the group, so that it dies with nobody else's.
    pub fn join(&self, group: &str) -> io::Result<()> {
        for dir in self.dirs(group) {
            self.make(&dir)?;
            fs::write(dir.join("cgroup.procs"), "0")?;
        }
        Ok(())
    }

    /// Kills every process of the group and of the groups below it.
    pub fn kill_all(&self, group: &str) -> io::Result<()> {
        let until = Instant::now() + KILL_WAIT;
        loop {
            let mut pids = Vec::new();
            for dir in self.dirs(group) {
                collect_pids(&dir, &mut pids)?;
            }
            if pids.is_empty() {
                return Ok(());
            }
            pids.sort_unstable();
            pids.dedup();
            let fds: Vec<OwnedFd> = pids
                .iter()
                .filter_map(|pid| Pid::from_raw(*pid))
                .filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
                .collect();
            for fd in &fds {
                let _ = pidfd_send_signal(fd, Signal::KILL);
            }
            for fd in &fds {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() || !wait_readable(fd, left)? {
                    return Err(io::Error::other(format!("processes of {group} do not die: {pids:?}")));
                }
            }
            // A zombie still counts as a member until its parent reaps it; then only time can help.
            if fds.is_empty() || all_zombies(&pids) {
                return Ok(());
            }
        }
    }

    /// Removes the group and all groups below it, in every hierarchy.
    pub fn remove(&self, group: &str) -> io::Result<()> {
        for dir in self.dirs(group) {
            remove_tree(&dir)?;
        }
        Ok(())
    }

    /// The groups right below `group`.
    pub fn children(&self, group: &str) -> Vec<String> {
        let mut names: Vec<String> = self
            .dirs(group)
            .filter_map(|dir| fs::read_dir(dir).ok())
            .flatten()
            .flatten()
            .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
            .filter_map(|e| e.file_name().into_string().ok())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// What a container's group has on version 2 beside its limits, as the kubelet sets it: all its processes are killed together when
    /// memory runs out, and none swaps. Only what this kernel has in the pod's group: one without swap has no file for it.
    pub fn unified(&self, pod_group: &str) -> BTreeMap<&'static str, &'static str> {
        let dir = self.roots.first().filter(|_| self.is_v2).map(|root| root.join(pod_group.trim_start_matches('/')));
        let wanted = [("memory.oom.group", "1"), ("memory.swap.max", "0")];
        wanted.into_iter().filter(|(file, _)| dir.as_ref().is_some_and(|dir| dir.join(file).exists())).collect()
    }

    /// How many processes the kernel killed in the group for lack of memory.
    pub fn oom_kills(&self, group: &str) -> u64 {
        let file = if self.is_v2 { "memory.events" } else { "memory.oom_control" };
        let Some(dir) = self.controller_dir("memory", group) else { return 0 };
        let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
        text.lines().filter_map(|l| l.strip_prefix("oom_kill ")).find_map(|n| n.trim().parse().ok()).unwrap_or(0)
    }
}

fn limit_files(is_v2: bool, limits: &Resources) -> Vec<(&'static str, &'static str, String)> {
    let mut files = Vec::new();
    let period = limits.cpu_period_us.unwrap_or(100_000);
    if let Some(bytes) = limits.memory_bytes {
        files.push(("memory", if is_v2 { "memory.max" } else { "memory.limit_in_bytes" }, bytes.to_string()));
    }
    if let Some(pids) = limits.pids {
        files.push(("pids", "pids.max", pids.to_string()));
    }
    if let Some(shares) = limits.cpu_shares {
        let shares = shares.clamp(2, 262_144);
        let weight = 1 + (shares - 2) * 9999 / 262_142;
        files.push(if is_v2 {
            ("cpu", "cpu.weight", weight.to_string())
        } else {
            ("cpu", "cpu.shares", shares.to_string())
        });
    }
    if let Some(quota) = limits.cpu_quota_us.filter(|q| *q > 0) {
        if is_v2 {
            files.push(("cpu", "cpu.max", format!("{quota} {period}")));
        } else {
            files.push(("cpu", "cpu.cfs_period_us", period.to_string()));
            files.push(("cpu", "cpu.cfs_quota_us", quota.to_string()));
        }
    }
    files
}

/// A cpuset group of version 1 takes no process before it has processors and memory nodes.
fn inherit_cpuset(dir: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = fs::read_to_string(dir.join(file))?;
        let Some(parent) = dir.parent().filter(|_| own.trim().is_empty()) else { continue };
        if fs::read_to_string(parent.join(file))?.trim().is_empty() {
            inherit_cpuset(parent)?;
        }
        fs::write(dir.join(file), fs::read_to_string(parent.join(file))?.trim())?;
    }
    Ok(())
}

fn v1_mount_point(line: &str) -> Option<PathBuf> {
    let (left, right) = line.split_once(" - ")?;
    if right.split(' ').next()? != "cgroup" {
        return None;
    }
    left.split(' ').nth(4).filter(|p| p.starts_with(ROOT)).map(PathBuf::from)
}

fn collect_pids(dir: &Path, pids: &mut Vec<i32>) -> io::Result<()> {
    match fs::read_to_string(dir.join("cgroup.procs")) {
        Ok(text) => pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok())),
        Err(e) if is_gone(&e) => return Ok(()),
        Err(e) => return Err(e),
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect_pids(&entry.path(), pids)?;
        }
    }
    Ok(())
}

/// A cgroup directory cannot be unlinked file by file: only `rmdir`, from the leaves up.
fn remove_tree(dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        Ok(()) => return Ok(()),
        Err(e) if is_gone(&e) => return Ok(()),
        Err(_) => {}
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(dir) {
        Err(e) if !is_gone(&e) => Err(io::Error::new(e.kind(), format!("remove cgroup {}: {e}", dir.display()))),
        _ => Ok(()),
    }
}

fn is_gone(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ENODEV)
}

fn all_zombies(pids: &[i32]) -> bool {
    pids.iter().all(|pid| {
        // `pid (comm) S …`: the state follows the last parenthesis, for comm may hold any byte.
        let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.iter().rposition(|b| *b == b')').and_then(|at| stat.get(at + 2));
        matches!(state, None | Some(b'Z' | b'X'))
    })
}

/// Waits until the descriptor is readable (a process descriptor: until the process ended).
pub fn wait_readable(fd: &OwnedFd, timeout: Duration) -> io::Result<bool> {
    let until = Instant::now() + timeout;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)) {
            Ok(n) => return Ok(n > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_in_each_layouts_words() {
        let limits = Resources {
            cpu_shares: Some(1024),
            cpu_quota_us: Some(50_000),
            memory_bytes: Some(1 << 20),
            pids: Some(9),
            ..Resources::default()
        };
        let show =
            |v2| limit_files(v2, &limits).into_iter().map(|(_, f, v)| format!("{f}={v}")).collect::<Vec<_>>().join(" ");
        assert_eq!(
            show(false),
            "memory.limit_in_bytes=1048576 pids.max=9 cpu.shares=1024 cpu.cfs_period_us=100000 cpu.cfs_quota_us=50000"
        );
        assert_eq!(show(true), "memory.max=1048576 pids.max=9 cpu.weight=39 cpu.max=50000 100000");
    }

    /// Version 2 as the kernel documents it (cgroup-v2.rst): one tree, controllers handed down from the root, no file of version 1.
    #[test]
    fn on_a_pure_version_2_machine_every_limit_has_its_file() {
        let root = std::env::temp_dir().join(format!("stead-cgroup2-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("cgroup.controllers"), "cpuset cpu io memory hugetlb pids rdma\n").unwrap();
        let groups = Cgroups { is_v2: true, roots: vec![root.clone()] };
        let limits = Resources {
            cpu_shares: Some(2048),
            cpu_quota_us: Some(150_000),
            memory_bytes: Some(256 << 20),
            pids: Some(100),
            ..Resources::default()
        };
        groups.ensure("/stead-abc/node-0/uid-1", &limits).unwrap();
        let pod = root.join("stead-abc/node-0/uid-1");
        let read = |dir: &Path, file: &str| fs::read_to_string(dir.join(file)).unwrap();
        assert_eq!(read(&pod, "cpu.max"), "150000 100000");
        assert_eq!(read(&pod, "cpu.weight"), "79");
        assert_eq!(read(&pod, "memory.max"), (256 << 20).to_string());
        assert_eq!(read(&pod, "pids.max"), "100");
        // Each level hands the controllers on, the pod's own to its containers; a plain file keeps the last word.
        for dir in [&root, &root.join("stead-abc"), &root.join("stead-abc/node-0"), &pod] {
            assert_eq!(read(dir, "cgroup.subtree_control"), "+pids", "{}", dir.display());
        }
        let mut files: Vec<String> =
            fs::read_dir(&pod).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        assert_eq!(files, ["cgroup.subtree_control", "cpu.max", "cpu.weight", "memory.max", "pids.max"]);
        assert!(groups.unified("/stead-abc/node-0/uid-1").is_empty(), "a kernel that has neither is asked for neither");
        fs::write(pod.join("memory.oom.group"), "0").unwrap();
        assert_eq!(groups.unified("/stead-abc/node-0/uid-1"), BTreeMap::from([("memory.oom.group", "1")]));
        fs::write(pod.join("memory.events"), "low 0\nhigh 0\nmax 7\noom 2\noom_kill 3\noom_group_kill 1\n").unwrap();
        assert_eq!(groups.oom_kills("/stead-abc/node-0/uid-1"), 3);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn mount_points_of_version_1_are_found() {
        let line = "35 25 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:12 - cgroup cgroup rw,cpu,cpuacct";
        assert_eq!(v1_mount_point(line), Some(PathBuf::from("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(v1_mount_point("36 25 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"), None);
    }
}
