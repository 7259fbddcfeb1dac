//! What a definition must be, and what the server adds: default names, conditions, stored versions.
//!
//! Names are accepted and the definition is established in the write that brings it.

use serde_json::{Value, json};
use stead_api::{Errors, FieldPath, Request, Schema, Status, names};
use stead_store::Snapshot;

use super::{DEFINITIONS, text};
use crate::Context;
use crate::draft::{Draft, time_text};
use crate::subresource::set_condition;

/// Fills in names that follow from others.
pub(crate) fn default_names(_: &mut Context, _: &Request, draft: &mut Draft) -> Result<(), Status> {
    let names = &mut draft.new["spec"]["names"];
    let kind = text(names, "kind").to_owned();
    if text(names, "singular").is_empty() {
        names["singular"] = json!(kind.to_lowercase());
    }
    if text(names, "listKind").is_empty() {
        names["listKind"] = json!(format!("{kind}List"));
    }
    if draft.new["spec"]["conversion"].is_null() {
        draft.new["spec"]["conversion"] = json!({"strategy": "None"});
    }
    Ok(())
}

/// Refuses what could not be served.
pub(crate) fn check(_: &mut Context, _: &Request, draft: &mut Draft) -> Result<(), Status> {
    let mut errors = Errors::default();
    let spec = &draft.new["spec"];
    let at = FieldPath::new("spec");
    check_names(draft.name(), spec, &at, &mut errors);
    check_versions(&spec["versions"], &at.child("versions"), &mut errors);
    if !matches!(text(spec, "scope"), "Namespaced" | "Cluster") {
        errors.not_supported(&at.child("scope"), text(spec, "scope"), &["Cluster", "Namespaced"]);
    }
    match text(&spec["conversion"], "strategy") {
        "None" => {}
        "Webhook" => {
            errors.invalid(&at.child("conversion.strategy"), "Webhook", "conversion webhooks are not supported")
        }
        other => errors.not_supported(&at.child("conversion.strategy"), other, &["None", "Webhook"]),
    }
    if !draft.is_creation() {
        for path in ["group", "scope", "names.kind", "names.plural"] {
            let (before, after) = (crate::scale::at(&draft.old_value["spec"], path), crate::scale::at(spec, path));
            if before != after {
                errors.invalid(&at.child(path), after.clone(), "field is immutable");
            }
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(draft.invalid(errors)) }
}

fn check_names(name: &str, spec: &Value, at: &FieldPath, errors: &mut Errors) {
    let (group, plural) = (text(spec, "group"), text(&spec["names"], "plural"));
    if group.is_empty() {
        errors.required(&at.child("group"), "");
    } else {
        for message in names::dns1123_subdomain(group) {
            errors.invalid(&at.child("group"), group, message);
        }
        if group.split('.').count() < 2 {
            errors.invalid(&at.child("group"), group, "should be a domain with at least one dot");
        }
    }
    if name != format!("{plural}.{group}") {
        let path = FieldPath::new("metadata").child("name");
        errors.invalid(&path, name, "must be spec.names.plural+\".\"+spec.group");
    }
    let at = at.child("names");
    for field in ["plural", "singular"] {
        for message in names::dns1035_label(text(&spec["names"], field)) {
            errors.invalid(&at.child(field), text(&spec["names"], field), message);
        }
    }
    for field in ["kind", "listKind"] {
        for message in names::dns1035_label(&text(&spec["names"], field).to_lowercase()) {
            let message = format!("may have mixed case, but should otherwise match: {message}");
            errors.invalid(&at.child(field), text(&spec["names"], field), message);
        }
    }
}

fn check_versions(versions: &Value, at: &FieldPath, errors: &mut Errors) {
    let list = versions.as_array().map(Vec::as_slice).unwrap_or_default();
    let stored = list.iter().filter(|one| one["storage"] == true).count();
    if stored != 1 {
        errors.invalid(at, versions.clone(), "must have exactly one version marked as storage version");
    }
    for (index, version) in list.iter().enumerate() {
        let at = at.index(index);
        let name = text(version, "name");
        for message in names::dns1035_label(name) {
            errors.invalid(&at.child("name"), name, message);
        }
        if list[..index].iter().any(|one| text(one, "name") == name) {
            errors.duplicate(&at.child("name"), name);
        }
        let (schema, at) = (&version["schema"]["openAPIV3Schema"], at.child("schema").child("openAPIV3Schema"));
        if !schema.is_object() {
            errors.required(&at, "schemas are required");
            continue;
        }
        match text(schema, "type") {
            "object" => {}
            "" => errors.required(&at.child("type"), "must not be empty at the root"),
            other => errors.invalid(&at.child("type"), other, "must be object at the root"),
        }
        if let Err(why) = Schema::from_crd(schema, false) {
            errors.invalid(&at, "", why);
        }
    }
}

/// Sets the conditions and accepted names, so that the kind is served from this write on.
pub(crate) fn establish(ctx: &mut Context, _: &Request, draft: &mut Draft) -> Result<(), Status> {
    let now = time_text(ctx.now);
    let conflict = conflict(ctx.store.snapshot(), draft.name(), &draft.new["spec"]);
    let names = draft.new["spec"]["names"].clone();
    let storage = draft.new["spec"]["versions"].as_array().into_iter().flatten().find(|one| one["storage"] == true);
    let storage = storage.map(|one| one["name"].clone()).unwrap_or_default();
    let status = &mut draft.new["status"];
    let condition = |kind: &str, is_true: bool, reason: &str, message: &str| {
        json!({"type": kind, "status": if is_true { "True" } else { "False" }, "lastTransitionTime": now,
            "reason": reason, "message": message})
    };
    match &conflict {
        Some((reason, message)) => {
            set_condition(status, condition("NamesAccepted", false, reason, message));
            let is_established = status["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|one| one["type"] == "Established" && one["status"] == "True");
            if !is_established {
                set_condition(status, condition("Established", false, "NotAccepted", "not all names are accepted"));
                status["acceptedNames"] = json!({"plural": "", "kind": ""});
            }
        }
        None => {
            set_condition(status, condition("NamesAccepted", true, "NoConflicts", "no conflicts found"));
            let message = "the initial names have been accepted";
            set_condition(status, condition("Established", true, "InitialNamesAccepted", message));
            status["acceptedNames"] = names;
        }
    }
    if !status["storedVersions"].is_array() {
        status["storedVersions"] = json!([]);
    }
    if let Some(list) = status["storedVersions"].as_array_mut().filter(|list| !list.contains(&storage)) {
        list.push(storage);
    }
    Ok(())
}

/// A name of this definition that another one of its group has.
fn conflict(snapshot: &Snapshot, name: &str, spec: &Value) -> Option<(&'static str, String)> {
    let others: Vec<Value> = snapshot
        .list(DEFINITIONS, "")
        .filter(|object| &*object.key.name != name)
        .map(|object| object.value())
        .filter(|other| other["spec"]["group"] == spec["group"])
        .collect();
    let words = |names: &Value| -> Vec<String> {
        let mut words = vec![text(names, "plural").to_owned(), text(names, "singular").to_owned()];
        words
            .extend(names["shortNames"].as_array().into_iter().flatten().filter_map(|w| w.as_str().map(str::to_owned)));
        words
    };
    let names = &spec["names"];
    let short = || names["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for other in others.iter().map(|other| &other["status"]["acceptedNames"]) {
        let taken = words(other);
        let wanted = [(text(names, "plural"), "PluralConflict"), (text(names, "singular"), "SingularConflict")];
        let wanted = wanted.into_iter().chain(short().map(|word| (word, "ShortNamesConflict")));
        for (word, reason) in wanted {
            if !word.is_empty() && taken.iter().any(|one| one == word) {
                return Some((reason, format!("\"{word}\" is already in use")));
            }
        }
        for (field, reason) in [("kind", "KindConflict"), ("listKind", "ListKindConflict")] {
            if text(names, field) == text(other, field) {
                return Some((reason, format!("\"{}\" is already in use", text(names, field))));
            }
        }
    }
    None
}
