//! StatefulSet (S-01 … S-20, ST-10, ST-13, X-02, X-12).

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus, StatefulSetUpdateStrategy};
use serde_json::{Map, Value, json};
use stead_api::Errors;
use stead_api::names::{dns1123_label, dns1123_subdomain};
use stead_api::object::Fields;

use crate::check::{
    amount, at_most_all, int_or_percent, int_or_string, list, name, not_negative, one_of, required_name,
    semantically_equal, text,
};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN, wide};
use crate::fill::{each, object_or_new, quantities, set, set_text};
use crate::names::{self, names};
use crate::path::Path;
use crate::persistentvolumeclaim as claim;
use crate::template::defaults::{default_claim_spec, default_template};
use crate::workload::{self, validate_pods, view, workload};
use crate::{Behavior, Column, Hooks, Kind};

pub const STATEFULSET: Kind = Kind {
    short: &["sts"],
    name_rule: set_name,
    fields: Fields { selectable: &[], indexed: &[], labels_indexed: true, ..Fields::NONE },
    columns: COLUMNS,
    hooks: Hooks::of::<StatefulSet>(),
    ..workload(
        "statefulsets.apps",
        names!("StatefulSet", "statefulset", "statefulsets"),
        "io.k8s.api.apps.v1.StatefulSet",
    )
};

/// Pods carry the label `controller-revision-hash=<name>-<hash of 10>`, whose value may have 63 characters.
pub const NAME_MAX: usize = 52;

const MUTABLE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

/// A name that leaves room for the revision in the label of its pods (S-16, X-12).
fn set_name(name: &str) -> Vec<String> {
    let mut messages = names::dns1123_label(name);
    if messages.is_empty() && name.len() > NAME_MAX {
        messages.push(format!(
            "must be no more than {NAME_MAX} characters: its pods carry the label controller-revision-hash, whose value is this name and a hash"
        ));
    }
    messages
}

impl Behavior for StatefulSet {
    fn default(new: &mut Value) {
        let Some(spec) = object_or_new(new, "spec") else { return };
        set(spec, "replicas", 1);
        set_text(spec, "podManagementPolicy", "OrderedReady");
        set(spec, "revisionHistoryLimit", 10);
        if let Some(strategy) = object_or_new(spec, "updateStrategy") {
            set_text(strategy, "type", "RollingUpdate");
            if strategy.get("type").is_some_and(|found| found == "RollingUpdate")
                && let Some(rolling) = object_or_new(strategy, "rollingUpdate")
            {
                set(rolling, "partition", 0);
                set(rolling, "maxUnavailable", 1);
            }
        }
        if let Some(policy) = object_or_new(spec, "persistentVolumeClaimRetentionPolicy") {
            set_text(policy, "whenDeleted", "Retain");
            set_text(policy, "whenScaled", "Retain");
        }
        default_template(spec);
        for template in each(spec, "volumeClaimTemplates") {
            default_claim_template(template);
        }
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let at = Path::root("spec");
        let empty = StatefulSetSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&empty);
        let old_spec = old.and_then(|old| old.spec.as_ref());
        if old_spec != Some(spec) {
            if let Some(before) = old_spec {
                validate_update(at, spec, before, errors);
            } else {
                name(at.child("serviceName"), text(&spec.service_name), dns1123_label, errors);
                validate_claim_templates(at.child("volumeClaimTemplates"), spec, errors);
            }
            validate_spec(at, spec, errors);
        }
        if let Some(status) = &self.status {
            let before = old.and_then(|old| old.status.as_ref());
            validate_status(Path::root("status"), status, before, errors);
        }
    }

    fn warn(&self, _old: Option<&Self>) -> Vec<String> {
        let Some(spec) = &self.spec else { return Vec::new() };
        let mut warnings = workload::warn_of_template(&spec.template);
        let at = Path::root("spec");
        for (index, template) in list(&spec.volume_claim_templates).iter().enumerate() {
            let all = at.child("volumeClaimTemplates");
            let at = all.index(index);
            warnings.extend(template.spec.as_ref().and_then(|spec| claim::warn_of_fraction(at.child("spec"), spec)));
        }
        if spec.revision_history_limit.is_some_and(|limit| limit < 0) {
            let message = "a negative value retains all historical revisions; a value >= 0 is recommended";
            warnings.push(format!("spec.revisionHistoryLimit: {message}"));
        }
        warnings
    }
}

/// A claim template is stored as a whole claim.
fn default_claim_template(template: &mut Value) {
    set_text(template, "apiVersion", "v1");
    set_text(template, "kind", "PersistentVolumeClaim");
    set(template, "metadata", Map::new());
    if let Some(spec) = object_or_new(template, "spec") {
        default_claim_spec(spec);
    }
    if let Some(status) = object_or_new(template, "status") {
        set_text(status, "phase", "Pending");
        quantities(status, "capacity");
    }
}

fn validate_spec(at: Path, spec: &StatefulSetSpec, errors: &mut Errors) {
    let policies = ["OrderedReady", "Parallel"];
    match text(&spec.pod_management_policy) {
        "" => at.child("podManagementPolicy").required(errors, ""),
        policy if policies.contains(&policy) => {}
        policy => {
            at.child("podManagementPolicy").invalid(errors, policy, "must be 'OrderedReady' or 'Parallel'");
        }
    }
    match &spec.update_strategy {
        Some(strategy) => validate_strategy(at.child("updateStrategy"), strategy, errors),
        None => at.child("updateStrategy").required(errors, ""),
    }
    if let Some(policy) = &spec.persistent_volume_claim_retention_policy {
        let at = at.child("persistentVolumeClaimRetentionPolicy");
        for (field, value) in [("whenDeleted", &policy.when_deleted), ("whenScaled", &policy.when_scaled)] {
            one_of(at.child(field), text(value), &["Delete", "Retain"], false, errors);
        }
    }
    not_negative(at.child("replicas"), spec.replicas, errors);
    not_negative(at.child("minReadySeconds"), spec.min_ready_seconds, errors);
    let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start);
    not_negative(at.child("ordinals").child("start"), start, errors);
    validate_pods(at, "StatefulSet", &spec.selector, &with_claim_volumes(spec), errors);
}

/// The template as its pods will have it: a volume for each claim template, which replaces one of the same name (S-04).
fn with_claim_volumes(spec: &StatefulSetSpec) -> k8s_openapi::api::core::v1::PodTemplateSpec {
    use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Volume};
    let mut template = spec.template.clone();
    let Some(pods) = &mut template.spec else { return template };
    for claim in list(&spec.volume_claim_templates) {
        let name = claim.metadata.name.clone().unwrap_or_default();
        let volumes = pods.volumes.get_or_insert_default();
        if volumes.iter().any(|volume| volume.name == name) {
            continue;
        }
        let source = PersistentVolumeClaimVolumeSource { claim_name: name.clone(), read_only: None };
        volumes.push(Volume { name, persistent_volume_claim: Some(source), ..Volume::default() });
    }
    template
}

fn validate_strategy(at: Path, strategy: &StatefulSetUpdateStrategy, errors: &mut Errors) {
    let rolling = strategy.rolling_update.as_ref();
    match (text(&strategy.type_), rolling) {
        ("", _) => at.required(errors, ""),
        ("OnDelete", Some(rolling)) => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            at.child("rollingUpdate").invalid(errors, json!(rolling), detail);
        }
        ("RollingUpdate", Some(rolling)) => {
            let at = at.child("rollingUpdate");
            not_negative(at.child("partition"), rolling.partition, errors);
            if let Some(most) = &rolling.max_unavailable {
                let at = at.child("maxUnavailable");
                int_or_percent(at, most, errors);
                if amount(most) == 0 {
                    at.invalid(errors, int_or_string(most), "cannot be 0");
                }
                at_most_all(at, most, errors);
            }
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        _ => at.invalid(errors, json!(strategy), "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

fn validate_claim_templates(at: Path, spec: &StatefulSetSpec, errors: &mut Errors) {
    let mut seen = std::collections::BTreeSet::new();
    for (index, template) in list(&spec.volume_claim_templates).iter().enumerate() {
        let at = at.index(index);
        let name = template.metadata.name.as_deref().unwrap_or("");
        required_name(at.child("metadata").child("name"), name, dns1123_subdomain, errors);
        if !name.is_empty() && !seen.insert(name) {
            at.child("metadata").child("name").duplicate(errors, name);
        }
        let empty = Default::default();
        claim::validate_spec(at.child("spec"), template.spec.as_ref().unwrap_or(&empty), errors);
    }
}

/// Everything but the mutable fields stays as it was created (S-15).
fn validate_update(at: Path, new: &StatefulSetSpec, old: &StatefulSetSpec, errors: &mut Errors) {
    let mut same = new.clone();
    same.replicas = old.replicas;
    same.ordinals = old.ordinals.clone();
    same.template = old.template.clone();
    same.update_strategy = old.update_strategy.clone();
    same.revision_history_limit = old.revision_history_limit;
    same.persistent_volume_claim_retention_policy = old.persistent_volume_claim_retention_policy.clone();
    same.min_ready_seconds = old.min_ready_seconds;
    if !semantically_equal(&json!(same), &json!(old)) {
        at.forbidden(errors, MUTABLE);
    }
}

/// Counts make sense (ST-10) and the collision count never falls (ST-08).
fn validate_status(at: Path, status: &StatefulSetStatus, old: Option<&StatefulSetStatus>, errors: &mut Errors) {
    not_negative(at.child("replicas"), Some(status.replicas), errors);
    not_negative(at.child("observedGeneration"), status.observed_generation, errors);
    not_negative(at.child("collisionCount"), status.collision_count, errors);
    for (field, count) in [
        ("readyReplicas", status.ready_replicas),
        ("currentReplicas", status.current_replicas),
        ("updatedReplicas", status.updated_replicas),
        ("availableReplicas", status.available_replicas),
    ] {
        not_negative(at.child(field), count, errors);
        if count.is_some_and(|count| count > status.replicas) {
            at.child(field).invalid(errors, count.unwrap_or(0), "cannot be greater than status.replicas");
        }
    }
    if status.available_replicas > status.ready_replicas.or(Some(0)) {
        let count = status.available_replicas.unwrap_or(0);
        at.child("availableReplicas").invalid(errors, count, "cannot be greater than status.readyReplicas");
    }
    let before = old.and_then(|old| old.collision_count);
    if before.is_some() && status.collision_count < before {
        let count = status.collision_count.unwrap_or(0);
        at.child("collisionCount").invalid(errors, count, "cannot be decremented");
    }
}

const COLUMNS: &[Column] = &[
    NAME_COLUMN,
    columns::text(
        "Ready",
        |object, _| {
            let set = view::<StatefulSet>(object);
            let ready = set.status.as_ref().and_then(|status| status.ready_replicas);
            workload::ready_text(ready, set.spec.as_ref().and_then(|spec| spec.replicas)).into()
        },
        "Pods that are ready, of those wanted.",
    ),
    AGE_COLUMN,
    wide(columns::text(
        "Containers",
        |object, _| workload::containers(view::<StatefulSet>(object).spec.as_ref().map(|s| &s.template)).into(),
        "Names of the containers in the template.",
    )),
    wide(columns::text(
        "Images",
        |object, _| workload::images(view::<StatefulSet>(object).spec.as_ref().map(|s| &s.template)).into(),
        "Images of the containers in the template.",
    )),
];

#[cfg(test)]
mod tests;
