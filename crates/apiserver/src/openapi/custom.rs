//! The schema of a custom resource, as its definition gives it and clients can take it.
//!
//! `kubectl` takes what a Swagger 2.0 document lists for all that there is: where a schema lets unknown fields through, nothing is listed there.

use super::dialect::Dialect;
use serde_json::{Map, Value, json};

const PRESERVES: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDS: &str = "x-kubernetes-embedded-resource";
const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

/// A schema as a document of the dialect shows it, with the common fields typed; `metadata` is the schema of theirs.
pub(super) fn publish(schema: Option<&Value>, dialect: Dialect, metadata: &Value) -> Map<String, Value> {
    let in_v2 = dialect == Dialect::V2;
    match schema {
        Some(Value::Object(schema)) if !(in_v2 && is(schema, PRESERVES)) => {
            let mut schema = schema.clone();
            if in_v2 {
                to_v2(&mut schema);
            }
            embed(&mut schema, in_v2, metadata);
            add_properties(&mut schema, metadata);
            schema
        }
        _ => Map::from_iter([("type".to_owned(), json!("object"))]),
    }
}

fn add_properties(schema: &mut Map<String, Value>, metadata: &Value) {
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        properties.extend(type_properties());
        properties.insert("metadata".into(), metadata.clone());
    }
}

pub(super) fn type_properties() -> Map<String, Value> {
    [("apiVersion", API_VERSION), ("kind", KIND)]
        .map(|(name, about)| (name.to_owned(), json!({"type": "string", "description": about})))
        .into_iter()
        .collect()
}

fn is(schema: &Map<String, Value>, mark: &str) -> bool {
    schema.get(mark) == Some(&Value::Bool(true))
}

/// What a schema says of its fields, elements and values, each.
fn below(schema: &mut Map<String, Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    schema
        .iter_mut()
        .flat_map(|(key, value)| -> Vec<&mut Value> {
            match (key.as_str(), value) {
                ("properties", Value::Object(properties)) => properties.values_mut().collect(),
                ("items" | "additionalProperties", value) => vec![value],
                _ => Vec::new(),
            }
        })
        .filter_map(Value::as_object_mut)
}

/// Leaves out what Swagger 2.0 cannot say, and what `kubectl` would read wrongly there.
fn to_v2(schema: &mut Map<String, Value>) {
    for junctor in ["allOf", "oneOf", "anyOf", "not"] {
        schema.shift_remove(junctor);
    }
    let (is_nullable, preserves) = (is(schema, "nullable"), is(schema, PRESERVES));
    schema.shift_remove("nullable");
    if is_nullable || preserves {
        schema.shift_remove("items");
        schema.shift_remove("properties");
    }
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    let misleads = (kind == "array" && !schema.contains_key("items")) || (kind == "object" && preserves);
    if is_nullable || misleads {
        schema.shift_remove("type");
    }
    ask_no_nulls(schema);
    below(schema).for_each(to_v2);
}

/// A field that may be null is not asked for: here it could not be given as null.
fn ask_no_nulls(schema: &mut Map<String, Value>) {
    let is_nullable = |schema: Option<&Value>| schema.is_some_and(|schema| schema["nullable"] == true);
    if is_nullable(schema.get("additionalProperties")) {
        schema.shift_remove("required");
        return;
    }
    let properties = schema.get("properties").cloned().unwrap_or_default();
    let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) else { return };
    required.retain(|name| !is_nullable(name.as_str().and_then(|name| properties.get(name))));
    if required.is_empty() {
        schema.shift_remove("required");
    }
}

/// Types the common fields of objects inside the object.
fn embed(schema: &mut Map<String, Value>, in_v2: bool, metadata: &Value) {
    below(schema).for_each(|one| embed(one, in_v2, metadata));
    if !is(schema, EMBEDS) || (in_v2 && is(schema, PRESERVES)) {
        return;
    }
    add_properties(schema, metadata);
    let required = schema.entry("required").or_insert_with(|| json!([]));
    if let Some(required) = required.as_array_mut() {
        for name in ["kind", "apiVersion"] {
            if !required.iter().any(|one| one == name) {
                required.push(json!(name));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_v2(schema: Value) -> Value {
        let mut schema = schema.as_object().expect("a schema").clone();
        to_v2(&mut schema);
        Value::Object(schema)
    }

    #[test]
    fn swagger_says_nothing_where_anything_may_be() {
        assert_eq!(
            in_v2(json!({"type": "object", "required": ["a", "b"], "properties": {
                "a": {"type": "object", "nullable": true, "properties": {"x": {"type": "string"}}},
                "b": {"type": "object", PRESERVES: true, "properties": {"x": {"type": "string"}}},
                "c": {"type": "array", PRESERVES: true, "items": {"type": "string"}},
                "nullable": {"anyOf": [{"type": "integer"}], "x-kubernetes-int-or-string": true},
                "d": {"type": "object", "additionalProperties": {"type": "string", "nullable": true}, "required": ["k"]},
            }})),
            json!({"type": "object", "required": ["b"], "properties": {
                "a": {},
                "b": {PRESERVES: true},
                "c": {PRESERVES: true},
                "nullable": {"x-kubernetes-int-or-string": true},
                "d": {"type": "object", "additionalProperties": {}},
            }})
        );
    }
}
