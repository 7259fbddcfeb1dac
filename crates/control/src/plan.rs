//! `View`, `Plan`, `Action`: what a controller sees and what it answers.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use stead_api::object::Object;
use stead_api::request::Propagation;
use stead_api::{Key, KindName};
use stead_apiserver::Cluster;
use stead_kinds::Registry;
use stead_store::{Event, Snapshot};

use crate::effect::Work;
use crate::memory::Memory;
use crate::usage::Measured;

/// In `Watch::kind`: objects of every kind. Its `keys` must be cheap, for it runs on each write.
pub const ANY: KindName = "*";

/// All that a decision may depend on.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub snapshot: &'a Snapshot,
    pub registry: &'a Registry,
    pub cluster: &'a Cluster,
    pub now: Timestamp,
    /// Since when this plane has been there to be told anything: silence is counted from then.
    pub started: Timestamp,
    /// What this life of the server has seen of the key.
    pub memory: Option<&'a Memory>,
    /// What pods used when that was last measured.
    pub measured: Option<&'a Measured>,
}

impl<'a> View<'a> {
    pub fn get(&self, kind: KindName, namespace: &str, name: &str) -> Option<&'a Arc<Object>> {
        self.snapshot.find(kind, namespace, name)
    }
}

/// Which keys a changed object wakes.
#[derive(Clone, Copy)]
pub struct Watch {
    pub kind: KindName,
    /// From an event on an object of that kind to the keys to reconcile.
    pub keys: fn(&View, &Event) -> Vec<Key>,
}

/// Whether a controller's own writes are reason to look at the key again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settles {
    /// A plan may be one step of several.
    Never,
    /// A plan that only writes status is the last one.
    AfterStatus,
    /// A plan brings about all that is to be done for what was seen.
    Always,
}

pub struct Controller {
    /// Field manager and event source: `statefulset-controller`.
    pub name: &'static str,
    pub settles: Settles,
    pub watches: &'static [Watch],
    pub reconcile: fn(&View, &Key) -> Plan,
}

/// What should be done for one key. Applied in order; the first refusal cuts it and becomes an Event and a back-off.
#[must_use]
#[derive(Debug, Default)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub events: Vec<Note>,
    /// When to look again even if nothing changes.
    pub wake_at: Option<Timestamp>,
    /// Where a refusal is to be seen beside its Event.
    pub blame: Option<Blame>,
    /// Something stood in the way (a note says what): look again after a back-off, as after a refusal.
    pub retry: bool,
    /// To be remembered of the key once the plan is carried out.
    pub remember: Option<Memory>,
    /// Look again once it is known what pods use now.
    pub measure: bool,
}

#[derive(Debug)]
pub enum Action {
    /// The value carries apiVersion, kind, metadata.name (or generateName) and namespace.
    Create {
        kind: KindName,
        value: Value,
        on_success: Option<Note>,
        on_failure: Option<Note>,
    },
    /// The whole object again; carries uid and resourceVersion.
    Update {
        kind: KindName,
        value: Value,
        on_success: Option<Note>,
        on_failure: Option<Note>,
    },
    /// The same, for the status subresource.
    UpdateStatus {
        kind: KindName,
        value: Value,
    },
    /// The same, for another subresource (`finalize`).
    UpdateSubresource {
        kind: KindName,
        subresource: &'static str,
        value: Value,
        on_success: Option<Note>,
        on_failure: Option<Note>,
    },
    /// An update that lacks what only the shell can make: it asks for the update itself once it has made it (effect.rs).
    Make {
        kind: KindName,
        subresource: &'static str,
        value: Value,
        work: Work,
    },
    Delete {
        key: Key,
        uid: String,
        propagation: Propagation,
        grace_seconds: Option<i64>,
        on_success: Option<Note>,
        on_failure: Option<Note>,
    },
    Bind {
        pod: Key,
        uid: String,
        node: String,
        on_success: Option<Note>,
    },
}

impl Plan {
    pub fn none() -> Plan {
        Plan::default()
    }

    pub fn is_empty(&self) -> bool {
        self.actions.is_empty() && self.events.is_empty()
    }

    /// Looks again at `at`, or earlier if that was asked for before.
    pub fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    pub fn note(&mut self, note: Note) {
        self.events.push(note);
    }

    pub fn create(&mut self, kind: KindName, value: Value) {
        self.actions.push(Action::Create { kind, value, on_success: None, on_failure: None });
    }

    pub fn update(&mut self, kind: KindName, value: Value) {
        self.actions.push(Action::Update { kind, value, on_success: None, on_failure: None });
    }

    pub fn update_subresource(&mut self, kind: KindName, subresource: &'static str, value: Value) {
        self.actions.push(Action::UpdateSubresource { kind, subresource, value, on_success: None, on_failure: None });
    }

    pub fn update_status(&mut self, kind: KindName, value: Value) {
        self.actions.push(Action::UpdateStatus { kind, value });
    }

    /// Deletes this very object in the background, with the grace that it asks for.
    pub fn delete(&mut self, object: &Object) {
        self.delete_noted(object, None, None);
    }

    pub fn delete_noted(&mut self, object: &Object, on_success: Option<Note>, on_failure: Option<Note>) {
        self.actions.push(Action::Delete {
            key: object.key.clone(),
            uid: object.meta.uid.clone(),
            propagation: Propagation::Background,
            grace_seconds: None,
            on_success,
            on_failure,
        });
    }
}

/// A condition that a refusal puts on an object, with the refusal's message.
#[derive(Debug)]
pub struct Blame {
    pub about: Key,
    pub condition: &'static str,
    pub status: &'static str,
    pub reason: &'static str,
    /// What stands before the message.
    pub prefix: &'static str,
    /// Whether it takes the place of one of its type.
    pub replaces: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    pub fn name(self) -> &'static str {
        match self {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
    }
}

/// An Event to record about an object. In a failure note the text `{error}` is replaced by the refusal's message, in a success note
/// `{name}` by the name of the object made.
#[derive(Clone, Debug)]
pub struct Note {
    pub about: Key,
    pub r#type: EventType,
    pub reason: &'static str,
    pub message: String,
}

impl Note {
    pub fn normal(about: &Key, reason: &'static str, message: impl Into<String>) -> Note {
        Note { about: about.clone(), r#type: EventType::Normal, reason, message: message.into() }
    }

    pub fn warning(about: &Key, reason: &'static str, message: impl Into<String>) -> Note {
        Note { about: about.clone(), r#type: EventType::Warning, reason, message: message.into() }
    }
}
