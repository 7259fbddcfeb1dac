//! Admission policies: expressions that look at what is written, refuse it, warn of it or change it.
//!
//! Guarantees: policies act in the order of their names, each with all of its bindings; an expression that fails counts as its
//! policy's `failurePolicy` says; evaluation is bounded. Policies do not see policies, their bindings, webhooks and reviews.
//! Upstream: k8s.io/apiserver/pkg/admission/plugin/policy.

mod authorizer;
pub(crate) mod matching;
mod mutating;
mod notes;
mod params;
mod variables;

use std::rc::Rc;
use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec,
};
use serde_json::{Value, json};
use stead_api::{Cause, Object, Remarks, Request, Status};
use stead_cel::Program;
use stead_kinds::Kind;
use stead_kinds::admissionpolicy::{Policy, Validation};
use stead_store::Snapshot;

use crate::Context;
use crate::attempt::Attempt;
use crate::context::Place;
use crate::draft::Draft;
use notes::Annotations;
use variables::Vars;

pub(crate) use mutating::{mutate, mutate_again};

const POLICIES: &str = "validatingadmissionpolicies.admissionregistration.k8s.io";
const BINDINGS: &str = "validatingadmissionpolicybindings.admissionregistration.k8s.io";
/// Reviews: who is kept from asking whether something is allowed can do nothing any more.
const UNSEEN_GROUPS: &[&str] = &["authentication.k8s.io", "authorization.k8s.io"];
/// What all expressions of one policy may cost for one request.
const POLICY_COST_MAX: u64 = 10_000_000;
/// The longest text that a messageExpression may come to.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;

/// Asks the validating policies about a change.
///
/// # Errors
/// What the first policy that refuses says.
pub(crate) fn validate(ctx: &Context, request: &Request, draft: &Draft, remarks: &mut Remarks) -> Result<(), Status> {
    if !are_used(ctx.store.snapshot()) {
        return Ok(());
    }
    Attempt::of(request, draft).map_or(Ok(()), |attempt| look_at(ctx.place(), &attempt, remarks))
}

/// Whether there are any validating policies.
pub(crate) fn are_used(snapshot: &Snapshot) -> bool {
    is_used(snapshot, BINDINGS)
}

fn is_used(snapshot: &Snapshot, bindings: &'static str) -> bool {
    snapshot.list(bindings, "").next().is_some()
}

/// Asks the validating policies about an attempt.
///
/// # Errors
/// As `validate`.
pub(crate) fn look_at(place: Place, attempt: &Attempt, remarks: &mut Remarks) -> Result<(), Status> {
    let snapshot = place.snapshot;
    if !are_used(snapshot) || UNSEEN_GROUPS.contains(&attempt.kind.group) {
        return Ok(());
    }
    let mut refusal = None;
    for object in snapshot.list(POLICIES, "") {
        let policy = object.view::<Policy<ValidatingAdmissionPolicy>>();
        let mut annotations = Annotations::default();
        for binding in snapshot.list(BINDINGS, "") {
            let typed = binding.view::<ValidatingAdmissionPolicyBinding>();
            if typed.spec.policy_name != *object.key.name {
                continue;
            }
            let found = ask(place, attempt, &policy, &typed.spec, &mut annotations);
            let names = (&*object.key.name, &*binding.key.name);
            let refused = judge(attempt, names, &typed.spec.validation_actions, found, remarks);
            refusal = refusal.or(refused);
        }
        annotations.tell(&object.key.name, remarks);
    }
    refusal.map_or(Ok(()), Err)
}

/// Why a policy refuses.
struct Denial {
    message: String,
    reason: String,
    /// Which of the policy's validations it comes from.
    index: usize,
    /// Whatever the binding's actions are: the policy itself could not be asked.
    always: bool,
}

impl Denial {
    fn always(message: String) -> Denial {
        Denial { message, reason: String::new(), index: 0, always: true }
    }
}

/// What a binding's actions make of denials: a refusal, perhaps.
fn judge(
    attempt: &Attempt,
    (policy, binding): (&str, &str),
    actions: &[String],
    denials: Vec<Denial>,
    remarks: &mut Remarks,
) -> Option<Status> {
    let has = |action: &str| actions.iter().any(|one| one == action);
    for denial in denials.iter().filter(|denial| !denial.always) {
        if has("Warn") {
            let message = &denial.message;
            remarks.warnings.push(format!(
                "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}': {message}"
            ));
        }
        if has("Audit") {
            notes::failure(remarks, (policy, binding), actions, denial);
        }
    }
    let denial = denials.into_iter().find(|denial| denial.always || has("Deny"))?;
    let why =
        format!("ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {}", denial.message);
    Some(refusal(attempt, &why, &denial))
}

fn refusal(attempt: &Attempt, why: &str, denial: &Denial) -> Status {
    let cause = Cause { message: denial.message.clone(), ..Cause::default() };
    let kind = &attempt.kind;
    let mut status = Status::forbidden(kind.group, kind.plural, attempt.name, why).with_causes(vec![cause]);
    let (code, reason) = match denial.reason.as_str() {
        "Unauthorized" => (401, "Unauthorized"),
        "Forbidden" => (403, "Forbidden"),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
        _ => (422, "Invalid"),
    };
    status.code = code;
    status.reason = reason.into();
    status
}

/// What a policy says to a change, by one binding.
fn ask(
    place: Place,
    attempt: &Attempt,
    policy: &Policy<ValidatingAdmissionPolicy>,
    binding: &ValidatingAdmissionPolicyBindingSpec,
    annotations: &mut Annotations,
) -> Vec<Denial> {
    let Some(spec) = &policy.policy.spec else { return Vec::new() };
    let ignores = spec.failure_policy.as_deref() == Some("Ignore");
    let matched = matching::matches(place, attempt, spec.match_constraints.as_ref());
    let Some(matched) = matched.filter(|_| {
        binding.match_resources.is_none()
            || matching::matches(place, attempt, binding.match_resources.as_ref()).is_some()
    }) else {
        return Vec::new();
    };
    let failed = |message: String| match ignores {
        true => Vec::new(),
        false => vec![Denial::always(message)],
    };
    if let Some(why) = unseen(attempt, &matched) {
        return failed(why);
    }
    let params = match params::of(place, attempt, spec.param_kind.as_ref(), binding.param_ref.as_ref()) {
        Ok(params) => params,
        Err(why) => return failed(format!("failed to configure binding: {why}")),
    };
    let scene = Scene::of(place, attempt, &matched);
    let mut denials = Vec::new();
    for param in params {
        let param = param.map(|param| param.value());
        let vars = scene.vars(&policy.programs.variables, param.as_ref());
        match is_wanted(&policy.programs.conditions, &vars) {
            Ok(false) => continue,
            Ok(true) => {}
            Err(message) => {
                let denial = Denial { always: false, ..Denial::always(message) };
                denials.extend((!ignores).then_some(denial));
                continue;
            }
        }
        for (index, validation) in policy.programs.validations.iter().enumerate() {
            match vars.evaluate(&validation.program) {
                Ok(stead_cel::Value::Bool(true)) => {}
                Ok(_) => denials.push(denial(index, validation, &vars)),
                Err(_) if ignores => {}
                Err(error) => {
                    let source = validation.program.source();
                    let message = format!("expression '{source}' resulted in error: {error}");
                    denials.push(Denial { message, reason: validation.reason.clone(), index, always: false });
                }
            }
        }
        let errors = annotations.add(&policy.programs.annotations, &vars);
        if !ignores {
            denials.extend(errors.into_iter().map(Denial::always));
        }
    }
    denials
}

/// Why a policy cannot see a change in the version that it is about: only a webhook knows that version, and policies ask nobody.
fn unseen(attempt: &Attempt, matched: &Kind) -> Option<String> {
    let is_unseen = attempt.kind.by_webhook && attempt.kind.version != matched.version;
    is_unseen.then(|| {
        let (sent, wanted) = (attempt.kind.api_version(), matched.api_version());
        format!("objects of {sent} are not converted to {wanted} for policies: name {sent} in the policy's rules, too")
    })
}

fn denial<'a>(index: usize, validation: &'a Validation, vars: &Vars<'a>) -> Denial {
    let from_program = validation.message_program.as_ref().and_then(|program| match vars.evaluate(program) {
        Ok(stead_cel::Value::String(text)) => Some(text.trim().to_owned()),
        _ => None,
    });
    let is_fit = |text: &String| !text.is_empty() && !text.contains('\n') && text.len() <= MESSAGE_BYTES_MAX;
    let message = match from_program.filter(is_fit) {
        Some(message) => message,
        None if !validation.message.is_empty() => validation.message.trim().to_owned(),
        None => format!("failed expression: {}", validation.program.source().trim()),
    };
    Denial { message, reason: validation.reason.clone(), index, always: false }
}

/// Whether all match conditions hold; one that does not hides errors of others.
pub(crate) fn is_wanted<'a>(conditions: &'a [(String, Program)], vars: &Vars<'a>) -> Result<bool, String> {
    let mut failure = None;
    for (name, program) in conditions {
        match vars.evaluate(program) {
            Ok(stead_cel::Value::Bool(true)) => {}
            Ok(_) => return Ok(false),
            Err(error) => failure = failure.or(Some(format!("matchCondition '{name}' resulted in error: {error}"))),
        }
    }
    failure.map_or(Ok(true), Err)
}

/// What is the same for every expression about one change.
pub(crate) struct Scene<'a> {
    snapshot: &'a Snapshot,
    attempt: &'a Attempt<'a>,
    pub new: Value,
    pub old: Value,
    pub request: Value,
    namespace: Value,
}

impl<'a> Scene<'a> {
    /// Objects are shown in the version that was matched.
    pub(crate) fn of(place: Place<'a>, attempt: &'a Attempt<'a>, matched: &Kind) -> Scene<'a> {
        let snapshot = place.snapshot;
        let shown = |value: &Value| {
            let mut value = value.clone();
            if value.is_object() && attempt.object_kind.is_none() {
                if let Some(convert) = matched.convert {
                    (convert.from_stored)(&mut value);
                }
                value["apiVersion"] = json!(matched.api_version());
                value["kind"] = json!(matched.kind);
            }
            value
        };
        let namespace = snapshot.find("namespaces", "", attempt.namespace).filter(|_| attempt.kind.namespaced);
        Scene {
            snapshot,
            attempt,
            new: shown(&attempt.new),
            old: shown(&attempt.old),
            request: attempt.admission_request(matched),
            namespace: namespace.map_or(Value::Null, |object: &Arc<Object>| object.value()),
        }
    }

    pub(crate) fn vars<'v>(&'v self, variables: &'v [(String, Program)], param: Option<&'v Value>) -> Vars<'v> {
        let value = |json: &'v Value| stead_cel::Value::of(json, None);
        let authorizer = authorizer::of(self.snapshot, self.attempt);
        let known = vec![
            ("object", value(&self.new)),
            ("oldObject", value(&self.old)),
            ("request", value(&self.request)),
            ("namespaceObject", value(&self.namespace)),
            ("params", param.map_or(stead_cel::Value::Null, value)),
            ("authorizer", stead_cel::Value::Asked(Rc::new(authorizer))),
        ];
        Vars::of(known, variables, POLICY_COST_MAX)
    }
}
