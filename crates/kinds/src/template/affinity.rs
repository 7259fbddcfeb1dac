//! Checks of what places a pod: tolerations, affinity, spread.

use k8s_openapi::api::core::v1::{
    NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSpec, Toleration, WeightedPodAffinityTerm,
};
use stead_api::Errors;
use stead_api::names::{dns1123_label, label_value, qualified_name};

use crate::check::{label_selector, list, name, one_of, requirement_parts, text};
use crate::path::Path;

const TAINT_EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub fn validate(at: Path, spec: &PodSpec, errors: &mut Errors) {
    for (index, toleration) in list(&spec.tolerations).iter().enumerate() {
        validate_toleration(at.child("tolerations").index(index), toleration, errors);
    }
    validate_spread(at.child("topologySpreadConstraints"), spec, errors);
    let Some(affinity) = &spec.affinity else { return };
    let at = at.child("affinity");
    if let Some(node) = &affinity.node_affinity {
        let at = at.child("nodeAffinity");
        if let Some(required) = &node.required_during_scheduling_ignored_during_execution {
            let at = at.child("requiredDuringSchedulingIgnoredDuringExecution");
            validate_terms(at.child("nodeSelectorTerms"), &required.node_selector_terms, errors);
        }
        for (index, term) in list(&node.preferred_during_scheduling_ignored_during_execution).iter().enumerate() {
            let all = at.child("preferredDuringSchedulingIgnoredDuringExecution");
            let at = all.index(index);
            weight(at.child("weight"), term.weight, errors);
            validate_term(at.child("preference"), &term.preference, errors);
        }
    }
    let nothing = (&[][..], &[][..]);
    let pod = affinity.pod_affinity.as_ref().map_or(nothing, |pod| {
        (
            list(&pod.required_during_scheduling_ignored_during_execution),
            list(&pod.preferred_during_scheduling_ignored_during_execution),
        )
    });
    let anti = affinity.pod_anti_affinity.as_ref().map_or(nothing, |pod| {
        (
            list(&pod.required_during_scheduling_ignored_during_execution),
            list(&pod.preferred_during_scheduling_ignored_during_execution),
        )
    });
    for (field, (required, preferred)) in [("podAffinity", pod), ("podAntiAffinity", anti)] {
        validate_pod_terms(at.child(field), required, preferred, errors);
    }
}

pub fn validate_toleration(at: Path, toleration: &Toleration, errors: &mut Errors) {
    let (key, operator, value) = (text(&toleration.key), text(&toleration.operator), text(&toleration.value));
    let effect = text(&toleration.effect);
    name(at.child("key"), key, qualified_name, errors);
    if key.is_empty() && operator != "Exists" {
        let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        at.child("operator").invalid(errors, operator, detail);
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        at.child("effect").invalid(errors, effect, detail);
    }
    match operator {
        "" | "Equal" => {
            for message in label_value(value) {
                at.child("operator").invalid(errors, value, message);
            }
        }
        "Exists" if !value.is_empty() => {
            at.child("operator").invalid(errors, value, "value must be empty when `operator` is 'Exists'");
        }
        "Exists" => {}
        _ => at.child("operator").not_supported(errors, operator, &["Equal", "Exists"]),
    }
    one_of(at.child("effect"), effect, TAINT_EFFECTS, true, errors);
}

fn weight(at: Path, weight: i32, errors: &mut Errors) {
    if !(1..=100).contains(&weight) {
        at.invalid(errors, weight, "must be in the range 1-100");
    }
}

/// The alternatives of a node selector; also used by the node affinity of volumes.
pub fn validate_terms(at: Path, terms: &[NodeSelectorTerm], errors: &mut Errors) {
    if terms.is_empty() {
        at.required(errors, "must have at least one node selector term");
    }
    for (index, term) in terms.iter().enumerate() {
        validate_term(at.index(index), term, errors);
    }
}

fn validate_term(at: Path, term: &NodeSelectorTerm, errors: &mut Errors) {
    for (index, requirement) in list(&term.match_expressions).iter().enumerate() {
        validate_requirement(at.child("matchExpressions").index(index), requirement, errors);
    }
    for (index, requirement) in list(&term.match_fields).iter().enumerate() {
        let all = at.child("matchFields");
        let at = all.index(index);
        if requirement.key != "metadata.name" {
            at.child("key").invalid(errors, requirement.key.as_str(), "not a valid field selector key");
        }
        if !matches!(requirement.operator.as_str(), "In" | "NotIn") {
            at.child("operator").invalid(errors, requirement.operator.as_str(), "not a valid selector operator");
        } else if list(&requirement.values).len() != 1 {
            let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            at.child("values").required(errors, detail);
        }
    }
}

fn validate_requirement(at: Path, requirement: &NodeSelectorRequirement, errors: &mut Errors) {
    requirement_parts(at, &requirement.key, &requirement.operator, list(&requirement.values), true, errors);
}

fn validate_pod_terms(
    at: Path,
    required: &[PodAffinityTerm],
    preferred: &[WeightedPodAffinityTerm],
    errors: &mut Errors,
) {
    for (index, term) in required.iter().enumerate() {
        let at = at.child("requiredDuringSchedulingIgnoredDuringExecution");
        validate_pod_term(at.index(index), term, errors);
    }
    for (index, term) in preferred.iter().enumerate() {
        let all = at.child("preferredDuringSchedulingIgnoredDuringExecution");
        let at = all.index(index);
        weight(at.child("weight"), term.weight, errors);
        validate_pod_term(at.child("podAffinityTerm"), &term.pod_affinity_term, errors);
    }
}

fn validate_pod_term(at: Path, term: &PodAffinityTerm, errors: &mut Errors) {
    if let Some(selector) = &term.label_selector {
        label_selector(at.child("labelSelector"), selector, errors);
    }
    if let Some(selector) = &term.namespace_selector {
        label_selector(at.child("namespaceSelector"), selector, errors);
    }
    for namespace in list(&term.namespaces) {
        name(at.child("namespace"), namespace, dns1123_label, errors);
    }
    topology_key(at.child("topologyKey"), &term.topology_key, errors);
}

fn topology_key(at: Path, key: &str, errors: &mut Errors) {
    if key.is_empty() {
        at.required(errors, "can not be empty");
    }
    name(at, key, qualified_name, errors);
}

fn validate_spread(at: Path, spec: &PodSpec, errors: &mut Errors) {
    let constraints = list(&spec.topology_spread_constraints);
    for (index, constraint) in constraints.iter().enumerate() {
        let at = at.index(index);
        if constraint.max_skew <= 0 {
            at.child("maxSkew").invalid(errors, constraint.max_skew, "must be greater than zero");
        }
        topology_key(at.child("topologyKey"), &constraint.topology_key, errors);
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        one_of(at.child("whenUnsatisfiable"), &constraint.when_unsatisfiable, &actions, false, errors);
        let (key, action) = (&constraint.topology_key, &constraint.when_unsatisfiable);
        if constraints[index + 1..]
            .iter()
            .any(|other| other.topology_key == *key && other.when_unsatisfiable == *action)
        {
            at.child("{topologyKey, whenUnsatisfiable}").duplicate(errors, format!("{{{key}, {action}}}"));
        }
        if constraint.min_domains.is_some_and(|domains| domains <= 0) {
            at.child("minDomains").invalid(errors, constraint.min_domains.unwrap_or(0), "must be greater than zero");
        }
        if let Some(selector) = &constraint.label_selector {
            label_selector(at.child("labelSelector"), selector, errors);
        }
    }
}
