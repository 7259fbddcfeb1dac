//! A client that reads a list page by page while it changes under it, and compares the whole with what there was at its beginning.

use std::collections::BTreeMap;

use serde_json::Value;
use stead_api::{Key, KindName, Request, Resource, Revision, Verb};
use stead_apiserver::{Head, serve_read};
use stead_control::names::{EVENT, POD};
use stead_store::Snapshot;

use crate::Sabotage;
use crate::chance::Chance;
use crate::checks::{self, Verdict, violated};
use crate::parts::admin;
use crate::watcher::{name_of, revision_of};

/// A list that has begun.
struct Reading {
    kind: KindName,
    /// What there was when it began.
    then: Snapshot,
    /// Where the next page begins.
    token: String,
    seen: BTreeMap<String, Revision>,
}

#[derive(Default)]
pub struct Pager {
    reading: Option<Reading>,
}

fn page(kind: KindName, limit: u64, token: &str) -> Request {
    let resource = Resource { version: "v1".into(), plural: kind.into(), ..Resource::default() };
    let mut request = Request::of(admin(), Verb::List, resource, Value::Null);
    request.options.limit = Some(limit as _);
    request.options.continue_token = token.into();
    request
}

impl Pager {
    pub fn turn(&mut self, head: &Head, now: jiff::Timestamp, chance: &mut Chance, sabotage: Sabotage) -> Verdict {
        let mut reading = self.reading.take().unwrap_or_else(|| Reading {
            kind: if chance.percent(50) { POD } else { EVENT },
            then: head.store.snapshot.clone(),
            token: String::new(),
            seen: BTreeMap::new(),
        });
        let (kind, begun) = (reading.kind, reading.then.revision());
        let reply = serve_read(head, now, &page(kind, 1 + chance.below(4), &reading.token));
        if let Some(status) = reply.status() {
            let is_kept = head.store.history.oldest(kind) <= begun;
            if status.code == 410 && !is_kept {
                return Ok(());
            }
            return violated(&checks::PAGED, format!("a page of {kind} at {begun}: {}", status.message));
        }
        let list: Value = serde_json::from_slice(&reply.flat().1).unwrap_or_default();
        if revision_of(&list) != begun {
            return violated(&checks::PAGED, format!("a page at {} of a list at {begun}", revision_of(&list)));
        }
        let items = list["items"].as_array().into_iter().flatten();
        for item in items.skip(usize::from(sabotage == Sabotage::ForgetItem)) {
            if reading.seen.insert(name_of(item), revision_of(item)).is_some() {
                return violated(&checks::PAGED, format!("{kind}: {} on two pages", name_of(item)));
            }
        }
        reading.token = list["metadata"]["continue"].as_str().unwrap_or_default().into();
        if !reading.token.is_empty() {
            self.reading = Some(reading);
            return Ok(());
        }
        let named = |key: &Key| format!("{}/{}", key.namespace, key.name);
        let then: BTreeMap<String, Revision> =
            reading.then.list(kind, "").map(|object| (named(&object.key), object.revision())).collect();
        if then != reading.seen {
            return violated(&checks::PAGED, format!("{kind} at {begun}: pages gave {:?}, not {then:?}", reading.seen));
        }
        Ok(())
    }
}
