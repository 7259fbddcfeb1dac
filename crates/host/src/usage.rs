//! What pods, containers and the machine use: processor time since they began, and memory that cannot be taken back at once.
//!
//! The working set is what is used without inactive file pages, as the kubelet reports it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use stead_node::action::ContainerRef;

use crate::Host;
use crate::cgroup::Cgroups;

/// Ticks a second in /proc/stat: fixed in the interface to programs.
const TICKS: u64 = 100;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub cpu: Duration,
    pub working_set: u64,
}

impl Host {
    /// # Errors
    /// When the pod has no control group (any more).
    pub fn usage_of_pod(&self, uid: &str) -> io::Result<Usage> {
        self.cgroups.usage(&self.pod_group(uid))
    }

    /// # Errors
    /// When the container has no control group (any more).
    pub fn usage_of_container(&self, container: &ContainerRef) -> io::Result<Usage> {
        self.cgroups.usage(&self.container_group(container))
    }
}

/// What everything on the machine uses.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn of_machine() -> io::Result<Usage> {
    of_texts(&fs::read_to_string("/proc/stat")?, &fs::read_to_string("/proc/meminfo")?)
}

fn of_texts(stat: &str, meminfo: &str) -> io::Result<Usage> {
    let unknown = |what: &str| io::Error::other(format!("{what} is not told"));
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).ok_or_else(|| unknown("processor time"))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guests' time is in the first two already.
    let busy: u64 = [0, 1, 2, 5, 6].iter().filter_map(|at| ticks.get(*at)).sum();
    let kilobytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).ok_or_else(|| unknown(name))
    };
    let used = kilobytes("MemTotal")?.saturating_sub(kilobytes("MemAvailable")?);
    Ok(Usage { cpu: Duration::from_millis(busy * 1000 / TICKS), working_set: used * 1024 })
}

impl Cgroups {
    fn usage(&self, group: &str) -> io::Result<Usage> {
        let dir = |controller: &str| {
            let found = self.controller_dir(controller, group);
            found.ok_or_else(|| io::Error::other(format!("this machine does not count {controller}")))
        };
        let memory = dir("memory")?;
        let statistics = fs::read_to_string(memory.join("memory.stat"))?;
        if self.is_v2 {
            let cpu = fs::read_to_string(dir("cpu")?.join("cpu.stat"))?;
            let used = number(&memory.join("memory.current"))?;
            let inactive = field(&statistics, "inactive_file").unwrap_or(0);
            let cpu = Duration::from_micros(field(&cpu, "usage_usec").unwrap_or(0));
            return Ok(Usage { cpu, working_set: used.saturating_sub(inactive) });
        }
        let cpu = Duration::from_nanos(number(&dir("cpuacct")?.join("cpuacct.usage"))?);
        let used = number(&memory.join("memory.usage_in_bytes"))?;
        let inactive = field(&statistics, "total_inactive_file").unwrap_or(0);
        Ok(Usage { cpu, working_set: used.saturating_sub(inactive) })
    }
}

fn number(path: &Path) -> io::Result<u64> {
    fs::read_to_string(path)?.trim().parse().map_err(io::Error::other)
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read_from_proc() {
        let stat = "cpu  100 10 50 9000 30 2 8 1 0 0\ncpu0 1 1 1 1\n";
        let meminfo = "MemTotal:       1000 kB\nMemFree: 5 kB\nMemAvailable:    400 kB\n";
        let usage = of_texts(stat, meminfo).unwrap();
        assert_eq!((usage.cpu, usage.working_set), (Duration::from_millis(1700), 600 * 1024));
        assert!(of_machine().unwrap().working_set > 0);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        assert_eq!(field("inactive_file_x 1\ninactive_file 7\n", "inactive_file"), Some(7));
    }
}
