//! What the agent and a shim say to each other, and how descriptors go along.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::record::RunningRecord;

/// The first line on the ready pipe.
#[derive(Debug, Serialize, Deserialize)]
pub enum Started {
    Running(RunningRecord),
    /// Nothing runs and nothing is left.
    Failed(String),
}

/// What the agent may ask of a shim.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Answered once the container runs.
    Ping,
    /// Send a signal to the container's first process.
    Kill { signal: i32 },
    /// Connect the descriptors that come with this message, in the order stdin, stdout, stderr.
    Attach { stdin: bool, stdout: bool, stderr: bool },
    /// The terminal's size.
    Resize { width: u16, height: u16 },
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    Done,
    Refused(String),
}

/// libcontainer sends the terminal's other end over the console socket.
pub fn receive_terminal(listener: &UnixListener) -> io::Result<File> {
    let (conn, _) = listener.accept()?;
    let (_, mut fds) = receive(&conn, &mut [0; 4096])?;
    fds.pop().map(File::from).ok_or_else(|| io::Error::other("the console socket brought no terminal"))
}

pub fn resize(terminal: impl AsFd, width: u16, height: u16) -> io::Result<()> {
    let size = rustix::termios::Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).map_err(Into::into)
}

/// For the agent: one request, one answer.
pub fn ask(conn: &mut UnixStream, request: &Request, fds: &[OwnedFd]) -> io::Result<()> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    send(conn, &line, fds)?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while conn.read(&mut byte)? == 1 && byte[0] != b'\n' {
        answer.push(byte[0]);
    }
    match serde_json::from_slice(&answer) {
        Ok(Answer::Done) => Ok(()),
        Ok(Answer::Refused(why)) => Err(io::Error::other(why)),
        Err(_) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
    }
}

/// Reads bytes and the descriptors that came with them.
pub fn receive(conn: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(conn, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    Ok((message.bytes, fds))
}

/// Sends bytes and descriptors in one message.
pub fn send(conn: &UnixStream, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let sent = sendmsg(conn, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    let mut conn = conn;
    conn.write_all(&bytes[sent..])
}
