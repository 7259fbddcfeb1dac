//! The process itself, as Prometheus' client libraries tell it.

use std::fs;

/// Ticks a second in /proc: fixed in the interface to programs.
const TICKS: f64 = 100.0;

/// Name, kind, help and value.
pub type Fact = (&'static str, &'static str, &'static str, f64);

/// What `/proc/self` tells; what it does not is left out.
pub fn facts() -> Vec<Fact> {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let mut facts = of_stat(&stat, boot_time(&boot));
    if let Some(max) = open_files_max(&limits) {
        facts.push(("process_max_fds", "gauge", "Maximum number of open file descriptors.", max));
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is this directory.
        let open = open.count().saturating_sub(1) as f64;
        facts.push(("process_open_fds", "gauge", "Number of open file descriptors.", open));
    }
    facts.sort_by_key(|fact| fact.0);
    facts
}

fn of_stat(stat: &str, boot: Option<f64>) -> Vec<Fact> {
    // The name, in brackets, may hold anything; the third field follows it.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<f64> = rest.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    let field = |number: usize| fields.get(number - 4).copied();
    let mut facts = Vec::new();
    let mut add = |name, kind, help, value: Option<f64>| facts.extend(value.map(|value| (name, kind, help, value)));
    let cpu = field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS);
    add("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", cpu);
    add("process_threads", "gauge", "Number of threads.", field(20));
    let start = field(22).zip(boot).map(|(ticks, boot)| boot + ticks / TICKS);
    let help = "Start time of the process since unix epoch in seconds.";
    add("process_start_time_seconds", "gauge", help, start);
    add("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", field(23));
    let page = rustix::param::page_size() as f64;
    let resident = field(24).map(|pages| pages * page);
    add("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", resident);
    facts
}

fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn open_files_max(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_those_of_the_manual() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 3 0 200 4096 2 184467";
        let facts = of_stat(stat, Some(1000.0));
        let value = |name: &str| facts.iter().find(|fact| fact.0 == name).map(|fact| fact.3);
        assert_eq!(value("process_cpu_seconds_total"), Some(2.0));
        assert_eq!(value("process_threads"), Some(3.0));
        assert_eq!(value("process_start_time_seconds"), Some(1002.0));
        assert_eq!(value("process_virtual_memory_bytes"), Some(4096.0));
        assert!(self::facts().iter().any(|fact| fact.0 == "process_open_fds" && fact.3 > 0.0));
    }
}
