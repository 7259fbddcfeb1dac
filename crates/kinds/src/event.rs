//! Event: stored as core/v1, also served as events.k8s.io/v1, where the same facts have other names and stricter rules.

use std::any::Any;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use serde_json::{Value, json};
use stead_api::names::qualified_name;
use stead_api::object::Fields;
use stead_api::{Errors, Object};

use crate::check::{FIELD_IS_IMMUTABLE, required_name, text};
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
    ..Fields::NONE
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
    selectable_as: &[
        ("regarding.kind", "involvedObject.kind"),
        ("regarding.namespace", "involvedObject.namespace"),
        ("regarding.name", "involvedObject.name"),
        ("regarding.uid", "involvedObject.uid"),
        ("regarding.apiVersion", "involvedObject.apiVersion"),
        ("regarding.resourceVersion", "involvedObject.resourceVersion"),
        ("regarding.fieldPath", "involvedObject.fieldPath"),
        ("reportingController", "reportingComponent"),
    ],
    hooks: Hooks { validate: validate_strictly, ..Hooks::of::<Event>() },
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

const ACTION_MAX: usize = 128;
const NOTE_MAX: usize = 1024;

impl Behavior for Event {
    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        validate(self, "reportingComponent", errors);
    }
}

/// What holds for events of both versions. Those without an event time are from before there was one: little is asked of them.
fn validate(event: &Event, controller_field: &'static str, errors: &mut Errors) {
    let (namespace, about) = (text(&event.metadata.namespace), text(&event.involved_object.namespace));
    let is_new = event.event_time.is_some();
    let is_legal = match about {
        "" => matches!(namespace, "" | "default") || (is_new && namespace == "kube-system"),
        about => is_new || about == namespace,
    };
    if !is_legal {
        let at = Path::root("involvedObject");
        at.child("namespace").invalid(errors, about, "does not match event.namespace");
    }
    if !is_new {
        return;
    }
    required_name(Path::root(controller_field), text(&event.reporting_component), qualified_name, errors);
    let limits = [
        ("reportingInstance", &event.reporting_instance, ACTION_MAX),
        ("action", &event.action, ACTION_MAX),
        ("reason", &event.reason, ACTION_MAX),
    ];
    for (field, value, most) in limits {
        if text(value).is_empty() {
            Path::root(field).required(errors, "");
        }
        at_most(field, text(value), most, errors);
    }
    at_most("message", text(&event.message), NOTE_MAX, errors);
}

fn at_most(field: &'static str, value: &str, most: usize, errors: &mut Errors) {
    if value.len() > most {
        Path::root(field).invalid(errors, "", format!("can have at most {most} characters"));
    }
}

/// What stays as it was told through events.k8s.io: only the series goes on.
const IMMUTABLE: &[&str] = &[
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
];

fn validate_series(event: &Event, errors: &mut Errors) {
    let Some(series) = &event.series else { return };
    let at = Path::root("series");
    if series.count.unwrap_or(0) < 2 {
        at.child("count").invalid(errors, "", "should be at least 2");
    }
    if series.last_observed_time.is_none() {
        at.child("lastObservedTime").required(errors, "");
    }
}

/// What is asked of events that are made or changed through events.k8s.io, beside that.
fn validate_strictly(new: &(dyn Any + Send + Sync), old: Option<&Object>, errors: &mut Errors) {
    let Some(event) = new.downcast_ref::<Event>() else { return };
    validate(event, "reportingController", errors);
    if let Some(old) = old {
        let old = old.view::<Event>();
        if old.series != event.series {
            validate_series(event, errors);
        }
        let (old, new) = (json!(*old), json!(event));
        for field in IMMUTABLE.iter().filter(|field| old[**field] != new[**field]) {
            let name = if *field == "reportingComponent" { "reportingController" } else { field };
            Path::root(name).invalid(errors, new[*field].clone(), FIELD_IS_IMMUTABLE);
        }
        return;
    }
    validate_series(event, errors);
    if event.event_time.is_none() {
        Path::root("eventTime").required(errors, "");
    }
    let kind = text(&event.type_);
    if !matches!(kind, "Normal" | "Warning") {
        Path::root("type").invalid(errors, "", format!("has invalid value: {kind}"));
    }
    let source = event.source.as_ref();
    let must_be_unset = [
        ("firstTimestamp", event.first_timestamp.is_some()),
        ("lastTimestamp", event.last_timestamp.is_some()),
        ("count", event.count.is_some_and(|count| count != 0)),
        ("source", source.is_some_and(|source| source.component.is_some() || source.host.is_some())),
    ];
    for (field, is_set) in must_be_unset {
        if is_set {
            Path::root(field).invalid(errors, "", "needs to be unset");
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
        let object = Object::of_value(Key::new("events", "default", "web.1"), &stored(), &EVENT.stored_fields())
            .expect("an object");
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

    #[test]
    fn only_events_of_the_new_version_must_be_normal_or_warn() {
        let mut value = stored();
        value["type"] = "Error".into();
        value["eventTime"] = "2026-01-01T00:00:00.000000Z".into();
        for field in ["reportingComponent", "reportingInstance", "action"] {
            value[field] = "kopf".into();
        }
        let said = |kind: &Kind, value: &Value| {
            let errors = kind.check(value, None).expect("decodes").errors;
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(said(&EVENT, &value).is_empty());
        assert_eq!(
            said(&EVENTS_EVENT, &value),
            [
                "type: Invalid value: \"\": has invalid value: Error",
                "lastTimestamp: Invalid value: \"\": needs to be unset",
                "count: Invalid value: \"\": needs to be unset",
                "source: Invalid value: \"\": needs to be unset",
            ]
        );
        value["reportingComponent"] = "?".into();
        value["reason"] = "x".repeat(129).into();
        let errors = said(&EVENT, &value);
        assert!(
            errors[0].starts_with("reportingComponent: Invalid value: \"?\": name part must consist"),
            "{errors:?}"
        );
        assert_eq!(errors[1], "reason: Invalid value: \"\": can have at most 128 characters");
    }

    #[test]
    fn through_the_new_version_only_the_series_goes_on() {
        let mut value = stored();
        value["eventTime"] = "2026-01-01T00:00:00.000000Z".into();
        for field in ["reportingComponent", "reportingInstance", "action"] {
            value[field] = "kopf".into();
        }
        let object = Object::of_value(Key::new("events", "default", "web.1"), &value, &EVENT.stored_fields())
            .expect("an object");
        let said = |kind: &Kind, value: &Value| {
            let errors = kind.check(value, Some(&object)).expect("decodes").errors;
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        value["series"] = json!({"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"});
        assert!(said(&EVENTS_EVENT, &value).is_empty());
        value["series"] = json!({"count": 1});
        value["message"] = "other".into();
        value["reportingComponent"] = "other".into();
        assert!(said(&EVENT, &value).is_empty());
        assert_eq!(
            said(&EVENTS_EVENT, &value),
            [
                "series.count: Invalid value: \"\": should be at least 2",
                "series.lastObservedTime: Required value",
                "message: Invalid value: \"other\": field is immutable",
                "reportingController: Invalid value: \"other\": field is immutable",
            ]
        );
    }
}
