//! The shim's connections: requests in, container output out, attached standard streams as passed descriptors.
//!
//! Guarantees: a slow or dead client never blocks the container: what it does not read is kept up to [`BACKLOG_BYTES_MAX`],
//! then the client is dropped.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::PollFlags;

use crate::log::Stream;
use crate::shim_protocol::{Answer, Request, receive};

/// Output that an attached client has not read yet.
const BACKLOG_BYTES_MAX: usize = 1 << 20;
/// A longer request is no request.
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// Why a client's descriptor is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Request,
    /// The attached stdin has bytes for the container.
    Stdin,
    /// The container's stdin takes bytes again.
    StdinRoom,
    OutputRoom,
}

pub struct Client {
    conn: UnixStream,
    input: Vec<u8>,
    fds: Vec<OwnedFd>,
    is_closed: bool,
    stdin: Option<File>,
    /// Read from the client, not yet taken by the container.
    pending_stdin: Vec<u8>,
    stdin_over: bool,
    stdout: Option<Sink>,
    stderr: Option<Sink>,
}

struct Sink {
    file: File,
    pending: Vec<u8>,
}

impl Client {
    pub fn new(conn: UnixStream) -> Client {
        Client {
            conn,
            input: Vec::new(),
            fds: Vec::new(),
            is_closed: false,
            stdin: None,
            pending_stdin: Vec::new(),
            stdin_over: false,
            stdout: None,
            stderr: None,
        }
    }

    /// What to wait for.
    pub fn interests<'a>(&'a self, container: Option<&'a File>) -> Vec<(Event, BorrowedFd<'a>, PollFlags)> {
        let mut all = vec![(Event::Request, self.conn.as_fd(), PollFlags::IN)];
        match (&self.stdin, container) {
            (_, Some(file)) if !self.pending_stdin.is_empty() => {
                all.push((Event::StdinRoom, file.as_fd(), PollFlags::OUT));
            }
            (Some(stdin), Some(_)) => all.push((Event::Stdin, stdin.as_fd(), PollFlags::IN)),
            _ => {}
        }
        for sink in [&self.stdout, &self.stderr].into_iter().flatten().filter(|s| !s.pending.is_empty()) {
            all.push((Event::OutputRoom, sink.file.as_fd(), PollFlags::OUT));
        }
        all
    }

    /// Reads what has come; returns the complete requests.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Vec<Request> {
        match receive(&self.conn, buffer) {
            Ok((n, fds)) if n > 0 && self.input.len() + n <= REQUEST_BYTES_MAX => {
                self.fds.extend(fds);
                self.input.extend_from_slice(&buffer[..n]);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock || e.kind() == io::ErrorKind::Interrupted => {}
            _ => self.is_closed = true,
        }
        let mut requests = Vec::new();
        while let Some(end) = self.input.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(request) => requests.push(request),
                Err(_) => self.is_closed = true,
            }
        }
        requests
    }

    pub fn answer(&mut self, answer: &Answer) {
        let mut line = serde_json::to_vec(answer).unwrap_or_default();
        line.push(b'\n');
        if (&self.conn).write_all(&line).is_err() {
            self.is_closed = true;
        }
    }

    /// Takes the passed descriptors, in the order stdin, stdout, stderr.
    pub fn attach(&mut self, use_stdin: bool, stdin: bool, stdout: bool, stderr: bool) -> io::Result<()> {
        let expected = usize::from(stdin) + usize::from(stdout) + usize::from(stderr);
        if self.fds.len() != expected {
            return Err(io::Error::other(format!("{expected} descriptors expected, {} came", self.fds.len())));
        }
        let mut fds = std::mem::take(&mut self.fds).into_iter();
        for fd in fds.as_slice() {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        self.stdin = if stdin { fds.next().map(File::from).filter(|_| use_stdin) } else { None };
        let sink = |fd| Sink { file: File::from(fd), pending: Vec::new() };
        self.stdout = if stdout { fds.next().map(sink) } else { None };
        self.stderr = if stderr { fds.next().map(sink) } else { None };
        Ok(())
    }

    pub fn take_output(&mut self, stream: Stream, bytes: &[u8]) {
        let slot = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        if let Some(sink) = slot {
            sink.pending.extend_from_slice(bytes);
            if !sink.push() {
                *slot = None;
            }
        }
    }

    pub fn push_output(&mut self) {
        for slot in [&mut self.stdout, &mut self.stderr] {
            if slot.as_mut().is_some_and(|sink| !sink.push()) {
                *slot = None;
            }
        }
    }

    pub fn has_pending_output(&self) -> bool {
        [&self.stdout, &self.stderr].into_iter().flatten().any(|s| !s.pending.is_empty())
    }

    pub fn read_stdin(&mut self, buffer: &mut [u8], container: Option<&File>) {
        let Some(stdin) = &mut self.stdin else { return };
        match stdin.read(buffer) {
            Ok(n) if n > 0 => self.pending_stdin.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock || e.kind() == io::ErrorKind::Interrupted => {}
            _ => {
                self.stdin = None;
                self.stdin_over = true;
            }
        }
        self.push_stdin(container);
    }

    pub fn push_stdin(&mut self, container: Option<&File>) {
        let Some(mut container) = container else {
            self.pending_stdin.clear();
            return;
        };
        if self.pending_stdin.is_empty() {
            return;
        }
        match container.write(&self.pending_stdin) {
            Ok(n) => {
                self.pending_stdin.drain(..n);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock || e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.pending_stdin.clear(),
        }
    }

    /// Its stdin was attached, has ended, and the container has all of it.
    pub fn is_stdin_over(&self) -> bool {
        self.stdin_over && self.pending_stdin.is_empty()
    }

    pub fn is_gone(&self) -> bool {
        self.is_closed
    }
}

impl Sink {
    /// False: the client is gone or too slow.
    fn push(&mut self) -> bool {
        while !self.pending.is_empty() {
            match self.file.write(&self.pending) {
                Ok(0) => return false,
                Ok(n) => {
                    self.pending.drain(..n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return self.pending.len() <= BACKLOG_BYTES_MAX,
                Err(_) => return false,
            }
        }
        true
    }
}
