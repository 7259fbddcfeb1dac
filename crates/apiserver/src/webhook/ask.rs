//! Asking one webhook: whether it is concerned, what it is asked, and what it said.

use serde_json::{Map, Value};
use stead_api::call::Question;
use stead_api::{Remarks, Request, Status};
use stead_kinds::Kind;
use stead_kinds::webhook::Hook;
use stead_store::Snapshot;

use super::answer::{self, Outcome, Verdict};
use super::notes::{self, Turn};
use crate::attempt::Attempt;
use crate::context::Place;
use crate::conversion;
use crate::halt::{Halt, answer_to, asks_nobody};
use crate::policy::{Scene, is_wanted, matching};

pub(super) const MUTATING: &str = "mutatingwebhookconfigurations.admissionregistration.k8s.io";
pub(super) const VALIDATING: &str = "validatingwebhookconfigurations.admissionregistration.k8s.io";

/// Whether there are any webhooks.
fn are_used(snapshot: &Snapshot) -> bool {
    is_used(snapshot, MUTATING) || is_used(snapshot, VALIDATING)
}

pub(super) fn is_used(snapshot: &Snapshot, configurations: &'static str) -> bool {
    snapshot.list(configurations, "").next().is_some()
}

/// Whether anybody is to be asked about a request.
pub(crate) fn is_concerned(snapshot: &Snapshot, request: &Request) -> bool {
    !asks_nobody(request) && are_used(snapshot)
}

/// What a webhook has to say about a change.
pub(super) enum Said {
    /// It is not concerned.
    Nothing,
    /// It failed, and its failure is ignored.
    Ignored,
    Failed(Status),
    Unknown(Question),
    Told(Box<Told>),
}

pub(super) struct Told {
    pub verdict: Verdict,
    /// The version that it looked at, and the new object in it.
    pub matched: Kind,
    pub shown: Value,
}

/// Asks one webhook.
///
/// # Errors
/// When it cannot be told whether it is to be asked, and its failure is not ignored.
pub(super) fn ask(place: Place, attempt: &Attempt, configuration: &str, hook: &Hook) -> Result<Said, Status> {
    if hook.constraints.resource_rules.as_deref().unwrap_or_default().is_empty() {
        return Ok(Said::Nothing);
    }
    let Some(matched) = matching::matches(place, attempt, Some(&hook.constraints)) else { return Ok(Said::Nothing) };
    let mut scene = Scene::of(place, attempt, &matched);
    if attempt.kind.is_versioned {
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

/// Asks a mutating webhook in its turn; None when it is not concerned, or failed and nobody minds.
///
/// # Errors
/// The question that is open, or the refusal.
pub(super) fn hear(place: Place, attempt: &Attempt, turn: &Turn, remarks: &mut Remarks) -> Result<Option<Told>, Halt> {
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
