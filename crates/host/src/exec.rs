//! Commands in running containers, and their standard streams: exec, attach, probes' and hooks' commands.
//!
//! Guarantees: what a caller gets are plain descriptors that block (or that an async runtime may wrap); dropping them ends the
//! streams. A command that outlives its caller goes on until it notices that its streams are gone.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use stead_node::action::ContainerRef;

use crate::shim_exec::ExecSpec;
use crate::shim_protocol::{self, Request};
use crate::{Host, record};

/// What to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecRequest {
    pub command: Vec<String>,
    pub tty: bool,
    pub stdin: bool,
    /// Kill the command after this.
    pub timeout: Option<Duration>,
}

/// Our ends of a command's standard streams. With a terminal `stdin` and `stdout` are it, and there is no `stderr`.
#[derive(Debug)]
pub struct Streams {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

/// A command that runs in a container.
#[derive(Debug)]
pub struct Exec {
    pub streams: Streams,
    terminal: Option<OwnedFd>,
    child: Child,
}

impl Exec {
    /// The terminal's size; an error without a terminal.
    pub fn resize(&self, width: u16, height: u16) -> io::Result<()> {
        match &self.terminal {
            Some(terminal) => shim_protocol::resize(terminal, width, height),
            None => Err(io::Error::other("the command has no terminal")),
        }
    }

    /// A second handle for resizing while the command is waited for elsewhere.
    pub fn terminal(&self) -> io::Result<Option<OwnedFd>> {
        self.terminal.as_ref().map(OwnedFd::try_clone).transpose()
    }

    /// Takes the streams out, to be copied elsewhere.
    pub fn take_streams(&mut self) -> Streams {
        std::mem::replace(&mut self.streams, Streams { stdin: None, stdout: None, stderr: None })
    }

    /// Blocks until the command has ended: its exit code (128 + signal when killed).
    pub fn wait(mut self) -> io::Result<i32> {
        let status = self.child.wait()?;
        use std::os::unix::process::ExitStatusExt;
        Ok(status.code().or(status.signal().map(|s| 128 + s)).unwrap_or(255))
    }
}

/// The standard streams of a container's first process.
#[derive(Debug)]
pub struct Attach {
    pub streams: Streams,
    control: UnixStream,
}

impl Attach {
    pub fn resize(&mut self, width: u16, height: u16) -> io::Result<()> {
        shim_protocol::ask(&mut self.control, &Request::Resize { width, height }, &[])
    }

    /// Blocks until the container has ended.
    pub fn wait(mut self) -> io::Result<()> {
        self.control.read_to_end(&mut Vec::new()).map(drop)
    }

    /// A handle for resizing apart from the streams.
    pub fn control(&self) -> io::Result<UnixStream> {
        self.control.try_clone()
    }
}

impl Host {
    /// Starts a command in a running container with the container's own user, environment and directory.
    pub fn exec(&self, key: &ContainerRef, request: &ExecRequest) -> io::Result<Exec> {
        let known = self.known(key).filter(record::Known::is_running);
        let known =
            known.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "container not found or not running"))?;
        let dir = self.paths.container(key);
        let number = self.next_exec();
        let process_file = self.paths.run.join("e").join(format!("{number}.json"));
        std::fs::create_dir_all(self.paths.run.join("e"))?;
        let config: Value = record::read(&dir.join("config.json"))?.ok_or(io::ErrorKind::NotFound)?;
        record::write(&process_file, &process(&config, request))?;
        let filtered = has_filter(&config).then(|| dir.join("config.json"));
        let console = request.tty.then(|| self.paths.run.join("e").join(format!("{number}.tty")));
        let spec = ExecSpec {
            libcontainer_root: known.record.shim.libcontainer_root.clone(),
            id: known.record.id.clone(),
            process: process_file.clone(),
            filtered,
            console,
            timeout_ms: request.timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
        };
        let mut command = Command::new("/proc/self/exe");
        command.args(["shim", "exec", &serde_json::to_string(&spec)?]).current_dir("/").env_clear();
        // Its own session: a signal to our terminal is not meant for it.
        command.process_group(0);
        if request.tty { exec_terminal(command) } else { exec_pipes(command, request.stdin) }
    }

    fn next_exec(&self) -> String {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Connects to a running container's standard streams from now on.
    pub fn attach(&self, key: &ContainerRef, stdin: bool, stdout: bool, stderr: bool) -> io::Result<Attach> {
        let known = self.known(key).filter(record::Known::is_running);
        let known =
            known.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "container not found or not running"))?;
        // A terminal has no second output stream.
        let stderr = stderr && !known.record.shim.tty;
        let mut streams = Streams { stdin: None, stdout: None, stderr: None };
        let mut theirs = Vec::new();
        if stdin {
            let (read, write) = io::pipe()?;
            theirs.push(read.into());
            streams.stdin = Some(write.into());
        }
        for (wanted, slot) in [(stdout, &mut streams.stdout), (stderr, &mut streams.stderr)] {
            if wanted {
                let (read, write) = io::pipe()?;
                theirs.push(write.into());
                *slot = Some(read.into());
            }
        }
        let mut control = UnixStream::connect(&known.record.shim.socket)?;
        shim_protocol::ask(&mut control, &Request::Attach { stdin, stdout, stderr }, &theirs)?;
        Ok(Attach { streams, control })
    }

    /// Runs a command to its end: exit code and what it printed (both streams, at most `bytes_max`).
    pub(crate) fn run_command(
        &self,
        key: &ContainerRef,
        command: &[String],
        timeout: Duration,
        bytes_max: usize,
    ) -> io::Result<(i32, String)> {
        let request = ExecRequest { command: command.to_vec(), timeout: Some(timeout), ..ExecRequest::default() };
        let mut exec = self.exec(key, &request)?;
        let streams = exec.take_streams();
        let mut output = Vec::new();
        let readers: Vec<OwnedFd> = [streams.stdout, streams.stderr].into_iter().flatten().collect();
        // A descendant may keep the streams open: the command's own end is what counts.
        let deadline = std::time::Instant::now() + timeout + Duration::from_secs(1);
        read_until(readers, deadline, bytes_max, &mut output)?;
        let code = exec.wait()?;
        Ok((code, String::from_utf8_lossy(&output).into_owned()))
    }
}

fn read_until(
    mut readers: Vec<OwnedFd>,
    deadline: std::time::Instant,
    bytes_max: usize,
    output: &mut Vec<u8>,
) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut buffer = vec![0; 16 << 10];
    while !readers.is_empty() {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            break;
        }
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut fds: Vec<PollFd<'_>> = readers.iter().map(|r| PollFd::new(r, PollFlags::IN)).collect();
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|f| !f.revents().is_empty()).collect();
        drop(fds);
        let mut open = Vec::new();
        for (reader, is_ready) in readers.into_iter().zip(ready) {
            if is_ready {
                let n = rustix::io::read(&reader, &mut buffer)?;
                if n == 0 {
                    continue;
                }
                output.extend_from_slice(&buffer[..n.min(bytes_max.saturating_sub(output.len()))]);
            }
            open.push(reader);
        }
        readers = open;
    }
    Ok(())
}

/// What it takes to load a seccomp filter and to give this up again.
const LOADERS: [&str; 2] = ["CAP_SYS_ADMIN", "CAP_SETPCAP"];

fn has_filter(config: &Value) -> bool {
    config["linux"]["seccomp"].is_object()
}

/// The container's own process with another command.
fn process(config: &Value, request: &ExecRequest) -> Value {
    let mut process = config["process"].clone();
    process["args"] = json!(request.command);
    process["terminal"] = json!(request.tty);
    if let Some(map) = process.as_object_mut() {
        map.remove("oomScoreAdj");
    }
    if has_filter(config) && process["noNewPrivileges"] != json!(true) {
        // To load the filter; the helper gives them up before the command begins.
        for set in ["bounding", "effective", "permitted"] {
            let Some(own) = process["capabilities"][set].as_array_mut() else { continue };
            own.extend(LOADERS.iter().map(|name| json!(name)).filter(|name| !own.contains(name)).collect::<Vec<_>>());
        }
    }
    if request.tty
        && let Some(env) = process["env"].as_array_mut()
    {
        let has_term = env.iter().any(|e| e.as_str().is_some_and(|e| e.starts_with("TERM=")));
        if !has_term {
            env.push(json!("TERM=xterm"));
        }
    }
    process
}

fn exec_pipes(mut command: Command, stdin: bool) -> io::Result<Exec> {
    command.stdin(if stdin { Stdio::piped() } else { Stdio::null() }).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let streams = Streams {
        stdin: child.stdin.take().map(OwnedFd::from),
        stdout: child.stdout.take().map(OwnedFd::from),
        stderr: child.stderr.take().map(OwnedFd::from),
    };
    Ok(Exec { streams, terminal: None, child })
}

fn exec_terminal(mut command: Command) -> io::Result<Exec> {
    // The helper's stdin is the socket on which it hands the terminal over; its stderr says why it could not.
    let (ours, theirs) = UnixStream::pair()?;
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    drop(command);
    let (_, mut fds) = shim_protocol::receive(&ours, &mut [0; 16])?;
    let Some(terminal) = fds.pop() else {
        // No terminal came: the command could not be run, and the reason takes the place of its output.
        let mut why = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            let _ = stderr.read_to_string(&mut why);
        }
        let (read, write) = io::pipe()?;
        let _ = File::from(OwnedFd::from(write)).write_all(why.as_bytes());
        let streams = Streams { stdin: None, stdout: Some(read.into()), stderr: None };
        return Ok(Exec { streams, terminal: None, child });
    };
    let streams = Streams {
        stdin: Some(terminal.as_fd().try_clone_to_owned()?),
        stdout: Some(terminal.as_fd().try_clone_to_owned()?),
        stderr: None,
    };
    Ok(Exec { streams, terminal: Some(terminal), child })
}
