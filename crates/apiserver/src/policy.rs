//! Admission policies: expressions that look at what is written, refuse it, warn of it or change it.
//!
//! Guarantees: policies act in the order of their names, each with all of its bindings; an expression that fails counts as its
//! policy's `failurePolicy` says; evaluation is bounded. Policies do not see policies, their bindings, webhooks and reviews.
//! Upstream: k8s.io/apiserver/pkg/admission/plugin/policy.

mod authorizer;
mod denial;
pub(crate) mod matching;
mod mutating;
mod notes;
mod params;
mod scene;
mod variables;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec,
};
use stead_api::{Remarks, Request, Status};
use stead_kinds::admissionpolicy::Policy;
use stead_store::Snapshot;

use crate::Context;
use crate::attempt::Attempt;
use crate::context::Place;
use crate::draft::Draft;
use denial::{Denial, denial, refusal};
use notes::Annotations;
use scene::unseen;

pub(crate) use mutating::{may_mutate, mutate, mutate_again, mutate_unstored, mutate_unstored_again};
pub(crate) use scene::{Scene, is_wanted};

const POLICIES: &str = "validatingadmissionpolicies.admissionregistration.k8s.io";
const BINDINGS: &str = "validatingadmissionpolicybindings.admissionregistration.k8s.io";
/// Reviews: who is kept from asking whether something is allowed can do nothing any more.
const UNSEEN_GROUPS: &[&str] = &["authentication.k8s.io", "authorization.k8s.io"];

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
    snapshot.list(BINDINGS, "").next().is_some()
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
