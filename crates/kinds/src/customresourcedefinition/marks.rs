//! What a schema may not say at all, and which of its marks fit together.
//!
//! Upstream: apiextensions-apiserver, pkg/apis/apiextensions/validation.

use serde_json::{Map, Value, json};
use stead_api::Errors;

use super::part::{is_true, type_of};
use crate::path::Path;

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];
const FORBIDDEN: &[&str] = &[
    "$ref",
    "definitions",
    "dependencies",
    "deprecated",
    "discriminator",
    "id",
    "patternProperties",
    "additionalItems",
];

pub(super) fn validate(at: Path, fields: &Map<String, Value>, errors: &mut Errors) {
    for name in FORBIDDEN {
        if fields.get(*name).is_some_and(|value| !value.is_null()) {
            at.child(name).forbidden(errors, format!("{name} is not supported"));
        }
    }
    match type_of(fields) {
        "" => {}
        kind if !TYPES.contains(&kind) => at.child("type").not_supported(errors, kind, TYPES),
        _ => {}
    }
    if type_of(fields) == "null" {
        at.child("type").forbidden(errors, "type cannot be set to null, use nullable as an alternative");
    }
    if is_true(fields, "uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        at.child("uniqueItems").forbidden(errors, detail);
    }
    let has_properties = fields.get("properties").and_then(Value::as_object).is_some_and(|all| !all.is_empty());
    if has_properties && fields.get("additionalProperties").is_some_and(|extra| *extra != true && !extra.is_null()) {
        at.child("additionalProperties").forbidden(errors, "additionalProperties and properties are mutual exclusive");
    }
    if fields.get("x-kubernetes-preserve-unknown-fields").is_some_and(|value| *value == false) {
        at.child("x-kubernetes-preserve-unknown-fields").invalid(errors, false, "must be true or undefined");
    }
    of_type(at, fields, ("x-kubernetes-map-type", "object"), &["atomic", "granular"], errors);
    of_type(at, fields, ("x-kubernetes-list-type", "array"), &["atomic", "set", "map"], errors);
    match text(fields, "x-kubernetes-list-type") {
        "set" => set_items(at, fields, errors),
        "map" => map_keys(at, fields, errors),
        _ => {}
    }
    let found = text(fields, "x-kubernetes-list-type");
    if found != "map" && !keys(fields).is_empty() {
        let at = at.child("x-kubernetes-list-type");
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        if found.is_empty() { at.required(errors, detail) } else { at.invalid(errors, found, detail) }
    }
    if matches!(found, "set" | "map") && fields.get("items").is_some_and(|items| items["nullable"] == true) {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {found}");
        at.child("items").child("nullable").forbidden(errors, detail);
    }
}

fn text<'v>(fields: &'v Map<String, Value>, name: &str) -> &'v str {
    fields.get(name).and_then(Value::as_str).unwrap_or("")
}

fn keys(fields: &Map<String, Value>) -> Vec<&str> {
    let keys = fields.get("x-kubernetes-list-map-keys").and_then(Value::as_array).into_iter().flatten();
    keys.filter_map(Value::as_str).collect()
}

/// A mark that only one type may have.
fn of_type(at: Path, fields: &Map<String, Value>, (mark, kind): (&str, &str), allowed: &[&str], errors: &mut Errors) {
    let found = text(fields, mark);
    if found.is_empty() {
        return;
    }
    let detail = format!("must be {kind} if {mark} is specified");
    match type_of(fields) {
        "" => at.child("type").required(errors, detail),
        other if other != kind => at.child("type").invalid(errors, other, detail),
        _ => {}
    }
    if !allowed.contains(&found) {
        at.child(mark).not_supported(errors, found, allowed);
    }
}

/// Elements of a set are compared as wholes.
fn set_items(at: Path, fields: &Map<String, Value>, errors: &mut Errors) {
    let Some(items) = fields.get("items").and_then(Value::as_object) else { return };
    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let mark = match (type_of(items), text(items, "x-kubernetes-list-type"), text(items, "x-kubernetes-map-type")) {
        ("array", list, _) if !matches!(list, "" | "atomic") => "x-kubernetes-list-type",
        ("object", _, map) if map != "atomic" => "x-kubernetes-map-type",
        _ => return,
    };
    // Upstream shows the list type in both cases.
    let shown = items.get("x-kubernetes-list-type").cloned().unwrap_or_default();
    at.child("items").child(mark).invalid(errors, shown, detail);
}

fn map_keys(at: Path, fields: &Map<String, Value>, errors: &mut Errors) {
    let keys = keys(fields);
    let list = at.child("x-kubernetes-list-map-keys");
    if keys.is_empty() {
        list.required(errors, "must not be empty if x-kubernetes-list-type is map");
    }
    let at = at.child("items");
    let Some(items) = fields.get("items").and_then(Value::as_object) else {
        return at.required(errors, "must have a schema if x-kubernetes-list-type is map");
    };
    if type_of(items) != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        return at.child("type").invalid(errors, type_of(items), detail);
    }
    let required: Vec<&str> =
        items.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    for (index, key) in keys.iter().enumerate() {
        if keys[..index].contains(key) {
            list.invalid(errors, json!(keys), "must not contain duplicate entries");
        }
        let Some(property) = items.get("properties").and_then(|all| all.get(key)) else {
            list.invalid(errors, json!(keys), "entries must all be names of item properties");
            continue;
        };
        let all = at.child("properties");
        let at = all.key(key);
        if matches!(property["type"].as_str(), Some("array" | "object")) {
            let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            at.child("type").invalid(errors, property["type"].clone(), detail);
        }
        if property["nullable"] == true {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            at.child("nullable").forbidden(errors, detail);
        }
        if property.get("default").is_none() && !required.contains(key) {
            let detail =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            at.child("default").required(errors, detail);
        }
    }
}
