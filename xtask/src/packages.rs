//! Debian packages that building and testing need, installed when they are missing.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::run;

/// Needed to build: the system call filter library, linked statically, and a linker.
pub const BUILD: &[&str] = &["libseccomp-dev", "gcc", "libc6-dev"];

/// Needed by the tests beside that.
pub const TEST: &[&str] = &[
    "busybox-static",
    "nginx-light",
    "docker-registry",
    "apache2-utils",
    "nftables",
    "iproute2",
    "dnsutils",
    "curl",
    "openssl",
    "protobuf-compiler",
    "python3-venv",
    "patroni",
    "postgresql-15",
    "rabbitmq-server",
];

/// Needed by the tests where the machine has no Node.js of its own.
pub const JAVASCRIPT: &[&str] = &["nodejs", "npm"];

/// Installs what is missing of these packages.
pub fn ensure(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if which("apt-get").is_none() {
        bail!("these packages are missing: {}; install your system's equivalents", missing.join(" "));
    }
    println!("installing {}", missing.join(" "));
    // Services that packages bring must not start: tests start their own.
    let policy = std::path::Path::new("/usr/sbin/policy-rc.d");
    let had_policy = policy.exists();
    if !had_policy {
        std::fs::write(policy, "#!/bin/sh\nexit 101\n")?;
        run(Command::new("chmod").arg("755").arg(policy))?;
    }
    let mut update = apt(&["update", "-q"]);
    let mut install = apt(&["install", "-y", "-q", "--no-install-recommends"]);
    let installed = run(&mut update).and_then(|()| run(install.args(&missing)));
    if !had_policy {
        std::fs::remove_file(policy)?;
    }
    installed
}

fn apt(args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
    command
}

fn is_installed(package: &str) -> bool {
    let asked = Command::new("dpkg-query").args(["-W", "-f=${Status}", package]).stderr(Stdio::null()).output();
    asked.is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).contains("install ok installed"))
}

/// Where a program is.
pub fn which(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|candidate| candidate.is_file())
}
