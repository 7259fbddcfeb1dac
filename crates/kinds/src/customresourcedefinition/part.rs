//! How a part of a schema, and of a definition, is read.

use serde_json::{Map, Value};

/// How deep a schema may nest.
pub(super) const DEPTH_MAX: usize = 64;

/// Names of booleans that a schema sets.
pub(super) fn is_true(fields: &Map<String, Value>, name: &str) -> bool {
    fields.get(name).is_some_and(|value| value == true)
}

pub(super) fn type_of(fields: &Map<String, Value>) -> &str {
    fields.get("type").and_then(Value::as_str).unwrap_or("")
}

pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or("")
}

pub fn items<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}
