//! Schemas under `allOf`, `anyOf`, `oneOf` and `not`: they may only narrow values, of parts that the schema itself has.
//!
//! Upstream: apiextensions-apiserver, pkg/apiserver/schema/{validation,complete}.go.

use serde_json::{Map, Value, json};
use stead_api::{Errors, FieldPath};

use super::part::{DEPTH_MAX, is_true};
use crate::path::Path;

/// What a nested schema may not have, and how its absence is called.
const STRUCTURE: &[(&str, &str)] = &[
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("externalDocs", "must be undefined to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
];

/// Checks the branches directly below a structural schema.
pub(super) fn validate(at: Path, fields: &Map<String, Value>, errors: &mut Errors) {
    let may_tell_types = is_true(fields, "x-kubernetes-int-or-string");
    branches(at, fields, may_tell_types, 0, errors);
}

/// Every branch of every combination. An integer-or-string may name its two types in an `anyOf`, or in that of its first `allOf`.
fn branches(at: Path, fields: &Map<String, Value>, may_tell_types: bool, depth: usize, errors: &mut Errors) {
    let integer_or_string = json!([{"type": "integer"}, {"type": "string"}]);
    for combination in ["allOf", "anyOf", "oneOf"] {
        let list = fields
            .get(combination)
            .filter(|list| !(may_tell_types && combination == "anyOf" && **list == integer_or_string));
        for (index, branch) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
            let all = at.child(combination);
            let may_tell_types = may_tell_types && combination == "allOf" && index == 0;
            nested(all.index(index), branch, may_tell_types, depth + 1, errors);
        }
    }
    if let Some(branch) = fields.get("not") {
        nested(at.child("not"), branch, false, depth + 1, errors);
    }
}

fn nested(at: Path, schema: &Value, may_tell_types: bool, depth: usize, errors: &mut Errors) {
    let Some(fields) = schema.as_object() else { return };
    if depth > DEPTH_MAX {
        return at.forbidden(errors, format!("schemas may not nest deeper than {DEPTH_MAX}"));
    }
    for (name, why) in STRUCTURE {
        let is_set = fields.get(*name).is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false)));
        if is_set {
            at.child(name).forbidden(errors, *why);
        }
    }
    branches(at, fields, may_tell_types, depth, errors);
    if let Some(items) = fields.get("items") {
        nested(at.child("items"), items, false, depth + 1, errors);
    }
    for (name, property) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let all = at.child("properties");
        if name == "metadata" {
            all.key(name).forbidden(errors, "must not be specified in a nested context");
        }
        nested(all.key(name), property, false, depth + 1, errors);
    }
}

/// What branches speak of must be in the schema itself.
pub(super) fn complete(at: Path, schema: &Value, errors: &mut Errors) {
    part(&at.field(), Some(schema), &at.field(), schema, true, 0, errors);
}

/// One part of a branch (`value` at `from`) and its counterpart in the schema.
fn part(
    at: &FieldPath,
    schema: Option<&Value>,
    from: &FieldPath,
    value: &Value,
    is_root: bool,
    depth: usize,
    errors: &mut Errors,
) {
    let Some(schema) = schema else {
        return errors.required(at, format!("because it is defined in {from}"));
    };
    if depth > DEPTH_MAX {
        return;
    }
    for combination in ["allOf", "anyOf", "oneOf"] {
        for (index, branch) in value[combination].as_array().into_iter().flatten().enumerate() {
            let from = from.child(combination).index(index);
            part(at, Some(schema), &from, branch, false, depth + 1, errors);
        }
    }
    if value["not"].is_object() {
        part(at, Some(schema), &from.child("not"), &value["not"], false, depth + 1, errors);
    }
    // Upstream looks at the branches of the root alone.
    if is_root {
        return;
    }
    if value["items"].is_object() {
        part(&at.child("items"), schema.get("items"), &from.child("items"), &value["items"], false, depth + 1, errors);
    }
    for (name, below) in value["properties"].as_object().into_iter().flatten() {
        let (at, from) = (at.child("properties").key(name), from.child("properties").key(name));
        part(&at, schema["properties"].get(name), &from, below, false, depth + 1, errors);
    }
}
