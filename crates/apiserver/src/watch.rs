//! Watches: a place in the history becomes frames.
//!
//! Guarantees: Ordered, Unique, Reliable, Resumable and Bookmarked as the store names them, relative to the selectors: an object
//! that comes to match is ADDED, one that stops matching is DELETED. Frames that no selector or form changes are the
//! history's own shared bytes; protobuf frames are put around the object's shared message. One call makes a bounded number of
//! frames. A watch's frames are never `pretty`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use stead_api::call::{Answer, Question};
use stead_api::form::{Form, Format, Shape};
use stead_api::{Key, Object, Request, Revision, Status, protobuf};
use stead_kinds::{Kind, Registry};
use stead_store::Event;
use stead_store::history::{Change, frame};

use crate::page::{forbidden_option, not_in_the_future, parse_revision};
use crate::reply::Initial;
use crate::select::Selection;
use crate::{Head, WatchPlan, conversion, encode, table};

/// How many frames one call makes at most.
pub const EVENTS_PER_CALL_MAX: usize = 1024;
/// How many initial events one call makes.
pub const INITIAL_PER_CALL_MAX: usize = 256;

/// The form of the history's own frames.
const PLAIN: Form = Form { format: Format::Json, shape: Shape::Object, is_beta: false, pretty: false };

const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Where a watch begins.
pub(crate) fn start(head: &Head, request: &Request, kind: &Kind) -> Result<WatchPlan, Status> {
    let options = &request.options;
    match (options.send_initial_events, options.resource_version_match.as_str()) {
        (Some(_), "NotOlderThan") | (None, "") => {}
        (Some(_), _) => {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            return Err(forbidden_option("resourceVersionMatch", why));
        }
        (None, _) => {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            return Err(forbidden_option("resourceVersionMatch", why));
        }
    }
    let selection = Selection::of(kind, request)?;
    let asked = parse_revision(&options.resource_version)?;
    let current = head.store.snapshot.revision();
    let wants_initial = options.send_initial_events.unwrap_or(asked.is_none());
    let revision = match asked {
        Some(revision) if options.send_initial_events.is_none() => revision,
        Some(revision) => {
            not_in_the_future(revision, head)?;
            current
        }
        None => current,
    };
    let initial = wants_initial.then(|| Initial {
        snapshot: head.store.snapshot.clone(),
        after: None,
        marks_end: options.send_initial_events == Some(true) && options.allow_bookmarks,
    });
    Ok(WatchPlan {
        kind: *kind,
        revision,
        selection,
        request: request.clone(),
        initial,
        unconverted: Vec::new(),
        converted: BTreeMap::new(),
        columns_sent: false,
    })
}

/// What must be asked before the next frames of this head can be made; the answer is for `watch_told`.
///
/// # Errors
/// As `watch_next`.
pub fn watch_asks(plan: &mut WatchPlan, head: &Head) -> Result<Option<Question>, Status> {
    if !plan.kind.by_webhook || !plan.converted.is_empty() {
        return Ok(None);
    }
    let objects = upcoming(plan, head)?;
    let values = conversion::fitted(&head.registry, &plan.kind, &objects);
    plan.unconverted = objects;
    conversion::question(head.place(), &plan.kind, &values)
}

/// Takes what was answered.
///
/// # Errors
/// What is wrong with the answer; it ends the watch.
pub fn watch_told(plan: &mut WatchPlan, head: &Head, answer: &Answer) -> Result<(), Status> {
    let objects = std::mem::take(&mut plan.unconverted);
    let values = conversion::fitted(&head.registry, &plan.kind, &objects);
    let values = conversion::read(&head.registry, &plan.kind, values, answer)?;
    for (object, value) in objects.iter().zip(values) {
        let converted = conversion::rebuilt(&plan.kind, object, &value)?;
        plan.converted.insert((object.meta.uid.clone(), object.revision()), Arc::new(converted));
    }
    Ok(())
}

/// The objects that the next frames show; pages of the history that do not concern this watch are passed.
fn upcoming(plan: &mut WatchPlan, head: &Head) -> Result<Vec<Arc<Object>>, Status> {
    if let Some(initial) = &plan.initial {
        let objects = initial_objects(plan, initial);
        if !objects.is_empty() {
            return Ok(objects);
        }
    }
    loop {
        let page = head.store.history.page(plan.kind.storage, plan.revision, EVENTS_PER_CALL_MAX);
        let events = page.map_err(|expired| Status::expired(expired.to_string()))?;
        let last = events.last().filter(|_| events.len() == EVENTS_PER_CALL_MAX).map(|last| last.revision());
        let shown = events.iter().filter_map(|event| match (change_for(&plan.selection, event)?, &event.old) {
            (Change::Deleted, Some(old)) if !event.deleted => Some(Arc::clone(old)),
            _ => Some(Arc::clone(&event.object)),
        });
        let objects: Vec<Arc<Object>> = shown.collect();
        match last {
            Some(last) if objects.is_empty() && plan.initial.is_none() => plan.revision = last,
            _ => return Ok(objects),
        }
    }
}

/// The next frames: initial events, then what happened since `plan.revision`, which moves on. None means that the watch is up to
/// date with the head.
///
/// # Errors
/// 410 when the history no longer reaches back; the shell sends it as an ERROR frame (`watch_error`) and ends the watch.
pub fn watch_next(plan: &mut WatchPlan, head: &Head, now: Timestamp) -> Result<Vec<Bytes>, Status> {
    let frames = next_frames(plan, head, now);
    plan.converted.clear();
    frames
}

fn next_frames(plan: &mut WatchPlan, head: &Head, now: Timestamp) -> Result<Vec<Bytes>, Status> {
    if plan.initial.is_some() {
        let frames = initial_frames(plan, &head.registry, now);
        if !frames.is_empty() {
            return Ok(frames);
        }
    }
    let history = &head.store.history;
    loop {
        let events = history
            .page(plan.kind.storage, plan.revision, EVENTS_PER_CALL_MAX)
            .map_err(|expired| Status::expired(expired.to_string()))?;
        let is_full = events.len() == EVENTS_PER_CALL_MAX;
        plan.revision = match events.last() {
            Some(last) if is_full => last.revision(),
            _ => plan.revision.max(head.store.snapshot.revision()),
        };
        let frames: Vec<Bytes> =
            events.iter().filter_map(|event| event_frame(plan, &head.registry, event, now)).collect();
        // Nothing of a full page concerned this watch: go on, so that no frames means nothing left.
        if !frames.is_empty() || !is_full || plan.kind.by_webhook {
            return Ok(frames);
        }
    }
}

fn initial_objects(plan: &WatchPlan, initial: &Initial) -> Vec<Arc<Object>> {
    match &initial.after {
        // The first page may use an index; a selection that fills more than a page goes on by key.
        None => plan.selection.list(&plan.kind, &initial.snapshot).take(INITIAL_PER_CALL_MAX).cloned().collect(),
        Some(after) => initial
            .snapshot
            .list_after(plan.kind.storage, &plan.selection.namespace, Some(after))
            .filter(|object| plan.selection.matches(object))
            .take(INITIAL_PER_CALL_MAX)
            .cloned()
            .collect(),
    }
}

fn initial_frames(plan: &mut WatchPlan, registry: &Registry, now: Timestamp) -> Vec<Bytes> {
    let Some(initial) = plan.initial.take() else { return Vec::new() };
    let objects = initial_objects(plan, &initial);
    let mut frames: Vec<Bytes> = Vec::with_capacity(objects.len() + 1);
    for object in &objects {
        frames.push(object_frame(plan, registry, Change::Added, object, now));
    }
    let last: Option<Key> = objects.last().map(|object| object.key.clone());
    if objects.len() == INITIAL_PER_CALL_MAX {
        plan.initial = Some(Initial { after: last, ..initial });
    } else if initial.marks_end {
        frames.push(bookmark_frame(&plan.kind, plan.request.options.form, plan.revision, true));
    }
    frames
}

/// What an event means to a watch, if it concerns it.
fn change_for(selection: &Selection, event: &Event) -> Option<Change> {
    let is_whole = selection.is_everything();
    if !selection.namespace.is_empty() && *selection.namespace != *event.key().namespace {
        return None;
    }
    let was = event.old.as_ref().is_some_and(|old| is_whole || selection.matches(old));
    let is = !event.deleted && (is_whole || selection.matches(&event.object));
    match (was, is) {
        (false, false) => None,
        (false, true) => Some(Change::Added),
        (true, true) => Some(Change::Modified),
        (true, false) => Some(Change::Deleted),
    }
}

/// The frame an event makes for this watch, if it concerns it.
fn event_frame(plan: &mut WatchPlan, registry: &Registry, event: &Event, now: Timestamp) -> Option<Bytes> {
    let change = change_for(&plan.selection, event)?;
    let is_plain = plan.request.options.form == PLAIN
        && plan.kind.convert.is_none()
        && !registry.is_older(&plan.kind, event.object.revision());
    if change == event.change() && is_plain {
        return Some(event.frame());
    }
    match (&event.old, change, event.deleted) {
        // It left the selection: watchers are told the last state they could see, at the event's revision.
        (Some(old), Change::Deleted, false) => {
            let last = at_revision(&converted(plan, registry, old), event.revision(), &plan.kind);
            Some(object_frame(plan, registry, change, &last.map_or_else(|| Arc::clone(&event.object), Arc::new), now))
        }
        _ => Some(object_frame(plan, registry, change, &event.object, now)),
    }
}

fn at_revision(object: &Object, revision: Revision, kind: &Kind) -> Option<Object> {
    let mut value = object.value();
    value["metadata"]["resourceVersion"] = json!(revision.to_string());
    Object::of_value(object.key.clone(), &value, &kind.stored_fields()).ok()
}

/// An object in the version that is watched.
fn converted(plan: &WatchPlan, registry: &Registry, object: &Arc<Object>) -> Arc<Object> {
    match plan.kind.by_webhook {
        true => Arc::clone(plan.converted.get(&(object.meta.uid.clone(), object.revision())).unwrap_or(object)),
        // What cannot be shown otherwise is shown as it is.
        false => conversion::seen(registry, &plan.kind, Arc::clone(object)).unwrap_or_else(|_| Arc::clone(object)),
    }
}

fn object_frame(
    plan: &mut WatchPlan,
    registry: &Registry,
    change: Change,
    object: &Arc<Object>,
    now: Timestamp,
) -> Bytes {
    let object = match conversion::concerns(registry, &plan.kind, object) {
        true => &converted(plan, registry, object),
        false => object,
    };
    let form = plan.request.options.form;
    if plan.kind.by_webhook && object.value()["apiVersion"] != plan.kind.api_version().as_str() {
        return status_frame(&Status::internal("the object was not converted"), form);
    }
    if form.format == Format::Protobuf {
        let framed = encode::protobuf::frame(change, &plan.kind, object, form);
        return framed.unwrap_or_else(|status| status_frame(&status, form));
    }
    match form.shape {
        Shape::Object => frame(change, &encode::json::object_bytes(&plan.kind, object)),
        Shape::Metadata => frame(change, &encode::json::metadata_bytes(object, form)),
        Shape::Table => {
            let with_columns = !std::mem::replace(&mut plan.columns_sent, true);
            frame(change, &table::of_one(&plan.kind, object, &plan.request.options, now, with_columns))
        }
    }
}

/// A bookmark frame: everything up to here was delivered.
pub fn watch_bookmark(plan: &WatchPlan, head: &Head) -> Bytes {
    // Writes of other kinds have moved the head without waking this watch.
    let is_current =
        head.store.history.since(plan.kind.storage, plan.revision).is_ok_and(|mut rest| rest.next().is_none());
    let revision = if is_current { plan.revision.max(head.store.snapshot.revision()) } else { plan.revision };
    bookmark_frame(&plan.kind, plan.request.options.form, revision, false)
}

fn bookmark_frame(kind: &Kind, form: Form, revision: Revision, ends_initial: bool) -> Bytes {
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if ends_initial {
        metadata["annotations"] = json!({INITIAL_EVENTS_END: "true"});
    }
    let object: Value = match form.shape {
        Shape::Object => json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata}),
        Shape::Metadata => {
            json!({"kind": "PartialObjectMetadata", "apiVersion": form.meta_version(), "metadata": metadata})
        }
        Shape::Table => table::bookmark(form, metadata),
    };
    value_frame("BOOKMARK", &object, form)
}

/// The last frame of a watch that cannot go on.
pub fn watch_error(plan: &WatchPlan, status: &Status) -> Bytes {
    status_frame(status, plan.request.options.form)
}

fn status_frame(status: &Status, form: Form) -> Bytes {
    value_frame("ERROR", &status.to_json(), form)
}

/// A frame of an object that is in no store.
fn value_frame(event: &str, object: &Value, form: Form) -> Bytes {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    if form.format == Format::Protobuf {
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let message = protobuf::message_of(api_version, kind).and_then(|of| protobuf::encode(of, object).ok());
        return protobuf::watch_frame(event, api_version, kind, &message.unwrap_or_default());
    }
    format!("{{\"type\":\"{event}\",\"object\":{object}}}\n").into()
}
