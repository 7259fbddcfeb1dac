//! The scale subresource: autoscaling/v1 Scale over a kind's own paths (ST-11).

use serde_json::{Value, json};
use stead_api::{LabelSelector, Object};
use stead_kinds::{Kind, Subresource};

/// Where the kind keeps its replicas: spec, status and selector, as dotted paths.
fn paths(kind: &Kind) -> Option<(&'static str, &'static str, &'static str)> {
    kind.subresources.iter().find_map(|one| match one {
        Subresource::Scale { spec, status, selector } => Some((*spec, *status, *selector)),
        _ => None,
    })
}

/// The Scale of an object of a kind that has one, in its stored version.
pub fn scale_of(kind: &Kind, object: &Object) -> Option<Value> {
    paths(kind).map(|_| of(kind, object))
}

/// The Scale of an object.
pub(crate) fn of(kind: &Kind, object: &Object) -> Value {
    of_value(kind, &object.value())
}

pub(crate) fn of_value(kind: &Kind, value: &Value) -> Value {
    let (spec, status, selector) = paths(kind).unwrap_or_default();
    let from = &value["metadata"];
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if !from[field].is_null() {
            metadata[field] = from[field].clone();
        }
    }
    let mut scale = json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": {},
        "status": {"replicas": at(value, status).as_i64().unwrap_or(0)}});
    if let Some(replicas) = at(value, spec).as_i64().filter(|replicas| *replicas != 0) {
        scale["spec"]["replicas"] = json!(replicas);
    }
    let text = match at(value, selector) {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        // A ReplicationController's selector is the map itself.
        labels if kind.storage == "replicationcontrollers" => {
            LabelSelector::from_value(Some(&json!({"matchLabels": labels}))).map(|s| s.to_string()).unwrap_or_default()
        }
        object => LabelSelector::from_value(Some(object)).map(|s| s.to_string()).unwrap_or_default(),
    };
    if !text.is_empty() {
        scale["status"]["selector"] = json!(text);
    }
    scale
}

/// The value at a dotted path.
pub(crate) fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').filter(|part| !part.is_empty()).fold(value, |at, part| &at[part])
}

/// Sets the replicas of the object that a Scale describes.
pub(crate) fn set_replicas(kind: &Kind, value: &mut Value, replicas: i64) {
    let (spec, _, _) = paths(kind).unwrap_or_default();
    let mut at = value;
    for part in spec.split('.').filter(|part| !part.is_empty()) {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[part];
    }
    *at = json!(replicas);
}
