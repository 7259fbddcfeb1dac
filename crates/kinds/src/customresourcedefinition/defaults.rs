//! Defaults in a schema: each must itself be what the schema allows, with nothing unknown.
//!
//! Upstream: apiextensions-apiserver, pkg/apiserver/schema/defaulting/validation.go.

use serde_json::Value;
use stead_api::Errors;
use stead_api::schema::{Rest, Schema, Shape};

use crate::path::Path;

pub(super) fn validate(at: Path, json: &Value, schema: &Schema, errors: &mut Errors) {
    if let Some(default) = json.get("default") {
        let at = at.child("default");
        let mut pruned = default.clone();
        let unknown = schema.decode(&mut pruned).unwrap_or_default();
        if !unknown.is_empty() {
            at.invalid(errors, default.clone(), "must not have unknown fields");
        } else {
            schema.validate(default, &at.field(), errors);
        }
    }
    match &schema.shape {
        Shape::Array(items) if json["items"].is_object() => validate(at.child("items"), &json["items"], items, errors),
        Shape::Object(fields) => {
            for (name, property) in json["properties"].as_object().into_iter().flatten() {
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
