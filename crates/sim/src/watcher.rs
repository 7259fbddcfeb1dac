//! Watchers: clients that list, watch and fold what they are told, and compare it with what there is.
//!
//! They judge the watch guarantees as the store names them, through the same functions that the shell calls.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use stead_api::{Request, Resource, Revision, Verb};
use stead_apiserver::{Head, Reply, WatchPlan, serve_read, watch_bookmark, watch_next};

use crate::Sabotage;
use crate::chance::Chance;
use crate::checks::{self, Verdict, Violation, violated};
use crate::parts::admin;

/// How much of what was delivered is kept to compare a second cursor with.
pub const SEEN_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub revision: Revision,
    pub change: String,
    pub name: String,
}

pub struct Watcher {
    pub resource: Resource,
    pub selector: &'static str,
    pub plan: Option<Box<WatchPlan>>,
    /// The fold: name and revision.
    pub objects: BTreeMap<String, Revision>,
    /// The newest revision that was delivered or promised by a bookmark.
    pub at: Revision,
    pub seen: VecDeque<Seen>,
}

impl Watcher {
    pub fn new(index: usize, chance: &mut Chance) -> Watcher {
        let (group, plural) = [("", "pods"), ("apps", "statefulsets"), ("", "persistentvolumeclaims")][index % 3];
        let resource = Resource {
            group: group.into(),
            version: "v1".into(),
            plural: plural.into(),
            namespace: if chance.percent(50) { "default".into() } else { String::new() },
            ..Resource::default()
        };
        let selector = *chance.pick(&["", "color=red", "app=a"]).unwrap_or(&"");
        Watcher { resource, selector, plan: None, objects: BTreeMap::new(), at: 0, seen: VecDeque::new() }
    }

    fn request(&self, verb: Verb) -> Request {
        let mut request = Request::of(admin(), verb, self.resource.clone(), Value::Null);
        request.options.label_selector = self.selector.into();
        request.options.allow_bookmarks = true;
        request
    }

    pub fn watch_from(&self, head: &Head, now: Timestamp, revision: Revision) -> Result<Box<WatchPlan>, Violation> {
        let mut request = self.request(Verb::Watch);
        request.options.resource_version = revision.to_string();
        match serve_read(head, now, &request) {
            Reply::Watch(plan) => Ok(plan),
            other => violated(&checks::RELIABLE, format!("no watch from {revision}: {other:?}")),
        }
    }

    /// Whether a watch from where we are is refused or ends.
    pub fn is_told(&self, head: &Head, now: Timestamp) -> bool {
        let mut request = self.request(Verb::Watch);
        request.options.resource_version = self.at.to_string();
        match serve_read(head, now, &request) {
            Reply::Watch(mut plan) => watch_next(&mut plan, head, now).is_err(),
            other => other.status().is_some(),
        }
    }

    /// Lists, and watches from there.
    pub fn begin(&mut self, head: &Head, now: Timestamp) -> Verdict {
        let (_, body) = serve_read(head, now, &self.request(Verb::List)).flat();
        let list: Value = serde_json::from_slice(&body).unwrap_or_default();
        self.at = revision_of(&list);
        self.objects = list["items"].as_array().into_iter().flatten().map(|o| (name_of(o), revision_of(o))).collect();
        self.seen.clear();
        self.plan = Some(self.watch_from(head, now, self.at)?);
        Ok(())
    }

    fn take(&mut self, frame: &[u8]) -> Verdict {
        let frame: Value = serde_json::from_slice(frame).unwrap_or_default();
        let object = &frame["object"];
        let seen = Seen {
            revision: revision_of(object),
            change: frame["type"].as_str().unwrap_or_default().into(),
            name: name_of(object),
        };
        let who = &self.resource.plural;
        if self.seen.contains(&seen) {
            return violated(&checks::UNIQUE, format!("{who}: {seen:?} again"));
        }
        if seen.revision <= self.at {
            return violated(&checks::ORDERED, format!("{who}: {seen:?} after revision {}", self.at));
        }
        let was = match seen.change.as_str() {
            "DELETED" => self.objects.remove(&seen.name),
            _ => self.objects.insert(seen.name.clone(), seen.revision),
        };
        if was.is_some() != (seen.change != "ADDED") {
            return violated(&checks::RELIABLE, format!("{who}: {seen:?}, known before: {was:?}"));
        }
        self.at = seen.revision;
        if self.seen.len() == SEEN_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(seen);
        Ok(())
    }

    /// Takes everything there is, and compares with the list.
    pub fn catch_up(&mut self, head: &Head, now: Timestamp, sabotage: Sabotage) -> Verdict {
        let Some(mut plan) = self.plan.take() else { return Ok(()) };
        loop {
            let frames = match watch_next(&mut plan, head, now) {
                Ok(frames) => frames,
                // It has fallen behind, and is told; the next turn lists again.
                Err(status) if status.code == 410 && is_forgotten(&plan, head) => return Ok(()),
                Err(status) => {
                    return violated(&checks::RELIABLE, format!("a watch from {} ends: {}", self.at, status.message));
                }
            };
            if frames.is_empty() {
                break;
            }
            for frame in broken(frames, sabotage) {
                self.take(&frame)?;
            }
        }
        let listed = plan.selection.list(&plan.kind, &head.store.snapshot);
        let listed: BTreeMap<String, Revision> =
            listed.map(|o| (format!("{}/{}", o.key.namespace, o.key.name), o.revision())).collect();
        self.plan = Some(plan);
        if listed != self.objects {
            let detail = format!("{}: told {:?}, there are {listed:?}", self.resource.plural, self.objects);
            return violated(&checks::FOLD, detail);
        }
        Ok(())
    }

    pub fn bookmark(&mut self, head: &Head, sabotage: Sabotage) -> Verdict {
        let Some(plan) = &self.plan else { return Ok(()) };
        let frame: Value = serde_json::from_slice(&watch_bookmark(plan, head)).unwrap_or_default();
        let early = if sabotage == Sabotage::BookmarkEarly { 1000 } else { 0 };
        let revision = revision_of(&frame["object"]) + early;
        if revision < self.at || revision > head.store.snapshot.revision() {
            return violated(&checks::BOOKMARKED, format!("a bookmark of {revision} after {}", self.at));
        }
        self.at = revision;
        Ok(())
    }

    /// A second cursor from a place in the past delivers the same.
    pub fn resume(&self, head: &Head, now: Timestamp, from: usize, sabotage: Sabotage) -> Verdict {
        let Some(first) = self.seen.get(from) else { return Ok(()) };
        let mut plan = self.watch_from(head, now, first.revision)?;
        let mut other = Watcher { objects: BTreeMap::new(), seen: VecDeque::new(), plan: None, ..self.copy() };
        let mut frames = Vec::new();
        // A cursor gives what there is in pieces, until the history reaches back so far no more: then it says so, and nothing wrong.
        loop {
            match watch_next(&mut plan, head, now) {
                Ok(piece) if piece.is_empty() => break,
                Ok(piece) => frames.extend(piece),
                Err(status) if status.code == 410 && frames.is_empty() => return Ok(()),
                Err(status) => return violated(&checks::RESUMABLE, format!("from {}: {status}", first.revision)),
            }
        }
        for frame in frames.iter().skip(usize::from(sabotage == Sabotage::ForgetFrame)) {
            let frame: Value = serde_json::from_slice(frame).unwrap_or_default();
            other.seen.push_back(Seen {
                revision: revision_of(&frame["object"]),
                change: frame["type"].as_str().unwrap_or_default().into(),
                name: name_of(&frame["object"]),
            });
        }
        let mine: VecDeque<Seen> = self.seen.iter().skip(from + 1).cloned().collect();
        if mine != other.seen {
            return violated(
                &checks::RESUMABLE,
                format!("from {}: {mine:?} and then {:?}", first.revision, other.seen),
            );
        }
        Ok(())
    }

    fn copy(&self) -> Watcher {
        Watcher {
            resource: self.resource.clone(),
            selector: self.selector,
            plan: None,
            objects: BTreeMap::new(),
            at: self.at,
            seen: VecDeque::new(),
        }
    }
}

/// Whether the history has dropped what the watch would have to deliver next.
fn is_forgotten(plan: &WatchPlan, head: &Head) -> bool {
    plan.revision < head.store.history.oldest(plan.kind.storage)
}

/// What a broken watch makes of its frames.
fn broken(mut frames: Vec<Bytes>, sabotage: Sabotage) -> Vec<Bytes> {
    match sabotage {
        Sabotage::DropFrame => frames.remove(0).clear(),
        Sabotage::RepeatFrame => frames.push(frames[0].clone()),
        Sabotage::SwapFrames => frames.reverse(),
        _ => {}
    }
    frames
}

pub fn revision_of(object: &Value) -> Revision {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub fn name_of(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}
