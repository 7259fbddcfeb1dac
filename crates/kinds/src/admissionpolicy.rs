//! ValidatingAdmissionPolicy, MutatingAdmissionPolicy and their bindings.

mod policy;

pub use policy::{Mutation, Policy, Programs, Validation};

use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, NamedRuleWithOperations, ParamKind,
    ParamRef, RuleWithOperations, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, Variable,
};
use serde_json::{Value, json};
use stead_api::{Errors, Object};

use crate::check::{label_selector, list, one_of, text};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN};
use crate::fill::{each, object, object_or_new, set, set_text};
use crate::names::{dns1123_subdomain, names};
use crate::path::Path;
use crate::webhook::{GROUP, validate_conditions, validate_rule};
use crate::{Behavior, Hooks, Kind, METADATA, Names, Subresource};

const fn policy(storage: &'static str, names: Names, definition: &'static str) -> Kind {
    Kind {
        namespaced: false,
        categories: &["api-extensions"],
        has_generation: true,
        unconditional_update: false,
        ..Kind::plain(storage, GROUP, "v1", names, definition)
    }
}

pub const VALIDATINGADMISSIONPOLICY: Kind = Kind {
    subresources: &[Subresource::Status],
    status_keeps: METADATA,
    columns: &[
        NAME_COLUMN,
        columns::integer("Validations", |o, _| count(o, "validations"), "How many checks it makes."),
        columns::text("ParamKind", param_kind, "The kind of its parameters."),
        AGE_COLUMN,
    ],
    hooks: Hooks::of::<Policy<ValidatingAdmissionPolicy>>(),
    ..policy(
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        names!("ValidatingAdmissionPolicy", "validatingadmissionpolicy", "validatingadmissionpolicies"),
        "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy",
    )
};

pub const MUTATINGADMISSIONPOLICY: Kind = Kind {
    columns: &[
        NAME_COLUMN,
        columns::integer("Mutations", |o, _| count(o, "mutations"), "How many changes it makes."),
        columns::text("ParamKind", param_kind, "The kind of its parameters."),
        AGE_COLUMN,
    ],
    hooks: Hooks::of::<Policy<MutatingAdmissionPolicy>>(),
    ..policy(
        "mutatingadmissionpolicies.admissionregistration.k8s.io",
        names!("MutatingAdmissionPolicy", "mutatingadmissionpolicy", "mutatingadmissionpolicies"),
        "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy",
    )
};

pub const VALIDATINGADMISSIONPOLICYBINDING: Kind = Kind {
    columns: BINDING_COLUMNS,
    hooks: Hooks::of::<ValidatingAdmissionPolicyBinding>(),
    ..policy(
        "validatingadmissionpolicybindings.admissionregistration.k8s.io",
        names!(
            "ValidatingAdmissionPolicyBinding",
            "validatingadmissionpolicybinding",
            "validatingadmissionpolicybindings"
        ),
        "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding",
    )
};

pub const MUTATINGADMISSIONPOLICYBINDING: Kind = Kind {
    columns: BINDING_COLUMNS,
    hooks: Hooks::of::<MutatingAdmissionPolicyBinding>(),
    ..policy(
        "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
        names!("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybinding", "mutatingadmissionpolicybindings"),
        "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding",
    )
};

const BINDING_COLUMNS: &[crate::Column] = &[
    NAME_COLUMN,
    columns::path("PolicyName", "spec.policyName", "The policy that it puts to use."),
    columns::text("ParamRef", param_ref, "The parameters that it gives."),
    AGE_COLUMN,
];

fn count(object: &Object, field: &str) -> Value {
    object.value()["spec"][field].as_array().map_or(0, Vec::len).into()
}

fn param_kind(object: &Object, _now: jiff::Timestamp) -> Value {
    let value = object.value();
    let kind = &value["spec"]["paramKind"];
    match kind.is_null() {
        true => "<unset>".into(),
        false => {
            format!("{}/{}", kind["apiVersion"].as_str().unwrap_or(""), kind["kind"].as_str().unwrap_or("")).into()
        }
    }
}

fn param_ref(object: &Object, _now: jiff::Timestamp) -> Value {
    let value = object.value();
    let of = &value["spec"]["paramRef"];
    let part = |field: &str| of[field].as_str().filter(|text| !text.is_empty());
    match (part("namespace"), part("name")) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}").into(),
        (None, Some(name)) => name.into(),
        (Some(namespace), None) => format!("{namespace}/*").into(),
        (None, None) if of.is_null() => "<unset>".into(),
        (None, None) => "*".into(),
    }
}

fn default_match(owner: &mut Value, field: &str) {
    let Some(resources) = object(owner, field) else { return };
    set_text(resources, "matchPolicy", "Equivalent");
    set(resources, "namespaceSelector", json!({}));
    set(resources, "objectSelector", json!({}));
    for list in ["resourceRules", "excludeResourceRules"] {
        for rule in each(resources, list) {
            set_text(rule, "scope", "*");
        }
    }
}

fn default_policy(new: &mut Value) {
    if let Some(spec) = object_or_new(new, "spec") {
        set_text(spec, "failurePolicy", "Fail");
        default_match(spec, "matchConstraints");
    }
}

fn default_binding(new: &mut Value) {
    if let Some(spec) = object_or_new(new, "spec") {
        default_match(spec, "matchResources");
    }
}

fn expression(at: Path, text: &str, errors: &mut Errors) {
    if text.trim().is_empty() {
        at.required(errors, "expression is not specified");
    }
}

fn validate_match(at: Path, resources: &MatchResources, rules_required: bool, errors: &mut Errors) {
    one_of(at.child("matchPolicy"), text(&resources.match_policy), &["Equivalent", "Exact"], false, errors);
    for (field, selector) in
        [("namespaceSelector", &resources.namespace_selector), ("objectSelector", &resources.object_selector)]
    {
        match selector {
            Some(selector) => label_selector(at.child(field), selector, errors),
            None => at.child(field).required(errors, ""),
        }
    }
    if rules_required && list(&resources.resource_rules).is_empty() {
        at.child("resourceRules").required(errors, "");
    }
    let lists =
        [("resourceRules", &resources.resource_rules), ("excludeResourceRules", &resources.exclude_resource_rules)];
    for (field, rules) in lists {
        for (index, rule) in list(rules).iter().enumerate() {
            let all = at.child(field);
            validate_rule(all.index(index), &unnamed(rule), errors);
        }
    }
}

fn unnamed(rule: &NamedRuleWithOperations) -> RuleWithOperations {
    RuleWithOperations {
        api_groups: rule.api_groups.clone(),
        api_versions: rule.api_versions.clone(),
        operations: rule.operations.clone(),
        resources: rule.resources.clone(),
        scope: rule.scope.clone(),
    }
}

fn validate_common(
    at: Path,
    constraints: Option<&MatchResources>,
    kind: Option<&ParamKind>,
    variables: &[Variable],
    failure_policy: &str,
    errors: &mut Errors,
) {
    one_of(at.child("failurePolicy"), failure_policy, &["Fail", "Ignore"], false, errors);
    if let Some(kind) = kind {
        let at = at.child("paramKind");
        if text(&kind.api_version).is_empty() {
            at.child("apiVersion").required(errors, "");
        }
        if text(&kind.kind).is_empty() {
            at.child("kind").required(errors, "");
        }
    }
    match constraints {
        Some(resources) => validate_match(at.child("matchConstraints"), resources, true, errors),
        None => at.child("matchConstraints").required(errors, ""),
    }
    let mut seen = std::collections::BTreeSet::new();
    for (index, variable) in variables.iter().enumerate() {
        let all = at.child("variables");
        let at = all.index(index);
        let is_word = |name: &str| {
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && !name.starts_with(|first: char| first.is_ascii_digit())
        };
        match variable.name.as_str() {
            "" => at.child("name").required(errors, "name is not specified"),
            name if !is_word(name) => at.child("name").invalid(errors, name, "name is not a valid CEL identifier"),
            name if !seen.insert(name) => at.child("name").duplicate(errors, name),
            _ => {}
        }
        expression(at.child("expression"), &variable.expression, errors);
    }
}

impl Behavior for ValidatingAdmissionPolicy {
    fn default(new: &mut Value) {
        default_policy(new);
    }

    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        let Some(spec) = &self.spec else { return Path::root("spec").required(errors, "") };
        let at = Path::root("spec");
        let failure_policy = text(&spec.failure_policy);
        validate_common(
            at,
            spec.match_constraints.as_ref(),
            spec.param_kind.as_ref(),
            list(&spec.variables),
            failure_policy,
            errors,
        );
        validate_conditions(at.child("matchConditions"), list(&spec.match_conditions), errors);
        let (validations, annotations) = (list(&spec.validations), list(&spec.audit_annotations));
        if validations.is_empty() && annotations.is_empty() {
            at.child("validations").required(errors, "validations or auditAnnotations must contain at least one item");
        }
        let reasons = ["Unauthorized", "Forbidden", "Invalid", "RequestEntityTooLarge"];
        for (index, validation) in validations.iter().enumerate() {
            let all = at.child("validations");
            let at = all.index(index);
            expression(at.child("expression"), &validation.expression, errors);
            one_of(at.child("reason"), text(&validation.reason), &reasons, true, errors);
            if let Some(message) = &validation.message {
                if message.trim().is_empty() {
                    at.child("message").invalid(errors, message.as_str(), "message must be non-empty if specified");
                } else if message.contains('\n') {
                    at.child("message").invalid(errors, message.as_str(), "message must not contain line breaks");
                }
            }
        }
        for (index, annotation) in annotations.iter().enumerate() {
            let all = at.child("auditAnnotations");
            let at = all.index(index);
            if annotation.key.is_empty() {
                at.child("key").required(errors, "");
            }
            if annotation.value_expression.trim().is_empty() {
                at.child("valueExpression").required(errors, "valueExpression is not specified");
            }
        }
    }
}

impl Behavior for MutatingAdmissionPolicy {
    fn default(new: &mut Value) {
        default_policy(new);
        if let Some(spec) = object_or_new(new, "spec") {
            set_text(spec, "reinvocationPolicy", "Never");
        }
    }

    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        let Some(spec) = &self.spec else { return Path::root("spec").required(errors, "") };
        let at = Path::root("spec");
        let failure_policy = text(&spec.failure_policy);
        validate_common(
            at,
            spec.match_constraints.as_ref(),
            spec.param_kind.as_ref(),
            list(&spec.variables),
            failure_policy,
            errors,
        );
        validate_conditions(at.child("matchConditions"), list(&spec.match_conditions), errors);
        one_of(at.child("reinvocationPolicy"), text(&spec.reinvocation_policy), &["IfNeeded", "Never"], false, errors);
        let mutations = list(&spec.mutations);
        if mutations.is_empty() {
            at.child("mutations").required(errors, "mutations must contain at least one item");
        }
        for (index, mutation) in mutations.iter().enumerate() {
            let all = at.child("mutations");
            let at = all.index(index);
            let given = (
                mutation.apply_configuration.as_ref().map(|one| text(&one.expression)),
                mutation.json_patch.as_ref().map(|one| text(&one.expression)),
            );
            match (mutation.patch_type.as_str(), given) {
                ("ApplyConfiguration", (Some(found), None)) => {
                    expression(at.child("applyConfiguration").child("expression"), found, errors);
                }
                ("JSONPatch", (None, Some(found))) => {
                    expression(at.child("jsonPatch").child("expression"), found, errors)
                }
                ("ApplyConfiguration", (None, _)) => {
                    at.child("applyConfiguration")
                        .required(errors, "must be specified when patchType is ApplyConfiguration");
                }
                ("JSONPatch", (_, None)) => {
                    at.child("jsonPatch").required(errors, "must be specified when patchType is JSONPatch");
                }
                ("ApplyConfiguration", _) => {
                    at.child("jsonPatch")
                        .forbidden(errors, "must not be specified when patchType is ApplyConfiguration");
                }
                ("JSONPatch", _) => {
                    at.child("applyConfiguration")
                        .forbidden(errors, "must not be specified when patchType is JSONPatch");
                }
                (other, _) => one_of(at.child("patchType"), other, &["ApplyConfiguration", "JSONPatch"], false, errors),
            }
        }
    }
}

fn validate_binding(
    at: Path,
    policy: &str,
    params: Option<&ParamRef>,
    resources: Option<&MatchResources>,
    errors: &mut Errors,
) {
    if policy.is_empty() {
        at.child("policyName").required(errors, "");
    } else {
        for message in dns1123_subdomain(policy) {
            at.child("policyName").invalid(errors, policy, message);
        }
    }
    if let Some(params) = params {
        let at = at.child("paramRef");
        let name = text(&params.name);
        match (name.is_empty(), &params.selector) {
            (true, None) => at.required(errors, "one of name or selector must be specified"),
            (false, Some(_)) => {
                at.child("name").forbidden(errors, "name and selector are mutually exclusive");
                at.child("selector").forbidden(errors, "name and selector are mutually exclusive");
            }
            (true, Some(selector)) => label_selector(at.child("selector"), selector, errors),
            (false, None) => {}
        }
        let action = text(&params.parameter_not_found_action);
        one_of(at.child("parameterNotFoundAction"), action, &["Allow", "Deny"], false, errors);
    }
    if let Some(resources) = resources {
        validate_match(at.child("matchResources"), resources, false, errors);
    }
}

impl Behavior for ValidatingAdmissionPolicyBinding {
    fn default(new: &mut Value) {
        default_binding(new);
    }

    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        let spec = &self.spec;
        let at = Path::root("spec");
        validate_binding(at, &spec.policy_name, spec.param_ref.as_ref(), spec.match_resources.as_ref(), errors);
        let at = at.child("validationActions");
        if spec.validation_actions.is_empty() {
            at.required(errors, "at least one validation action is required");
        }
        let mut seen = std::collections::BTreeSet::new();
        for (index, action) in spec.validation_actions.iter().enumerate() {
            one_of(at.index(index), action, &["Audit", "Deny", "Warn"], false, errors);
            if !seen.insert(action.as_str()) {
                at.index(index).duplicate(errors, action.as_str());
            }
        }
        if seen.contains("Deny") && seen.contains("Warn") {
            let detail = "must not contain both \"Deny\" and \"Warn\" (repeating the same validation failure information in the API response and headers serves no purpose)";
            at.invalid(errors, json!(spec.validation_actions), detail);
        }
    }
}

impl Behavior for MutatingAdmissionPolicyBinding {
    fn default(new: &mut Value) {
        default_binding(new);
    }

    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        let Some(spec) = &self.spec else { return Path::root("spec").required(errors, "") };
        let policy = text(&spec.policy_name);
        validate_binding(Path::root("spec"), policy, spec.param_ref.as_ref(), spec.match_resources.as_ref(), errors);
    }
}
