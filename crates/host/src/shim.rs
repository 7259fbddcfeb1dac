//! The re-executed, single-threaded parent of one container: its stdio, its log, its exit status. Outlives the agent.
//!
//! Guarantees: one shim per container name, by the lock it inherits and holds to its end; the exit is on disk before the socket
//! closes; nothing of the container (processes, cgroup, libcontainer state) is left when it ends.
//! Assumes: descriptor 0 is the locked file, 1 the pipe on which the agent waits for `Started`, 2 a file for its own complaints.
//! Its socket: a connection that says nothing is told the end by being closed; else one `Request` a line, one `Answer` a line.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};

use crate::cgroup::Cgroups;
use crate::log::{Stream, Writer};
use crate::record::{self, ContainerRecord, ExitRecord, RunningRecord};
use crate::shim_io::{Client, Event};
use crate::shim_protocol::{Answer, Request, Started, receive_terminal, resize};
use crate::sys::{self, Fork};

/// Beside the bundle: libcontainer's errors, the innermost first.
pub const TRACE: &str = "trace";

/// Output that descendants hold open after the end is waited for this long.
const DRAIN_WAIT: Duration = Duration::from_secs(2);

/// `stead shim run DIR` and `stead shim exec …`: the process's exit code.
pub fn main(args: &[String]) -> i32 {
    let result = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["run", dir] => run(Path::new(dir)),
        ["hold", pin, group] => hold(Path::new(pin), group),
        ["exec", rest @ ..] => return crate::shim_exec::main(rest),
        _ => Err(io::Error::other("not for people: the agent starts this")),
    };
    match result {
        Ok(()) => 0,
        Err(e) => {
            let _ = writeln!(io::stderr(), "{} shim: {e}", Timestamp::now());
            1
        }
    }
}

/// The first process of a pod's shared process namespace: reaps what the containers leave, and dies with the pod.
fn hold(pin: &Path, group: &str) -> io::Result<()> {
    Cgroups::detect()?.join(group)?;
    sys::close_from(3);
    rustix::process::setsid()?;
    // For children only: the next one is the namespace's first process.
    sys::unshare(libc::CLONE_NEWPID)?;
    match sys::fork_single_threaded()? {
        Fork::Parent => {
            rustix::mount::mount_bind("/proc/self/ns/pid_for_children", pin)?;
            Ok(())
        }
        Fork::Child => {
            let null = File::options().read(true).write(true).open("/dev/null")?;
            rustix::stdio::dup2_stderr(&null)?;
            sys::reap_for_ever()
        }
    }
}

fn run(dir: &Path) -> io::Result<()> {
    sys::close_from(3);
    let _lock = sys::inherited_fd(0)?;
    let mut ready = File::from(sys::inherited_fd(1)?);
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    drop(null);
    rustix::process::setsid()?;
    if let Fork::Parent = sys::fork_single_threaded()? {
        return Ok(());
    }
    crate::shim_trace::to(File::options().create(true).append(true).open(dir.join(TRACE))?);
    let result = Shim::start(dir);
    sys::ignore_sigpipe(true);
    let answer = match &result {
        Ok(shim) => Started::Running(shim.running.clone()),
        Err(e) => Started::Failed(e.to_string()),
    };
    // The agent may be gone: the container runs all the same, and the next agent finds it.
    let _ = ready.write_all(&serde_json::to_vec(&answer)?);
    drop(ready);
    let mut shim = result?;
    sys::trim_memory();
    let exit = shim.serve()?;
    let written = record::write_durably(&dir.join("exit.json"), &exit);
    // Also when the disk is full: then the end is known, only not how.
    shim.clean()?;
    written
}

struct Shim {
    record: ContainerRecord,
    cgroups: Cgroups,
    running: RunningRecord,
    init: OwnedFd,
    outputs: Vec<Output>,
    /// The container's stdin pipe, or a second handle of its terminal.
    stdin: Option<File>,
    is_tty: bool,
    log: Writer,
    listener: UnixListener,
    clients: Vec<Client>,
}

struct Output {
    file: File,
    stream: Stream,
}

impl Shim {
    fn start(dir: &Path) -> io::Result<Shim> {
        let record: ContainerRecord = record::read(&dir.join("container.json"))?
            .ok_or_else(|| io::Error::other(format!("no container.json in {}", dir.display())))?;
        let spec = record.shim.clone();
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        rustix::process::chdir("/")?;
        let cgroups = Cgroups::detect()?;
        let shims = Path::new(&spec.cgroup).components().nth(1).map(|c| format!("/{}/shims", c.as_os_str().display()));
        cgroups.join(&shims.unwrap_or_default())?;
        let log = Writer::open(&spec.log)?;
        let _ = fs::remove_file(&spec.socket);
        let listener = UnixListener::bind(&spec.socket)?;
        listener.set_nonblocking(true)?;
        let own_oom_score = fs::read_to_string("/proc/self/oom_score_adj")?;
        let created = create(dir, &record);
        let _ = fs::write("/proc/self/oom_score_adj", own_oom_score.trim());
        let created = created.inspect_err(|_| {
            let _ = fs::remove_file(&spec.socket);
            let _ = cgroups.kill_all(&spec.cgroup);
            let _ = cgroups.remove(&spec.cgroup);
        })?;
        let running = RunningRecord { pid: created.pid.as_raw_nonzero().get(), started_at: Timestamp::now() };
        record::write(&dir.join("running.json"), &running)?;
        let init = rustix::process::pidfd_open(created.pid, PidfdFlags::empty())?;
        Ok(Shim {
            cgroups,
            running,
            init,
            outputs: created.outputs,
            stdin: created.stdin,
            is_tty: spec.tty,
            log,
            listener,
            clients: Vec::new(),
            record,
        })
    }

    /// Copies, answers and waits until the container's first process has ended.
    fn serve(&mut self) -> io::Result<ExitRecord> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let ready = self.wait(None)?;
            self.copy_outputs(&ready.outputs, &mut buffer);
            if ready.has_init_ended {
                break;
            }
            self.serve_clients(&ready, &mut buffer);
            if ready.has_connection
                && let Ok((conn, _)) = self.listener.accept()
            {
                conn.set_nonblocking(true)?;
                self.clients.push(Client::new(conn));
            }
        }
        let status = rustix::process::waitid(WaitId::PidFd(self.init.as_fd()), WaitIdOptions::EXITED)?;
        let finished_at = Timestamp::now();
        let oom_kills = self.cgroups.oom_kills(&self.record.shim.cgroup);
        // Whoever shares the host's process ids, or an exec, may live on: the container is over, so they are.
        let _ = self.cgroups.kill_all(&self.record.shim.cgroup);
        self.drain(&mut buffer);
        let signal = status.as_ref().and_then(|s| s.terminating_signal());
        let code = status.as_ref().and_then(|s| s.exit_status()).or(signal.map(|s| 128 + s)).unwrap_or(255);
        Ok(ExitRecord {
            code,
            signal,
            oom_killed: oom_kills > 0 && code != 0,
            started_at: Some(self.running.started_at),
            finished_at,
            is_lost: false,
            error: None,
        })
    }

    fn wait(&self, timeout: Option<Duration>) -> io::Result<Ready> {
        let mut fds = vec![PollFd::new(&self.init, PollFlags::IN), PollFd::new(&self.listener, PollFlags::IN)];
        fds.extend(self.outputs.iter().map(|o| PollFd::new(&o.file, PollFlags::IN)));
        let clients_from = fds.len();
        let mut owners = Vec::new();
        for (index, client) in self.clients.iter().enumerate() {
            for (event, fd, flags) in client.interests(self.stdin.as_ref()) {
                owners.push((index, event));
                fds.push(PollFd::from_borrowed_fd(fd, flags));
            }
        }
        let timeout = timeout.map(|t| Timespec { tv_sec: t.as_secs() as i64, tv_nsec: i64::from(t.subsec_nanos()) });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Ready::default()),
            Err(e) => return Err(e.into()),
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        Ok(Ready {
            has_init_ended: is_ready(&fds[0]),
            has_connection: is_ready(&fds[1]),
            outputs: fds[2..clients_from].iter().map(is_ready).collect(),
            clients: owners
                .into_iter()
                .zip(&fds[clients_from..])
                .filter(|(_, f)| is_ready(f))
                .map(|(o, _)| o)
                .collect(),
        })
    }

    fn copy_outputs(&mut self, ready: &[bool], buffer: &mut [u8]) {
        let now = Timestamp::now();
        let mut closed = Vec::new();
        for (index, _) in ready.iter().enumerate().filter(|(_, r)| **r) {
            let output = &mut self.outputs[index];
            match output.file.read(buffer) {
                Ok(n) if n > 0 => {
                    self.log.write(now, output.stream, &buffer[..n]);
                    for client in &mut self.clients {
                        client.take_output(output.stream, &buffer[..n]);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted || e.kind() == io::ErrorKind::WouldBlock => {}
                // A terminal whose last user went says EIO instead of the end.
                _ => closed.push(index),
            }
        }
        for index in closed.into_iter().rev() {
            self.log.finish(now, self.outputs[index].stream);
            self.outputs.remove(index);
        }
    }

    fn serve_clients(&mut self, ready: &Ready, buffer: &mut [u8]) {
        for (index, event) in &ready.clients {
            let Some(client) = self.clients.get_mut(*index) else { continue };
            match event {
                Event::Request => {
                    for request in client.receive(buffer) {
                        let answer = self.answer(*index, request);
                        self.clients[*index].answer(&answer);
                    }
                }
                Event::Stdin => client.read_stdin(buffer, self.stdin.as_ref()),
                Event::StdinRoom => client.push_stdin(self.stdin.as_ref()),
                Event::OutputRoom => client.push_output(),
            }
        }
        let once = self.record.shim.stdin_once && !self.is_tty;
        if once && self.clients.iter().any(Client::is_stdin_over) {
            self.stdin = None;
        }
        self.clients.retain(|c| !c.is_gone());
    }

    fn answer(&mut self, index: usize, request: Request) -> Answer {
        let result = match request {
            Request::Ping => Ok(()),
            Request::Kill { signal } => sys::pidfd_kill(self.init.as_fd(), signal),
            Request::Attach { stdin, stdout, stderr } => {
                self.clients[index].attach(stdin && self.stdin.is_some(), stdin, stdout, stderr)
            }
            Request::Resize { width, height } => match &self.stdin {
                Some(terminal) if self.is_tty => resize(terminal, width, height),
                _ => Err(io::Error::other("container has no terminal")),
            },
        };
        result.map_or_else(|e| Answer::Refused(e.to_string()), |()| Answer::Done)
    }

    fn drain(&mut self, buffer: &mut [u8]) {
        let until = Instant::now() + DRAIN_WAIT;
        while !self.outputs.is_empty() || self.clients.iter().any(Client::has_pending_output) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // The init descriptor stays ready: only outputs and clients are asked here.
            let mut fds: Vec<PollFd<'_>> = self.outputs.iter().map(|o| PollFd::new(&o.file, PollFlags::IN)).collect();
            let outputs = fds.len();
            for client in &self.clients {
                let interests = client.interests(None).into_iter().filter(|i| i.0 == Event::OutputRoom);
                fds.extend(interests.map(|(_, fd, flags)| PollFd::from_borrowed_fd(fd, flags)));
            }
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            if poll(&mut fds, Some(&timeout)).is_err() {
                continue;
            }
            let ready: Vec<bool> = fds[..outputs].iter().map(|f| !f.revents().is_empty()).collect();
            drop(fds);
            self.copy_outputs(&ready, buffer);
            self.clients.iter_mut().for_each(Client::push_output);
        }
        let now = Timestamp::now();
        for output in self.outputs.drain(..) {
            self.log.finish(now, output.stream);
        }
    }

    fn clean(self) -> io::Result<()> {
        let _ = fs::remove_dir_all(self.record.shim.libcontainer_root.join(&self.record.id));
        let removed = self.cgroups.remove(&self.record.shim.cgroup);
        let _ = fs::remove_file(&self.record.shim.socket);
        removed
    }
}

#[derive(Default)]
struct Ready {
    has_init_ended: bool,
    has_connection: bool,
    outputs: Vec<bool>,
    clients: Vec<(usize, Event)>,
}

struct Created {
    pid: Pid,
    outputs: Vec<Output>,
    stdin: Option<File>,
}

fn create(dir: &Path, record: &ContainerRecord) -> io::Result<Created> {
    let spec = &record.shim;
    fs::create_dir_all(&spec.libcontainer_root)?;
    // A state left by a shim that was killed: the caller made sure that nothing of it runs.
    let _ = fs::remove_dir_all(spec.libcontainer_root.join(&record.id));
    // Beside the socket, for the bundle's path is longer than a socket's may be.
    let console = spec.socket.with_extension("tty");
    let mut builder = ContainerBuilder::new(record.id.clone(), SyscallType::Linux)
        .with_root_path(&spec.libcontainer_root)
        .map_err(io::Error::other)?;
    let mut outputs = Vec::new();
    let mut stdin = None;
    let mut terminal = None;
    if spec.tty {
        let _ = fs::remove_file(&console);
        terminal = Some(UnixListener::bind(&console)?);
        builder = builder.with_console_socket(Some(&console));
    } else {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            builder = match stream {
                Stream::Stdout => builder.with_stdout(write),
                Stream::Stderr => builder.with_stderr(write),
            };
            outputs.push(Output { file: File::from(read), stream });
        }
        if spec.stdin {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(&write, true)?;
            builder = builder.with_stdin(read);
            stdin = Some(File::from(write));
        }
    }
    sys::default_signals();
    let mut container = builder.as_init(dir).with_systemd(false).with_detach(true).build().map_err(|e| describe(&e))?;
    if let Some(listener) = terminal {
        let master = receive_terminal(&listener)?;
        let _ = fs::remove_file(&console);
        rustix::io::ioctl_fionbio(&master, true)?;
        stdin = Some(master.try_clone()?);
        outputs.push(Output { file: master, stream: Stream::Stdout });
    }
    let pid = container.pid().and_then(|p| Pid::from_raw(p.as_raw())).ok_or_else(|| io::Error::other("no pid"))?;
    container.start().map_err(|e| describe(&e))?;
    Ok(Created { pid, outputs, stdin })
}

/// The innermost cause says what is wrong; the layers around it only say where.
fn describe(error: &dyn std::error::Error) -> io::Error {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    io::Error::other(text)
}
