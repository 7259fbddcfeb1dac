//! What goes into the agent and what comes out, and what a request was for.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use stead_api::{Key, Request, Status};
use stead_store::Snapshot;

use crate::action::{Action, Observation, PodUid, World};
use crate::token::TokenKey;

/// Ties a reply to its request; unique for one life of the agent.
pub type RequestId = u64;

/// What happened.
pub enum Input {
    /// The published objects, and the keys that changed since the last head; `None` for the first head and after a gap.
    Head {
        snapshot: Snapshot,
        changed: Option<Vec<Key>>,
    },
    /// What the machine holds; given once, at the start.
    World(World),
    Observed(Observation),
    /// The answer to a request: the body, or the refusal.
    Reply(RequestId, Result<Bytes, Status>),
    /// The node stops: every pod is taken down in order, and nothing starts again. Whatever its own grace, a pod is killed
    /// `within` this time; `None` leaves each its own.
    ShutDown {
        within: Option<SignedDuration>,
    },
    /// `wake_at` has come.
    Wake,
}

/// What to do.
#[derive(Debug)]
pub enum Output {
    Request(RequestId, Box<Request>),
    Act(Action),
}

/// What a request was for.
#[derive(Clone, Debug)]
pub(crate) enum Pending {
    Status(PodUid),
    Confirm(PodUid),
    Token(TokenKey),
    Event(String),
    Node,
    NodeStatus,
    Lease { renewed_at: Timestamp },
    Reclaim(Key),
}

/// The wait after a refused or lost request.
pub(crate) fn request_retry(failures: u32) -> SignedDuration {
    SignedDuration::from_millis(200 << failures.min(8))
}
