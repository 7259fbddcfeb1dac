//! Whether a schema is structural: every part says its type, so that pruning, defaulting and applying can work by it.

use serde_json::{Map, Value};
use stead_api::Errors;

use crate::path::Path;

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];

/// How deep a schema may nest.
const DEPTH_MAX: usize = 64;

pub fn validate(at: Path, schema: &Value, errors: &mut Errors) {
    if let Some(kind) = schema["type"].as_str()
        && kind != "object"
    {
        at.child("type").invalid(errors, kind, "must be object at the root");
    }
    node(at, schema, "at the root", 0, errors);
}

fn node(at: Path, schema: &Value, place: &str, depth: usize, errors: &mut Errors) {
    let Some(fields) = schema.as_object() else {
        at.invalid(errors, schema.clone(), "must be a schema");
        return;
    };
    if depth > DEPTH_MAX {
        at.forbidden(errors, format!("schemas may not nest deeper than {DEPTH_MAX}"));
        return;
    }
    kind(at, fields, place, errors);
    forbidden(at, fields, errors);
    for (name, property) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
        node(at.child("properties").key(name), property, "for specified object fields", depth + 1, errors);
    }
    match fields.get("additionalProperties") {
        Some(extra @ Value::Object(_)) => {
            node(at.child("additionalProperties"), extra, "for specified object fields", depth + 1, errors);
        }
        Some(Value::Bool(false)) => {
            at.child("additionalProperties").forbidden(errors, "additionalProperties cannot be set to false");
        }
        _ => {}
    }
    match fields.get("items") {
        Some(Value::Array(_)) => at.child("items").forbidden(errors, "items must be a schema object and not an array"),
        Some(items) => node(at.child("items"), items, "for specified array items", depth + 1, errors),
        None if fields.get("type").is_some_and(|kind| kind == "array") => {
            at.child("items").required(errors, "must be specified");
        }
        None => {}
    }
}

fn is_true(fields: &Map<String, Value>, name: &str) -> bool {
    fields.get(name).is_some_and(|value| value == true)
}

fn kind(at: Path, fields: &Map<String, Value>, place: &str, errors: &mut Errors) {
    let kind = fields.get("type").and_then(Value::as_str).unwrap_or("");
    let is_open =
        is_true(fields, "x-kubernetes-int-or-string") || is_true(fields, "x-kubernetes-preserve-unknown-fields");
    match kind {
        "" if is_open => {}
        "" => at.child("type").required(errors, format!("must not be empty {place}")),
        kind if !TYPES.contains(&kind) => at.child("type").not_supported(errors, kind, TYPES),
        kind if is_true(fields, "x-kubernetes-int-or-string") => {
            at.child("type").invalid(errors, kind, "must be empty if x-kubernetes-int-or-string is true");
        }
        _ => {}
    }
    let is_embedded = is_true(fields, "x-kubernetes-embedded-resource");
    if is_embedded && kind != "object" {
        at.child("type").invalid(errors, kind, "must be object if x-kubernetes-embedded-resource is true");
    }
    let list = fields.get("x-kubernetes-list-type").and_then(Value::as_str);
    if let Some(list) = list {
        if !["atomic", "map", "set"].contains(&list) {
            at.child("x-kubernetes-list-type").not_supported(errors, list, &["atomic", "map", "set"]);
        }
        if kind != "array" {
            at.child("type").invalid(errors, kind, "must be array if x-kubernetes-list-type is specified");
        }
    }
    let keys = fields.get("x-kubernetes-list-map-keys").and_then(Value::as_array).is_some_and(|keys| !keys.is_empty());
    if list == Some("map") && !keys {
        let detail = "must not be empty if x-kubernetes-list-type is map";
        at.child("x-kubernetes-list-map-keys").required(errors, detail);
    }
}

fn forbidden(at: Path, fields: &Map<String, Value>, errors: &mut Errors) {
    for name in ["$ref", "definitions", "dependencies", "deprecated", "discriminator", "id", "patternProperties"] {
        if fields.get(name).is_some_and(|value| !value.is_null()) {
            at.child(name).forbidden(errors, format!("{name} is not supported"));
        }
    }
    if is_true(fields, "uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        at.child("uniqueItems").forbidden(errors, detail);
    }
    if fields.contains_key("properties") && fields.get("additionalProperties").is_some_and(|extra| *extra != false) {
        at.child("additionalProperties").forbidden(errors, "additionalProperties and properties are mutual exclusive");
    }
}
