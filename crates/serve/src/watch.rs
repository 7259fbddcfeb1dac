//! A watch as a response body.
//!
//! The connection polls it, and it reads the history itself: between a publication and the socket lie one wake-up and no queue.
//! All that happened between two polls is one piece, so a slow reader gets fewer and larger pieces and holds up nobody but itself.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use stead_api::Revision;
use stead_apiserver::WatchPlan;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, Interval, Sleep, interval_at, sleep};

use crate::Server;

/// A bookmark is sent after this long without one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long a watch lasts when the client does not say: 30 to 60 minutes upstream.
const WATCH_SECONDS: u64 = 3600;

pub struct Watch {
    server: Arc<Server>,
    plan: WatchPlan,
    /// Ends when objects of the kind were published; None: the plane is gone.
    changed: Pin<Box<dyn Future<Output = Option<Receiver<Revision>>> + Send>>,
    /// Whether there may be something to send without waiting.
    is_behind: bool,
    end: Pin<Box<Sleep>>,
    bookmarks: Option<Interval>,
    is_over: bool,
}

impl Watch {
    pub fn new(server: &Arc<Server>, plan: WatchPlan) -> Watch {
        let seconds = plan.request.options.timeout_seconds.filter(|s| *s > 0).unwrap_or(WATCH_SECONDS);
        let wants_bookmarks = plan.request.options.allow_bookmarks;
        Watch {
            changed: Box::pin(next(server.plane.changes(plan.kind.storage))),
            server: Arc::clone(server),
            plan,
            is_behind: true,
            end: Box::pin(sleep(Duration::from_secs(seconds))),
            bookmarks: wants_bookmarks.then(|| interval_at(Instant::now() + BOOKMARK_EVERY, BOOKMARK_EVERY)),
            is_over: false,
        }
    }

    /// The next piece; None when the watch has ended: time is up, or the place in the history is lost.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while !self.is_over {
            if let Some(piece) = self.events() {
                return Poll::Ready(Some(piece));
            }
            match self.changed.as_mut().poll(cx) {
                Poll::Ready(Some(receiver)) => {
                    self.changed = Box::pin(next(receiver));
                    self.is_behind = true;
                }
                Poll::Ready(None) => self.is_over = true,
                Poll::Pending => return self.poll_clock(cx),
            }
        }
        Poll::Ready(None)
    }

    /// What has happened and was not sent.
    fn events(&mut self) -> Option<Bytes> {
        if !self.is_behind {
            return None;
        }
        let head = self.server.plane.head();
        let frames = stead_apiserver::watch_next(&mut self.plan, &head, crate::clock::now());
        self.is_behind = self.plan.is_behind(&head);
        match frames {
            Ok(frames) if frames.is_empty() => None,
            Ok(frames) => Some(join(frames)),
            Err(status) => {
                self.is_over = true;
                Some(stead_apiserver::watch_error(&self.plan, &status))
            }
        }
    }

    /// A bookmark when one is due, and as the last word when time is up.
    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.is_over = self.end.as_mut().poll(cx).is_ready();
        match &mut self.bookmarks {
            None if self.is_over => return Poll::Ready(None),
            None => return Poll::Pending,
            Some(_) if self.is_over => {}
            Some(bookmarks) => {
                ready!(bookmarks.poll_tick(cx));
            }
        }
        Poll::Ready(Some(stead_apiserver::watch_bookmark(&self.plan, &self.server.plane.head())))
    }
}

async fn next(mut receiver: Receiver<Revision>) -> Option<Receiver<Revision>> {
    receiver.changed().await.ok()?;
    Some(receiver)
}

/// One frame is passed on as it is; several are sent as one piece.
fn join(mut frames: Vec<Bytes>) -> Bytes {
    if frames.len() == 1 {
        return frames.swap_remove(0);
    }
    let mut all = BytesMut::with_capacity(frames.iter().map(Bytes::len).sum());
    frames.iter().for_each(|frame| all.extend_from_slice(frame));
    all.freeze()
}
