//! What is true: every object at one revision, and the recent past.
//!
//! Start here; `snapshot.rs` is the present, `history.rs` the past, `durable.rs` what a batch makes durable.
//!
//! Invariants, named as in ARCHITECTURE.md and in the simulator's checks:
//! - **Ordered**: events come by revision, one write is one revision is one event.
//! - **Unique**: no event is delivered twice by a cursor.
//! - **Reliable**: a cursor drops nothing; one that has fallen behind the history is told so (`Expired`).
//! - **Resumable**: a new cursor at a seen revision goes on where the old one stopped.
//! - **Bookmarked**: a bookmark's revision promises that everything up to it was delivered.
//! - **Fold**: the snapshot is the fold of the durable records; restoring twice gives equal snapshots.
//!
//! The store knows no kind and never fails: what may be written is decided above it.

pub mod durable;
pub mod history;
pub mod snapshot;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use stead_api::{Key, Object, Revision};

pub use durable::{Corrupt, Record};
pub use history::{Event, Expired, History};
pub use snapshot::Snapshot;

/// The present and the recent past together: what readers hold. Cloned in constant time.
#[derive(Clone, Default)]
pub struct Head {
    pub snapshot: Snapshot,
    pub history: History,
}

/// The writer's side: one per control plane.
#[derive(Default)]
pub struct Store {
    head: Head,
    /// The writes since the last `take_writes`, last one per key.
    dirty: BTreeMap<Key, Option<Bytes>>,
    /// The events since the last `take_events`, in order.
    fresh: Vec<Arc<Event>>,
}

impl Store {
    /// Starts from restored objects; the past begins at their revision.
    pub fn restored(snapshot: Snapshot) -> Store {
        let history = History::starting_at(snapshot.revision());
        Store { head: Head { snapshot, history }, ..Store::default() }
    }

    /// Keeps at most so many events of each kind, where that is fewer than `EVENTS_PER_KIND_MAX`.
    pub fn keep_history(&mut self, events_per_kind: usize) {
        self.head.history.keep(events_per_kind);
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.head.snapshot
    }

    /// The revision that the next write must carry as its resourceVersion.
    pub fn next_revision(&self) -> Revision {
        self.head.snapshot.revision() + 1
    }

    /// Stores a new version of an object.
    ///
    /// # Panics
    /// When the object does not carry `next_revision`: the caller made it for another moment.
    pub fn put(&mut self, object: Object) -> Arc<Object> {
        assert_eq!(object.revision(), self.next_revision(), "{object:?} was made for another revision");
        let object = Arc::new(object);
        let old = self.head.snapshot.insert(Arc::clone(&object));
        self.dirty.insert(object.key.clone(), Some(object.json.clone()));
        self.record(Event::new(old, Arc::clone(&object), false));
        object
    }

    /// Removes an object. `last` is its final version, carrying `next_revision`, as watchers of the deletion see it.
    ///
    /// # Panics
    /// When `last` does not carry `next_revision`.
    pub fn remove(&mut self, last: Object) -> Arc<Object> {
        assert_eq!(last.revision(), self.next_revision(), "{last:?} was made for another revision");
        let last = Arc::new(last);
        let old = self.head.snapshot.remove(&last.key, last.revision());
        if old.is_some() {
            self.dirty.insert(last.key.clone(), None);
            self.record(Event::new(old, Arc::clone(&last), true));
        }
        last
    }

    fn record(&mut self, event: Event) {
        let event = Arc::new(event);
        self.head.history.push(Arc::clone(&event));
        self.fresh.push(event);
    }

    /// Takes what must become durable: the last state of every key written since the last call.
    pub fn take_writes(&mut self) -> Vec<(Key, Option<Bytes>)> {
        std::mem::take(&mut self.dirty).into_iter().collect()
    }

    /// The last write since `take_events`.
    pub fn last_event(&self) -> Option<&Arc<Event>> {
        self.fresh.last()
    }

    /// Takes the events since the last call: what wakes controllers.
    pub fn take_events(&mut self) -> Vec<Arc<Event>> {
        std::mem::take(&mut self.fresh)
    }
}

#[cfg(test)]
mod tests;
