//! MutatingWebhookConfiguration and ValidatingWebhookConfiguration.

mod hook;
mod view;

pub use hook::{Configured, Hook};

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhookConfiguration,
    WebhookClientConfig,
};
use serde_json::{Value, json};
use stead_api::Errors;
use stead_api::names::{dns1035_label, qualified_name};

use crate::check::{label_selector, list, one_of, text};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN};
use crate::fill::{each, object, object_or_new, set, set_text};
use crate::names::{dns1123_subdomain, names};
use crate::path::Path;
use crate::{Behavior, Column, Hooks, Kind, Names};
use view::{Webhook, Webhooks};

pub(crate) const GROUP: &str = "admissionregistration.k8s.io";

const fn configuration(storage: &'static str, names: Names, definition: &'static str) -> Kind {
    Kind {
        namespaced: false,
        categories: &["api-extensions"],
        has_generation: true,
        unconditional_update: false,
        columns: COLUMNS,
        ..Kind::plain(storage, GROUP, "v1", names, definition)
    }
}

pub const MUTATINGWEBHOOKCONFIGURATION: Kind = Kind {
    hooks: Hooks::of::<Configured<MutatingWebhookConfiguration>>(),
    ..configuration(
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        names!("MutatingWebhookConfiguration", "mutatingwebhookconfiguration", "mutatingwebhookconfigurations"),
        "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration",
    )
};

pub const VALIDATINGWEBHOOKCONFIGURATION: Kind = Kind {
    hooks: Hooks::of::<Configured<ValidatingWebhookConfiguration>>(),
    ..configuration(
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        names!("ValidatingWebhookConfiguration", "validatingwebhookconfiguration", "validatingwebhookconfigurations"),
        "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration",
    )
};

const COLUMNS: &[Column] = &[
    NAME_COLUMN,
    columns::integer(
        "Webhooks",
        |object, _| object.value()["webhooks"].as_array().map_or(0, Vec::len).into(),
        "How many webhooks it has.",
    ),
    AGE_COLUMN,
];

/// How long a webhook may take, in seconds.
const SECONDS: std::ops::RangeInclusive<i32> = 1..=30;
const CONDITIONS_MAX: usize = 64;

fn default_webhooks(new: &mut Value, mutating: bool) {
    for webhook in each(new, "webhooks") {
        set_text(webhook, "failurePolicy", "Fail");
        set_text(webhook, "matchPolicy", "Equivalent");
        set(webhook, "namespaceSelector", json!({}));
        set(webhook, "objectSelector", json!({}));
        set(webhook, "timeoutSeconds", 10);
        if mutating {
            set_text(webhook, "reinvocationPolicy", "Never");
        }
        for rule in each(webhook, "rules") {
            set_text(rule, "scope", "*");
        }
        if let Some(config) = object_or_new(webhook, "clientConfig")
            && let Some(service) = object(config, "service")
        {
            set(service, "port", 443);
        }
    }
}

impl Behavior for MutatingWebhookConfiguration {
    fn default(new: &mut Value) {
        default_webhooks(new, true);
    }

    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        validate_all(self.webhooks(), errors);
    }
}

impl Behavior for ValidatingWebhookConfiguration {
    fn default(new: &mut Value) {
        default_webhooks(new, false);
    }

    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        validate_all(self.webhooks(), errors);
    }
}

fn validate_all(webhooks: Vec<Webhook>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    let all = Path::root("webhooks");
    for (index, webhook) in webhooks.iter().enumerate() {
        let at = all.index(index);
        validate(at, webhook, errors);
        if !webhook.name.is_empty() && !seen.insert(webhook.name.to_owned()) {
            at.child("name").duplicate(errors, webhook.name);
        }
    }
}

fn validate(at: Path, webhook: &Webhook, errors: &mut Errors) {
    qualified(at.child("name"), webhook.name, errors);
    for (index, rule) in webhook.rules.iter().enumerate() {
        let all = at.child("rules");
        validate_rule(all.index(index), rule, errors);
    }
    one_of(at.child("failurePolicy"), webhook.failure_policy, &["Fail", "Ignore"], true, errors);
    one_of(at.child("matchPolicy"), webhook.match_policy, &["Equivalent", "Exact"], true, errors);
    one_of(at.child("reinvocationPolicy"), webhook.reinvocation, &["IfNeeded", "Never"], true, errors);
    match webhook.side_effects {
        "" => at.child("sideEffects").required(errors, "must specify one of None, NoneOnDryRun"),
        effects => one_of(at.child("sideEffects"), effects, &["None", "NoneOnDryRun"], false, errors),
    }
    if let Some(seconds) = webhook.seconds.filter(|seconds| !SECONDS.contains(seconds)) {
        at.child("timeoutSeconds").invalid(errors, seconds, "the timeout value must be between 1 and 30 seconds");
    }
    for (field, selector) in webhook.selectors {
        if let Some(selector) = selector {
            label_selector(at.child(field), selector, errors);
        }
    }
    validate_config(at.child("clientConfig"), webhook.config, errors);
    validate_versions(at.child("admissionReviewVersions"), webhook.versions, errors);
    validate_conditions(at.child("matchConditions"), webhook.conditions, errors);
}

/// A name of at least three parts, such as `check.example.com`.
fn qualified(at: Path, name: &str, errors: &mut Errors) {
    if name.is_empty() {
        return at.required(errors, "");
    }
    for message in dns1123_subdomain(name) {
        at.invalid(errors, name, message);
    }
    if name.split('.').count() < 3 {
        at.invalid(errors, name, "should be a domain with at least three segments separated by dots");
    }
}

pub(crate) fn validate_rule(at: Path, rule: &RuleWithOperations, errors: &mut Errors) {
    let operations = list(&rule.operations);
    let known = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    if operations.is_empty() {
        at.child("operations").required(errors, "");
    }
    let has_star = |values: &[String]| values.len() > 1 && values.iter().any(|one| one == "*");
    if has_star(operations) {
        at.child("operations").invalid(
            errors,
            json!(operations),
            "if '*' is present, must not specify other operations",
        );
    }
    for (index, operation) in operations.iter().enumerate() {
        if !known.contains(&operation.as_str()) {
            at.child("operations").index(index).not_supported(errors, operation.as_str(), &known);
        }
    }
    for (field, values, plural) in [
        ("apiGroups", list(&rule.api_groups), "API groups"),
        ("apiVersions", list(&rule.api_versions), "API versions"),
        ("resources", list(&rule.resources), "resources"),
    ] {
        let at = at.child(field);
        if values.is_empty() {
            at.required(errors, "");
        }
        if field != "resources" && has_star(values) {
            at.invalid(errors, json!(values), format!("if '*' is present, must not specify other {plural}"));
        }
        for (index, value) in values.iter().enumerate().filter(|(_, value)| value.is_empty() && field != "apiGroups") {
            let _ = value;
            at.index(index).required(errors, "");
        }
    }
    validate_resources(at.child("resources"), list(&rule.resources), errors);
    one_of(at.child("scope"), text(&rule.scope), &["*", "Cluster", "Namespaced"], true, errors);
}

fn validate_resources(at: Path, resources: &[String], errors: &mut Errors) {
    let all = resources.iter().any(|one| one == "*/*");
    if all && resources.len() > 1 {
        at.invalid(errors, json!(resources), "if '*/*' is present, must not specify other resources");
    }
    let has_kinds = resources.iter().any(|one| !one.is_empty() && one != "*" && !one.contains('/'));
    if resources.iter().any(|one| one == "*") && has_kinds {
        let detail = "if '*' is present, must not specify other resources without subresources";
        at.invalid(errors, json!(resources), detail);
    }
    for (index, one) in resources.iter().enumerate() {
        let Some((resource, sub)) = one.split_once('/') else { continue };
        let others = |want: String| resources[..index].contains(&want);
        if sub != "*" && others(format!("{resource}/*")) {
            let detail = format!("if '{resource}/*' is present, must not specify {one}");
            at.index(index).invalid(errors, one.as_str(), detail);
        }
        if resource != "*" && others(format!("*/{sub}")) {
            let detail = format!("if '*/{sub}' is present, must not specify {one}");
            at.index(index).invalid(errors, one.as_str(), detail);
        }
    }
}

fn validate_config(at: Path, config: &WebhookClientConfig, errors: &mut Errors) {
    match (&config.url, &config.service) {
        (Some(_), Some(_)) | (None, None) => {
            at.required(errors, "exactly one of url or service is required");
        }
        (Some(url), None) => validate_url(at.child("url"), url, errors),
        (None, Some(service)) => {
            let at = at.child("service");
            validate_service(at, &service.namespace, &service.name, service.path.as_deref(), service.port, errors);
        }
    }
}

pub(crate) fn validate_service(
    at: Path,
    namespace: &str,
    name: &str,
    path: Option<&str>,
    port: Option<i32>,
    errors: &mut Errors,
) {
    if name.is_empty() {
        at.child("name").required(errors, "service name is required");
    }
    if namespace.is_empty() {
        at.child("namespace").required(errors, "service namespace is required");
    }
    let port = port.unwrap_or(443);
    if !(1..=65535).contains(&port) {
        let detail = "port is not valid: must be between 1 and 65535, inclusive";
        at.child("port").invalid(errors, port, detail);
    }
    if let Some(path) = path {
        validate_path(at.child("path"), path, errors);
    }
}

/// A path of parts that are names.
fn validate_path(at: Path, path: &str, errors: &mut Errors) {
    if path == "/" || path.is_empty() {
        return;
    }
    if path == "//" {
        return at.invalid(errors, path, "segment[0] may not be empty");
    }
    if !path.starts_with('/') {
        at.invalid(errors, path, "must start with a '/'");
    }
    let mut inner = path.chars();
    inner.next();
    let inner = inner.as_str();
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    for (index, segment) in inner.split('/').enumerate() {
        if segment.is_empty() {
            at.invalid(errors, path, format!("segment[{index}] may not be empty"));
            continue;
        }
        for message in dns1123_subdomain(segment) {
            at.invalid(errors, path, format!("segment[{index}]: {message}"));
        }
    }
}

pub(crate) fn validate_url(at: Path, url: &str, errors: &mut Errors) {
    let form = "; desired format: https://host[/path]";
    let Some(rest) = url.strip_prefix("https://") else {
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        at.invalid(errors, scheme, format!("'https' is the only allowed URL scheme{form}"));
        return;
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or("");
    if host.is_empty() {
        at.invalid(errors, host, format!("host must be specified{form}"));
    }
    if host.contains('@') {
        at.invalid(errors, host, "user information is not permitted in the URL");
    }
    for (mark, what) in [('#', "fragments are"), ('?', "query parameters are")] {
        if let Some((_, found)) = rest.split_once(mark) {
            at.invalid(errors, found, format!("{what} not permitted in the URL"));
        }
    }
}

fn validate_versions(at: Path, versions: &[String], errors: &mut Errors) {
    if versions.is_empty() {
        at.required(errors, "must specify one of v1, v1beta1");
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, version) in versions.iter().enumerate() {
        for message in dns1035_label(version) {
            at.index(index).invalid(errors, version.as_str(), message);
        }
        if !seen.insert(version) {
            at.index(index).invalid(errors, version.as_str(), "duplicate version");
        }
    }
    if !versions.iter().any(|one| matches!(one.as_str(), "v1" | "v1beta1")) {
        at.invalid(errors, json!(versions), "must include at least one of v1, v1beta1");
    }
}

pub(crate) fn validate_conditions(at: Path, conditions: &[MatchCondition], errors: &mut Errors) {
    if conditions.len() > CONDITIONS_MAX {
        let kind = stead_api::status::FieldErrorKind::TooMany;
        at.push(errors, kind, conditions.len(), format!("must have at most {CONDITIONS_MAX} items"));
    }
    let mut seen = BTreeSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let at = at.index(index);
        if condition.expression.trim().is_empty() {
            at.child("expression").required(errors, "");
        }
        if condition.name.is_empty() {
            at.child("name").required(errors, "");
            continue;
        }
        for message in qualified_name(&condition.name) {
            at.child("name").invalid(errors, condition.name.as_str(), message);
        }
        if !seen.insert(&condition.name) {
            at.child("name").duplicate(errors, condition.name.as_str());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_filled_in_and_checked() {
        let check = |webhook: Value| {
            let mut value = json!({"metadata": {"name": "a"}, "webhooks": [webhook]});
            (MUTATINGWEBHOOKCONFIGURATION.hooks.default)(&mut value);
            let found = MUTATINGWEBHOOKCONFIGURATION.check(&value, None).expect("decodes").errors;
            (value, found.0.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let (value, errors) = check(json!({"name": "a.example.com", "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "clientConfig": {"service": {"name": "s", "namespace": "n"}},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]}));
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(value["webhooks"][0]["timeoutSeconds"], 10);
        assert_eq!(value["webhooks"][0]["clientConfig"]["service"]["port"], 443);
        let (_, errors) = check(
            json!({"name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1", "0v"],
            "clientConfig": {"service": {"name": "s", "namespace": "n", "path": "/a//b/", "port": 70000}},
            "rules": [{"operations": [""], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["a/b", "a/*", "*", "c"]}]}),
        );
        assert_eq!(
            errors[..4],
            [
                "webhooks[0].rules[0].operations[0]: Unsupported value: \"\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
                "webhooks[0].rules[0].resources: Invalid value: [\"a/b\",\"a/*\",\"*\",\"c\"]: if '*' is present, must not specify other resources without subresources",
                "webhooks[0].clientConfig.service.port: Invalid value: 70000: port is not valid: must be between 1 and 65535, inclusive",
                "webhooks[0].clientConfig.service.path: Invalid value: \"/a//b/\": segment[1] may not be empty",
            ]
        );
        assert!(errors[4].starts_with("webhooks[0].admissionReviewVersions[1]: Invalid value: \"0v\""), "{errors:?}");
        let (_, errors) = check(json!({"name": "a", "timeoutSeconds": 31, "clientConfig": {"url": "http://x"},
            "rules": [{"operations": ["*", "CREATE"]}]}));
        assert_eq!(
            errors,
            [
                "webhooks[0].name: Invalid value: \"a\": should be a domain with at least three segments separated by dots",
                "webhooks[0].rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations",
                "webhooks[0].rules[0].apiGroups: Required value",
                "webhooks[0].rules[0].apiVersions: Required value",
                "webhooks[0].rules[0].resources: Required value",
                "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
                "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
                "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
                "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
            ]
        );
    }

    #[test]
    fn the_path_of_a_service_is_empty_or_names() {
        let said = |path: &str| {
            let mut errors = Errors::default();
            validate_path(Path::root("path"), path, &mut errors);
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for path in ["", "/", "/validate", "/a/b-1.x/"] {
            assert_eq!(said(path), Vec::<String>::new(), "{path}");
        }
        assert_eq!(said("//"), ["path: Invalid value: \"//\": segment[0] may not be empty"]);
        assert_eq!(said("/a//b"), ["path: Invalid value: \"/a//b\": segment[1] may not be empty"]);
        assert_eq!(said("apath"), ["path: Invalid value: \"apath\": must start with a '/'"]);
        assert!(said("/A")[0].starts_with("path: Invalid value: \"/A\": segment[0]: a lowercase RFC 1123 subdomain"));
    }
}
