//! `cargo xtask schema DEFINITIONS`: the facts of Kubernetes' API schema, one definition a line.
//!
//! `DEFINITIONS` is `_definitions.json` of v1.36 from the PyPI package `kubernetes-validate` (Apache-2.0). Kept: names,
//! types, formats, required, enum and every `x-kubernetes-*` key; dropped: the prose and the marks that any field may
//! be null. Added: the few defaults that server-side apply needs for list keys and that the package leaves out.
//! The output, `schema/definitions.txt`, is sorted lines of `name<TAB>json`, so that a reader decodes only what it uses.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

const OUTPUT: &str = "schema/definitions.txt";

/// Defaults of list-map keys (upstream's `+default` marks), as (definition, property, value).
const KEY_DEFAULTS: &[(&str, &str, &str)] = &[
    ("io.k8s.api.core.v1.ContainerPort", "protocol", "TCP"),
    ("io.k8s.api.core.v1.ServicePort", "protocol", "TCP"),
    ("io.k8s.api.core.v1.LocalObjectReference", "name", ""),
];

pub fn run(definitions: &Path) -> Result<()> {
    let text = std::fs::read_to_string(definitions).with_context(|| format!("read {}", definitions.display()))?;
    let parsed: Value = serde_json::from_str(&text).context("the definitions are not JSON")?;
    let all = parsed.get("$defs").and_then(Value::as_object).context("no $defs in the definitions")?;
    let mut names: Vec<&String> = all.keys().collect();
    names.sort();
    let mut output = String::new();
    for name in names {
        let mut definition = trim(&all[name]);
        for (of, property, value) in KEY_DEFAULTS {
            if of == name {
                definition["properties"][*property]["default"] = json!(value);
            }
        }
        writeln!(output, "{name}\t{definition}")?;
    }
    std::fs::write(OUTPUT, output).with_context(|| format!("write {OUTPUT}"))
}

/// One schema without prose.
fn trim(schema: &Value) -> Value {
    let Some(schema) = schema.as_object() else {
        return schema.clone();
    };
    let mut kept = Map::new();
    for (key, value) in schema {
        match key.as_str() {
            "description" => {}
            "type" => {
                kept.insert(key.clone(), plain_type(value));
            }
            "$ref" => {
                let name = value.as_str().unwrap_or_default().trim_start_matches("#/$defs/");
                kept.insert(key.clone(), json!(name));
            }
            "properties" => {
                let properties = value.as_object().into_iter().flatten();
                let trimmed: Map<String, Value> = properties
                    .map(|(name, property)| match name.as_str() {
                        "apiVersion" | "kind" => (name.clone(), without_enum(trim(property))),
                        _ => (name.clone(), trim(property)),
                    })
                    .collect();
                kept.insert(key.clone(), Value::Object(trimmed));
            }
            "items" | "additionalProperties" => {
                kept.insert(key.clone(), trim(value));
            }
            // Int-or-string and Quantity are known by their names.
            "oneOf" => {}
            _ => {
                kept.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(kept)
}

/// `["string", "null"]` → `"string"`.
fn plain_type(value: &Value) -> Value {
    let first = value.as_array().and_then(|types| types.iter().find(|one| *one != "null"));
    first.unwrap_or(value).clone()
}

/// The package pins apiVersion and kind to one value; the group-version-kind key says the same.
fn without_enum(mut property: Value) -> Value {
    if let Some(property) = property.as_object_mut() {
        property.remove("enum");
    }
    property
}
