//! Admission webhooks: who is asked about a change, what is asked, and what the answers mean for it.
//!
//! Guarantees: mutating webhooks are asked one after the other, in the order of their configurations' names and then as they are
//! written; those that want to look again are asked again, once, when somebody after them made a change. Validating webhooks are all
//! asked at once. A webhook whose failure is to be ignored never holds up a change. Nobody is asked about webhooks and policies.
//! Upstream: k8s.io/apiserver/pkg/admission/plugin/webhook.

mod answer;
mod mutating;
mod notes;

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use serde_json::{Map, Value};
use stead_api::call::Question;
use stead_api::{Remarks, Request, Status};
use stead_kinds::Kind;
use stead_kinds::webhook::{Configured, Hook};
use stead_store::Snapshot;

use crate::attempt::Attempt;
use crate::context::Place;
use crate::conversion;
use crate::halt::{Halt, answer_to, asks_nobody};
use crate::policy::{Scene, is_wanted, matching};
use answer::{Outcome, Verdict};
use notes::Turn;

pub(crate) use answer::review;

pub(crate) use mutating::{Course, mutate};

const MUTATING: &str = "mutatingwebhookconfigurations.admissionregistration.k8s.io";
const VALIDATING: &str = "validatingwebhookconfigurations.admissionregistration.k8s.io";

/// Whether there are any webhooks.
pub(crate) fn are_used(snapshot: &Snapshot) -> bool {
    is_used(snapshot, MUTATING) || is_used(snapshot, VALIDATING)
}

fn is_used(snapshot: &Snapshot, configurations: &'static str) -> bool {
    snapshot.list(configurations, "").next().is_some()
}

/// What a webhook has to say about a change.
enum Said {
    /// It is not concerned.
    Nothing,
    /// It failed, and its failure is ignored.
    Ignored,
    Failed(Status),
    Unknown(Question),
    Told(Box<Told>),
}

struct Told {
    verdict: Verdict,
    /// The version that it looked at, and the new object in it.
    matched: Kind,
    shown: Value,
}

/// Asks one webhook.
///
/// # Errors
/// When it cannot be told whether it is to be asked, and its failure is not ignored.
fn ask(place: Place, attempt: &Attempt, configuration: &str, hook: &Hook) -> Result<Said, Status> {
    if hook.constraints.resource_rules.as_deref().unwrap_or_default().is_empty() {
        return Ok(Said::Nothing);
    }
    let Some(matched) = matching::matches(place, attempt, Some(&hook.constraints)) else { return Ok(Said::Nothing) };
    let mut scene = Scene::of(place, attempt, &matched);
    if attempt.kind.by_webhook {
        match conversion::all(place, attempt.request, &matched, vec![attempt.new.clone(), attempt.old.clone()]) {
            Ok(mut values) => {
                (scene.old, scene.new) = (values.pop().unwrap_or_default(), values.pop().unwrap_or_default())
            }
            Err(Halt::Asks(questions)) => return Ok(questions.into_iter().next().map_or(Said::Nothing, Said::Unknown)),
            Err(Halt::Refused(status)) => return Err(status),
        }
    }
    let is_wanted = is_wanted(&hook.conditions, &scene.vars(&[], None));
    match is_wanted {
        Ok(true) => {}
        Err(why) if !hook.is_ignored => {
            let kind = &attempt.kind;
            return Err(Status::forbidden(kind.group, kind.plural, attempt.name, &why));
        }
        Ok(false) | Err(_) => return Ok(Said::Nothing),
    }
    if attempt.is_dry_run && hook.has_side_effects {
        let why = format!("admission webhook \"{}\" does not support dry run", hook.name);
        return Ok(Said::Failed(Status::bad_request(why)));
    }
    let question = question(&scene, configuration, hook);
    let Some(answer) = answer_to(attempt.request, &question) else { return Ok(Said::Unknown(question)) };
    let is_mutating = configuration.starts_with(MUTATING);
    match answer::read(&hook.name, question.api_version, is_mutating, answer) {
        Outcome::Verdict(verdict) => Ok(Said::Told(Box::new(Told { verdict, matched, shown: scene.new }))),
        Outcome::Failed(_) if hook.is_ignored => Ok(Said::Ignored),
        Outcome::Failed(why) => {
            Ok(Said::Failed(Status::internal(format!("failed calling webhook \"{}\": {why}", hook.name))))
        }
    }
}

fn question(scene: &Scene, configuration: &str, hook: &Hook) -> Question {
    Question {
        asked: format!("{configuration}/{}", hook.name),
        endpoint: hook.endpoint.clone(),
        ca_bundle: hook.ca_bundle.clone(),
        seconds: hook.seconds,
        api_version: if hook.speaks_v1 { "admission.k8s.io/v1" } else { "admission.k8s.io/v1beta1" },
        kind: "AdmissionReview",
        request: admission_request(scene).to_string().into(),
    }
}

/// The request as reviews have it: what is empty is left out, and the objects come along.
fn admission_request(scene: &Scene) -> Value {
    let mut request = Map::new();
    let is_empty = |value: &Value| value == "" || value.as_object().is_some_and(Map::is_empty);
    for (field, value) in scene.request.as_object().into_iter().flatten() {
        let mut value = value.clone();
        match field.as_str() {
            "userInfo" => {
                if let Some(user) = value.as_object_mut() {
                    user.retain(|_, value| !is_empty(value));
                }
            }
            "dryRun" => {
                request.insert("object".into(), scene.new.clone());
                request.insert("oldObject".into(), scene.old.clone());
            }
            _ if is_empty(&value) => continue,
            _ => {}
        }
        request.insert(field.clone(), value);
    }
    Value::Object(request)
}

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

/// Asks a mutating webhook in its turn; None when it is not concerned, or failed and nobody minds.
///
/// # Errors
/// The question that is open, or the refusal.
fn hear(place: Place, attempt: &Attempt, turn: &Turn, remarks: &mut Remarks) -> Result<Option<Told>, Halt> {
    match ask(place, attempt, turn.key, turn.hook)? {
        Said::Nothing => Ok(None),
        Said::Unknown(question) => Err(Halt::Asks(vec![question])),
        Said::Ignored => {
            turn.mutated(remarks, false);
            turn.failed_open(remarks);
            Ok(None)
        }
        Said::Failed(status) => {
            turn.mutated(remarks, false);
            Err(status.into())
        }
        Said::Told(mut told) => {
            notes::told(remarks, turn.hook, &told.verdict);
            match told.verdict.refusal.take() {
                None => Ok(Some(*told)),
                Some(refusal) => {
                    turn.mutated(remarks, false);
                    Err(refusal.into())
                }
            }
        }
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
            if patch.is_some() && attempt.operation != "CREATE" {
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

/// Whether anybody is to be asked about a request.
pub(crate) fn is_concerned(snapshot: &Snapshot, request: &Request) -> bool {
    !asks_nobody(request) && are_used(snapshot)
}
