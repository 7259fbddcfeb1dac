//! The one bounded buffer of bytes on their way to the peer.
//!
//! Every output of a connection appends whole frames here; one loop writes them to the socket. Contract: frames
//! leave in the order they were appended; a producer waits while more than [`OUTBOX_BYTES`] are pending, so a
//! peer that does not read stops the producers and nothing grows; control frames may exceed that by
//! [`CONTROL_BYTES`], beyond which the peer is taken for hostile. The lock is held for one copy, never across I/O.

use bytes::BytesMut;
use std::future::poll_fn;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Pending bytes from which producers wait: a few frames, so that the socket never starves.
pub(crate) const OUTBOX_BYTES: usize = 256 * 1024;
/// How far replies to the peer's own control frames may go beyond that.
const CONTROL_BYTES: usize = 64 * 1024;

#[derive(Default)]
pub(crate) struct Outbox(Mutex<State>);

#[derive(Default)]
struct State {
    pending: BytesMut,
    phase: Phase,
    producers: Vec<Waker>,
    consumer: Option<Waker>,
    written: u64,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Phase {
    #[default]
    Open,
    /// Nothing may be appended; what is pending still goes out.
    Sealed,
    /// The socket is gone.
    Broken,
}

impl Outbox {
    /// Appends one frame, or waits for room.
    pub fn poll_push(&self, cx: &mut Context<'_>, encode: impl FnOnce(&mut BytesMut)) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if state.phase != Phase::Open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if state.pending.len() >= OUTBOX_BYTES {
            if !state.producers.iter().any(|w| w.will_wake(cx.waker())) {
                state.producers.push(cx.waker().clone());
            }
            return Poll::Pending;
        }
        state.append(encode);
        Poll::Ready(Ok(()))
    }

    /// Appends a small control frame without waiting. Fails when the peer makes us answer and reads nothing.
    pub fn push_now(&self, encode: impl FnOnce(&mut BytesMut)) -> io::Result<()> {
        let mut state = self.state();
        if state.phase != Phase::Open {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if state.pending.len() >= OUTBOX_BYTES + CONTROL_BYTES {
            return Err(io::Error::other("the peer does not read its replies"));
        }
        state.append(encode);
        Ok(())
    }

    /// Appends the frame that ends a stream, of which there is one a stream: it must not be lost to any limit.
    pub fn push_end(&self, encode: impl FnOnce(&mut BytesMut)) -> io::Result<()> {
        let mut state = self.state();
        if state.phase != Phase::Open {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        state.append(encode);
        Ok(())
    }

    /// Appends last words, whatever is pending, and lets nothing follow them.
    pub fn seal(&self, encode: impl FnOnce(&mut BytesMut)) {
        let mut state = self.state();
        if state.phase == Phase::Open {
            state.append(encode);
            state.phase = Phase::Sealed;
            state.wake_producers();
        }
    }

    /// Drops what is pending and fails everyone who appends.
    pub fn break_off(&self) {
        let mut state = self.state();
        state.phase = Phase::Broken;
        state.pending.clear();
        state.wake_producers();
        state.wake_consumer();
    }

    /// Bytes handed to the socket so far.
    pub fn written(&self) -> u64 {
        self.state().written
    }

    /// Writes everything to the socket until the outbox is sealed and empty, then closes our direction.
    pub async fn drain(&self, mut socket: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut chunk = BytesMut::new();
        while poll_fn(|cx| self.poll_take(cx, &mut chunk)).await? {
            while !chunk.is_empty() {
                let count = socket.write_buf(&mut chunk).await?;
                if count == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                self.state().written += count as u64;
            }
            socket.flush().await?;
        }
        socket.shutdown().await
    }

    /// Swaps the pending bytes for the caller's empty buffer. False: sealed and nothing left.
    fn poll_take(&self, cx: &mut Context<'_>, chunk: &mut BytesMut) -> Poll<io::Result<bool>> {
        let mut state = self.state();
        if !state.pending.is_empty() {
            chunk.clear();
            std::mem::swap(&mut state.pending, chunk);
            state.wake_producers();
            return Poll::Ready(Ok(true));
        }
        match state.phase {
            Phase::Open => {
                state.consumer = Some(cx.waker().clone());
                Poll::Pending
            }
            Phase::Sealed => Poll::Ready(Ok(false)),
            Phase::Broken => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn append(&mut self, encode: impl FnOnce(&mut BytesMut)) {
        encode(&mut self.pending);
        self.wake_consumer();
    }

    fn wake_producers(&mut self) {
        self.producers.drain(..).for_each(Waker::wake);
    }

    fn wake_consumer(&mut self) {
        if let Some(waker) = self.consumer.take() {
            waker.wake();
        }
    }
}
