//! Checks of a whole PodSpec and of a workload's pod template.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodDNSConfig, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as TypedSelector;
use serde_json::json;
use stead_api::names::{dns1123_label, dns1123_subdomain, qualified_name};
use stead_api::{Errors, LabelSelector};

use super::{affinity, containers, ephemeral, resources, security, volumes};
use crate::check::{ip, label_map, list, name, one_of, required_name, text};
use crate::meta;
use crate::path::Path;

const NAMESERVERS_MAX: usize = 3;
const SEARCH_PATHS_MAX: usize = 32;
const SEARCH_BYTES_MAX: usize = 2048;

/// Checks a template against the selector of its workload.
pub fn validate_template(at: Path, template: &PodTemplateSpec, selector: &TypedSelector, errors: &mut Errors) {
    let meta_at = at.child("metadata");
    let labels = template.metadata.as_ref().and_then(|meta| meta.labels.as_ref());
    if !crate::check::is_empty_selector(selector) {
        let empty = Default::default();
        let matches = LabelSelector::from_typed(Some(selector)).map(|s| s.matches(labels.unwrap_or(&empty)));
        if matches == Ok(false) {
            let detail = "`selector` does not match template `labels`";
            meta_at.child("labels").invalid(errors, json!(labels.unwrap_or(&empty)), detail);
        }
    }
    label_map(meta_at.child("labels"), labels, errors);
    if let Some(annotations) = template.metadata.as_ref().and_then(|meta| meta.annotations.as_ref()) {
        let pairs = annotations.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        meta::validate_annotations(pairs, &meta_at.child("annotations"), errors);
    }
    let spec_at = at.child("spec");
    match &template.spec {
        Some(spec) => {
            if !list(&spec.ephemeral_containers).is_empty() {
                let detail = "ephemeral containers not allowed in pod template";
                spec_at.child("ephemeralContainers").forbidden(errors, detail);
            }
            let annotations = template.metadata.as_ref().and_then(|meta| meta.annotations.as_ref());
            security::validate_annotations(meta_at.child("annotations"), annotations, spec, errors);
            validate_pod_spec(spec_at, spec, errors);
        }
        None => spec_at.child("containers").required(errors, ""),
    }
}

/// What long-running workloads demand of their template: `Always` restarted and no deadline (S-03).
pub fn validate_long_running(at: Path, template: &PodTemplateSpec, kind: &str, errors: &mut Errors) {
    let Some(spec) = &template.spec else { return };
    let at = at.child("spec");
    let policy = text(&spec.restart_policy);
    if policy != "Always" {
        at.child("restartPolicy").not_supported(errors, policy, &["Always"]);
    }
    if spec.active_deadline_seconds.is_some() {
        at.child("activeDeadlineSeconds")
            .forbidden(errors, format!("activeDeadlineSeconds in {kind} is not Supported"));
    }
}

pub fn validate_pod_spec(at: Path, spec: &PodSpec, errors: &mut Errors) {
    let volumes = volumes::validate(at.child("volumes"), list(&spec.volumes), errors);
    let names = containers::validate_all(at, spec, &volumes, errors);
    ephemeral::validate(at.child("ephemeralContainers"), spec, &volumes, names, errors);
    let restart = text(&spec.restart_policy);
    one_of(at.child("restartPolicy"), restart, &["Always", "OnFailure", "Never"], false, errors);
    let policies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    one_of(at.child("dnsPolicy"), text(&spec.dns_policy), &policies, false, errors);
    label_map(at.child("nodeSelector"), spec.node_selector.as_ref(), errors);
    for (field, value) in [
        ("serviceAccountName", &spec.service_account_name),
        ("nodeName", &spec.node_name),
        ("priorityClassName", &spec.priority_class_name),
        ("runtimeClassName", &spec.runtime_class_name),
    ] {
        name(at.child(field), text(value), dns1123_subdomain, errors);
    }
    name(at.child("hostname"), text(&spec.hostname), dns1123_label, errors);
    name(at.child("subdomain"), text(&spec.subdomain), dns1123_label, errors);
    if let Some(seconds) = spec.active_deadline_seconds
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        at.child("activeDeadlineSeconds").invalid(errors, seconds, "must be between 1 and 2147483647, inclusive");
    }
    security::validate_pod(at.child("securityContext"), spec, errors);
    validate_aliases(at, spec, errors);
    affinity::validate(at, spec, errors);
    validate_dns(at, text(&spec.dns_policy), spec.dns_config.as_ref(), errors);
    validate_gates(at, spec, errors);
    one_of(
        at.child("preemptionPolicy"),
        text(&spec.preemption_policy),
        &["Never", "PreemptLowerPriority"],
        true,
        errors,
    );
    if let Some(os) = &spec.os {
        one_of(at.child("os").child("name"), &os.name, &["linux", "windows"], false, errors);
    }
    if let Some(found) = &spec.resources {
        resources::validate(at.child("resources"), found, errors);
    }
}

fn validate_aliases(at: Path, spec: &PodSpec, errors: &mut Errors) {
    let at = at.child("hostAliases");
    for alias in list(&spec.host_aliases) {
        ip(at.child("ip"), &alias.ip, errors);
        for hostname in list(&alias.hostnames) {
            required_name(at.child("hostnames"), hostname, dns1123_subdomain, errors);
        }
    }
}

fn validate_gates(at: Path, spec: &PodSpec, errors: &mut Errors) {
    for (index, gate) in list(&spec.readiness_gates).iter().enumerate() {
        for message in qualified_name(&gate.condition_type) {
            let all = at.child("readinessGates");
            all.index(index).child("conditionType").invalid(errors, gate.condition_type.as_str(), message);
        }
    }
    let mut seen = BTreeSet::new();
    for (index, gate) in list(&spec.scheduling_gates).iter().enumerate() {
        let all = at.child("schedulingGates");
        for message in qualified_name(&gate.name) {
            all.index(index).invalid(errors, gate.name.as_str(), message);
        }
        if !seen.insert(&gate.name) {
            all.index(index).duplicate(errors, gate.name.as_str());
        }
    }
    if list(&spec.scheduling_gates).is_empty() {
        return;
    }
    if !text(&spec.node_name).is_empty() {
        at.child("nodeName").forbidden(errors, "cannot be set until all schedulingGates have been cleared");
    }
}

fn validate_dns(at: Path, policy: &str, config: Option<&PodDNSConfig>, errors: &mut Errors) {
    let at = at.child("dnsConfig");
    let nameservers = config.map_or(&[][..], |config| list(&config.nameservers));
    if policy == "None" && nameservers.is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        if config.is_none() {
            at.required(errors, detail.replace("provide at least one DNS nameserver", "provide `dnsConfig`"));
        } else {
            at.child("nameservers").required(errors, detail);
        }
    }
    let Some(config) = config else { return };
    if nameservers.len() > NAMESERVERS_MAX {
        let detail = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        at.child("nameservers").invalid(errors, json!(nameservers), detail);
    }
    for (index, server) in nameservers.iter().enumerate() {
        ip(at.child("nameservers").index(index), server, errors);
    }
    let searches = list(&config.searches);
    if searches.len() > SEARCH_PATHS_MAX {
        at.child("searches").invalid(
            errors,
            json!(searches),
            format!("must not have more than {SEARCH_PATHS_MAX} search paths"),
        );
    }
    if searches.join(" ").len() > SEARCH_BYTES_MAX {
        let detail =
            format!("must not have more than {SEARCH_BYTES_MAX} characters (including spaces) in the search list");
        at.child("searches").invalid(errors, json!(searches), detail);
    }
    for (index, search) in searches.iter().enumerate() {
        let relative = search.strip_suffix('.').unwrap_or(search);
        if relative.is_empty() && search == "." {
            continue;
        }
        required_name(at.child("searches").index(index), relative, dns1123_subdomain, errors);
    }
    for (index, option) in list(&config.options).iter().enumerate() {
        if text(&option.name).is_empty() {
            at.child("options").index(index).required(errors, "must not be empty");
        }
    }
}
