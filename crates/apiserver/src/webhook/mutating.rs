//! Mutating webhooks: what their patches make of an object.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use serde_json::{Value, json};
use stead_api::{Remarks, Request, Status, patch};
use stead_kinds::Kind;
use stead_kinds::webhook::Configured;

use super::ask::{MUTATING, Told, hear, is_concerned, is_used};
use super::notes::Turn;
use crate::Context;
use crate::attempt::Attempt;
use crate::conversion;
use crate::draft::{Draft, restore};
use crate::halt::Halt;

/// What the server alone says about an object.
const SERVERS_OWN: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
];
/// What it has not said yet when mutating webhooks look at a new object.
const NOT_YET_SAID: &[&str] = &["uid", "creationTimestamp", "generation"];

/// How far the mutating webhooks have come with one change.
#[derive(Default)]
pub(crate) struct Course {
    is_second: bool,
    /// Webhooks that were asked and want to look again.
    again: BTreeSet<String>,
    /// Those of them that somebody made a change after.
    due: BTreeSet<String>,
    output: Value,
}

impl Course {
    /// Whether there is somebody to ask again, given what has become of the object since; the second round begins.
    pub(crate) fn goes_on(&mut self, new: &Value) -> bool {
        self.is_second = true;
        if *new != self.output {
            self.due = self.again.clone();
        }
        !self.due.is_empty()
    }
}

/// Lets the mutating webhooks change a draft; true when one did.
///
/// # Errors
/// What one says that refuses, or the next question.
pub(crate) fn mutate(
    ctx: &Context,
    request: &Request,
    draft: &mut Draft,
    course: &mut Course,
    remarks: &mut Remarks,
) -> Result<bool, Halt> {
    let snapshot = ctx.store.snapshot();
    if !is_concerned(snapshot, request) || !is_used(snapshot, MUTATING) {
        return Ok(false);
    }
    let mut is_changed = false;
    let mut index = 0;
    for object in snapshot.list(MUTATING, "") {
        let configured = object.view::<Configured<MutatingWebhookConfiguration>>();
        let key = object.key.to_string();
        for hook in &configured.hooks {
            let turn = Turn { key: &key, hook, round: course.is_second.into(), index };
            index += 1;
            let name = format!("{}/{}", object.key.name, hook.name);
            if course.is_second && !course.due.contains(&name) {
                continue;
            }
            let Some(found) = look(ctx, request, draft, &turn, remarks)? else { continue };
            if let Some(new) = found {
                draft.new = new;
                if draft.part.has_defaults() {
                    draft.fill_in(ctx.registry);
                }
                is_changed = true;
                course.due = course.again.clone();
            }
            if hook.is_reinvoked {
                course.again.insert(name);
            }
        }
    }
    course.output = draft.new.clone();
    Ok(is_changed)
}

/// The object after one webhook, if it made a change; None when it was not concerned.
fn look(
    ctx: &Context,
    request: &Request,
    draft: &Draft,
    turn: &Turn,
    remarks: &mut Remarks,
) -> Result<Option<Option<Value>>, Halt> {
    let Some(mut attempt) = Attempt::of(request, draft) else { return Ok(None) };
    hide(&mut attempt, draft);
    let Some(Told { verdict, matched, shown }) = hear(ctx.place(), &attempt, turn, remarks)? else { return Ok(None) };
    let Some(patch) = verdict.patch else {
        turn.mutated(remarks, false);
        return Ok(Some(None));
    };
    let taken = match patched(&shown, Some(&patch))? {
        Some(patched) => Some(take(ctx, &attempt, draft, &matched, patched)?).filter(|taken| *taken != draft.new),
        None => None,
    };
    turn.patched(remarks, &patch);
    turn.mutated(remarks, taken.is_some());
    Ok(Some(taken))
}

/// Takes away what a new object does not have yet.
fn hide(attempt: &mut Attempt, draft: &Draft) {
    if !draft.is_creation() {
        return;
    }
    let Some(meta) = attempt.new["metadata"].as_object_mut() else { return };
    for field in NOT_YET_SAID {
        meta.shift_remove(*field);
    }
    if draft.is_name_generated {
        meta.shift_remove("name");
        attempt.name = "";
    }
}

/// What a patch makes of a value; None where there is no patch.
pub(super) fn patched(value: &Value, patch: Option<&Value>) -> Result<Option<Value>, Status> {
    let Some(patch) = patch else { return Ok(None) };
    let patched = patch::json_patch(value, patch).map_err(|status| Status::internal(status.message))?;
    Ok(Some(patched))
}

/// The draft's new value as a webhook wants it, as far as it may say.
fn take(ctx: &Context, attempt: &Attempt, draft: &Draft, matched: &Kind, mut patched: Value) -> Result<Value, Halt> {
    if attempt.object_kind.is_none() {
        if let Some(schema) = ctx.registry.schema(matched) {
            schema.decode(&mut patched).map_err(|error| Status::internal(error.to_string()))?;
        }
        if let Some(convert) = matched.convert {
            (convert.to_stored)(&mut patched);
        }
        patched = conversion::of_value(ctx.place(), attempt.request, &draft.kind, patched)?;
        patched["apiVersion"] = json!(draft.kind.api_version());
        patched["kind"] = json!(draft.kind.kind);
    }
    let mut new = draft.merged(patched)?;
    if let Some(meta) = new["metadata"].as_object_mut() {
        for field in SERVERS_OWN {
            restore(meta, field, &draft.new["metadata"][*field]);
        }
    }
    Ok(new)
}

/// 500: there is no object to be changed.
pub(super) fn not_supported(hook: &str) -> Status {
    let why = "attempted to modify the object, which is not supported for this operation";
    Status::internal(format!("admission webhook \"{hook}\" {why}"))
}
