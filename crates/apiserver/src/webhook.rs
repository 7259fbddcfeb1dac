//! Admission webhooks: who is asked about a change, what is asked, and what the answers mean for it.
//!
//! Guarantees: mutating webhooks are asked one after the other, in the order of their configurations' names and then as they are
//! written; those that want to look again are asked again, once, when somebody after them made a change. Validating webhooks are all
//! asked at once. A webhook whose failure is to be ignored never holds up a change. Nobody is asked about webhooks and policies.
//! Upstream: k8s.io/apiserver/pkg/admission/plugin/webhook.

pub(crate) mod answer;
mod ask;
mod mutating;
mod notes;

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use stead_api::Remarks;
use stead_kinds::webhook::Configured;

use crate::attempt::Attempt;
use crate::context::Place;
use crate::halt::Halt;
use ask::{MUTATING, Said, VALIDATING, ask, hear};
use notes::Turn;

pub(crate) use ask::is_concerned;
pub(crate) use mutating::{Course, mutate};

/// Asks the validating webhooks about a change.
///
/// # Errors
/// What the first one that refuses says, or the questions that are open.
pub(crate) fn validate(place: Place, attempt: &Attempt, remarks: &mut Remarks) -> Result<(), Halt> {
    let mut open = Vec::new();
    let mut refusal = None;
    let mut concerned = 0;
    for object in place.snapshot.list(VALIDATING, "") {
        let configured = object.view::<Configured<ValidatingWebhookConfiguration>>();
        for hook in &configured.hooks {
            match ask(place, attempt, &object.key.to_string(), hook)? {
                Said::Nothing => continue,
                Said::Ignored => notes::failed_open(remarks, hook, concerned),
                Said::Failed(status) => return Err(status.into()),
                Said::Unknown(question) => open.push(question),
                Said::Told(told) => {
                    notes::told(remarks, hook, &told.verdict);
                    refusal = refusal.or(told.verdict.refusal);
                }
            }
            concerned += 1;
        }
    }
    match refusal {
        Some(refusal) => Err(refusal.into()),
        None if open.is_empty() => Ok(()),
        None => Err(Halt::Asks(open)),
    }
}

/// Lets the mutating webhooks change what is not stored.
///
/// # Errors
/// What one says that refuses, the next question, and when a webhook tries to change what there is not.
pub(crate) fn mutate_unstored(place: Place, attempt: &mut Attempt, remarks: &mut Remarks) -> Result<(), Halt> {
    let mut index = 0;
    for object in place.snapshot.list(MUTATING, "") {
        let configured = object.view::<Configured<MutatingWebhookConfiguration>>();
        let key = object.key.to_string();
        for hook in &configured.hooks {
            let turn = Turn { key: &key, hook, round: 0, index };
            index += 1;
            let Some(told) = hear(place, attempt, &turn, remarks)? else { continue };
            let patch = told.verdict.patch.as_ref();
            if patch.is_some() && attempt.new.is_null() {
                turn.mutated(remarks, false);
                return Err(mutating::not_supported(&hook.name).into());
            }
            let patched = mutating::patched(&told.shown, patch)?.filter(|patched| *patched != attempt.new);
            turn.mutated(remarks, patched.is_some());
            if let Some(patch) = patch {
                turn.patched(remarks, patch);
            }
            if let Some(patched) = patched {
                attempt.new = patched;
            }
        }
    }
    Ok(())
}
