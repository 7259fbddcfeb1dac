//! Notes of controllers as core/v1 Event objects.
//!
//! Guarantees: a note that was made before about the same object, with the same source, reason and message, raises that Event's count
//! instead of making another; a source may make 25 new notes about one object at once and then one every five minutes
//! (upstream's spam filter), so a controller that cannot get on does not fill the store. Expiry is `garbage.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event as Told;
use serde_json::{Value, json};
use stead_api::Object;
use stead_kinds::Registry;

use crate::facts;
use crate::names::EVENT;
use crate::plan::{Note, View};

const BURST_MAX: i64 = 25;
const REFILL_SECONDS: i64 = 300;
/// How many (source, object) budgets are remembered; the fullest are forgotten first.
const BUDGETS_MAX: usize = 4096;

#[derive(Default)]
pub struct Recorder {
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
    /// What to write for a note, or nothing when it would be spam. `id` makes a new Event's name unique.
    pub fn write(&mut self, view: &View, source: &'static str, note: &Note, about: &Object, id: u64) -> Option<Write> {
        if !self.may_write(source, &about.meta.uid, view.now) {
            return None;
        }
        if let Some(event) = similar(view, source, note, about) {
            let mut value = event.value();
            value["count"] = json!(value["count"].as_i64().unwrap_or(1) + 1);
            value["lastTimestamp"] = facts::time(view.now);
            return Some(Write::Update(value));
        }
        Some(Write::Create(new_event(view.registry, source, note, about, view.now, id)))
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

/// The Event that tells the same about the same object.
fn similar<'a>(view: &View<'a>, source: &str, note: &Note, about: &Object) -> Option<&'a Arc<Object>> {
    let events = facts::with_field(view, EVENT, "involvedObject.uid", &about.meta.uid);
    events.into_iter().find(|event| {
        let told = event.view::<Told>();
        told.source.as_ref().and_then(|s| s.component.as_deref()) == Some(source)
            && told.type_.as_deref() == Some(note.r#type.name())
            && told.reason.as_deref() == Some(note.reason)
            && told.message.as_deref() == Some(note.message.as_str())
    })
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
