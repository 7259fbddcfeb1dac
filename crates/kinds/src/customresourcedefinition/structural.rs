//! Whether a schema is structural: every part says its type, so that pruning, defaulting and applying can work by it.
//!
//! Upstream: apiextensions-apiserver, pkg/apiserver/schema/validation.go.

use serde_json::{Map, Value, json};
use stead_api::Errors;

use super::part::{DEPTH_MAX, is_true, type_of};
use super::{marks, nested};
use crate::path::Path;

/// Fields of a root schema that go with the status subresource, as upstream's internal type names them, and those that do not.
const SEPARABLE: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength \
                         Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example \
                         XPreserveUnknownFields XValidations]";
const INSEPARABLE: &[&str] = &[
    "additionalProperties",
    "allOf",
    "anyOf",
    "default",
    "enum",
    "maxProperties",
    "minProperties",
    "not",
    "nullable",
    "oneOf",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
];

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Checks a whole schema; what is wrong is told in the order of its text.
pub fn validate(at: Path, schema: &Value, has_status: bool, errors: &mut Errors) {
    let mut found = Errors::default();
    if has_status {
        separable(at, schema, &mut found);
    }
    if schema["nullable"] == true {
        at.child("nullable").forbidden(&mut found, "nullable cannot be true at the root");
    }
    let first = found.0.len();
    node(at, schema, Level::Root, 0, &mut found);
    nested::complete(at, schema, &mut found);
    found.0[first..].sort_by_cached_key(ToString::to_string);
    marks(at, schema, false, &mut found);
    errors.0.extend(found.0);
}

/// The marks of a schema and of those inside of it; `is_meta` inside of what every object has.
fn marks(at: Path, schema: &Value, is_meta: bool, errors: &mut Errors) {
    let Some(fields) = schema.as_object() else { return };
    marks::validate(at, fields, errors);
    let is_embedded = is_true(fields, "x-kubernetes-embedded-resource");
    if is_meta && is_embedded {
        at.child("x-kubernetes-embedded-resource").forbidden(errors, "must not be used inside of resource meta");
    }
    for (name, property) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let is_meta = is_meta || is_embedded && matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
        marks(at.child("properties").key(name), property, is_meta, errors);
    }
    for part in ["additionalProperties", "items"] {
        if let Some(part_schema) = fields.get(part) {
            marks(at.child(part), part_schema, is_meta, errors);
        }
    }
}

/// What says something about the whole object cannot be split into a schema of the status and one of the rest.
fn separable(at: Path, schema: &Value, errors: &mut Errors) {
    let kind = schema["type"].as_str().unwrap_or("");
    if !matches!(kind, "" | "object") {
        let detail =
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        at.child("type").invalid(errors, kind, detail);
    } else if schema
        .as_object()
        .into_iter()
        .flatten()
        .any(|(name, value)| INSEPARABLE.contains(&name.as_str()) && is_set(value))
    {
        let detail = format!(
            "only {SEPARABLE} fields are allowed at the root of the schema if the status subresource is enabled"
        );
        at.invalid(errors, schema.clone(), detail);
    }
}

fn is_set(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false)) && value.as_array().is_none_or(|list| !list.is_empty())
}

fn node(at: Path, schema: &Value, level: Level, depth: usize, errors: &mut Errors) {
    let Some(fields) = schema.as_object() else {
        at.invalid(errors, schema.clone(), "must be a schema");
        return;
    };
    if depth > DEPTH_MAX {
        at.forbidden(errors, format!("schemas may not nest deeper than {DEPTH_MAX}"));
        return;
    }
    kind(at, fields, level, errors);
    extensions(at, fields, errors);
    nested::validate(at, fields, errors);
    if level == Level::Root || is_true(fields, "x-kubernetes-embedded-resource") {
        object_fields(at, fields, level, errors);
    }
    for (name, property) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
        node(at.child("properties").key(name), property, Level::Field, depth + 1, errors);
    }
    match fields.get("additionalProperties") {
        Some(extra @ Value::Object(_)) => {
            if level == Level::Root {
                at.child("additionalProperties").forbidden(errors, "must not be used at the root");
            }
            node(at.child("additionalProperties"), extra, Level::Field, depth + 1, errors);
        }
        Some(Value::Bool(_)) if level == Level::Root => {
            at.child("additionalProperties").forbidden(errors, "must not be used at the root");
        }
        _ => {}
    }
    match fields.get("items") {
        Some(Value::Array(_)) => at.child("items").forbidden(errors, "items must be a schema object and not an array"),
        Some(items) => node(at.child("items"), items, Level::Item, depth + 1, errors),
        None if type_of(fields) == "array" => at.child("items").required(errors, "must be specified"),
        None => {}
    }
}

fn kind(at: Path, fields: &Map<String, Value>, level: Level, errors: &mut Errors) {
    let kind = type_of(fields);
    let is_open =
        is_true(fields, "x-kubernetes-int-or-string") || is_true(fields, "x-kubernetes-preserve-unknown-fields");
    let must_be_object = "must be object if x-kubernetes-embedded-resource is true";
    match (kind, level) {
        ("object", _) => {}
        ("", _) if is_true(fields, "x-kubernetes-embedded-resource") => {
            at.child("type").required(errors, must_be_object)
        }
        (kind, _) if is_true(fields, "x-kubernetes-embedded-resource") => {
            at.child("type").invalid(errors, kind, must_be_object);
        }
        ("", _) if is_open => {}
        ("", Level::Root) => at.child("type").required(errors, "must not be empty at the root"),
        ("", Level::Item) => at.child("type").required(errors, "must not be empty for specified array items"),
        ("", Level::Field) => at.child("type").required(errors, "must not be empty for specified object fields"),
        (kind, Level::Root) => at.child("type").invalid(errors, kind, "must be object at the root"),
        _ => {}
    }
}

fn extensions(at: Path, fields: &Map<String, Value>, errors: &mut Errors) {
    if is_true(fields, "x-kubernetes-int-or-string") {
        for name in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
            if is_true(fields, name) {
                at.child(name).invalid(errors, true, "must be false if x-kubernetes-int-or-string is true");
            }
        }
        if !type_of(fields).is_empty() {
            let detail = "must be empty if x-kubernetes-int-or-string is true";
            at.child("type").invalid(errors, type_of(fields), detail);
        }
    }
    if !is_true(fields, "x-kubernetes-embedded-resource") {
        return;
    }
    if fields.get("additionalProperties").is_some_and(|extra| !extra.is_null()) {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        at.child("additionalProperties").forbidden(errors, detail);
    }
    let has_properties = fields.get("properties").and_then(Value::as_object).is_some_and(|map| !map.is_empty());
    if !is_true(fields, "x-kubernetes-preserve-unknown-fields") && !has_properties {
        let detail =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        at.child("properties").required(errors, detail);
    }
}

/// apiVersion, kind and metadata of a whole object.
fn object_fields(at: Path, fields: &Map<String, Value>, level: Level, errors: &mut Errors) {
    let properties = at.child("properties");
    let property = |name: &str| fields.get("properties").and_then(|all| all.get(name));
    for (name, wanted) in [("apiVersion", "string"), ("kind", "string"), ("metadata", "object")] {
        let Some(found) = property(name) else { continue };
        let kind = found["type"].as_str().unwrap_or("");
        if kind != wanted {
            properties.key(name).child("type").invalid(errors, kind, format!("must be {wanted}"));
        }
        if level == Level::Root && found.get("default").is_some() {
            let detail = format!("must not be set in top-level {name}");
            properties.key(name).child("default").forbidden(errors, detail);
        }
    }
    let Some(metadata) = property("metadata").and_then(Value::as_object).filter(|_| level == Level::Root) else {
        return;
    };
    let is_name = |(name, _): (&String, &Value)| name == "name" || name == "generateName";
    let is_fit = metadata.iter().all(|(field, value)| match field.as_str() {
        "type" | "default" => true,
        "properties" => value.as_object().is_some_and(|map| map.iter().all(is_name)),
        _ => *value == json!(null),
    });
    if !is_fit {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        properties.key("metadata").forbidden(errors, detail);
    }
}
