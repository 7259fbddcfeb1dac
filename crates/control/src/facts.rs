//! What controllers ask of objects again and again: selection by labels, ownership, readiness, times.
//!
//! Spec and status are read through typed views (decoded once per version); metadata is read from `Object::meta`, because a view may
//! have been decoded just before the object got its revision.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use serde_json::{Value, json};
use stead_api::selector::Operator;
use stead_api::{KindName, LabelSelector, Object};

pub use crate::status::{list, set_condition, time, whole_seconds};

use crate::plan::View;

/// The objects of a kind in a namespace whose labels match, in key order. Uses the label index where the kind has one.
pub fn select<'a>(view: &View<'a>, kind: KindName, namespace: &str, selector: &LabelSelector) -> Vec<&'a Arc<Object>> {
    let term = selector.requirements().iter().find_map(|r| match (r.operator(), r.values()) {
        (Operator::Equals | Operator::DoubleEquals | Operator::In, [value]) => {
            Some(format!("label:{}={value}", r.key()))
        }
        _ => None,
    });
    let matches = |o: &&Arc<Object>| &*o.key.namespace == namespace && selector.matches(&o.meta.labels);
    match term.filter(|_| view.registry.fields(kind).labels_indexed) {
        Some(term) => view.snapshot.indexed(kind, &term).filter(matches).collect(),
        None => in_namespace(view, kind, namespace).into_iter().filter(|o| selector.matches(&o.meta.labels)).collect(),
    }
}

/// The objects of a kind in a namespace; an empty namespace means all.
pub fn in_namespace<'a>(view: &View<'a>, kind: KindName, namespace: &str) -> Vec<&'a Arc<Object>> {
    view.snapshot.list(kind, namespace).collect()
}

/// The objects with an index term `path=value`; a scan for kinds without that index.
pub fn with_field<'a>(view: &View<'a>, kind: KindName, path: &str, value: &str) -> Vec<&'a Arc<Object>> {
    let fields = view.registry.fields(kind);
    if fields.indexed.contains(&path) && !value.is_empty() {
        return view.snapshot.indexed(kind, &format!("{path}={value}")).collect();
    }
    let matches = |o: &&Arc<Object>| match o.field(path) {
        Some(text) => text == value,
        None => stead_api::object::field_text(&o.value(), path) == value,
    };
    view.snapshot.list(kind, "").filter(matches).collect()
}

/// The objects of a kind that this uid controls.
pub fn controlled<'a>(view: &View<'a>, kind: KindName, uid: &str) -> Vec<&'a Arc<Object>> {
    view.snapshot.owned(uid).filter(|o| o.key.kind == kind && is_controlled_by(o, uid)).collect()
}

pub fn is_controlled_by(object: &Object, uid: &str) -> bool {
    object.meta.controller().is_some_and(|owner| owner.uid == uid)
}

/// An ownerReference that makes `owner` the controller.
pub fn controller_reference(api_version: &str, kind: &str, owner: &Object) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "name": &*owner.key.name, "uid": owner.meta.uid,
        "controller": true, "blockOwnerDeletion": true})
}

/// The object again with one more ownerReference.
pub fn adopted(object: &Object, reference: Value) -> Value {
    let mut value = object.value();
    let references = &mut value["metadata"]["ownerReferences"];
    match references.as_array_mut() {
        Some(list) => list.push(reference),
        None => *references = json!([reference]),
    }
    value
}

/// The object again without the references to this owner.
pub fn released(object: &Object, owner_uid: &str) -> Value {
    let mut value = object.value();
    if let Some(list) = value["metadata"]["ownerReferences"].as_array_mut() {
        list.retain(|reference| reference["uid"] != owner_uid);
    }
    value
}

pub fn after(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// Failed or Succeeded: nothing runs any more and nothing will.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Failed" | "Succeeded")
}

pub fn pod_condition<'p>(pod: &'p Pod, name: &str) -> Option<&'p PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == name)
}

/// Condition Ready is True.
pub fn is_ready(pod: &Pod) -> bool {
    pod_condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    Available,
    /// Ready, and will be available then if it stays so.
    At(Timestamp),
    NotReady,
}

/// Ready for at least `min_ready_seconds` (S-11).
pub fn availability(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Availability {
    let Some(ready) = pod_condition(pod, "Ready").filter(|c| c.status == "True") else {
        return Availability::NotReady;
    };
    if min_ready_seconds <= 0 {
        return Availability::Available;
    }
    // A node that does not say since when is taken to have said it now.
    let since = ready.last_transition_time.as_ref().map_or(now, |t| t.0);
    match after(since, i64::from(min_ready_seconds)) {
        at if at <= now => Availability::Available,
        at => Availability::At(at),
    }
}
