//! The schema that a CustomResourceDefinition brings.
//!
//! Reads a structural `openAPIV3Schema`: the `x-kubernetes-*` marks, nullable, defaults and the value rules that
//! `validate.rs` checks. What a structural schema forbids is refused by the CRD's own validation, not here; here an
//! unknown construct is ignored, except a pattern that is no regular expression.

use regex::Regex;
use serde_json::Value;

use super::{Fields, List, OBJECT_META, Rest, Rules, Schema, Shape, definition, list_from_json, strings};

/// Deeper nesting than this is refused.
const DEPTH_MAX: usize = 100;

impl Schema {
    /// The schema of a CRD version's `openAPIV3Schema`; `metadata` is always ObjectMeta. Fails on a bad pattern.
    pub fn from_crd(open_api: &Value, preserve_unknown: bool) -> Result<Schema, String> {
        let mut root = read(open_api, 0)?;
        root.embedded = true;
        if let Shape::Any = root.shape {
            root.shape = Shape::Object(Fields::default());
        }
        if let Shape::Object(fields) = &mut root.shape
            && preserve_unknown
        {
            fields.rest = Rest::Keep;
        }
        add_object_fields(&mut root);
        Ok(root)
    }
}

/// apiVersion, kind and metadata of a whole object are typed whatever the schema says of them.
fn add_object_fields(schema: &mut Schema) {
    let Shape::Object(fields) = &mut schema.shape else {
        return;
    };
    let metadata = definition(OBJECT_META).map_or(Shape::Any, Shape::Ref);
    for (name, shape) in [("apiVersion", Shape::String), ("kind", Shape::String), ("metadata", metadata)] {
        let declared = fields.named.iter().position(|(field, _)| field == name).map(|at| fields.named.remove(at).1);
        fields.named.push((name.into(), Schema { declared: declared.map(Box::new), ..Schema::of(shape) }));
    }
    fields.named.sort_by(|a, b| a.0.cmp(&b.0));
}

fn read(json: &Value, depth: usize) -> Result<Schema, String> {
    if depth > DEPTH_MAX {
        return Err("the schema is nested too deeply".into());
    }
    let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default();
    let flag = |key: &str| json.get(key).and_then(Value::as_bool).unwrap_or(false);
    let preserve = flag("x-kubernetes-preserve-unknown-fields");
    let shape = match text("type") {
        _ if flag("x-kubernetes-int-or-string") => Shape::IntOrString,
        "string" => Shape::String,
        "integer" => Shape::Int64,
        "number" => Shape::Number,
        "boolean" => Shape::Boolean,
        "array" => {
            let items = json.get("items").map(|items| read(items, depth + 1)).transpose()?;
            Shape::Array(Box::new(items.unwrap_or(Schema::of(Shape::Any))))
        }
        "object" => Shape::Object(read_fields(json, preserve, depth)?),
        _ if json.get("properties").is_some() => Shape::Object(read_fields(json, preserve, depth)?),
        _ => Shape::Any,
    };
    let mut schema = Schema {
        list: list_from_json(json),
        atomic: text("x-kubernetes-map-type") == "atomic",
        default: json.get("default").cloned(),
        required: strings(json.get("required")),
        nullable: flag("nullable"),
        embedded: flag("x-kubernetes-embedded-resource"),
        rules: Some(Box::new(read_rules(json, depth)?)),
        ..Schema::of(shape)
    };
    if let List::Map(_) = schema.list {
        default_required_keys(&mut schema);
    }
    if schema.embedded {
        add_object_fields(&mut schema);
    }
    Ok(schema)
}

/// Nothing to fill in yet is an error upstream refuses at the CRD; an empty key list would make all elements one.
fn default_required_keys(schema: &mut Schema) {
    if schema.list == List::Map(Vec::new()) {
        schema.list = List::Atomic;
    }
}

fn read_fields(json: &Value, preserve: bool, depth: usize) -> Result<Fields, String> {
    let mut named = Vec::new();
    for (name, property) in json.get("properties").and_then(Value::as_object).into_iter().flatten() {
        named.push((name.clone(), read(property, depth + 1)?));
    }
    named.sort_by(|a, b| a.0.cmp(&b.0));
    let rest = match json.get("additionalProperties") {
        Some(values @ Value::Object(_)) => Rest::Map(Box::new(read(values, depth + 1)?)),
        Some(Value::Bool(true)) => Rest::Map(Box::new(Schema::of(Shape::Any))),
        _ if preserve => Rest::Keep,
        _ => Rest::Closed,
    };
    Ok(Fields { named, rest })
}

fn read_rules(json: &Value, depth: usize) -> Result<Rules, String> {
    let number = |key: &str| json.get(key).and_then(Value::as_f64);
    let count = |key: &str| json.get(key).and_then(Value::as_u64);
    let flag = |key: &str| json.get(key).and_then(Value::as_bool).unwrap_or(false);
    let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let branches = |key: &str| -> Result<Vec<Schema>, String> {
        json.get(key).and_then(Value::as_array).into_iter().flatten().map(|one| read(one, depth + 1)).collect()
    };
    let pattern = match text("pattern") {
        pattern if pattern.is_empty() => None,
        pattern => {
            let compiled = Regex::new(&pattern).map_err(|error| format!("invalid pattern {pattern:?}: {error}"))?;
            Some((pattern, compiled))
        }
    };
    Ok(Rules {
        type_name: text("type"),
        format: text("format"),
        options: json.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
        minimum: number("minimum"),
        maximum: number("maximum"),
        exclusive_minimum: flag("exclusiveMinimum"),
        exclusive_maximum: flag("exclusiveMaximum"),
        multiple_of: number("multipleOf"),
        min_length: count("minLength"),
        max_length: count("maxLength"),
        pattern,
        min_items: count("minItems"),
        max_items: count("maxItems"),
        min_properties: count("minProperties"),
        max_properties: count("maxProperties"),
        all_of: branches("allOf")?,
        any_of: branches("anyOf")?,
        one_of: branches("oneOf")?,
        not: json.get("not").map(|one| read(one, depth + 1)).transpose()?,
    })
}
