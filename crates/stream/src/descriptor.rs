//! The other end of a remote command: a process's pipe or terminal as an asynchronous byte stream.
//!
//! Contract: no thread is held while nothing moves, and dropping it ends a wait at once (a read on the blocking pool
//! would keep its thread until the process writes). The end of a terminal, which Linux reports as EIO, is an end like
//! any other. The descriptor is made non-blocking: its open file description must be used by nobody else.

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A pipe's end, a terminal or a socket.
#[derive(Debug)]
pub struct Descriptor(AsyncFd<OwnedFd>);

impl Descriptor {
    /// Fails for what cannot be waited on, such as a regular file.
    pub fn new(descriptor: OwnedFd) -> io::Result<Descriptor> {
        let flags = fcntl_getfl(&descriptor)?;
        fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK)?;
        Ok(Descriptor(pollable(descriptor)?))
    }
}

/// Registers a descriptor that does not block with the runtime.
#[expect(deprecated, reason = "its successor is unsafe; an owned descriptor stays what it is, so this one is sound")]
pub(crate) fn pollable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(descriptor)
}

impl AsyncRead for Descriptor {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            match rustix::io::read(self.0.as_fd(), buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::WOULDBLOCK) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(Errno::IO) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl AsyncWrite for Descriptor {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            match rustix::io::write(self.0.as_fd(), bytes) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(Errno::WOULDBLOCK) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Nothing to do: the process sees the end when the descriptor is dropped.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::fs::File;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    #[tokio::test]
    async fn a_pipe_carries_more_than_it_holds_and_ends() {
        let (reader, writer) = io::pipe().unwrap();
        let (mut reader, mut writer) =
            (Descriptor::new(reader.into()).unwrap(), Descriptor::new(writer.into()).unwrap());
        let mut byte = [0];
        let waiting = timeout(Duration::from_millis(20), reader.read(&mut byte));
        assert!(waiting.await.is_err(), "a wait for an empty pipe can be given up");
        let sending = tokio::spawn(async move { writer.write_all(&vec![7; 1_000_000]).await });
        let mut got = Vec::new();
        reader.read_to_end(&mut got).await.unwrap();
        sending.await.unwrap().unwrap();
        assert_eq!(got.len(), 1_000_000);
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_is_an_error_to_the_writer() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut writer = Descriptor::new(writer.into()).unwrap();
        assert_eq!(writer.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_terminal_ends_when_its_last_process_is_gone() {
        let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&control).unwrap();
        unlockpt(&control).unwrap();
        let name = ptsname(&control, Vec::new()).unwrap().into_string().unwrap();
        let terminal = File::options().read(true).write(true).open(name).unwrap();
        let mut control = Descriptor::new(control).unwrap();
        tokio::task::spawn_blocking(move || io::Write::write_all(&mut &terminal, b"bye\n").unwrap());
        let mut text = String::new();
        control.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "bye\r\n");
    }

    #[tokio::test]
    async fn a_regular_file_is_refused() {
        let file = File::open("/proc/self/exe").unwrap();
        assert!(Descriptor::new(file.into()).is_err());
    }
}
