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
use stead_api::call::Answer;
use stead_api::{Revision, Status};
use stead_apiserver::{Head, WatchPlan};
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
    /// A conversion that the next frames wait for.
    asking: Option<Asking>,
    is_over: bool,
}

type Asking = Pin<Box<dyn Future<Output = (Arc<Head>, Answer)> + Send>>;

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
            asking: None,
            is_over: false,
        }
    }

    /// The next piece; None when the watch has ended: time is up, or the place in the history is lost.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while !self.is_over {
            match self.events(cx) {
                Poll::Ready(Some(piece)) => return Poll::Ready(Some(piece)),
                Poll::Ready(None) => {}
                Poll::Pending => return self.poll_clock(cx),
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
    fn events(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if !self.is_behind {
            return Poll::Ready(None);
        }
        let head = match ready!(self.readied(cx)) {
            Ok(head) => head,
            Err(status) => return Poll::Ready(Some(self.failed(&status))),
        };
        let frames = stead_apiserver::watch_next(&mut self.plan, &head, crate::clock::now());
        self.is_behind = self.plan.is_behind(&head);
        match frames {
            Ok(frames) if frames.is_empty() => Poll::Ready(None),
            Ok(frames) => Poll::Ready(Some(join(frames))),
            Err(status) => Poll::Ready(Some(self.failed(&status))),
        }
    }

    fn failed(&mut self, status: &Status) -> Bytes {
        self.is_over = true;
        stead_apiserver::watch_error(&self.plan, status)
    }

    /// The head whose frames can be made: what a webhook must convert for it has been converted.
    fn readied(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arc<Head>, Status>> {
        let asking = match &mut self.asking {
            Some(asking) => asking,
            None => {
                let head = self.server.plane.head();
                match stead_apiserver::watch_asks(&mut self.plan, &head) {
                    Ok(None) => return Poll::Ready(Ok(head)),
                    Err(status) => return Poll::Ready(Err(status)),
                    Ok(Some(question)) => {
                        let server = Arc::clone(&self.server);
                        self.asking.insert(Box::pin(async move {
                            let answer = crate::webhooks::ask(&server, &question).await;
                            (head, answer)
                        }))
                    }
                }
            }
        };
        let (head, answer) = ready!(asking.as_mut().poll(cx));
        self.asking = None;
        Poll::Ready(stead_apiserver::watch_told(&mut self.plan, &head, &answer).map(|()| head))
    }

    /// A bookmark when one is due, and as the last word when time is up.
    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.is_over = self.end.as_mut().poll(cx).is_ready();
        if self.asking.is_some() {
            // Nothing can be promised while frames are being made.
            return if self.is_over { Poll::Ready(None) } else { Poll::Pending };
        }
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
