//! Notes of controllers as core/v1 Event objects.
//!
//! Guarantees: a note that was made before about the same object, with the same source, reason and message, raises that Event's count
//! instead of making another; a source may make 25 new notes about one object at once and then one every five minutes
//! (upstream's spam filter), so a controller that cannot get on does not fill the store. Expiry is `garbage.rs`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use stead_api::{Key, Object};
use stead_kinds::Registry;
use stead_store::Snapshot;

use crate::facts;
use crate::names::EVENT;
use crate::plan::Note;

const BURST_MAX: i64 = 25;
const REFILL_SECONDS: i64 = 300;
/// How many (source, object) budgets are remembered; the fullest are forgotten first.
const BUDGETS_MAX: usize = 4096;

#[derive(Default)]
pub struct Recorder {
    /// The Event that tells the same.
    similar: BTreeMap<String, Key>,
    sameness: BTreeMap<Key, String>,
    budgets: BTreeMap<(&'static str, String), Budget>,
}

struct Budget {
    left: i64,
    refilled: Timestamp,
}

/// What to write for a note.
pub enum Write {
    Create(Value),
    Update(Value),
}

impl Recorder {
    /// Remembers the Events that are there.
    pub fn restored(snapshot: &Snapshot) -> Recorder {
        let mut recorder = Recorder::default();
        for object in snapshot.list(EVENT, "") {
            let event = object.value();
            let text = |path: &str| stead_api::object::field_text(&event, path);
            let sameness = sameness(
                &text("source.component"),
                &text("involvedObject.uid"),
                &text("type"),
                &text("reason"),
                &text("message"),
            );
            recorder.remember(sameness, object.key.clone());
        }
        recorder
    }

    fn remember(&mut self, sameness: String, key: Key) {
        self.sameness.insert(key.clone(), sameness.clone());
        self.similar.insert(sameness, key);
    }

    /// An Event was removed from the store.
    pub fn forget(&mut self, key: &Key) {
        if let Some(sameness) = self.sameness.remove(key)
            && self.similar.get(&sameness) == Some(key)
        {
            self.similar.remove(&sameness);
        }
    }

    /// What to write for a note, or nothing when it would be spam. `id` makes a new Event's name unique.
    pub fn write(
        &mut self,
        (snapshot, registry): (&Snapshot, &Registry),
        source: &'static str,
        note: &Note,
        about: &Object,
        now: Timestamp,
        id: u64,
    ) -> Option<Write> {
        let sameness = sameness(source, &about.meta.uid, note.r#type.name(), note.reason, &note.message);
        if !self.may_write(source, &about.meta.uid, now) {
            return None;
        }
        if let Some(event) = self.similar.get(&sameness).and_then(|key| snapshot.get(key)) {
            let mut value = event.value();
            value["count"] = json!(value["count"].as_i64().unwrap_or(1) + 1);
            value["lastTimestamp"] = facts::time(now);
            return Some(Write::Update(value));
        }
        let value = new_event(registry, source, note, about, now, id);
        let namespace = value["metadata"]["namespace"].as_str().unwrap_or_default();
        let name = value["metadata"]["name"].as_str().unwrap_or_default();
        self.remember(sameness, Key::new(EVENT, namespace, name));
        Some(Write::Create(value))
    }

    fn may_write(&mut self, source: &'static str, uid: &str, now: Timestamp) -> bool {
        if self.budgets.len() >= BUDGETS_MAX {
            self.budgets.retain(|_, b| facts::after(b.refilled, REFILL_SECONDS) > now && b.left < BURST_MAX - 5);
        }
        if self.budgets.len() >= BUDGETS_MAX {
            self.budgets.clear();
        }
        let budget = self.budgets.entry((source, uid.to_owned())).or_insert(Budget { left: BURST_MAX, refilled: now });
        let refills = now.duration_since(budget.refilled).as_secs() / REFILL_SECONDS;
        if refills > 0 {
            budget.left = (budget.left + refills).min(BURST_MAX);
            budget.refilled = now;
        }
        if budget.left == 0 {
            return false;
        }
        budget.left -= 1;
        true
    }
}

fn sameness(source: &str, uid: &str, r#type: &str, reason: &str, message: &str) -> String {
    [source, uid, r#type, reason, message].join("\0")
}

fn new_event(registry: &Registry, source: &'static str, note: &Note, about: &Object, now: Timestamp, id: u64) -> Value {
    let kind = registry.stored(about.key.kind);
    let namespace = if about.key.namespace.is_empty() { "default" } else { &*about.key.namespace };
    let name: String = about.key.name.chars().take(236).collect();
    let mut involved = json!({
        "kind": kind.map(|k| k.kind).unwrap_or_default(),
        "name": &*about.key.name,
        "uid": about.meta.uid,
        "apiVersion": kind.map(|k| k.api_version()).unwrap_or_default(),
        "resourceVersion": about.revision().to_string(),
    });
    if !about.key.namespace.is_empty() {
        involved["namespace"] = json!(&*about.key.namespace);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": format!("{name}.{id:016x}"), "namespace": namespace},
        "involvedObject": involved,
        "reason": note.reason,
        "message": note.message,
        "source": {"component": source},
        "firstTimestamp": facts::time(now),
        "lastTimestamp": facts::time(now),
        "count": 1,
        "type": note.r#type.name(),
        "reportingComponent": source,
        "reportingInstance": "",
    })
}
