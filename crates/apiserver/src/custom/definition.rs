//! What the server adds to a definition: conditions, accepted names, stored versions.
//!
//! Names are accepted and the definition is established in the write that brings it, or in one of its status once others have let
//! go of its names.

use serde_json::{Value, json};
use stead_api::{Request, Status};
use stead_kinds::customresourcedefinition::approval;
use stead_store::Snapshot;

use super::{DEFINITIONS, text};
use crate::Context;
use crate::condition::set_condition;
use crate::draft::{Draft, time_text};

/// Sets what the server says of a definition, so that the kind is served from this write on.
pub(crate) fn establish(ctx: &mut Context, request: &Request, draft: &mut Draft) -> Result<(), Status> {
    accept_names(ctx, request, draft)?;
    let versions = draft.new["spec"]["versions"].as_array().into_iter().flatten();
    let storage = versions.filter(|one| one["storage"] == true).map(|one| one["name"].clone()).next();
    let status = &mut draft.new["status"];
    if !status["storedVersions"].is_array() {
        status["storedVersions"] = json!([]);
    }
    if let (Some(list), Some(storage)) = (status["storedVersions"].as_array_mut(), storage)
        && !list.contains(&storage)
    {
        list.push(storage);
    }
    Ok(())
}

/// Sets the conditions and accepted names.
pub(crate) fn accept_names(ctx: &mut Context, _: &Request, draft: &mut Draft) -> Result<(), Status> {
    let now = time_text(ctx.now);
    let conflict = conflict(ctx.store.snapshot(), draft.name(), &draft.new["spec"]);
    let names = draft.new["spec"]["names"].clone();
    let approval = approval::condition(text(&draft.new["spec"], "group"), &draft.new["metadata"]);
    let status = &mut draft.new["status"];
    let condition = |kind: &str, is_true: bool, reason: &str, message: &str| {
        json!({"type": kind, "status": if is_true { "True" } else { "False" }, "lastTransitionTime": now,
            "reason": reason, "message": message})
    };
    if let Some((is_approved, reason, message)) = &approval {
        set_condition(status, condition("KubernetesAPIApprovalPolicyConformant", *is_approved, reason, message));
    }
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
    Ok(())
}

/// Whether a definition waits for names that nobody has any more.
pub fn may_have_its_names(snapshot: &Snapshot, definition: &Value) -> bool {
    let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    let is_refused = conditions.into_iter().any(|one| one["type"] == "NamesAccepted" && one["status"] == "False");
    is_refused && conflict(snapshot, text(&definition["metadata"], "name"), &definition["spec"]).is_none()
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
