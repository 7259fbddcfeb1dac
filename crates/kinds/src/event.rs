//! Event: stored as core/v1, also served as events.k8s.io/v1, where the same facts have other names.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use serde_json::Value;
use stead_api::object::Fields;
use stead_api::{Errors, Object};

use crate::check::{one_of, text};
use crate::columns::{self, wide};
use crate::fill::put;
use crate::names::names;
use crate::path::Path;
use crate::{Behavior, Column, Convert, Hooks, Kind, human};

const EVENT_FIELDS: Fields = Fields {
    selectable: &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ],
    indexed: &["involvedObject.uid"],
    labels_indexed: false,
};

pub const EVENT: Kind = Kind {
    short: &["ev"],
    create_on_update: true,
    fields: EVENT_FIELDS,
    columns: COLUMNS,
    hooks: Hooks::of::<Event>(),
    ..Kind::plain("events", "", "v1", names!("Event", "event", "events"), "io.k8s.api.core.v1.Event")
};

pub const EVENTS_EVENT: Kind = Kind {
    short: &["ev"],
    create_on_update: true,
    fields: EVENT_FIELDS,
    columns: COLUMNS,
    hooks: Hooks::of::<Event>(),
    convert: Some(Convert { from_stored, to_stored }),
    ..Kind::plain("events", "events.k8s.io", "v1", names!("Event", "event", "events"), "io.k8s.api.events.v1.Event")
};

/// Names in core/v1 and in events.k8s.io/v1 of what both have.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(value: &mut Value, pairs: impl Iterator<Item = (&'static str, &'static str)>) {
    for (from, to) in pairs {
        if let Some(found) = value.as_object_mut().and_then(|fields| fields.shift_remove(from)) {
            put(value, to, Some(found));
        }
    }
}

fn from_stored(value: &mut Value) {
    rename(value, RENAMED.iter().copied());
}

fn to_stored(value: &mut Value) {
    rename(value, RENAMED.iter().map(|(core, new)| (*new, *core)));
}

/// Events are about an object of the same namespace, or about one without a namespace, in `default`.
impl Behavior for Event {
    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        let namespace = text(&self.metadata.namespace);
        let about = text(&self.involved_object.namespace);
        let is_legal = match about {
            "" => matches!(namespace, "" | "default" | "kube-system"),
            about => about == namespace,
        };
        if !is_legal {
            let at = Path::root("involvedObject");
            at.child("namespace").invalid(errors, about, "does not match event.namespace");
        }
        if self.event_time.is_some() {
            if text(&self.reporting_component).is_empty() {
                Path::root("reportingController").required(errors, "");
            }
            if text(&self.reporting_instance).is_empty() {
                Path::root("reportingInstance").required(errors, "");
            }
            if text(&self.action).is_empty() {
                Path::root("action").required(errors, "");
            }
            if text(&self.reason).is_empty() {
                Path::root("reason").required(errors, "");
            }
            one_of(Path::root("type"), text(&self.type_), &["Normal", "Warning"], true, errors);
        }
    }
}

const COLUMNS: &[Column] = &[
    columns::text("Last Seen", last_seen, "When it last happened."),
    columns::path("Type", "type", "Normal or Warning."),
    columns::path("Reason", "reason", "What happened, in a word."),
    columns::text("Object", about, "What it happened to."),
    wide(columns::text(
        "Subobject",
        |o, _| o.value()["involvedObject"]["fieldPath"].as_str().unwrap_or("").into(),
        "Which part of it.",
    )),
    wide(columns::text("Source", source, "Who says so.")),
    columns::text(
        "Message",
        |object, _| object.value()["message"].as_str().unwrap_or("").trim().into(),
        "What happened.",
    ),
    wide(columns::text("First Seen", first_seen, "When it first happened.")),
    wide(columns::text("Count", count, "How often it happened.")),
    wide(Column {
        format: "name",
        ..columns::text("Name", |object, _| (*object.key.name).into(), "The event's own name.")
    }),
];

fn first_time(event: &Event) -> Option<Timestamp> {
    let first = event.first_timestamp.as_ref().map(|at| at.0);
    first.or(event.event_time.as_ref().map(|at| at.0))
}

fn ago(at: Option<Timestamp>, now: Timestamp) -> Value {
    at.map_or("<unknown>".to_owned(), |at| human::since(at, now)).into()
}

fn first_seen(object: &Object, now: Timestamp) -> Value {
    ago(first_time(&object.view()), now)
}

fn last_seen(object: &Object, now: Timestamp) -> Value {
    let event = object.view::<Event>();
    let in_series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref().map(|at| at.0));
    ago(in_series.or(event.last_timestamp.as_ref().map(|at| at.0)).or(first_time(&event)), now)
}

fn count(object: &Object, _now: Timestamp) -> Value {
    let event = object.view::<Event>();
    let in_series = event.series.as_ref().and_then(|series| series.count);
    in_series.or(event.count.filter(|count| *count != 0)).unwrap_or(1).to_string().into()
}

fn about(object: &Object, _now: Timestamp) -> Value {
    let event = object.view::<Event>();
    let kind = text(&event.involved_object.kind).to_lowercase();
    match text(&event.involved_object.name) {
        "" => kind.into(),
        name => format!("{kind}/{name}").into(),
    }
}

fn source(object: &Object, _now: Timestamp) -> Value {
    let event = object.view::<Event>();
    let given = event.source.as_ref().map(|source| (text(&source.component), text(&source.host)));
    let (component, host) = match given {
        Some(("", _)) | None => (text(&event.reporting_component), text(&event.reporting_instance)),
        Some(given) => given,
    };
    if host.is_empty() { component.into() } else { format!("{component}, {host}").into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use stead_api::Key;

    fn stored() -> Value {
        json!({"metadata": {"name": "web.1", "namespace": "default", "resourceVersion": "1"}, "type": "Normal",
            "involvedObject": {"kind": "Pod", "name": "web-0", "namespace": "default"}, "reason": "Started", "message": "m",
            "source": {"component": "kubelet", "host": "n1"}, "count": 3, "lastTimestamp": "2026-01-01T00:00:00Z"})
    }

    #[test]
    fn the_second_view_says_the_same_in_other_words() {
        let mut value = stored();
        from_stored(&mut value);
        assert_eq!(value["regarding"]["name"], "web-0");
        assert_eq!((&value["note"], &value["deprecatedCount"]), (&json!("m"), &json!(3)));
        to_stored(&mut value);
        assert_eq!(value, stored());
    }

    #[test]
    fn columns_read_as_kubectl_shows_them() {
        let object =
            Object::of_value(Key::new("events", "default", "web.1"), &stored(), &EVENT.fields).expect("an object");
        let now = "2026-01-01T00:05:00Z".parse().expect("a time");
        assert_eq!(last_seen(&object, now), "5m");
        assert_eq!(about(&object, now), "pod/web-0");
        assert_eq!((source(&object, now), count(&object, now)), (json!("kubelet, n1"), json!("3")));
    }

    #[test]
    fn an_event_is_where_its_object_is() {
        let mut value = stored();
        value["involvedObject"]["namespace"] = "other".into();
        let errors = EVENT.check(&value, None).expect("decodes").errors;
        assert_eq!(
            errors.0[0].to_string(),
            "involvedObject.namespace: Invalid value: \"other\": does not match event.namespace"
        );
    }
}
