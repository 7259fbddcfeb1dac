//! The re-executed parent of one exec: joins the container, waits for the command and ends with its exit code.
//!
//! Assumes: standard streams are the command's own, or for a terminal descriptor 0 is a socket on which to hand it over.
//! Upstream: 126 when the command cannot be run, 127 when there is none, as shells and container runtimes have it.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};

use crate::shim_filter::Filtered;
use crate::shim_protocol::{receive_terminal, send};
use crate::sys;

/// The argument of `stead shim exec`, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExecSpec {
    pub libcontainer_root: std::path::PathBuf,
    pub id: String,
    /// A file with the OCI process, made from the container's own.
    pub process: std::path::PathBuf,
    /// The container's own configuration, when a seccomp filter holds in it.
    pub filtered: Option<std::path::PathBuf>,
    pub console: Option<std::path::PathBuf>,
    /// The command is killed after this.
    pub timeout_ms: Option<u64>,
}

/// The command could not be run; the reason is on stderr.
pub const CANNOT_RUN: i32 = 126;
/// There is no such command.
pub const NOT_FOUND: i32 = 127;
/// The timeout struck.
pub const TIMED_OUT: i32 = 124;

pub fn main(args: &[&str]) -> i32 {
    let spec = args.first().and_then(|text| serde_json::from_str::<ExecSpec>(text).ok());
    let Some(spec) = spec else { return CANNOT_RUN };
    match run(&spec) {
        Ok(code) => code,
        Err(e) => {
            let text = e.to_string();
            let name = text.split_once("executable '").and_then(|(_, rest)| rest.split('\'').next());
            let (text, code) = match name {
                Some(name) if text.contains("not found in $PATH") => {
                    (format!("exec: {name:?}: executable file not found in $PATH"), NOT_FOUND)
                }
                Some(name) if text.contains("correct permission") => {
                    (format!("exec: {name:?}: permission denied"), CANNOT_RUN)
                }
                _ => (text, CANNOT_RUN),
            };
            let _ = writeln!(io::stderr(), "{text}");
            code
        }
    }
}

fn run(spec: &ExecSpec) -> io::Result<i32> {
    let handover = match spec.console {
        Some(_) => Some(UnixStream::from(sys::inherited_fd(0)?)),
        None => None,
    };
    sys::close_on_exec_from(3);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let mut builder = ContainerBuilder::new(spec.id.clone(), SyscallType::Linux)
        .with_root_path(&spec.libcontainer_root)
        .map_err(io::Error::other)?;
    if let Some(path) = &spec.filtered {
        builder = builder.with_executor(Filtered::of(path)?);
    }
    let mut terminal = None;
    if let Some(path) = &spec.console {
        terminal = Some(UnixListener::bind(path)?);
        builder = builder.with_console_socket(Some(path));
    }
    sys::ignore_sigpipe(false);
    let built = builder.as_tenant().with_detach(true).with_process(Some(&spec.process)).build();
    sys::ignore_sigpipe(true);
    if let Some(path) = &spec.console {
        let _ = std::fs::remove_file(path);
    }
    let pid = built.map_err(|e| io::Error::other(innermost(&e)))?;
    let pid = Pid::from_raw(pid.as_raw()).ok_or_else(|| io::Error::other("no pid"))?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    if let (Some(listener), Some(conn)) = (terminal, handover) {
        let master = receive_terminal(&listener)?;
        send(&conn, b"\n", &[master.into()])?;
    }
    release_streams()?;
    let timeout = spec.timeout_ms.map(Duration::from_millis);
    if let Some(timeout) = timeout
        && !crate::cgroup::wait_readable(&pidfd, timeout)?
    {
        let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
        rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
        return Ok(TIMED_OUT);
    }
    let status = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
    let signal = status.as_ref().and_then(|s| s.terminating_signal());
    Ok(status.as_ref().and_then(|s| s.exit_status()).or(signal.map(|s| 128 + s)).unwrap_or(255))
}

/// The command has the streams; held here too, its readers would wait for us.
fn release_streams() -> io::Result<()> {
    let null = std::fs::File::options().read(true).write(true).open(Path::new("/dev/null"))?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(inner) = last.source() {
        last = inner;
    }
    last.to_string()
}
