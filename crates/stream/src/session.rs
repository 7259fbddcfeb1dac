//! The life of one upgraded connection: a loop that reads, a loop that writes, and when both end.
//!
//! Contract: one task per connection. When the reader ends (client gone, close frame, bad bytes) the outputs
//! fail and last words get [`CLOSE_WAIT`] to leave; when the writer has sent the last word the reader goes on
//! discarding until the client closes or [`CLOSE_WAIT`] is over, because closing a socket with unread bytes
//! makes the kernel throw away what the client has not read yet. No byte in [`Options::idle_timeout`] ends both.

use crate::outbox::Outbox;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long the end of a connection may take after the last word.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// What a caller may choose about a connection.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A connection that moves no byte for this long ends (the kubelet's streamingConnectionIdleTimeout).
    pub idle_timeout: Duration,
    /// How long a client may take to open the streams its request asked for.
    pub stream_creation_timeout: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options { idle_timeout: Duration::from_secs(4 * 60 * 60), stream_creation_timeout: Duration::from_secs(30) }
    }
}

/// Why a connection could not be served to its end.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("you must specify at least 1 of stdin, stdout, stderr")]
    NoStreams,
    #[error("timed out waiting for client to create streams")]
    StreamsNotCreated,
    #[error("the client is gone")]
    ClientGone,
    #[error("{0}")]
    Protocol(&'static str),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Counts the bytes read, so that idleness can be seen without a timer per read.
#[derive(Clone, Default)]
pub(crate) struct BytesRead(Arc<AtomicU64>);

impl BytesRead {
    pub fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A running connection. Dropping it ends the connection without a last word.
pub(crate) struct Session {
    pub outbox: Arc<Outbox>,
    gone: watch::Receiver<bool>,
    task: Option<JoinHandle<()>>,
}

/// Tells when the client is gone or the connection has ended.
#[derive(Clone, Debug)]
pub struct ClientGone(watch::Receiver<bool>);

impl ClientGone {
    /// Resolves when nothing written reaches the client any more.
    pub async fn wait(&mut self) {
        // A dropped sender means the connection's task has ended.
        let _ = self.0.wait_for(|gone| *gone).await;
    }
}

impl Session {
    /// Runs `read` over the socket and writes what the outbox gets, in a task of its own.
    pub fn start<T, R, F>(socket: T, outbox: Arc<Outbox>, options: &Options, read: R) -> Session
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        R: FnOnce(ReadHalf<T>, BytesRead) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (gone_sender, gone) = watch::channel(false);
        let idle_timeout = options.idle_timeout;
        let task_outbox = Arc::clone(&outbox);
        let task = tokio::spawn(async move {
            let count = BytesRead::default();
            tokio::select! {
                () = run(socket, &task_outbox, count.clone(), read, &gone_sender) => {}
                () = idle(&count, &task_outbox, idle_timeout) => {}
            }
            task_outbox.break_off();
            gone_sender.send_replace(true);
        });
        Session { outbox, gone, task: Some(task) }
    }

    pub fn client_gone(&self) -> ClientGone {
        ClientGone(self.gone.clone())
    }

    /// Waits until what was appended has left and the client has closed, or is gone.
    pub async fn ended(mut self) {
        if let Some(task) = self.task.take() {
            // A panic of the task has been reported by the runtime; here it means that the client is gone.
            let _ = task.await;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.outbox.seal(|_| {});
    }
}

async fn run<T, R, F>(socket: T, outbox: &Outbox, count: BytesRead, read: R, gone: &watch::Sender<bool>)
where
    T: AsyncRead + AsyncWrite + Unpin,
    R: FnOnce(ReadHalf<T>, BytesRead) -> F,
    F: Future<Output = ()>,
{
    let (reader, writer) = tokio::io::split(socket);
    let mut reading = std::pin::pin!(read(reader, count));
    let mut writing = std::pin::pin!(outbox.drain(writer));
    tokio::select! {
        () = &mut reading => {
            gone.send_replace(true);
            outbox.seal(|_| {});
            let _ = timeout(CLOSE_WAIT, writing).await;
        }
        sent = &mut writing => {
            if sent.is_ok() {
                let _ = timeout(CLOSE_WAIT, reading).await;
            }
        }
    }
}

async fn idle(count: &BytesRead, outbox: &Outbox, limit: Duration) {
    let mut seen = (count.get(), outbox.written());
    loop {
        sleep(limit).await;
        let now = (count.get(), outbox.written());
        if now == seen {
            return;
        }
        seen = now;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    /// A small generator with a seed (splitmix64), for tests with random bytes.
    pub(crate) struct Random(pub u64);

    impl Random {
        pub fn below(&mut self, limit: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) % limit as u64) as usize
        }
    }
}
