//! `World`: everything there is, and the queue of messages between its parts.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use stead_api::{Key, Request};
use stead_node::Input;
use stead_node::action::{Action, ContainerRef};
use stead_store::Snapshot;

use crate::Sabotage;
use crate::chance::Chance;
use crate::ledger::Ledger;
use crate::pager::Pager;
use crate::parts::{Monkey, Node, Sender, Server, Waiting};
use crate::trace::Trace;
use crate::watcher::Watcher;

pub enum Message {
    /// A request arrives at the server.
    Request(Sender, Box<Request>),
    /// The server's own alarm.
    ServerWake(Timestamp),
    /// A webhook answers a server in one of its lives.
    Answered(u64, Box<Waiting>),
    /// The disk has taken the batch under way.
    Synced(u64),
    ServerStart(u64),
    /// A head arrives at a node over its watch.
    Head {
        node: usize,
        link: u64,
        snapshot: Snapshot,
        changed: Option<Vec<Key>>,
    },
    /// Anything else for an agent in one of its lives.
    Input(usize, u64, Box<Input>),
    AgentWake(usize, Timestamp),
    AgentStart(usize, u64),
    /// An action takes effect.
    Act(usize, u64, Box<(u64, Action)>),
    /// A container ends by itself.
    Ends(usize, u64, ContainerRef, i32),
    /// A node's way to the server is open again.
    Reconnect(usize, u64),
    User,
    Fault,
    Watch(usize),
    Page,
}

pub struct World {
    /// True time.
    pub now: Timestamp,
    /// How far the machines' clock is ahead of it.
    pub clock_is_ahead: SignedDuration,
    pub seq: u64,
    pub queue: BTreeMap<(Timestamp, u64), Message>,
    pub chance: Chance,
    pub trace: Trace,
    pub server: Server,
    pub nodes: Vec<Node>,
    pub monkey: Monkey,
    pub watchers: Vec<Watcher>,
    pub pager: Pager,
    /// How many events of each kind a server remembers.
    pub events_kept: usize,
    pub ledger: Ledger,
    /// Whether faults strike.
    pub faults: bool,
    /// Whether users act.
    pub users: bool,
    pub sabotage: Sabotage,
    pub crashes: u64,
    /// Whether webhooks look at what is made.
    pub has_webhooks: bool,
    /// Who woke by itself in this second, and how often.
    pub wakes: BTreeMap<&'static str, (i64, u32)>,
}

pub fn after(now: Timestamp, span: SignedDuration) -> Timestamp {
    now.checked_add(span).unwrap_or(Timestamp::MAX)
}

impl World {
    /// Queues a message.
    pub fn send(&mut self, at: Timestamp, message: Message) {
        self.seq += 1;
        self.queue.insert((at.max(self.now), self.seq), message);
    }

    pub fn send_in(&mut self, span: SignedDuration, message: Message) {
        self.send(after(self.now, span), message);
    }

    pub fn say(&mut self, text: &str) {
        self.trace.say(self.now, text);
    }
}
