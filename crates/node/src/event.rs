//! Events about pods and the node, counted as the kubelet's recorder counts them.
//!
//! Guarantees: an event that repeats becomes a higher `count` of the same object, not a new object; one pod can say at most a
//! burst of 25 and then one per five minutes (Bounded); the memory holds a fixed number of events.
//! Upstream: client-go tools/record (EventCorrelator) and its defaults.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use stead_api::request::{PatchType, Resource, Verb};

/// Events remembered for counting.
const REMEMBERED_MAX: usize = 4096;
const BURST: u32 = 25;
const REFILL: SignedDuration = SignedDuration::from_secs(300);
/// A repeat after this is a new event.
const REPEAT_WITHIN: SignedDuration = SignedDuration::from_secs(3600);

/// Something worth telling the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub r#type: &'static str,
    pub reason: String,
    pub message: String,
    pub container: Option<String>,
}

impl Note {
    pub fn normal(reason: &str, message: impl Into<String>) -> Note {
        Note { r#type: "Normal", reason: reason.into(), message: message.into(), container: None }
    }

    pub fn warning(reason: &str, message: impl Into<String>) -> Note {
        Note { r#type: "Warning", reason: reason.into(), message: message.into(), container: None }
    }

    /// About one container.
    pub fn of(mut self, container: &str) -> Note {
        self.container = Some(container.to_owned());
        self
    }
}

/// Whom an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    pub kind: &'static str,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub field_path: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Same {
    subject: Subject,
    r#type: &'static str,
    reason: String,
    message: String,
}

#[derive(Clone, Debug)]
struct Told {
    name: String,
    count: i32,
    last: Timestamp,
}

/// Counts events and makes the requests that record them.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    node: String,
    told: BTreeMap<Same, Told>,
    order: VecDeque<Same>,
    /// Tokens left and when they were last counted, by uid.
    budgets: BTreeMap<String, (u32, Timestamp)>,
    sequence: u64,
}

impl Recorder {
    pub fn new(node: &str) -> Recorder {
        Recorder { node: node.to_owned(), ..Recorder::default() }
    }

    /// The request that records a note, or `None` when its subject has said too much.
    pub fn record(&mut self, subject: Subject, note: &Note, now: Timestamp) -> Option<(Verb, Resource, Value)> {
        if !self.take_token(&subject.uid, now) {
            return None;
        }
        let namespace = if subject.namespace.is_empty() { "default" } else { &subject.namespace }.to_owned();
        let same = Same { subject, r#type: note.r#type, reason: note.reason.clone(), message: note.message.clone() };
        let mut resource = Resource { version: "v1".into(), plural: "events".into(), namespace, ..Resource::default() };
        if let Some(told) = self.told.get_mut(&same).filter(|t| now < t.last + REPEAT_WITHIN) {
            told.count += 1;
            told.last = now;
            resource.name = told.name.clone();
            let body = json!({"count": told.count, "lastTimestamp": time(now)});
            return Some((Verb::Patch(PatchType::Merge), resource, body));
        }
        self.sequence += 1;
        let unique = now.as_nanosecond().unsigned_abs() as u64 ^ (self.sequence << 52);
        let name = format!("{}.{unique:016x}", same.subject.name);
        let body = body(&self.node, &same, &name, &resource.namespace, now);
        self.remember(same, Told { name, count: 1, last: now });
        Some((Verb::Create, resource, body))
    }

    /// An event that the server has dropped meanwhile is told anew next time.
    pub fn forget(&mut self, name: &str) {
        self.told.retain(|_, told| told.name != name);
    }

    fn remember(&mut self, same: Same, told: Told) {
        if self.told.insert(same.clone(), told).is_none() {
            self.order.push_back(same);
        }
        while self.order.len() > REMEMBERED_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.told.remove(&oldest);
                self.budgets.remove(&oldest.subject.uid);
            }
        }
    }

    fn take_token(&mut self, uid: &str, now: Timestamp) -> bool {
        let (left, since) = self.budgets.entry(uid.to_owned()).or_insert((BURST, now));
        let earned = (now.duration_since(*since).as_secs() / REFILL.as_secs()).max(0) as u32;
        if earned > 0 {
            *left = left.saturating_add(earned).min(BURST);
            *since = now;
        }
        match left.checked_sub(1) {
            Some(rest) => {
                *left = rest;
                true
            }
            None => false,
        }
    }
}

fn body(node: &str, same: &Same, name: &str, namespace: &str, now: Timestamp) -> Value {
    let subject = &same.subject;
    let mut involved = json!({"kind": subject.kind, "name": subject.name, "uid": subject.uid, "apiVersion": "v1"});
    if !subject.namespace.is_empty() {
        involved["namespace"] = json!(subject.namespace);
    }
    if let Some(path) = &subject.field_path {
        involved["fieldPath"] = json!(path);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": involved,
        "reason": same.reason,
        "message": same.message,
        "source": {"component": "kubelet", "host": node},
        "firstTimestamp": time(now),
        "lastTimestamp": time(now),
        "count": 1,
        "type": same.r#type,
        "reportingComponent": "kubelet",
        "reportingInstance": node,
    })
}

/// metav1.Time: whole seconds.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_counted_and_bursts_are_cut() {
        let mut recorder = Recorder::new("n1");
        let subject =
            Subject { kind: "Pod", namespace: "a".into(), name: "web-0".into(), uid: "u".into(), field_path: None };
        let note = Note::warning("BackOff", "again");
        let now = Timestamp::UNIX_EPOCH;
        let (verb, resource, body) = recorder.record(subject.clone(), &note, now).unwrap();
        assert_eq!((verb, resource.name.as_str(), &body["count"]), (Verb::Create, "", &json!(1)));
        let name = body["metadata"]["name"].as_str().unwrap().to_owned();
        let (verb, resource, body) = recorder.record(subject.clone(), &note, now).unwrap();
        assert_eq!((verb, resource.name, &body["count"]), (Verb::Patch(PatchType::Merge), name, &json!(2)));
        let sent = (0..100).filter(|_| recorder.record(subject.clone(), &note, now).is_some()).count();
        assert_eq!(sent, 23);
        assert!(recorder.record(subject, &note, now + SignedDuration::from_secs(301)).is_some());
    }
}
