//! The versions of a definition: what each of them says, and what all of them say alike.
//!
//! Upstream keeps what is the same in all versions once, as a part of the definition, and tells there what is wrong with it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use stead_api::names::dns1035_label;
use stead_api::{Errors, Schema};

use super::part::{items, text};
use super::{defaults, selectable, structural, validate_names};
use crate::custom::rules;
use crate::path::Path;

const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] = &["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
/// The longest warning about a deprecated version.
const WARNING_BYTES_MAX: usize = 256;

/// The parts that versions can have in common, by what upstream's internal type calls them.
const PARTS: &[(&str, &str, Check)] = &[
    ("schema", "validation", validate_schema),
    ("subresources", "subresources", validate_subresources),
    ("additionalPrinterColumns", "additionalPrinterColumns", validate_columns),
    ("selectableFields", "selectableFields", validate_selectable),
];

/// Checks one part of a version that is served as `Parts` says.
type Check = fn(Path, &Value, &Parts, &mut Errors);

/// What else about a version matters for one of its parts.
struct Parts<'v> {
    /// The schema at the same place, if there is one.
    schema: Option<&'v Value>,
    has_status: bool,
}

pub(super) fn validate(at: Path, spec: &Value, errors: &mut Errors) {
    let versions = items(spec, "versions");
    let all = at.child("versions");
    let is_common = |part: &str| {
        versions.first().is_some_and(|first| is_there(&first[part]))
            && versions.iter().all(|version| version[part] == versions[0][part])
    };
    for (index, version) in versions.iter().enumerate() {
        if !version["schema"]["openAPIV3Schema"].is_object() {
            all.index(index).child("schema").child("openAPIV3Schema").required(errors, "");
        }
    }
    for (index, version) in versions.iter().enumerate() {
        let at = all.index(index);
        let problems = dns1035_label(text(version, "name"));
        if !problems.is_empty() {
            at.child("name").invalid(errors, text(version, "name"), problems.join(","));
        }
        validate_deprecation(at.child("deprecationWarning"), version, errors);
        let schema = (!is_common("schema")).then_some(&version["schema"]["openAPIV3Schema"]);
        let parts = Parts { schema, has_status: version["subresources"]["status"].is_object() };
        for (part, _, check) in PARTS.iter().filter(|(part, ..)| !is_common(part) && is_there(&version[*part])) {
            check(at.child(part), &version[*part], &parts, errors);
        }
    }
    let names: Vec<&str> = versions.iter().map(|version| text(version, "name")).collect();
    if names.iter().collect::<BTreeSet<_>>().len() != names.len() {
        all.invalid(errors, json!(names), "must contain unique version names");
    }
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        let found = if names.is_empty() { Value::Null } else { json!(names) };
        all.invalid(errors, found, "must have exactly one version marked as storage version");
    }
    if let Some(first) = names.first().filter(|first| !first.is_empty() && !dns1035_label(first).is_empty()) {
        at.child("version").invalid(errors, *first, dns1035_label(first).join(","));
    }
    validate_names(at.child("names"), &spec["names"], errors);
    let has_status = versions.iter().any(|version| version["subresources"]["status"].is_object());
    let schema = is_common("schema").then(|| &versions[0]["schema"]["openAPIV3Schema"]);
    for (part, name, check) in PARTS.iter().filter(|(part, ..)| is_common(part)) {
        check(at.child(name), &versions[0][*part], &Parts { schema, has_status }, errors);
    }
}

/// Empty lists are none.
fn is_there(part: &Value) -> bool {
    !part.is_null() && part.as_array().is_none_or(|list| !list.is_empty())
}

/// Structural, and fit to be compiled.
fn validate_schema(at: Path, part: &Value, parts: &Parts, errors: &mut Errors) {
    let schema = &part["openAPIV3Schema"];
    if !schema.is_object() {
        return;
    }
    let at = at.child("openAPIV3Schema");
    let before = errors.0.len();
    structural::validate(at, schema, parts.has_status, errors);
    if errors.0.len() > before {
        return;
    }
    match Schema::from_crd(schema, false) {
        Ok(compiled) => {
            defaults::validate(at, schema, &compiled, errors);
            if errors.0.len() == before {
                rules::compile(at, schema, &compiled, errors);
            }
        }
        Err(why) => at.invalid(errors, "", why),
    }
}

fn validate_selectable(at: Path, fields: &Value, parts: &Parts, errors: &mut Errors) {
    let fields = fields.as_array().map_or(&[][..], Vec::as_slice);
    match parts.schema {
        Some(schema) => selectable::validate(at, fields, schema, errors),
        None => at.invalid(errors, "", "may only be set when validations.schema is included"),
    }
}

fn validate_columns(at: Path, columns: &Value, _: &Parts, errors: &mut Errors) {
    for (index, column) in columns.as_array().into_iter().flatten().enumerate() {
        let at = at.index(index);
        if text(column, "name").is_empty() {
            at.child("name").required(errors, "");
        }
        for (field, allowed, is_required) in [("type", COLUMN_TYPES, true), ("format", COLUMN_FORMATS, false)] {
            let detail = format!("must be one of {}", allowed.join(","));
            match text(column, field) {
                "" if is_required => at.child(field).required(errors, detail),
                "" => {}
                found if !allowed.contains(&found) => at.child(field).invalid(errors, found, detail),
                _ => {}
            }
        }
        // Upstream names the field as its internal type does.
        match text(column, "jsonPath") {
            "" => at.child("JSONPath").required(errors, ""),
            path if !path.starts_with('.') => at.child("JSONPath").invalid(errors, path, NOT_A_SIMPLE_PATH),
            _ => {}
        }
    }
}

const NOT_A_SIMPLE_PATH: &str = "must be a simple json path starting with .";

fn validate_subresources(at: Path, subresources: &Value, _: &Parts, errors: &mut Errors) {
    let scale = &subresources["scale"];
    if !scale.is_object() {
        return;
    }
    let at = at.child("scale");
    for (field, roots, is_required) in [
        ("specReplicasPath", &[".spec"][..], true),
        ("statusReplicasPath", &[".status"], true),
        ("labelSelectorPath", &[".spec", ".status"], false),
    ] {
        let is_below =
            |path: &str| roots.iter().any(|root| path.strip_prefix(root).is_some_and(|rest| rest.starts_with('.')));
        match text(scale, field) {
            "" if is_required => at.child(field).required(errors, ""),
            "" => {}
            path if !path.starts_with('.') => at.child(field).invalid(errors, path, NOT_A_SIMPLE_PATH),
            path if !is_below(path) => {
                let either = if roots.len() > 1 { "either " } else { "" };
                let detail = format!("should be a json path under {either}{}", roots.join(" or "));
                at.child(field).invalid(errors, path, detail);
            }
            _ => {}
        }
    }
}

fn validate_deprecation(at: Path, version: &Value, errors: &mut Errors) {
    let Some(warning) = version["deprecationWarning"].as_str() else { return };
    if version["deprecated"] != true {
        return at.invalid(errors, warning, "can only be set for deprecated versions");
    }
    if warning.len() > WARNING_BYTES_MAX {
        at.invalid(errors, warning, format!("must be <= {WARNING_BYTES_MAX} characters long"));
    }
    if warning.is_empty() {
        at.invalid(errors, warning, "must not be an empty string");
    }
    if let Some((index, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
        let detail =
            format!("must only contain printable UTF-8 characters; non-printable character found at index {index}");
        at.invalid(errors, warning, detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(versions: Value) -> Vec<String> {
        let names = json!({"plural": "crons", "singular": "cron", "kind": "Cron", "listKind": "CronList"});
        let mut errors = Errors::default();
        validate(Path::root("spec"), &json!({"names": names, "versions": versions}), &mut errors);
        errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_all_versions_say_is_told_once() {
        let bad = json!({"openAPIV3Schema": {"type": "object", "properties": {"a": {}}}});
        let other = json!({"openAPIV3Schema": {"type": "object", "properties": {"b": {}}}});
        let version = |name: &str, schema: &Value| {
            json!({"name": name, "served": true, "storage": name == "v1", "schema": schema,
                "subresources": {"scale": {"specReplicasPath": ".spec.a", "statusReplicasPath": ".status.a",
                    "labelSelectorPath": ".labels"}}})
        };
        let empty = "Required value: must not be empty for specified object fields";
        let scale = "spec.subresources.scale.labelSelectorPath: Invalid value: \".labels\": should be a json path under either .spec \
                     or .status";
        assert_eq!(
            errors(json!([version("v1", &bad), version("v2", &bad)])),
            [format!("spec.validation.openAPIV3Schema.properties[a].type: {empty}"), scale.into()]
        );
        assert_eq!(
            errors(json!([version("v1", &bad), version("v2", &other)])),
            [
                format!("spec.versions[0].schema.openAPIV3Schema.properties[a].type: {empty}"),
                format!("spec.versions[1].schema.openAPIV3Schema.properties[b].type: {empty}"),
                scale.into(),
            ]
        );
    }

    #[test]
    fn versions_have_names_of_their_own_and_a_schema() {
        let unnamed = json!([{"name": "v1", "storage": true}, {"name": "v1"}]);
        assert_eq!(
            errors(unnamed),
            [
                "spec.versions[0].schema.openAPIV3Schema: Required value",
                "spec.versions[1].schema.openAPIV3Schema: Required value",
                "spec.versions: Invalid value: [\"v1\",\"v1\"]: must contain unique version names",
            ]
        );
        assert_eq!(
            errors(json!([])),
            ["spec.versions: Invalid value: null: must have exactly one version marked as storage version"]
        );
    }
}
