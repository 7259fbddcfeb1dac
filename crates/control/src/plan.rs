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

/// All that a decision may depend on.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub snapshot: &'a Snapshot,
    pub registry: &'a Registry,
    pub cluster: &'a Cluster,
    pub now: Timestamp,
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

pub struct Controller {
    /// Field manager and event source: `statefulset-controller`.
    pub name: &'static str,
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
}

#[derive(Debug)]
pub enum Action {
    /// The value carries apiVersion, kind, metadata.name (or generateName) and namespace. `note` replaces the plan's own success note.
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
    },
    /// The same, for the status subresource.
    UpdateStatus {
        kind: KindName,
        value: Value,
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
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    Normal,
    Warning,
}

/// An Event to record about an object. In a failure note the text `{error}` is replaced by the refusal's message.
#[derive(Clone, Debug)]
pub struct Note {
    pub about: Key,
    pub r#type: EventType,
    pub reason: &'static str,
    pub message: String,
}
