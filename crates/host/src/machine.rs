//! The machine's facts for `status.nodeInfo` and `status.capacity`.

use std::fs;
use std::io;
use std::path::Path;

use stead_node::action::Machine;

pub fn read(data_dir: &Path) -> io::Result<Machine> {
    let line = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_string()).unwrap_or_default();
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory_kib = memory.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let memory_kib = memory_kib.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok());
    let (disk_bytes, disk_free_bytes) = disk(data_dir)?;
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_string();
    Ok(Machine {
        machine_id: line("/etc/machine-id"),
        boot_id,
        kernel_version: rustix::system::uname().release().to_string_lossy().into_owned(),
        os_image: name.trim_matches('"').to_string(),
        architecture: match std::env::consts::ARCH {
            "x86_64" => "amd64".to_string(),
            "aarch64" => "arm64".to_string(),
            other => other.to_string(),
        },
        runtime_version: format!("stead://{}", env!("CARGO_PKG_VERSION")),
        cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_bytes: memory_kib.unwrap_or(0) * 1024,
        disk_bytes,
        disk_free_bytes,
    })
}

/// Bytes of the file system below a directory: all, and those that are free.
pub fn disk(dir: &Path) -> io::Result<(u64, u64)> {
    let disk = rustix::fs::statvfs(dir)?;
    Ok((disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize))
}
