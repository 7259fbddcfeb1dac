//! Admission policies: expressions that look at what is written, refuse it, warn of it or change it.
//!
//! Guarantees: policies act in the order of their names, each with all of its bindings; an expression that fails counts as its
//! policy's `failurePolicy` says; evaluation is bounded. Policies do not see policies, their bindings, webhooks and reviews.
//! There is no audit log, so the action Audit and audit annotations have no effect.
//! Upstream: k8s.io/apiserver/pkg/admission/plugin/policy.

mod authorizer;
mod matching;
mod mutating;
mod params;
mod variables;

use std::rc::Rc;
use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec,
};
use serde_json::{Value, json};
use stead_api::{Cause, Object, Request, Status};
use stead_kinds::Kind;
use stead_kinds::admissionpolicy::{Policy, Programs, Validation};
use stead_store::Snapshot;

use crate::draft::{Draft, Part};
use crate::{Context, scale};
use variables::Vars;

pub(crate) use mutating::mutate;

const POLICIES: &str = "validatingadmissionpolicies.admissionregistration.k8s.io";
const BINDINGS: &str = "validatingadmissionpolicybindings.admissionregistration.k8s.io";
/// What policies cannot look at: it would take away the means to undo them.
const EXEMPT: &[&str] = &[
    POLICIES,
    BINDINGS,
    "mutatingadmissionpolicies.admissionregistration.k8s.io",
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io",
    "validatingwebhookconfigurations.admissionregistration.k8s.io",
];
/// What all expressions of one policy may cost for one request.
const POLICY_COST_MAX: u64 = 10_000_000;
/// The longest text that a messageExpression may come to.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;

/// A change that policies look at.
pub(crate) struct Attempt<'a> {
    pub request: &'a Request,
    /// The stored version; `new` and `old` are of it.
    pub kind: Kind,
    /// `CREATE`, `UPDATE`, `DELETE`
    pub operation: &'static str,
    pub subresource: &'static str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// Null on deletion.
    pub new: Value,
    /// Null on creation.
    pub old: Value,
}

impl<'a> Attempt<'a> {
    fn of(request: &'a Request, draft: &'a Draft) -> Option<Attempt<'a>> {
        if draft.part == Part::Internal || EXEMPT.contains(&draft.kind.storage) {
            return None;
        }
        let shown = |value: &Value| match draft.part {
            Part::Scale if !value.is_null() => scale::of_value(&draft.kind, value),
            _ => value.clone(),
        };
        Some(Attempt {
            request,
            kind: draft.kind,
            operation: if draft.is_creation() { "CREATE" } else { "UPDATE" },
            subresource: draft.part.subresource(),
            namespace: &draft.key.namespace,
            name: draft.name(),
            new: shown(&draft.new),
            old: shown(&draft.old_value),
        })
    }

    /// `request`, as expressions see it.
    fn admission_request(&self, matched: &Kind) -> Value {
        let served = self.request.resource();
        let version = served.map_or(matched.version, |resource| resource.version.as_str());
        let group = served.map_or(matched.group, |resource| resource.group.as_str());
        let user = &self.request.user;
        let kind = |group: &str, version: &str| json!({"group": group, "version": version, "kind": self.kind.kind});
        let resource =
            |group: &str, version: &str| json!({"group": group, "version": version, "resource": self.kind.plural});
        json!({
            "kind": kind(matched.group, matched.version), "resource": resource(matched.group, matched.version),
            "subResource": self.subresource, "requestKind": kind(group, version), "requestResource": resource(group, version),
            "requestSubResource": self.subresource, "name": self.name, "namespace": self.namespace,
            "operation": self.operation, "dryRun": self.request.options.dry_run, "options": {},
            "userInfo": {"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra}})
    }
}

/// Asks the validating policies about a change.
///
/// # Errors
/// What the first policy that refuses says.
pub(crate) fn validate(
    ctx: &Context,
    request: &Request,
    draft: &Draft,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    if !is_used(ctx.store.snapshot(), BINDINGS) {
        return Ok(());
    }
    Attempt::of(request, draft).map_or(Ok(()), |attempt| ask_all(ctx, &attempt, warnings))
}

/// The same about a deletion.
pub(crate) fn validate_deletion(
    ctx: &Context,
    request: &Request,
    kind: &Kind,
    object: &Object,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    if !is_used(ctx.store.snapshot(), BINDINGS) || EXEMPT.contains(&kind.storage) {
        return Ok(());
    }
    let attempt = Attempt {
        request,
        kind: ctx.registry.stored(kind.storage).copied().unwrap_or(*kind),
        operation: "DELETE",
        subresource: "",
        namespace: &object.key.namespace,
        name: &object.key.name,
        new: Value::Null,
        old: object.value(),
    };
    ask_all(ctx, &attempt, warnings)
}

fn is_used(snapshot: &Snapshot, bindings: &'static str) -> bool {
    snapshot.list(bindings, "").next().is_some()
}

fn ask_all(ctx: &Context, attempt: &Attempt, warnings: &mut Vec<String>) -> Result<(), Status> {
    let snapshot = ctx.store.snapshot();
    for object in snapshot.list(POLICIES, "") {
        let policy = object.view::<Policy<ValidatingAdmissionPolicy>>();
        for binding in snapshot.list(BINDINGS, "") {
            let typed = binding.view::<ValidatingAdmissionPolicyBinding>();
            if typed.spec.policy_name != *object.key.name {
                continue;
            }
            let found = ask(ctx, attempt, &policy, &typed.spec);
            let names = (&*object.key.name, &*binding.key.name);
            judge(attempt, names, &typed.spec.validation_actions, found, warnings)?;
        }
    }
    Ok(())
}

/// Why a policy refuses.
struct Denial {
    message: String,
    reason: String,
    /// Whatever the binding's actions are: the policy itself could not be asked.
    always: bool,
}

/// What a binding's actions make of denials.
fn judge(
    attempt: &Attempt,
    (policy, binding): (&str, &str),
    actions: &[String],
    denials: Vec<Denial>,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let has = |action: &str| actions.iter().any(|one| one == action);
    for denial in &denials {
        if has("Warn") && !denial.always {
            let message = &denial.message;
            warnings.push(format!(
                "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}': {message}"
            ));
        }
    }
    match denials.into_iter().find(|denial| denial.always || has("Deny")) {
        None => Ok(()),
        Some(denial) => {
            let why = format!(
                "ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {}",
                denial.message
            );
            Err(refusal(attempt, &why, &denial))
        }
    }
}

fn refusal(attempt: &Attempt, why: &str, denial: &Denial) -> Status {
    let cause = Cause { message: denial.message.clone(), ..Cause::default() };
    let kind = &attempt.kind;
    let mut status = Status::forbidden(kind.group, kind.plural, attempt.name, why).with_causes(vec![cause]);
    (status.code, status.reason) = match denial.reason.as_str() {
        "Unauthorized" => (401, "Unauthorized"),
        "Forbidden" => (403, "Forbidden"),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
        _ => (422, "Invalid"),
    };
    status
}

/// What a policy says to a change, by one binding.
fn ask(
    ctx: &Context,
    attempt: &Attempt,
    policy: &Policy<ValidatingAdmissionPolicy>,
    binding: &ValidatingAdmissionPolicyBindingSpec,
) -> Vec<Denial> {
    let Some(spec) = &policy.policy.spec else { return Vec::new() };
    let ignores = spec.failure_policy.as_deref() == Some("Ignore");
    let matched = matching::matches(ctx, attempt, spec.match_constraints.as_ref());
    let Some(matched) = matched.filter(|_| {
        binding.match_resources.is_none() || matching::matches(ctx, attempt, binding.match_resources.as_ref()).is_some()
    }) else {
        return Vec::new();
    };
    let failed = |message: String| match ignores {
        true => Vec::new(),
        false => vec![Denial { message, reason: String::new(), always: true }],
    };
    let params = match params::of(ctx, attempt, spec.param_kind.as_ref(), binding.param_ref.as_ref()) {
        Ok(params) => params,
        Err(why) => return failed(format!("failed to configure binding: {why}")),
    };
    let scene = Scene::of(ctx, attempt, &matched);
    let mut denials = Vec::new();
    for param in params {
        let param = param.map(|param| param.value());
        let vars = scene.vars(&policy.programs, param.as_ref());
        match is_wanted(&policy.programs, &vars) {
            Ok(false) => continue,
            Ok(true) => {}
            Err(why) => {
                denials.extend(failed(why));
                continue;
            }
        }
        for validation in &policy.programs.validations {
            match vars.evaluate(&validation.program) {
                Ok(stead_cel::Value::Bool(true)) => {}
                Ok(_) => denials.push(denial(validation, &vars)),
                Err(_) if ignores => {}
                Err(error) => {
                    let source = validation.program.source();
                    let message = format!("expression '{source}' resulted in error: {error}");
                    denials.push(Denial { message, reason: validation.reason.clone(), always: false });
                }
            }
        }
    }
    denials
}

fn denial<'a>(validation: &'a Validation, vars: &Vars<'a>) -> Denial {
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
    Denial { message, reason: validation.reason.clone(), always: false }
}

/// Whether all match conditions hold; one that does not hides errors of others.
fn is_wanted<'a>(programs: &'a Programs, vars: &Vars<'a>) -> Result<bool, String> {
    let mut failure = None;
    for (name, program) in &programs.conditions {
        match vars.evaluate(program) {
            Ok(stead_cel::Value::Bool(true)) => {}
            Ok(_) => return Ok(false),
            Err(error) => failure = failure.or(Some(format!("matchCondition '{name}' resulted in error: {error}"))),
        }
    }
    failure.map_or(Ok(true), Err)
}

/// What is the same for every expression about one change.
struct Scene<'a> {
    snapshot: &'a Snapshot,
    attempt: &'a Attempt<'a>,
    new: Value,
    old: Value,
    request: Value,
    namespace: Value,
}

impl<'a> Scene<'a> {
    /// Objects are shown in the version that was matched.
    fn of(ctx: &'a Context, attempt: &'a Attempt<'a>, matched: &Kind) -> Scene<'a> {
        let snapshot = ctx.store.snapshot();
        let shown = |value: &Value| {
            let mut value = value.clone();
            if value.is_object() && attempt.subresource != "scale" {
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

    fn vars<'v>(&'v self, programs: &'v Programs, param: Option<&'v Value>) -> Vars<'v> {
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
        Vars::of(known, &programs.variables, POLICY_COST_MAX)
    }
}
