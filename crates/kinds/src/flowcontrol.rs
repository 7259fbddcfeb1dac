//! FlowSchema and PriorityLevelConfiguration: whose requests are answered first when there are too many.
//!
//! What they do is decided in the API server's fairness.rs; `defaults.rs` holds those that every cluster has.

pub mod defaults;

use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, LimitedPriorityLevelConfiguration, PolicyRulesWithSubjects, PriorityLevelConfiguration, Subject,
};
use serde_json::{Value, json};
use stead_api::names::{dns1123_label, dns1123_subdomain};
use stead_api::{Errors, Object};

use crate::check::{list, name, not_negative, one_of, required_name};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN};
use crate::fill::{object, object_or_new, set, set_number, set_text};
use crate::names::names;
use crate::path::Path;
use crate::{Behavior, Hooks, Kind, METADATA, Names, Subresource};

const fn flow(storage: &'static str, names: Names, definition: &'static str) -> Kind {
    Kind {
        namespaced: false,
        has_generation: true,
        subresources: &[Subresource::Status],
        status_keeps: METADATA,
        ..Kind::plain(storage, "flowcontrol.apiserver.k8s.io", "v1", names, definition)
    }
}

pub const FLOWSCHEMA: Kind = Kind {
    columns: &[
        NAME_COLUMN,
        columns::path("PriorityLevel", "spec.priorityLevelConfiguration.name", "The level of its requests."),
        columns::integer(
            "MatchingPrecedence",
            |o, _| o.value()["spec"]["matchingPrecedence"].clone(),
            "Lower is asked first.",
        ),
        columns::path("DistinguisherMethod", "spec.distinguisherMethod.type", "What tells flows apart."),
        AGE_COLUMN,
        columns::text("MissingPL", missing_level, "Whether its level is missing."),
    ],
    hooks: Hooks::of::<FlowSchema>(),
    ..flow(
        "flowschemas.flowcontrol.apiserver.k8s.io",
        names!("FlowSchema", "flowschema", "flowschemas"),
        "io.k8s.api.flowcontrol.v1.FlowSchema",
    )
};

pub const PRIORITYLEVELCONFIGURATION: Kind = Kind {
    columns: &[
        NAME_COLUMN,
        columns::path("Type", "spec.type", "Limited or Exempt."),
        columns::text("NominalConcurrencyShares", |o, _| limited(o, &["nominalConcurrencyShares"]), "Its share."),
        columns::text("Queues", |o, _| limited(o, &["limitResponse", "queuing", "queues"]), "How many queues it has."),
        columns::text(
            "HandSize",
            |o, _| limited(o, &["limitResponse", "queuing", "handSize"]),
            "Queues a flow may use.",
        ),
        columns::text(
            "QueueLengthLimit",
            |o, _| limited(o, &["limitResponse", "queuing", "queueLengthLimit"]),
            "The longest queue.",
        ),
        AGE_COLUMN,
    ],
    hooks: Hooks::of::<PriorityLevelConfiguration>(),
    ..flow(
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
        names!("PriorityLevelConfiguration", "prioritylevelconfiguration", "prioritylevelconfigurations"),
        "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration",
    )
};

fn missing_level(object: &Object, _now: jiff::Timestamp) -> Value {
    let value = object.value();
    let mut conditions = value["status"]["conditions"].as_array().into_iter().flatten();
    let found = conditions.find(|one| one["type"] == "Dangling");
    found.and_then(|one| one["status"].as_str()).unwrap_or("?").into()
}

fn limited(object: &Object, path: &[&str]) -> Value {
    let value = object.value();
    let spec = &value["spec"];
    let start = if spec["type"] == "Exempt" { &spec["exempt"] } else { &spec["limited"] };
    match path.iter().fold(start, |at, part| &at[*part]) {
        Value::Null => "<none>".into(),
        number => number.to_string().into(),
    }
}

impl Behavior for FlowSchema {
    fn default(new: &mut Value) {
        if let Some(spec) = object_or_new(new, "spec") {
            set_number(spec, "matchingPrecedence", 1000);
        }
    }

    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        let at = Path::root("spec");
        let Some(spec) = &self.spec else { return at.required(errors, "") };
        const PRECEDENCE_MAX: i32 = 10_000;
        let precedence = spec.matching_precedence.unwrap_or(0);
        let is_exempt = self.metadata.name.as_deref() == Some("exempt");
        if precedence < 1 {
            at.child("matchingPrecedence").invalid(errors, precedence, "must be a positive value");
        } else if precedence > PRECEDENCE_MAX {
            let detail = format!("must not be greater than {PRECEDENCE_MAX}");
            at.child("matchingPrecedence").invalid(errors, precedence, detail);
        }
        if precedence == 1 && !is_exempt {
            at.child("matchingPrecedence").invalid(
                errors,
                precedence,
                "only the schema named 'exempt' may have matchingPrecedence 1",
            );
        }
        if let Some(method) = &spec.distinguisher_method {
            one_of(
                at.child("distinguisherMethod").child("type"),
                &method.type_,
                &["ByNamespace", "ByUser"],
                false,
                errors,
            );
        }
        let level = at.child("priorityLevelConfiguration");
        match spec.priority_level_configuration.name.as_str() {
            "" => level.child("name").required(errors, "must reference a priority level"),
            found => name(level.child("name"), found, dns1123_subdomain, errors),
        }
        for (index, rule) in list(&spec.rules).iter().enumerate() {
            let all = at.child("rules");
            validate_rule(all.index(index), rule, errors);
        }
        let own_name = self.metadata.name.as_deref().unwrap_or_default();
        if defaults::is_mandatory(own_name) && defaults::schema(own_name) != Some(json!(spec)) {
            at.invalid(errors, json!(spec), format!("spec of '{own_name}' must equal the fixed value"));
        }
    }
}

fn validate_rule(at: Path, rule: &PolicyRulesWithSubjects, errors: &mut Errors) {
    if rule.subjects.is_empty() {
        at.child("subjects").required(errors, "subjects must contain at least one value");
    }
    for (index, subject) in rule.subjects.iter().enumerate() {
        let all = at.child("subjects");
        validate_subject(all.index(index), subject, errors);
    }
    let (resources, others) = (list(&rule.resource_rules), list(&rule.non_resource_rules));
    if resources.is_empty() && others.is_empty() {
        at.required(errors, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    for (index, rule) in resources.iter().enumerate() {
        let all = at.child("resourceRules");
        let at = all.index(index);
        for (field, values, what, others) in [
            ("verbs", &rule.verbs, "resourceRules must contain at least one value", "verbs"),
            ("apiGroups", &rule.api_groups, "resource rules must supply at least one api group", "api groups"),
            ("resources", &rule.resources, "resource rules must supply at least one resource", "resources"),
        ] {
            required_list(at.child(field), values, what, others, errors);
        }
        known_verbs(at.child("verbs"), &rule.verbs, errors);
        validate_namespaces(at.child("namespaces"), list(&rule.namespaces), rule.cluster_scope == Some(true), errors);
    }
    for (index, rule) in others.iter().enumerate() {
        let all = at.child("nonResourceRules");
        let at = all.index(index);
        required_list(at.child("verbs"), &rule.verbs, "verbs must contain at least one value", "verbs", errors);
        known_verbs(at.child("verbs"), &rule.verbs, errors);
        let paths = &rule.non_resource_urls;
        let detail = "nonResourceURLs must contain at least one value";
        required_list(at.child("nonResourceURLs"), paths, detail, "non-resource URLs", errors);
        for (index, path) in paths.iter().enumerate().filter(|_| !paths.iter().any(|path| path == "*")) {
            validate_path(at.child("nonResourceURLs").index(index), path, errors);
        }
    }
}

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

fn required_list(at: Path, values: &[String], detail: &str, others: &str, errors: &mut Errors) {
    if values.is_empty() {
        at.required(errors, detail);
    } else if values.len() > 1 && values.iter().any(|value| value == "*") {
        at.invalid(errors, json!(values), format!("if '*' is present, must not specify other {others}"));
    }
}

fn known_verbs(at: Path, verbs: &[String], errors: &mut Errors) {
    let is_any = verbs.iter().any(|verb| verb == "*");
    if !is_any && verbs.iter().any(|verb| !VERBS.contains(&verb.as_str())) {
        at.not_supported(errors, json!(verbs), VERBS);
    }
}

fn validate_namespaces(at: Path, namespaces: &[String], is_cluster: bool, errors: &mut Errors) {
    let is_any = namespaces.iter().any(|namespace| namespace == "*");
    if namespaces.is_empty() && !is_cluster {
        at.required(errors, "resource rules that are not cluster scoped must supply at least one namespace");
    } else if is_any && namespaces.len() > 1 {
        at.invalid(errors, json!(namespaces), "if '*' is present, must not specify other namespaces");
    }
    for (index, namespace) in namespaces.iter().enumerate().filter(|(_, namespace)| *namespace != "*") {
        for message in dns1123_label(namespace) {
            let detail = format!("each member of this list must be '*' or a DNS-1123 label; {message}");
            at.index(index).invalid(errors, namespace.as_str(), detail);
        }
    }
}

/// A path, or all that begin with one.
fn validate_path(at: Path, path: &str, errors: &mut Errors) {
    let all = path.strip_suffix("/*");
    let detail = match path {
        "" => "must not be empty",
        "/" => return,
        _ if !path.starts_with('/') => "must start with slash",
        _ if path.contains(' ') => "must not contain white-space",
        _ if path.contains("//") => "must not contain double slash",
        _ if path.strip_suffix('*').unwrap_or(path).contains('*') || (path.ends_with('*') && all.is_none()) => {
            "wildcard can only do suffix matching"
        }
        _ => return,
    };
    at.invalid(errors, path, detail);
}

fn validate_subject(at: Path, subject: &Subject, errors: &mut Errors) {
    let given = [
        ("ServiceAccount", "serviceAccount", subject.service_account.is_some()),
        ("User", "user", subject.user.is_some()),
        ("Group", "group", subject.group.is_some()),
    ];
    one_of(at.child("kind"), &subject.kind, &["Group", "ServiceAccount", "User"], false, errors);
    for (kind, field, is_given) in given {
        match (kind == subject.kind, is_given) {
            (true, false) => {
                at.child(field).required(errors, format!("{field} is required when subject kind is '{kind}'"));
            }
            (false, true) => {
                at.child(field).forbidden(errors, format!("{field} is forbidden when subject kind is not '{kind}'"));
            }
            _ => {}
        }
    }
    if let Some(account) = &subject.service_account {
        let at = at.child("serviceAccount");
        if account.name != "*" {
            required_name(at.child("name"), &account.name, dns1123_subdomain, errors);
        }
        required_name(at.child("namespace"), &account.namespace, dns1123_label, errors);
    }
    let names =
        [("user", subject.user.as_ref().map(|one| &one.name)), ("group", subject.group.as_ref().map(|one| &one.name))];
    for (field, found) in names {
        if found.is_some_and(String::is_empty) {
            at.child(field).child("name").required(errors, "");
        }
    }
}

impl Behavior for PriorityLevelConfiguration {
    fn default(new: &mut Value) {
        let Some(spec) = object_or_new(new, "spec") else { return };
        if let Some(limited) = object(spec, "limited") {
            set(limited, "nominalConcurrencyShares", 30);
            set(limited, "lendablePercent", 0);
            if let Some(response) = object(limited, "limitResponse")
                && let Some(queuing) = object(response, "queuing")
            {
                set_number(queuing, "queues", 64);
                set_number(queuing, "handSize", 8);
                set_number(queuing, "queueLengthLimit", 50);
            }
        }
        if let Some(exempt) = object(spec, "exempt") {
            set(exempt, "nominalConcurrencyShares", 0);
            set(exempt, "lendablePercent", 0);
        }
        if spec.get("type").is_some_and(|kind| kind == "Exempt")
            && let Some(exempt) = object_or_new(spec, "exempt")
        {
            set(exempt, "nominalConcurrencyShares", 0);
            set(exempt, "lendablePercent", 0);
        }
        if let Some(limited) = object(spec, "limited")
            && let Some(response) = object(limited, "limitResponse")
        {
            set_text(response, "type", "Reject");
        }
    }

    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        let at = Path::root("spec");
        let Some(spec) = &self.spec else { return at.required(errors, "") };
        let own_name = self.metadata.name.as_deref().unwrap_or_default();
        if (own_name == defaults::EXEMPT) != (spec.type_ == "Exempt") {
            let detail = "type must be 'Exempt' if and only if name is 'exempt'";
            at.child("type").invalid(errors, json!(spec.type_), detail);
        }
        // What the exempt level lends is its users' to say.
        if own_name == defaults::CATCH_ALL && defaults::level(own_name) != Some(json!(spec)) {
            at.invalid(errors, json!(spec), format!("spec of '{own_name}' must equal the fixed value"));
        }
        match (spec.type_.as_str(), &spec.limited, &spec.exempt) {
            ("Exempt", Some(_), _) => at.child("limited").forbidden(errors, "must be nil if the type is not Limited"),
            ("Exempt", None, _) => {}
            ("Limited", _, Some(_)) => at.child("exempt").forbidden(errors, "must be nil if the type is Limited"),
            ("Limited", None, None) => at.child("limited").required(errors, "must not be empty when type is Limited"),
            ("Limited", Some(limited), None) => validate_limited(at.child("limited"), limited, errors),
            (other, ..) => one_of(at.child("type"), other, &["Exempt", "Limited"], false, errors),
        }
    }
}

const QUEUES_MAX: i32 = 10_000_000;
/// How many bits of a flow's hash are fair.
const ENTROPY_BITS_MAX: i32 = 60;

/// How many bits of a hash it takes to deal a hand, by a quick estimate.
fn entropy_bits(queues: i32, hand: i32) -> i32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most 31 bits for each of few cards; more are over the limit"
    )]
    let bits = (f64::from(queues.max(1)).log2() * f64::from(hand)).ceil() as i32;
    bits
}

fn validate_limited(at: Path, limited: &LimitedPriorityLevelConfiguration, errors: &mut Errors) {
    not_negative(at.child("nominalConcurrencyShares"), limited.nominal_concurrency_shares, errors);
    if let Some(percent) = limited.lendable_percent.filter(|percent| !(0..=100).contains(percent)) {
        at.child("lendablePercent").invalid(errors, percent, "must be between 0 and 100, inclusive");
    }
    not_negative(at.child("borrowingLimitPercent"), limited.borrowing_limit_percent, errors);
    let response = at.child("limitResponse");
    let Some(found) = &limited.limit_response else { return response.child("type").required(errors, "") };
    match (found.type_.as_str(), &found.queuing) {
        ("Reject", Some(_)) => {
            response.child("queuing").forbidden(errors, "must be nil if limited.limitResponse.type is not Limited")
        }
        ("Queue", None) => {
            response.child("queuing").required(errors, "must not be empty if limited.limitResponse.type is Limited")
        }
        ("Queue", Some(queuing)) => {
            let at = response.child("queuing");
            let (queues, hand, length) =
                (queuing.queues.unwrap_or(0), queuing.hand_size.unwrap_or(0), queuing.queue_length_limit.unwrap_or(0));
            for (field, number) in [("queueLengthLimit", length), ("queues", queues), ("handSize", hand)] {
                if number <= 0 {
                    at.child(field).invalid(errors, number, "must be positive");
                }
            }
            if queues > QUEUES_MAX {
                at.child("queues").invalid(errors, queues, format!("must not be greater than {QUEUES_MAX}"));
            }
            if hand > queues {
                let detail = format!("should not be greater than queues ({queues})");
                at.child("handSize").invalid(errors, hand, detail);
            } else if entropy_bits(queues, hand) > ENTROPY_BITS_MAX {
                let detail = format!(
                    "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {ENTROPY_BITS_MAX}"
                );
                at.child("handSize").invalid(errors, hand, detail);
            }
        }
        ("Reject", None) => {}
        (other, _) => one_of(response.child("type"), other, &["Queue", "Reject"], false, errors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(kind: &Kind, spec: Value) -> Vec<String> {
        let value = json!({"metadata": {"name": "a"}, "spec": spec});
        let found = kind.check(&value, None).expect("decodes").errors;
        found.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_name_what_there_is() {
        let rule =
            json!({"verbs": ["feed"], "apiGroups": ["*", "a"], "resources": ["pods"], "namespaces": ["foo", "*"]});
        let paths = json!({"verbs": ["*"], "nonResourceURLs": ["healthz", "/a//b", "/a*", "/a/*", "/"]});
        let spec = json!({"matchingPrecedence": 5, "priorityLevelConfiguration": {"name": "x"}, "rules": [{
            "subjects": [{"kind": "User", "user": {"name": "*"}}], "resourceRules": [rule], "nonResourceRules": [paths]}]});
        let (on, to) = ("spec.rules[0].resourceRules[0]", "spec.rules[0].nonResourceRules[0].nonResourceURLs");
        assert_eq!(
            errors(&FLOWSCHEMA, spec),
            [
                format!(
                    "{on}.apiGroups: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other api groups"
                ),
                format!(
                    "{on}.verbs: Unsupported value: [\"feed\"]: supported values: \"create\", \"delete\", \"deletecollection\", \
                     \"get\", \"list\", \"patch\", \"proxy\", \"update\", \"watch\""
                ),
                format!(
                    "{on}.namespaces: Invalid value: [\"foo\",\"*\"]: if '*' is present, must not specify other namespaces"
                ),
                format!("{to}[0]: Invalid value: \"healthz\": must start with slash"),
                format!("{to}[1]: Invalid value: \"/a//b\": must not contain double slash"),
                format!("{to}[2]: Invalid value: \"/a*\": wildcard can only do suffix matching"),
            ]
        );
    }

    #[test]
    fn a_hand_takes_no_more_bits_than_a_hash_has() {
        let level = |queues: i32, hand: i32| {
            errors(
                &PRIORITYLEVELCONFIGURATION,
                json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Queue",
                    "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 1}}}}),
            )
        };
        let at = "spec.limited.limitResponse.queuing";
        assert_eq!(level(128, 8), [] as [&str; 0]);
        assert_eq!(
            level(128, 10),
            [format!(
                "{at}.handSize: Invalid value: 10: required entropy bits of deckSize 128 and handSize 10 should not be greater than 60"
            )]
        );
        assert_eq!(
            level(20_000_000, 1),
            [format!("{at}.queues: Invalid value: 20000000: must not be greater than 10000000")]
        );
    }
}
