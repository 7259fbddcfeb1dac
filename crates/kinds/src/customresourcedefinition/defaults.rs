//! Defaults in a schema: each must itself be what the schema allows, with nothing unknown.
//!
//! Upstream: apiextensions-apiserver, pkg/apiserver/schema/defaulting/validation.go.

use serde_json::Value;
use stead_api::schema::{Rest, Schema, Shape};
use stead_api::{Errors, FieldPath};

use crate::custom::embedded;
use crate::path::Path;

pub(super) fn validate(at: Path, json: &Value, schema: &Schema, errors: &mut Errors) {
    if let Some(default) = json.get("default") {
        validate_one(at.child("default"), default, schema, errors);
    }
    match &schema.shape {
        Shape::Array(items) if json["items"].is_object() => validate(at.child("items"), &json["items"], items, errors),
        Shape::Object(fields) => {
            let is_typed = |name: &str| schema.embedded && matches!(name, "apiVersion" | "kind" | "metadata");
            for (name, property) in
                json["properties"].as_object().into_iter().flatten().filter(|(name, _)| !is_typed(name))
            {
                let known = fields.get(name).filter(|known| !matches!(known.shape, Shape::Ref(_)));
                if let Some(known) = known {
                    validate(at.child("properties").key(name), property, known, errors);
                }
            }
            if let (Rest::Map(values), extra @ Value::Object(_)) = (&fields.rest, &json["additionalProperties"]) {
                validate(at.child("additionalProperties"), extra, values, errors);
            }
        }
        _ => {}
    }
}

fn validate_one(at: Path, default: &Value, schema: &Schema, errors: &mut Errors) {
    let mut pruned = default.clone();
    remove_metadata(schema, &mut pruned);
    if !schema.decode(&mut pruned).unwrap_or_default().is_empty() {
        at.invalid(errors, default.clone(), "must not have unknown fields");
    }
    if let Some(wrong) = embedded::wrong_type(schema, default, &at.field()) {
        return errors.0.push(wrong);
    }
    let before = errors.0.len();
    embedded::validate(schema, default, &at.field(), errors);
    if errors.0.len() > before {
        return;
    }
    // Upstream's texts name the place in the default.
    let mut found = Errors::default();
    schema.validate(default, &FieldPath::default(), &mut found);
    for mut error in found.0 {
        let inside = error.field.as_str();
        let separator = if inside.is_empty() || inside.starts_with('[') { "" } else { "." };
        error.field = format!("{}{separator}{inside}", at.field());
        errors.0.push(error);
    }
}

/// What is unknown in an object's metadata is dropped without a word.
fn remove_metadata(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(map) => {
            if schema.embedded {
                map.shift_remove("metadata");
            }
            for (name, member) in map {
                if let Some(schema) = schema.fields().and_then(|fields| fields.get(name)) {
                    remove_metadata(schema, member);
                }
            }
        }
        Value::Array(list) => {
            let Shape::Array(items) = &schema.shape else { return };
            list.iter_mut().for_each(|item| remove_metadata(items, item));
        }
        _ => {}
    }
}
