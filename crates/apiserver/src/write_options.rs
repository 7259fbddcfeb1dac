//! What the options of a write may say; each mistake of one request is told.

use serde_json::json;
use stead_api::request::PatchType;
use stead_api::{Errors, FieldPath, Request, Status, Verb};

/// The bytes of a manager's name.
const FIELD_MANAGER_MAX: usize = 128;
const FIELD_VALIDATIONS: &[&str] = &["", "Ignore", "Strict", "Warn"];

pub(crate) fn check(request: &Request) -> Result<(), Status> {
    let kind = match request.verb {
        Verb::Create => "CreateOptions",
        Verb::Update => "UpdateOptions",
        Verb::Patch(_) => "PatchOptions",
        Verb::Delete | Verb::DeleteCollection => "DeleteOptions",
        _ => return Ok(()),
    };
    let mut errors = Errors::default();
    if let Verb::Patch(how) = request.verb {
        check_patch(request, how, &mut errors);
    }
    if kind != "DeleteOptions" {
        check_manager(&request.options.field_manager, &mut errors);
    }
    let dry_runs: Vec<&str> =
        request.options.all.iter().filter(|(key, _)| key == "dryRun").map(|(_, value)| value.as_str()).collect();
    if dry_runs.iter().any(|value| !matches!(*value, "" | "All")) {
        errors.not_supported(&FieldPath::new("dryRun"), json!(dry_runs), &["All"]);
    }
    let validation = request.options.param("fieldValidation").unwrap_or_default();
    if kind != "DeleteOptions" && !FIELD_VALIDATIONS.contains(&validation) {
        errors.not_supported(&FieldPath::new("fieldValidation"), validation, FIELD_VALIDATIONS);
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", kind, "", errors)) }
}

fn check_patch(request: &Request, how: PatchType, errors: &mut Errors) {
    if how == PatchType::Apply && request.options.field_manager.is_empty() {
        errors.required(&FieldPath::new("fieldManager"), "is required for apply patch");
    }
    if how != PatchType::Apply && request.options.force {
        errors.forbidden(&FieldPath::new("force"), "may not be specified for non-apply patch");
    }
}

fn check_manager(name: &str, errors: &mut Errors) {
    let at = FieldPath::new("fieldManager");
    if name.len() > FIELD_MANAGER_MAX {
        errors.too_long(&at, FIELD_MANAGER_MAX);
    }
    let is_unprintable = |(_, c): &(usize, char)| c.is_control() || (c.is_whitespace() && *c != ' ');
    if let Some((position, c)) = name.char_indices().find(is_unprintable) {
        let why = format!("invalid character U+{:04X} (at position {position})", u32::from(c));
        errors.invalid(&at, name, why);
    }
}
