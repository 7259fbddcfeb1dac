//! Mutating policies: what their expressions make is applied to the object, one after the other.

use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingAdmissionPolicyBindingSpec,
};
use serde_json::{Value, json};
use stead_api::schema::{self, KindSchema};
use stead_api::{Request, Status, apply, patch};
use stead_kinds::admissionpolicy::{Mutation, Policy};
use stead_store::Snapshot;

use super::denial::{Denial, refusal};
use super::scene::{Scene, is_wanted, unseen};
use super::variables::Vars;
use super::{UNSEEN_GROUPS, matching, params};
use crate::Context;
use crate::attempt::Attempt;
use crate::context::Place;
use crate::draft::{Draft, Part};

const POLICIES: &str = "mutatingadmissionpolicies.admissionregistration.k8s.io";
const BINDINGS: &str = "mutatingadmissionpolicybindings.admissionregistration.k8s.io";

/// Whether there are any mutating policies.
pub(crate) fn may_mutate(snapshot: &Snapshot) -> bool {
    snapshot.list(BINDINGS, "").next().is_some()
}

/// Lets the mutating policies change a draft; true when one did.
///
/// # Errors
/// When a policy that must not fail does.
pub(crate) fn mutate(ctx: &Context, request: &Request, draft: &mut Draft) -> Result<bool, Status> {
    on_draft(ctx, request, draft, rounds)
}

/// The same after webhooks have made changes: for the policies that want to look again.
///
/// # Errors
/// As `mutate`.
pub(crate) fn mutate_again(ctx: &Context, request: &Request, draft: &mut Draft) -> Result<bool, Status> {
    on_draft(ctx, request, draft, round_again)
}

fn on_draft(
    ctx: &Context,
    request: &Request,
    draft: &mut Draft,
    change: fn(Place, &mut Attempt) -> Result<bool, Status>,
) -> Result<bool, Status> {
    if !matches!(draft.part, Part::Whole | Part::Status) || !may_mutate(ctx.store.snapshot()) {
        return Ok(false);
    }
    let Some(mut attempt) = Attempt::of(request, draft) else { return Ok(false) };
    let is_changed = change(ctx.place(), &mut attempt)?;
    let new = attempt.new;
    if is_changed {
        draft.new = new;
    }
    Ok(is_changed)
}

/// The same for an object that is sent and not stored; reviews are left as they are, and so is what has no object.
///
/// # Errors
/// As `mutate`.
pub(crate) fn mutate_unstored(place: Place, attempt: &mut Attempt) -> Result<(), Status> {
    on_unstored(place, attempt, rounds)
}

/// As `mutate_again`, for an object that is not stored.
///
/// # Errors
/// As `mutate`.
pub(crate) fn mutate_unstored_again(place: Place, attempt: &mut Attempt) -> Result<(), Status> {
    on_unstored(place, attempt, round_again)
}

fn on_unstored(
    place: Place,
    attempt: &mut Attempt,
    change: fn(Place, &mut Attempt) -> Result<bool, Status>,
) -> Result<(), Status> {
    if UNSEEN_GROUPS.contains(&attempt.kind.group) || attempt.new.is_null() {
        return Ok(());
    }
    change(place, attempt).map(drop)
}

/// A policy with the reinvocation policy IfNeeded looks again, once, when a later one made a change.
fn rounds(place: Place, attempt: &mut Attempt) -> Result<bool, Status> {
    let before = attempt.new.clone();
    if let Some(last) = round(place, attempt, None)? {
        round(place, attempt, Some(&last))?;
    }
    Ok(attempt.new != before)
}

fn round_again(place: Place, attempt: &mut Attempt) -> Result<bool, Status> {
    let after_all = char::MAX.to_string();
    Ok(round(place, attempt, Some(&after_all))?.is_some())
}

/// Asks all policies, or those before `last` that want to look again; the name of the last one that made a change.
fn round(place: Place, attempt: &mut Attempt, last: Option<&str>) -> Result<Option<String>, Status> {
    let mut changed = None;
    for object in place.snapshot.list(POLICIES, "") {
        let policy = object.view::<Policy<MutatingAdmissionPolicy>>();
        let again =
            policy.policy.spec.as_ref().and_then(|spec| spec.reinvocation_policy.as_deref()) == Some("IfNeeded");
        if last.is_some_and(|last| !again || &*object.key.name >= last) {
            continue;
        }
        for binding in place.snapshot.list(BINDINGS, "") {
            let typed = binding.view::<MutatingAdmissionPolicyBinding>();
            let Some(spec) = &typed.spec else { continue };
            if spec.policy_name.as_deref() != Some(&*object.key.name) {
                continue;
            }
            match perform(place, attempt, &policy, spec) {
                Ok(None) => {}
                Ok(Some(new)) if new == attempt.new => {}
                Ok(Some(new)) => {
                    attempt.new = new;
                    changed = Some(object.key.name.to_string());
                }
                Err(message) => {
                    let names = (&object.key.name, &binding.key.name);
                    let why = format!(
                        "MutatingAdmissionPolicy '{}' with binding '{}' denied request: {message}",
                        names.0, names.1
                    );
                    let denial = Denial::always(message);
                    return Err(refusal(attempt, &why, &denial));
                }
            }
        }
    }
    Ok(changed)
}

/// The object after one policy, by one binding; None when it has nothing to say.
fn perform(
    place: Place,
    attempt: &Attempt,
    policy: &Policy<MutatingAdmissionPolicy>,
    binding: &MutatingAdmissionPolicyBindingSpec,
) -> Result<Option<Value>, String> {
    let Some(spec) = &policy.policy.spec else { return Ok(None) };
    let ignores = spec.failure_policy.as_deref() == Some("Ignore");
    let matched = matching::matches(place, attempt, spec.match_constraints.as_ref());
    let Some(matched) = matched.filter(|_| {
        binding.match_resources.is_none()
            || matching::matches(place, attempt, binding.match_resources.as_ref()).is_some()
    }) else {
        return Ok(None);
    };
    let excuse = |result: Result<Option<Value>, String>| if ignores { Ok(result.unwrap_or(None)) } else { result };
    if let Some(why) = unseen(attempt, &matched) {
        return excuse(Err(why));
    }
    let params = match params::of(place, attempt, spec.param_kind.as_ref(), binding.param_ref.as_ref()) {
        Ok(params) => params,
        Err(why) => return excuse(Err(format!("failed to configure binding: {why}"))),
    };
    let mut scene = Scene::of(place, attempt, &matched);
    let mut is_changed = false;
    for param in params {
        let param = param.map(|param| param.value());
        let wanted = is_wanted(&policy.programs.conditions, &scene.vars(&policy.programs.variables, param.as_ref()));
        match wanted {
            Ok(false) => continue,
            Ok(true) => {}
            Err(why) => return excuse(Err(why)),
        }
        for mutation in &policy.programs.mutations {
            let made = {
                let vars = scene.vars(&policy.programs.variables, param.as_ref());
                one(place, attempt, mutation, &vars, &scene.new)
            };
            match made {
                Ok(new) => scene.new = new,
                Err(why) if !ignores => return Err(why),
                Err(_) => continue,
            }
            is_changed = true;
        }
    }
    if !is_changed {
        return Ok(None);
    }
    let mut new = scene.new;
    if attempt.object_kind.is_none() {
        if let Some(convert) = matched.convert {
            (convert.to_stored)(&mut new);
        }
        new["apiVersion"] = json!(attempt.kind.api_version());
        new["kind"] = json!(attempt.kind.kind);
    }
    // The server's own fields are not the policy's to change.
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
        if let (Some(new), old) = (new["metadata"].as_object_mut(), &attempt.new["metadata"][field]) {
            crate::draft::restore(new, field, old);
        }
    }
    Ok(Some(new))
}

/// The schema of the object that is sent.
fn schema_of(place: Place, attempt: &Attempt) -> Option<KindSchema> {
    let Some((_, _, kind)) = attempt.object_kind else { return place.registry.schema(&attempt.kind) };
    let definition = match kind {
        "Binding" => "io.k8s.api.core.v1.Binding",
        "Eviction" => "io.k8s.api.policy.v1.Eviction",
        "TokenRequest" => "io.k8s.api.authentication.v1.TokenRequest",
        _ => return None,
    };
    schema::definition(definition).map(KindSchema::Builtin)
}

/// What one mutation makes of an object.
fn one<'a>(
    place: Place,
    attempt: &Attempt,
    mutation: &'a Mutation,
    vars: &Vars<'a>,
    live: &Value,
) -> Result<Value, String> {
    let made = |program: &'a stead_cel::Program| -> Result<Value, String> {
        let value = vars.evaluate(program).map_err(|error| error.to_string())?;
        value.to_json().ok_or_else(|| "the expression does not come to something that JSON can hold".to_owned())
    };
    match mutation {
        Mutation::Apply(program) => {
            let mut config = made(program)?;
            if !config.is_object() {
                return Err("applyConfiguration must evaluate to an Object".into());
            }
            for field in ["apiVersion", "kind"] {
                config[field] = live[field].clone();
            }
            let schema = schema_of(place, attempt).ok_or("the kind has no schema")?;
            apply::merge(&schema, live, &config).map_err(|status| status.message)
        }
        Mutation::JsonPatch(program) => {
            let operations = made(program)?;
            patch::json_patch(live, &operations).map_err(|status| status.message)
        }
    }
}
