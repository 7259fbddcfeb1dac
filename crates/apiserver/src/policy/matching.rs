//! Which changes a policy is about: rules, selectors, equivalent versions.

use k8s_openapi::api::admissionregistration::v1::{MatchResources, NamedRuleWithOperations};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as TypedSelector;
use serde_json::Value;
use stead_api::LabelSelector;
use stead_kinds::Kind;

use crate::attempt::Attempt;
use crate::context::Place;

/// The version in which a change is looked at; None when it is not. Without constraints everything is.
pub(crate) fn matches(place: Place, attempt: &Attempt, constraints: Option<&MatchResources>) -> Option<Kind> {
    let Some(constraints) = constraints else { return Some(attempt.kind) };
    if !selects_namespace(place, attempt, constraints.namespace_selector.as_ref())
        || !selects_object(attempt, constraints.object_selector.as_ref())
    {
        return None;
    }
    let is_exact = constraints.match_policy.as_deref() == Some("Exact");
    let versions = versions(place, attempt, is_exact);
    let excluded = constraints.exclude_resource_rules.as_deref().unwrap_or_default();
    if versions.iter().any(|kind| excluded.iter().any(|rule| covers(rule, attempt, kind))) {
        return None;
    }
    match constraints.resource_rules.as_deref().unwrap_or_default() {
        // A binding may narrow by selectors alone.
        [] => versions.first().copied(),
        rules => versions.into_iter().find(|kind| rules.iter().any(|rule| covers(rule, attempt, kind))),
    }
}

/// The version that was asked for, then all others of the same kind.
fn versions(place: Place, attempt: &Attempt, is_exact: bool) -> Vec<Kind> {
    let asked = attempt.request.resource().and_then(|resource| {
        let kind = place.registry.find(&resource.group, &resource.version, &resource.plural)?;
        (kind.storage == attempt.kind.storage).then_some(*kind)
    });
    let first = asked.unwrap_or(attempt.kind);
    let others = place.registry.all().filter(|kind| {
        !is_exact && kind.storage == first.storage && (kind.group, kind.version) != (first.group, first.version)
    });
    std::iter::once(first).chain(others.copied()).collect()
}

fn covers(rule: &NamedRuleWithOperations, attempt: &Attempt, kind: &Kind) -> bool {
    let has = |list: &Option<Vec<String>>, wanted: &str| {
        list.as_deref().unwrap_or_default().iter().any(|one| one == "*" || one == wanted)
    };
    let resources = rule.resources.as_deref().unwrap_or_default();
    let is_named = resources.iter().any(|one| match one.split_once('/') {
        None => (one == "*" || one == kind.plural) && attempt.subresource.is_empty(),
        Some((resource, subresource)) => {
            (resource == "*" || resource == kind.plural) && (subresource == "*" || subresource == attempt.subresource)
        }
    });
    let in_scope = match rule.scope.as_deref() {
        Some("Cluster") => !kind.namespaced,
        Some("Namespaced") => kind.namespaced,
        _ => true,
    };
    let names = rule.resource_names.as_deref().unwrap_or_default();
    let is_meant = names.is_empty() || names.iter().any(|name| name == attempt.name);
    has(&rule.operations, attempt.operation)
        && has(&rule.api_groups, kind.group)
        && has(&rule.api_versions, kind.version)
        && is_named
        && in_scope
        && is_meant
}

fn labels(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("labels")
}

fn selector(typed: Option<&TypedSelector>) -> Option<LabelSelector> {
    let selector = LabelSelector::from_typed(Some(typed?)).ok()?;
    (!selector.is_everything()).then_some(selector)
}

fn selects_object(attempt: &Attempt, typed: Option<&TypedSelector>) -> bool {
    let Some(selector) = selector(typed) else { return true };
    let is_selected = |object: &Value| object.is_object() && selector.matches_value(labels(object));
    is_selected(&attempt.new) || is_selected(&attempt.old)
}

/// The namespace of the object, or the object itself if it is one; others of the cluster are always selected.
fn selects_namespace(place: Place, attempt: &Attempt, typed: Option<&TypedSelector>) -> bool {
    let Some(selector) = selector(typed) else { return true };
    if attempt.kind.storage == "namespaces" {
        let object = if attempt.new.is_object() { &attempt.new } else { &attempt.old };
        return selector.matches_value(labels(object));
    }
    if !attempt.kind.namespaced {
        return true;
    }
    let namespace = place.snapshot.find("namespaces", "", attempt.namespace);
    namespace.is_some_and(|namespace| selector.matches_value(labels(&namespace.value())))
}
