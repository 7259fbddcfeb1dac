//! What planning a pod sees and says: what stands around it, and the plan that comes of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use stead_store::Snapshot;

use crate::NodeConfig;
use crate::action::{Action, Credentials};
use crate::event::Note;
use crate::state::Waiting;
use crate::token::{TokenKey, Tokens};

/// All that a plan may depend on beside the pod.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    pub config: &'a NodeConfig,
    pub snapshot: &'a Snapshot,
    pub tokens: &'a Tokens,
    /// An earlier pod of this namespace and name is still on the machine.
    pub is_name_taken: bool,
}

/// An image that a container's next start needs.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageWant {
    pub container: String,
    pub image: String,
    pub is_pull: bool,
    pub credentials: Option<Credentials>,
}

/// What to do now, and what to say about what cannot be done yet.
#[derive(Debug, Default)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub images: Vec<ImageWant>,
    pub tokens: Vec<TokenKey>,
    pub notes: Vec<Note>,
    pub waiting: BTreeMap<String, Waiting>,
    pub mount_problem: Option<String>,
    /// The pod is on its way down.
    pub is_ending: bool,
    pub wake_at: Option<Timestamp>,
}

impl Plan {
    pub fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |w| w.min(at)));
    }
}
