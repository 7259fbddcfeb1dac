//! Event: stored as core/v1, also served as events.k8s.io/v1.

use stead_api::object::Fields;

use crate::names::names;
use crate::{Convert, Kind};

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
    ..Kind::plain("events", "", "v1", names!("Event", "event", "events"), "io.k8s.api.core.v1.Event")
};

pub const EVENTS_EVENT: Kind = Kind {
    short: &["ev"],
    create_on_update: true,
    fields: EVENT_FIELDS,
    convert: Some(Convert { from_stored: |_| {}, to_stored: |_| {} }),
    ..Kind::plain("events", "events.k8s.io", "v1", names!("Event", "event", "events"), "io.k8s.api.events.v1.Event")
};
