//! ResourceQuota: how much a namespace may use.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec, ScopedResourceSelectorRequirement};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as QuantityText;
use serde_json::{Value, json};
use stead_api::names::qualified_name;
use stead_api::{Errors, Object};

use crate::check::{FIELD_IS_IMMUTABLE, NOT_NEGATIVE, list, quantity};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN};
use crate::fill::{object, object_or_new, quantities};
use crate::names::names;
use crate::path::Path;
use crate::{Behavior, Column, Hooks, Kind, Subresource};

pub const RESOURCEQUOTA: Kind = Kind {
    short: &["quota"],
    subresources: &[Subresource::Status],
    columns: COLUMNS,
    hooks: Hooks::of::<ResourceQuota>(),
    ..Kind::plain(
        "resourcequotas",
        "",
        "v1",
        names!("ResourceQuota", "resourcequota", "resourcequotas"),
        "io.k8s.api.core.v1.ResourceQuota",
    )
};

/// Names without a domain that a quota may limit, in parts of one.
const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];

/// Those that are counted in whole numbers.
const WHOLE: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];

const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// What pods use of: the only names that a scope about pods may limit.
const OF_PODS: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];

impl Behavior for ResourceQuota {
    fn default(new: &mut Value) {
        if let Some(spec) = object_or_new(new, "spec") {
            quantities(spec, "hard");
        }
        if let Some(status) = object(new, "status") {
            quantities(status, "hard");
            quantities(status, "used");
        }
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let empty = ResourceQuotaSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&empty);
        let at = Path::root("spec");
        validate_amounts(at.child("hard"), spec.hard.as_ref(), errors);
        validate_scopes(at, spec, errors);
        if let Some(before) = old.map(|old| old.spec.as_ref().unwrap_or(&empty)) {
            let sorted = |spec: &ResourceQuotaSpec| {
                let mut scopes = list(&spec.scopes).to_vec();
                scopes.sort();
                scopes
            };
            if sorted(before) != sorted(spec) {
                at.child("scopes").invalid(errors, json!(spec.scopes), FIELD_IS_IMMUTABLE);
            }
        }
        if let Some(status) = &self.status {
            let at = Path::root("status");
            validate_amounts(at.child("hard"), status.hard.as_ref(), errors);
            validate_amounts(at.child("used"), status.used.as_ref(), errors);
        }
    }
}

fn validate_amounts(at: Path, amounts: Option<&BTreeMap<String, QuantityText>>, errors: &mut Errors) {
    for (name, amount) in amounts.into_iter().flatten() {
        for message in qualified_name(name) {
            at.key(name).invalid(errors, name.as_str(), message);
        }
        let is_hugepages = ["hugepages-", "requests.hugepages-"].iter().any(|prefix| name.starts_with(prefix));
        if !name.contains('/') && !STANDARD.iter().chain(WHOLE).any(|known| known == name) && !is_hugepages {
            let detail = "must be a standard resource type or fully qualified";
            at.key(name).invalid(errors, name.as_str(), detail);
            at.key(name).invalid(errors, name.as_str(), "must be a standard resource for quota");
        }
        let Some(found) = quantity(at.key(name), amount, errors) else { continue };
        if found.sign() < 0 {
            at.key(name).invalid(errors, amount.0.as_str(), NOT_NEGATIVE);
        }
        let is_whole = WHOLE.contains(&name.as_str()) || name.starts_with("count/");
        if is_whole && found.milli_value() % 1000 != 0 {
            at.key(name).invalid(errors, amount.0.as_str(), "must be an integer");
        }
    }
}

fn validate_scopes(at: Path, spec: &ResourceQuotaSpec, errors: &mut Errors) {
    let hard: Vec<&str> = spec.hard.iter().flatten().map(|(name, _)| name.as_str()).collect();
    let scopes: Vec<&str> = list(&spec.scopes).iter().map(String::as_str).collect();
    if !scopes.is_empty() {
        let at = at.child("scopes");
        check_scopes(at, &scopes, &hard, json!(scopes), errors);
    }
    let Some(selector) = &spec.scope_selector else { return };
    let at = at.child("scopeSelector");
    let at_terms = at.child("matchExpressions");
    let terms = list(&selector.match_expressions);
    for term in terms {
        validate_term(at_terms, term, errors);
    }
    let names: Vec<&str> = terms.iter().map(|term| term.scope_name.as_str()).collect();
    check_scopes(at_terms, &names, &hard, json!(terms), errors);
}

fn check_scopes(at: Path, scopes: &[&str], hard: &[&str], shown: Value, errors: &mut Errors) {
    for scope in scopes {
        if !SCOPES.contains(scope) {
            at.invalid(errors, shown.clone(), "unsupported scope");
        }
        for name in hard {
            if !fits(scope, name) {
                at.invalid(errors, shown.clone(), "unsupported scope applied to resource");
            }
        }
    }
    for pair in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if pair.iter().all(|one| scopes.contains(one)) {
            at.invalid(errors, shown.clone(), "conflicting scopes");
        }
    }
}

fn fits(scope: &str, name: &str) -> bool {
    match scope {
        "BestEffort" => name == "pods",
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            OF_PODS.contains(&name) || name.starts_with("requests.hugepages-") || name.starts_with("hugepages-")
        }
        "VolumeAttributesClass" => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

fn validate_term(at: Path, term: &ScopedResourceSelectorRequirement, errors: &mut Errors) {
    let (operator, values) = (term.operator.as_str(), list(&term.values));
    if !matches!(term.scope_name.as_str(), "PriorityClass" | "VolumeAttributesClass") && operator != "Exists" {
        let detail = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
        at.child("operator").invalid(errors, operator, detail);
    }
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            at.child("values").required(errors, detail);
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            at.child("values").invalid(errors, json!(values), detail);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => at.child("operator").invalid(errors, other, "not a valid selector operator"),
    }
}

const COLUMNS: &[Column] = &[
    NAME_COLUMN,
    columns::text("Request", |object, _| amounts(object, false).into(), "How much is used of what may be requested."),
    columns::text("Limit", |object, _| amounts(object, true).into(), "How much is used of what limits may be."),
    AGE_COLUMN,
];

/// `requests.cpu: 1/2, pods: 3/10`.
fn amounts(object: &Object, of_limits: bool) -> String {
    let value = object.value();
    let status = &value["status"];
    let mut names: Vec<(&String, &Value)> = status["hard"].as_object().into_iter().flatten().collect();
    names.sort_by_key(|(name, _)| name.as_str());
    let chosen = names.into_iter().filter(|(name, _)| name.starts_with("limits.") == of_limits);
    let parts = chosen.map(|(name, hard)| {
        let used = status["used"][name.as_str()].as_str().unwrap_or("0");
        format!("{name}: {used}/{}", hard.as_str().unwrap_or(""))
    });
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(spec: Value) -> Vec<String> {
        let value = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": spec});
        let found = RESOURCEQUOTA.check(&value, None).expect("decodes").errors;
        found.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_name_and_amount_is_checked() {
        let good = json!({"hard": {"pods": "4", "requests.cpu": "1", "count/deployments.apps": "2",
            "gold.storageclass.storage.k8s.io/requests.storage": "5Gi"}});
        assert_eq!(errors(good), Vec::<String>::new());
        assert_eq!(
            errors(json!({"hard": {"pods": "1500m", "widgets": "-1"}})),
            [
                "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
                "spec.hard[widgets]: Invalid value: \"widgets\": must be a standard resource type or fully qualified",
                "spec.hard[widgets]: Invalid value: \"widgets\": must be a standard resource for quota",
                "spec.hard[widgets]: Invalid value: \"-1\": must be greater than or equal to 0",
            ]
        );
    }

    #[test]
    fn scopes_fit_what_they_limit_and_each_other() {
        assert_eq!(
            errors(json!({"hard": {"services": "1"}, "scopes": ["BestEffort"]})),
            ["spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource"]
        );
        assert_eq!(
            errors(json!({"hard": {"pods": "1"}, "scopes": ["Terminating", "NotTerminating"]})),
            ["spec.scopes: Invalid value: [\"Terminating\",\"NotTerminating\"]: conflicting scopes"]
        );
        let term = json!({"scopeName": "PriorityClass", "operator": "In"});
        assert_eq!(
            errors(json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [term]}})),
            [
                "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            ]
        );
    }
}
