//! Checks of a Job and of a CronJob's template.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobTemplateSpec, PodFailurePolicyRule, SuccessPolicyRule};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as TypedSelector;
use serde_json::{Value, json};
use stead_api::names::qualified_name;
use stead_api::status::FieldErrorKind;
use stead_api::{Errors, LabelSelector};

use super::facts::{CONTROLLER_UID, JOB_NAME, OLD_LABELS, has_condition};
use crate::check::{FIELD_IS_IMMUTABLE, label_selector, list, name, not_negative, one_of, semantically_equal, text};
use crate::path::Path;
use crate::template::validate_template;

/// The most pods an indexed job may run at once, and the most failed indexes it may count.
const INDEXED_PARALLELISM_MAX: i32 = 100_000;
const FAILURE_RULES_MAX: usize = 20;
const SUCCESS_RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const CONDITIONS_MAX: usize = 20;
const MANAGED_BY_MAX: usize = 63;

pub(super) fn validate(job: &Job, old: Option<&Job>, errors: &mut Errors) {
    let at = Path::root("spec");
    let empty = JobSpec::default();
    let spec = job.spec.as_ref().unwrap_or(&empty);
    let before = old.map(|old| old.spec.as_ref().unwrap_or(&empty));
    if before != Some(spec) {
        if old.is_none() {
            generated_selector(job, spec, errors);
        }
        match &spec.selector {
            None => at.child("selector").required(errors, ""),
            Some(selector) => {
                label_selector(at.child("selector"), selector, errors);
                matches_template(at, selector, &spec.template, errors);
            }
        }
        validate_spec(at, spec, errors);
        if let (Some(before), Some(old)) = (before, old) {
            validate_update(at, old, spec, before, errors);
        }
    }
    let Some(status) = &job.status else { return };
    let at = Path::root("status");
    for (field, count) in [("active", status.active), ("succeeded", status.succeeded), ("failed", status.failed)] {
        not_negative(at.child(field), count, errors);
    }
}

fn labels_of(template: &PodTemplateSpec) -> std::collections::BTreeMap<String, String> {
    template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default()
}

fn matches_template(at: Path, selector: &TypedSelector, template: &PodTemplateSpec, errors: &mut Errors) {
    let labels = labels_of(template);
    if LabelSelector::from_typed(Some(selector)).is_ok_and(|selector| !selector.matches(&labels)) {
        let at = at.child("template");
        let at = at.child("metadata");
        let detail = "`selector` does not match template `labels`";
        at.child("labels").invalid(errors, json!(labels), detail);
    }
}

/// A selector that the server made must be the one that it would make.
fn generated_selector(job: &Job, spec: &JobSpec, errors: &mut Errors) {
    if spec.manual_selector == Some(true) {
        return;
    }
    let Some(selector) = &spec.selector else { return };
    let (uid, job_name) = (text(&job.metadata.uid), text(&job.metadata.name));
    let expected = [(CONTROLLER_UID, uid), (JOB_NAME, job_name), (OLD_LABELS[0], uid), (OLD_LABELS[1], job_name)];
    let labels = labels_of(&spec.template);
    let at = Path::root("spec");
    let at_template = at.child("template");
    let at_meta = at_template.child("metadata");
    let at_labels = at_meta.child("labels");
    for (label, value) in expected {
        match labels.get(label) {
            None => at_labels.key(label).required(errors, format!("must be '{value}'")),
            Some(found) if found != value => {
                at_labels.key(label).invalid(errors, found.as_str(), format!("must be '{value}'"));
            }
            Some(_) => {}
        }
    }
    let own = expected.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
    if LabelSelector::from_typed(Some(selector)).is_ok_and(|selector| !selector.matches(&own)) {
        at.child("selector").invalid(errors, json!(selector), "`selector` not auto-generated");
    }
}

fn validate_spec(at: Path, spec: &JobSpec, errors: &mut Errors) {
    not_negative(at.child("parallelism"), spec.parallelism, errors);
    not_negative(at.child("completions"), spec.completions, errors);
    not_negative(at.child("activeDeadlineSeconds"), spec.active_deadline_seconds, errors);
    not_negative(at.child("backoffLimit"), spec.backoff_limit, errors);
    not_negative(at.child("ttlSecondsAfterFinished"), spec.ttl_seconds_after_finished, errors);
    not_negative(at.child("backoffLimitPerIndex"), spec.backoff_limit_per_index, errors);
    not_negative(at.child("maxFailedIndexes"), spec.max_failed_indexes, errors);
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        at.child("backoffLimitPerIndex").required(errors, "when maxFailedIndexes is specified");
    }
    if let Some(manager) = &spec.managed_by {
        let at = at.child("managedBy");
        if !manager.contains('/') {
            at.invalid(errors, manager.as_str(), "must be a domain-prefixed path (such as \"acme.io/foo\")");
        } else {
            name(at, manager, qualified_name, errors);
        }
        if manager.len() > MANAGED_BY_MAX {
            at.too_long(errors, MANAGED_BY_MAX);
        }
    }
    validate_mode(at, spec, errors);
    validate_policies(at, spec, errors);
    validate_pods(at, spec, errors);
}

fn validate_mode(at: Path, spec: &JobSpec, errors: &mut Errors) {
    match text(&spec.completion_mode) {
        "" => {}
        "NonIndexed" => {
            if let Some(limit) = spec.backoff_limit_per_index {
                at.child("backoffLimitPerIndex").invalid(errors, limit, "requires indexed completion mode");
            }
            if let Some(most) = spec.max_failed_indexes {
                at.child("maxFailedIndexes").invalid(errors, most, "requires indexed completion mode");
            }
        }
        "Indexed" => {
            if spec.completions.is_none() {
                at.child("completions").required(errors, "when completion mode is Indexed");
            }
            let detail = format!("must be less than or equal to {INDEXED_PARALLELISM_MAX}");
            if let Some(count) = spec.parallelism.filter(|count| *count > INDEXED_PARALLELISM_MAX) {
                at.child("parallelism").invalid(errors, count, format!("{detail} when completion mode is Indexed"));
            }
            let Some(most) = spec.max_failed_indexes else { return };
            if spec.completions.is_some_and(|completions| most > completions) {
                at.child("maxFailedIndexes").invalid(errors, most, "must be less than or equal to completions");
            }
            if most > INDEXED_PARALLELISM_MAX {
                at.child("maxFailedIndexes").invalid(errors, most, detail);
            }
        }
        other => at.child("completionMode").not_supported(errors, other, &["Indexed", "NonIndexed"]),
    }
}

fn validate_policies(at: Path, spec: &JobSpec, errors: &mut Errors) {
    if let Some(policy) = &spec.pod_failure_policy {
        let at = at.child("podFailurePolicy");
        let at = at.child("rules");
        if policy.rules.len() > FAILURE_RULES_MAX {
            at.push(
                errors,
                FieldErrorKind::TooMany,
                policy.rules.len(),
                format!("must have at most {FAILURE_RULES_MAX} items"),
            );
        }
        let containers = container_names(&spec.template);
        for (index, rule) in policy.rules.iter().enumerate() {
            validate_failure_rule(at.index(index), rule, spec, &containers, errors);
        }
    }
    if let Some(policy) = &spec.success_policy {
        let at = at.child("successPolicy");
        if text(&spec.completion_mode) != "Indexed" {
            at.invalid(errors, json!(policy), "requires indexed completion mode");
            return;
        }
        let at = at.child("rules");
        if policy.rules.is_empty() {
            at.required(errors, "at least one rules must be specified when the successPolicy is specified");
        }
        if policy.rules.len() > SUCCESS_RULES_MAX {
            at.push(
                errors,
                FieldErrorKind::TooMany,
                policy.rules.len(),
                format!("must have at most {SUCCESS_RULES_MAX} items"),
            );
        }
        for (index, rule) in policy.rules.iter().enumerate() {
            validate_success_rule(at.index(index), rule, spec.completions.unwrap_or(0), errors);
        }
    }
    let policies: &[&str] =
        if spec.pod_failure_policy.is_some() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    one_of(at.child("podReplacementPolicy"), text(&spec.pod_replacement_policy), policies, true, errors);
}

fn container_names(template: &PodTemplateSpec) -> BTreeSet<&str> {
    let spec = template.spec.iter();
    spec.flat_map(|spec| spec.containers.iter().chain(list(&spec.init_containers)))
        .map(|one| one.name.as_str())
        .collect()
}

fn validate_failure_rule(
    at: Path,
    rule: &PodFailurePolicyRule,
    spec: &JobSpec,
    containers: &BTreeSet<&str>,
    errors: &mut Errors,
) {
    match rule.action.as_str() {
        "" => at.child("action").required(errors, "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]"),
        "FailIndex" if spec.backoff_limit_per_index.is_none() => {
            at.child("action").invalid(errors, "FailIndex", "requires the backoffLimitPerIndex to be set");
        }
        "Count" | "FailIndex" | "FailJob" | "Ignore" => {}
        other => at.child("action").not_supported(errors, other, &["Count", "FailIndex", "FailJob", "Ignore"]),
    }
    let patterns = list(&rule.on_pod_conditions);
    match (&rule.on_exit_codes, patterns.is_empty()) {
        (None, true) => {
            at.invalid(errors, json!(rule), "specifying one of OnExitCodes and OnPodConditions is required")
        }
        (Some(_), false) => {
            at.invalid(errors, json!(rule), "specifying both OnExitCodes and OnPodConditions is not supported");
        }
        _ => {}
    }
    let at_patterns = at.child("onPodConditions");
    if patterns.len() > CONDITIONS_MAX {
        at_patterns.push(
            errors,
            FieldErrorKind::TooMany,
            patterns.len(),
            format!("must have at most {CONDITIONS_MAX} items"),
        );
    }
    for (index, pattern) in patterns.iter().enumerate() {
        let at = at_patterns.index(index);
        for message in qualified_name(&pattern.type_) {
            at.child("type").invalid(errors, pattern.type_.as_str(), message);
        }
        one_of(at.child("status"), text(&pattern.status), &["False", "True", "Unknown"], false, errors);
    }
    let Some(codes) = &rule.on_exit_codes else { return };
    let at = at.child("onExitCodes");
    one_of(at.child("operator"), &codes.operator, &["In", "NotIn"], false, errors);
    if let Some(container) = codes.container_name.as_deref().filter(|name| !containers.contains(name)) {
        let detail = "must be one of the container or initContainer names in the pod template";
        at.child("containerName").invalid(errors, container, detail);
    }
    let at = at.child("values");
    if codes.values.is_empty() {
        at.invalid(errors, json!(codes.values), "at least one value is required");
    } else if codes.values.len() > EXIT_CODES_MAX {
        at.push(
            errors,
            FieldErrorKind::TooMany,
            codes.values.len(),
            format!("must have at most {EXIT_CODES_MAX} items"),
        );
    }
    let mut seen = BTreeSet::new();
    for (index, code) in codes.values.iter().enumerate() {
        if codes.operator == "In" && *code == 0 {
            at.index(index).invalid(errors, 0, "must not be 0 for the In operator");
        }
        if !seen.insert(code) {
            at.index(index).duplicate(errors, *code);
        }
    }
    if codes.values.windows(2).any(|pair| pair[0] > pair[1]) {
        at.invalid(errors, json!(codes.values), "must be ordered");
    }
}

fn validate_success_rule(at: Path, rule: &SuccessPolicyRule, completions: i32, errors: &mut Errors) {
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        at.required(errors, "at least one of succeededCount or succeededIndexes must be specified");
    }
    let indexes = rule.succeeded_indexes.as_deref().map(super::indexes::parse);
    if let (Some(found), Some(shown)) = (&indexes, &rule.succeeded_indexes) {
        let is_canonical = super::indexes::text(found) == *shown || !found.is_empty();
        if !is_canonical || found.iter().any(|index| *index < 0 || *index >= completions) {
            let detail = format!("error parsing succeededIndexes: too large index: {:?}", shown);
            at.child("succeededIndexes").invalid(errors, shown.as_str(), detail);
        }
    }
    let Some(count) = rule.succeeded_count else { return };
    let at = at.child("succeededCount");
    not_negative(at, Some(count), errors);
    if count > completions {
        let detail = format!("must be less than or equal to {completions} (the number of specified completions)");
        at.invalid(errors, count, detail);
    }
    if let Some(found) = indexes.filter(|found| usize::try_from(count).is_ok_and(|count| count > found.len())) {
        let detail = format!(
            "must be less than or equal to {} (the number of indexes in the specified succeededIndexes field)",
            found.len()
        );
        at.invalid(errors, count, detail);
    }
}

fn validate_pods(at: Path, spec: &JobSpec, errors: &mut Errors) {
    validate_template(at.child("template"), &spec.template, &Default::default(), errors);
    let policy = spec.template.spec.as_ref().map_or("", |spec| text(&spec.restart_policy));
    let at = at.child("template");
    let at = at.child("spec");
    let at = at.child("restartPolicy");
    match policy {
        "Always" => at.required(errors, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" => {
            for (is_set, field) in [
                (spec.pod_failure_policy.is_some(), "podFailurePolicy"),
                (spec.backoff_limit_per_index.is_some(), "backoffLimitPerIndex"),
            ] {
                if is_set {
                    at.invalid(errors, policy, format!("only \"Never\" is supported when {field} is specified"));
                }
            }
        }
        // Anything else is refused with the template.
        _ => {}
    }
}

/// What may change of a job: parallelism, suspend, deadlines and limits; its shape stays.
fn validate_update(at: Path, old: &Job, new: &JobSpec, before: &JobSpec, errors: &mut Errors) {
    let is_elastic = new.completions.is_some()
        && new.completions != before.completions
        && text(&new.completion_mode) == "Indexed"
        && new.completions == new.parallelism;
    if !is_elastic && new.completions != before.completions {
        at.child("completions").invalid(errors, json!(new.completions), FIELD_IS_IMMUTABLE);
    }
    let mut same = |field: &'static str, new: Value, before: Value| {
        if !semantically_equal(&new, &before) {
            at.child(field).invalid(errors, new, FIELD_IS_IMMUTABLE);
        }
    };
    same("selector", json!(new.selector), json!(before.selector));
    // The queue that admits a suspended job may still say where its pods go.
    let may_be_placed = before.suspend == Some(true)
        && (old.status.as_ref().is_none_or(|status| status.start_time.is_none()) || has_condition(old, "Suspended"));
    let (mut template, mut before_template) = (json!(new.template), json!(before.template));
    if may_be_placed {
        for template in [&mut template, &mut before_template] {
            for field in ["nodeSelector", "affinity", "tolerations", "schedulingGates"] {
                crate::fill::put(&mut template["spec"], field, None);
            }
            for field in ["labels", "annotations"] {
                crate::fill::put(&mut template["metadata"], field, None);
            }
        }
    }
    same("template", template, before_template);
    same("completionMode", json!(new.completion_mode), json!(before.completion_mode));
    same("podFailurePolicy", json!(new.pod_failure_policy), json!(before.pod_failure_policy));
    same("backoffLimitPerIndex", json!(new.backoff_limit_per_index), json!(before.backoff_limit_per_index));
    same("managedBy", json!(new.managed_by), json!(before.managed_by));
    same("successPolicy", json!(new.success_policy), json!(before.success_policy));
}

/// Checks the jobs that a CronJob makes; their selector is made with them.
pub(crate) fn validate_template_spec(at: Path, template: &JobTemplateSpec, errors: &mut Errors) {
    let at = at.child("spec");
    let empty = JobSpec::default();
    let spec = template.spec.as_ref().unwrap_or(&empty);
    if spec.manual_selector == Some(true) {
        at.child("manualSelector").not_supported(errors, true, &["nil", "false"]);
    }
    if let Some(selector) = &spec.selector {
        at.child("selector").invalid(errors, json!(selector), "`selector` will be auto-generated");
    }
    validate_spec(at, spec, errors);
}
