//! How the administrator ends the server, and what he is told of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{RwLock, mpsc, oneshot};

/// How the server shall end.
pub struct Down {
    pub containers: Containers,
    /// Told when all is stopped, or what could not be.
    pub done: oneshot::Sender<Result<(), String>>,
    /// Read by each connection of the administrator while it lasts: whoever may write knows that all answers have left.
    pub connections: Arc<RwLock<()>>,
}

/// What becomes of the containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Containers {
    /// They run on; the next server adopts them.
    Keep,
    /// They are stopped in order, each with its pod's grace, but no longer than this.
    Stop { within: Option<Duration> },
}

impl Containers {
    /// `keepContainers=true`, `gracePeriodSeconds=N` or nothing.
    pub fn of_query(query: Option<&str>) -> Option<Containers> {
        match query.unwrap_or_default().split_once('=') {
            None => Some(Containers::Stop { within: None }),
            Some(("keepContainers", "true")) => Some(Containers::Keep),
            Some(("gracePeriodSeconds", seconds)) => {
                Some(Containers::Stop { within: Some(Duration::from_secs(seconds.parse().ok()?)) })
            }
            Some(_) => None,
        }
    }
}

pub struct Admin {
    pub started: Instant,
    pub url: String,
    pub down: mpsc::Sender<Down>,
    /// See [`Down::connections`].
    pub connections: Arc<RwLock<()>>,
}
