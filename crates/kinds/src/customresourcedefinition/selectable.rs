//! `selectableFields`: paths that field selectors may name.

use std::collections::BTreeSet;

use serde_json::Value;
use stead_api::Errors;
use stead_api::status::FieldErrorKind;

use super::part::text;
use crate::custom::field_path;
use crate::path::Path;

/// How many fields of one version selectors may name.
const FIELDS_MAX: usize = 8;

pub(super) fn validate(at: Path, fields: &[Value], schema: &Value, errors: &mut Errors) {
    let Ok(compiled) = stead_api::Schema::from_crd(schema, false) else { return };
    let mut seen = BTreeSet::new();
    for (index, field) in fields.iter().enumerate() {
        let all = at.index(index);
        let at = all.child("jsonPath");
        let path = text(field, "jsonPath");
        if path.is_empty() {
            at.required(errors, "");
            continue;
        }
        if path.contains('[') {
            at.invalid(errors, path, "is an invalid path: array notation is not allowed");
            continue;
        }
        let found = match field_path::find(path, &compiled) {
            Ok(found) => found,
            Err(why) => {
                at.invalid(errors, path, format!("is an invalid path: {why}"));
                continue;
            }
        };
        let (plain, schema) = found;
        if plain == "metadata" || plain.starts_with("metadata.") {
            at.invalid(errors, path, "must not point to fields in metadata");
        }
        let kind = schema.rules.as_ref().map_or("", |rules| rules.type_name.as_str());
        if !matches!(kind, "string" | "boolean" | "integer") {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are \
                          allowed.";
            at.invalid(errors, path, detail);
        }
        if !seen.insert(plain) {
            at.duplicate(errors, path);
        }
    }
    if seen.len() > FIELDS_MAX {
        at.push(errors, FieldErrorKind::TooMany, seen.len(), format!("must have at most {FIELDS_MAX} items"));
    }
}
