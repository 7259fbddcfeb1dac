//! Whole objects inside of custom resources: each says what it is, and its metadata is as any object's.
//!
//! Upstream: apiextensions-apiserver, pkg/apiserver/schema/objectmeta.

use serde_json::{Map, Value};
use stead_api::names::dns1035_label;
use stead_api::schema::{OBJECT_META, Rest, Schema, Shape, definition};
use stead_api::status::{FieldError, FieldErrorKind};
use stead_api::{Errors, FieldPath};

use crate::meta;
use crate::path::Path;

/// Checks the objects in a custom resource, but not the resource itself.
pub fn validate_inside(schema: &Schema, value: &Value, errors: &mut Errors) {
    for (name, member, schema) in members(schema, value) {
        validate(schema, member, &FieldPath::default().child(name), errors);
    }
}

/// The first thing in an object that is of a wrong type.
pub(crate) fn wrong_type(schema: &Schema, value: &Value, at: &FieldPath) -> Option<FieldError> {
    match value {
        Value::Object(map) => {
            let own = if schema.embedded { wrong_type_of(map, at) } else { None };
            own.or_else(|| {
                members(schema, value).find_map(|(name, member, schema)| wrong_type(schema, member, &at.child(name)))
            })
        }
        Value::Array(list) => {
            let Shape::Array(items) = &schema.shape else { return None };
            list.iter().enumerate().find_map(|(index, item)| wrong_type(items, item, &at.index(index)))
        }
        _ => None,
    }
}

fn wrong_type_of(map: &Map<String, Value>, at: &FieldPath) -> Option<FieldError> {
    let wrong = |field: &str, detail: String| {
        let value = map.get(field).cloned().unwrap_or_default();
        let field = at.child(field).to_string();
        FieldError { kind: FieldErrorKind::Invalid, field, value, detail, is_value_omitted: false }
    };
    for field in ["apiVersion", "kind"] {
        if map.get(field).is_some_and(|found| !found.is_string()) {
            return Some(wrong(field, "must be a string".into()));
        }
    }
    let found = match map.get("metadata")? {
        Value::Object(_) => {
            let why = definition(OBJECT_META)?.decode(&mut map.get("metadata")?.clone()).err()?;
            return Some(wrong("metadata", why.to_string()));
        }
        Value::Null => return None,
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
    };
    Some(wrong("metadata", format!("json: cannot unmarshal {found} into Go value of type v1.ObjectMeta")))
}

/// The same, and `value` itself if it is an object of its own.
pub(crate) fn validate(schema: &Schema, value: &Value, at: &FieldPath, errors: &mut Errors) {
    match value {
        Value::Object(map) => {
            if schema.embedded {
                validate_object(map, at, errors);
            }
            for (name, member, schema) in members(schema, value) {
                validate(schema, member, &at.child(name), errors);
            }
        }
        Value::Array(list) => {
            let Shape::Array(items) = &schema.shape else { return };
            for (index, item) in list.iter().enumerate() {
                validate(items, item, &at.index(index), errors);
            }
        }
        _ => {}
    }
}

/// What may hold objects: references are to built-in types, which hold none.
fn members<'v>(schema: &'v Schema, value: &'v Value) -> impl Iterator<Item = (&'v String, &'v Value, &'v Schema)> {
    let fields = schema.fields();
    value.as_object().into_iter().flatten().filter_map(move |(name, member)| {
        let fields = fields?;
        let is_open = fields.named.is_empty() || !matches!(fields.rest, Rest::Map(_));
        let schema = fields.get(name).filter(|schema| is_open && !matches!(schema.shape, Shape::Ref(_)))?;
        Some((name, member, schema))
    })
}

fn validate_object(map: &Map<String, Value>, at: &FieldPath, errors: &mut Errors) {
    for field in ["apiVersion", "kind"] {
        let place = at.child(field);
        match map.get(field) {
            None => errors.required(&place, ""),
            Some(Value::String(text)) if text.is_empty() => errors.invalid(&place, "", "must not be empty"),
            Some(Value::String(text)) => {
                if let Some(why) = (if field == "kind" { kind_problem } else { version_problem })(text) {
                    errors.invalid(&place, text.as_str(), why);
                }
            }
            Some(_) => {}
        }
    }
    match wrong_type_of(map, at) {
        Some(wrong) => errors.0.push(wrong),
        None => {
            if let Some(metadata) = map.get("metadata") {
                meta::validate_any(metadata, &Path::root(&at.child("metadata").to_string()), errors);
            }
        }
    }
}

fn kind_problem(kind: &str) -> Option<String> {
    let problems = dns1035_label(&kind.to_lowercase());
    (!problems.is_empty()).then(|| format!("may have mixed case, but should otherwise match: {}", problems.join(",")))
}

fn version_problem(version: &str) -> Option<String> {
    (version.matches('/').count() > 1).then(|| format!("unexpected GroupVersion string: {version}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_inside_of_custom_resources_are_checked_like_others() {
        let schema = json!({"type": "object", "properties": {
            "one": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
            "many": {"type": "array", "items": {"type": "object", "x-kubernetes-embedded-resource": true,
                "x-kubernetes-preserve-unknown-fields": true}}}});
        let schema = Schema::from_crd(&schema, false).expect("a schema");
        let mut errors = Errors::default();
        let value = json!({"apiVersion": "a/b/c", "one": {"apiVersion": "a/b/c", "kind": "%", "metadata": {"name": "..", "labels":
            {"a": "x y"}}}, "many": [{"kind": "Pod", "metadata": {"name": 3}}]});
        validate_inside(&schema, &value, &mut errors);
        let found: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        let starts = [
            "one.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
            "one.kind: Invalid value: \"%\": may have mixed case, but should otherwise match: a DNS-1035 label",
            "one.metadata.name: Invalid value: \"..\": may not be '..'",
            "one.metadata.labels: Invalid value: \"x y\": a valid label must be",
            "many[0].apiVersion: Required value",
            "many[0].metadata: Invalid value: {\"name\":3}: json: cannot unmarshal number into Go struct field ObjectMeta.name of type \
             string",
        ];
        assert_eq!(found.len(), starts.len(), "{found:#?}");
        for start in starts {
            assert!(found.iter().any(|one| one.starts_with(start)), "{start} is missing in {found:#?}");
        }
    }
}
