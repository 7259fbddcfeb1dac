//! What commits, restores and plans must be.

use std::collections::BTreeMap;

use bytes::Bytes;
use stead_api::{Key, Revision};
use stead_control::Plan;
use stead_control::plan::Action;
use stead_store::{Record, Snapshot, durable as on_disk};

use super::{DURABLE, FOLD, NAMED, Verdict, violated};

/// Durable: what is published is what the disk holds.
pub fn durable(published: &Snapshot, disk: &BTreeMap<Key, Bytes>, revision: Revision) -> Verdict {
    if published.revision() != revision {
        return violated(&DURABLE, format!("published {} where the disk is at {revision}", published.revision()));
    }
    let mut stored = disk.iter();
    for object in published.all() {
        match stored.next() {
            Some((key, json)) if *key == object.key && is_same(json, &object.json) => {}
            other => {
                return violated(
                    &DURABLE,
                    format!("{} is published, the disk has {:?}", object.key, other.map(|o| o.0)),
                );
            }
        }
    }
    match stored.next() {
        Some((key, _)) => violated(&DURABLE, format!("{key} is on disk and not published")),
        None => Ok(()),
    }
}

/// Mostly it is the same memory, too, and need not be compared.
fn is_same(one: &Bytes, other: &Bytes) -> bool {
    (one.as_ptr(), one.len()) == (other.as_ptr(), other.len()) || one == other
}

/// Durable: of the body of an answer.
pub fn answered(body: &[u8], on_disk: Revision) -> Verdict {
    let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
    match answer.metadata.resource_version.parse::<Revision>() {
        Ok(revision) if revision > on_disk => violated(&DURABLE, format!("answered with revision {revision}")),
        _ => Ok(()),
    }
}

#[derive(Default, serde::Deserialize)]
struct Answer {
    #[serde(default)]
    metadata: AnswerMeta,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerMeta {
    #[serde(default)]
    resource_version: String,
}

/// Durable: what left the server in an earlier life is known in this one.
pub fn remembered(restored: Revision, told: Revision) -> Verdict {
    if restored < told {
        return violated(&DURABLE, format!("revision {told} was told, and only {restored} was restored"));
    }
    Ok(())
}

/// Fold: restoring the records gives this snapshot.
pub fn fold(plane: &Snapshot, registry: &stead_kinds::Registry, records: Vec<Record>, revision: Revision) -> Verdict {
    match on_disk::restore(revision, records.into_iter(), |kind| registry.fields(kind)) {
        Ok(again) if again == *plane => Ok(()),
        Ok(_) => violated(&FOLD, "two restores differ"),
        Err(error) => violated(&FOLD, format!("the records do not restore: {error}")),
    }
}

/// Named: what a plan changes, it names.
pub fn named(plans: &[(&'static str, Key, Plan)]) -> Verdict {
    for (controller, key, plan) in plans {
        for action in &plan.actions {
            let fine = match action {
                Action::Create { .. } => true,
                Action::Update { value, .. }
                | Action::UpdateStatus { value, .. }
                | Action::UpdateSubresource { value, .. }
                | Action::Make { value, .. } => {
                    let has = |field: &str| value["metadata"][field].as_str().is_some_and(|text| !text.is_empty());
                    has("uid") && has("resourceVersion")
                }
                Action::Delete { uid, .. } | Action::Bind { uid, .. } => !uid.is_empty(),
            };
            if !fine {
                return violated(&NAMED, format!("{controller} for {key}: {action:?}"));
            }
        }
    }
    Ok(())
}
