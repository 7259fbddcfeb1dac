//! `History`: the recent events, by kind, in order; a watch is a place in it.
//!
//! Bounded by `EVENTS_PER_KIND_MAX` and `BYTES_MAX`, where the kind that weighs most gives way; what an event weighs is what its version holds in memory, not its
//! JSON alone. Reading on from a place costs what is read, however long the history is. A reader whose place has been dropped gets `Expired` and lists
//! again; there is no queue per watcher. The past can also be undone, which is how a page of a list sees an older revision.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use imbl::{OrdMap, Vector};
use stead_api::{Key, KindName, Object, Revision};

/// How many events are kept for each kind.
pub const EVENTS_PER_KIND_MAX: usize = 16_384;
/// How many bytes of memory the events of all kinds may hold, about; of each kind at least one is kept.
pub const BYTES_MAX: usize = 64 << 20;

/// One write, as watchers see it.
pub struct Event {
    /// The version before; None when the object was made.
    pub old: Option<Arc<Object>>,
    /// The version after; for a deletion the final version, with the revision of the deletion.
    pub object: Arc<Object>,
    pub deleted: bool,
    /// Bytes of memory that the event holds, about.
    weight: usize,
    frame: OnceLock<Bytes>,
}

/// A watch event's type, relative to a selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Added,
    Modified,
    Deleted,
}

impl Change {
    pub fn name(self) -> &'static str {
        match self {
            Change::Added => "ADDED",
            Change::Modified => "MODIFIED",
            Change::Deleted => "DELETED",
        }
    }
}

impl Event {
    pub fn new(old: Option<Arc<Object>>, object: Arc<Object>, deleted: bool) -> Event {
        // Watchers may have the frame made, which is the JSON again; the version before may be held by nobody else.
        let weight = object.weight() + object.json.len() + old.as_ref().map_or(0, |old| old.weight());
        Event { old, object, deleted, weight, frame: OnceLock::new() }
    }

    pub fn revision(&self) -> Revision {
        self.object.revision()
    }

    pub fn key(&self) -> &Key {
        &self.object.key
    }

    /// What a watcher without a selector is told.
    pub fn change(&self) -> Change {
        match (self.deleted, &self.old) {
            (true, _) => Change::Deleted,
            (false, None) => Change::Added,
            (false, Some(_)) => Change::Modified,
        }
    }

    /// The JSON watch frame of `change()`, encoded once and shared by all watchers.
    pub fn frame(&self) -> Bytes {
        self.frame.get_or_init(|| frame(self.change(), &self.object.json)).clone()
    }
}

/// A watch frame: `{"type":"ADDED","object":…}` and a newline.
pub fn frame(change: Change, object: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(object.len() + 40);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(change.name().as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
    out.freeze()
}

/// The place asked for is older than what is kept (or the writer has not reached it yet).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub struct Expired {
    pub asked: Revision,
    pub oldest: Revision,
}

#[derive(Clone, Default)]
struct Log {
    events: Vector<Arc<Event>>,
    bytes: usize,
    /// Everything up to and including this revision is gone.
    dropped: Revision,
}

#[derive(Clone)]
pub struct History {
    /// Where the past begins for every kind: the revision at restore.
    start: Revision,
    logs: OrdMap<KindName, Log>,
    bytes: usize,
    events_per_kind_max: usize,
}

impl Default for History {
    fn default() -> History {
        History { start: 0, logs: OrdMap::new(), bytes: 0, events_per_kind_max: EVENTS_PER_KIND_MAX }
    }
}

impl Log {
    /// Drops the oldest event; answers its weight.
    fn forget(&mut self) -> usize {
        let Some(gone) = self.events.pop_front() else { return 0 };
        self.bytes -= gone.weight;
        self.dropped = gone.revision();
        gone.weight
    }
}

impl History {
    pub fn starting_at(revision: Revision) -> History {
        History { start: revision, ..History::default() }
    }

    /// Keeps fewer events of each kind from now on.
    pub(crate) fn keep(&mut self, events_per_kind: usize) {
        self.events_per_kind_max = events_per_kind.min(EVENTS_PER_KIND_MAX);
    }

    pub(crate) fn push(&mut self, event: Arc<Event>) {
        let start = self.start;
        let log = self.logs.entry(event.key().kind).or_insert_with(|| Log { dropped: start, ..Log::default() });
        log.bytes += event.weight;
        self.bytes += event.weight;
        log.events.push_back(event);
        if log.events.len() > self.events_per_kind_max {
            self.bytes -= log.forget();
        }
        while self.bytes > BYTES_MAX {
            let several = self.logs.iter().filter(|(_, log)| log.events.len() > 1);
            let heaviest = several.max_by_key(|(_, log)| log.bytes).map(|(kind, _)| *kind);
            let Some(log) = heaviest.and_then(|kind| self.logs.get_mut(kind)) else { return };
            self.bytes -= log.forget();
        }
    }

    /// The oldest revision from which a watch of this kind can go on.
    pub fn oldest(&self, kind: KindName) -> Revision {
        self.logs.get(kind).map_or(self.start, |log| log.dropped)
    }

    /// The events of a kind after a revision, in order.
    ///
    /// # Errors
    /// `Expired` when some of them are no longer kept.
    pub fn since(&self, kind: KindName, after: Revision) -> Result<impl Iterator<Item = &Arc<Event>>, Expired> {
        let oldest = self.oldest(kind);
        if after < oldest {
            return Err(Expired { asked: after, oldest });
        }
        let rest = self.logs.get(kind).map(|log| log.events.focus().narrow(partition(&log.events, after)..));
        Ok(rest.into_iter().flatten())
    }

    /// Up to `limit` events after a revision; a watcher's way to catch up in bounded pieces.
    pub fn page(&self, kind: KindName, after: Revision, limit: usize) -> Result<Vec<Arc<Event>>, Expired> {
        Ok(self.since(kind, after)?.take(limit).cloned().collect())
    }

    /// What a kind's objects were at an older revision: for each key changed since, its version then (None: did not exist).
    ///
    /// # Errors
    /// `Expired` when the history does not reach back that far.
    pub fn undo(&self, kind: KindName, to: Revision) -> Result<OrdMap<Key, Option<Arc<Object>>>, Expired> {
        let mut then = OrdMap::new();
        for event in self.since(kind, to)? {
            if !then.contains_key(event.key()) {
                then.insert(event.key().clone(), event.old.clone());
            }
        }
        Ok(then)
    }
}

/// The index of the first event after a revision. Readers are at the end nearly always, so the search begins there.
fn partition(events: &Vector<Arc<Event>>, after: Revision) -> usize {
    let is_seen = |index: usize| events[index].revision() <= after;
    let (mut from, mut to, mut step) = (events.len(), events.len(), 1);
    while from > 0 {
        to = from;
        from = from.saturating_sub(step);
        if is_seen(from) {
            break;
        }
        step *= 2;
    }
    while from < to {
        let middle = from + (to - from) / 2;
        if is_seen(middle) { from = middle + 1 } else { to = middle }
    }
    from
}
