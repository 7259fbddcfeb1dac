//! Checks of a HorizontalPodAutoscaler's spec.

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingRules, HorizontalPodAutoscalerSpec, MetricIdentifier, MetricSpec,
    MetricTarget,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use stead_api::Errors;

use crate::check::{label_selector, list, one_of, required_name, text};
use crate::names::path_segment;
use crate::path::Path;

const TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];
const SECONDS_MAX: i32 = 3600;
const PERIOD_MAX: i32 = 1800;

pub(super) fn validate(spec: &HorizontalPodAutoscalerSpec, errors: &mut Errors) {
    let at = Path::root("spec");
    if let Some(low) = spec.min_replicas.filter(|low| *low < 1) {
        at.child("minReplicas").invalid(errors, low, "must be greater than or equal to 1");
    }
    if spec.max_replicas < 1 {
        at.child("maxReplicas").invalid(errors, spec.max_replicas, "must be greater than 0");
    }
    if spec.min_replicas.is_some_and(|low| spec.max_replicas < low) {
        at.child("maxReplicas").invalid(errors, spec.max_replicas, "must be greater than or equal to `minReplicas`");
    }
    validate_reference(at.child("scaleTargetRef"), &spec.scale_target_ref, errors);
    for (index, metric) in list(&spec.metrics).iter().enumerate() {
        let all = at.child("metrics");
        validate_metric(all.index(index), metric, errors);
    }
    let Some(behavior) = &spec.behavior else { return };
    let at = at.child("behavior");
    for (field, rules) in [("scaleUp", &behavior.scale_up), ("scaleDown", &behavior.scale_down)] {
        if let Some(rules) = rules {
            validate_rules(at.child(field), rules, errors);
        }
    }
}

fn validate_reference(at: Path, of: &CrossVersionObjectReference, errors: &mut Errors) {
    required_name(at.child("kind"), &of.kind, path_segment, errors);
    required_name(at.child("name"), &of.name, path_segment, errors);
}

fn validate_metric(at: Path, metric: &MetricSpec, errors: &mut Errors) {
    match metric.type_.as_str() {
        "" => return at.child("type").required(errors, "must specify a metric source type"),
        known if TYPES.contains(&known) => {}
        other => at.child("type").not_supported(errors, other, TYPES),
    }
    let given = [
        ("Object", "object", metric.object.is_some()),
        ("External", "external", metric.external.is_some()),
        ("Pods", "pods", metric.pods.is_some()),
        ("Resource", "resource", metric.resource.is_some()),
        ("ContainerResource", "containerResource", metric.container_resource.is_some()),
    ];
    let count = given.iter().filter(|(_, _, is_given)| *is_given).count();
    for (kind, field, is_given) in given {
        match (kind == metric.type_, is_given) {
            (true, false) => {
                at.child(field).required(errors, "must populate information for the given metric source");
            }
            (false, true) if count > 1 => {
                at.child(field).forbidden(errors, "must populate the given metric source only")
            }
            _ => {}
        }
    }
    if let Some(source) = &metric.object {
        let at = at.child("object");
        validate_reference(at.child("describedObject"), &source.described_object, errors);
        validate_name(at.child("metric"), &source.metric, errors);
        validate_target(at.child("target"), &source.target, &["value", "averageValue"], errors);
    }
    if let Some(source) = &metric.external {
        let at = at.child("external");
        validate_name(at.child("metric"), &source.metric, errors);
        validate_target(at.child("target"), &source.target, &["value", "averageValue"], errors);
        let target = &source.target;
        if target.value.is_some() && target.average_value.is_some() {
            at.child("target")
                .child("value")
                .forbidden(errors, "may not set both a target value for metric and a per-pod target");
        }
    }
    if let Some(source) = &metric.pods {
        let at = at.child("pods");
        validate_name(at.child("metric"), &source.metric, errors);
        validate_numbers(at.child("target"), &source.target, errors);
        if source.target.average_value.as_ref().is_none_or(|value| !is_positive(value)) {
            at.child("target").child("averageValue").required(errors, "must specify a positive target averageValue");
        }
    }
    if let Some(source) = &metric.resource {
        validate_resource(at.child("resource"), &source.name, &source.target, errors);
    }
    if let Some(source) = &metric.container_resource {
        let at = at.child("containerResource");
        if source.container.is_empty() {
            at.child("container").required(errors, "must specify a container");
        }
        validate_resource(at, &source.name, &source.target, errors);
    }
}

fn validate_name(at: Path, metric: &MetricIdentifier, errors: &mut Errors) {
    required_name(at.child("name"), &metric.name, path_segment, errors);
    if let Some(selector) = &metric.selector {
        label_selector(at.child("selector"), selector, errors);
    }
}

fn validate_resource(at: Path, name: &str, target: &MetricTarget, errors: &mut Errors) {
    if name.is_empty() {
        at.child("name").required(errors, "must specify a resource name");
    }
    validate_numbers(at.child("target"), target, errors);
    let at = at.child("target");
    match (target.average_utilization, &target.average_value) {
        (None, None) => {
            at.child("averageUtilization")
                .required(errors, "must set either a target raw value or a target utilization");
        }
        (Some(_), Some(_)) => {
            at.child("averageValue").forbidden(errors, "may not set both a target raw value and a target utilization");
        }
        _ => {}
    }
}

fn validate_target(at: Path, target: &MetricTarget, either: &[&str], errors: &mut Errors) {
    validate_numbers(at, target, errors);
    if target.value.is_none() && target.average_value.is_none() {
        let detail = format!("must set either a {} or {}", "target value for metric", "a per-pod target");
        at.child(either[1]).required(errors, detail);
    }
}

fn is_positive(value: &Quantity) -> bool {
    value.0.parse::<stead_api::Quantity>().is_ok_and(|value| value.sign() > 0)
}

fn is_negative(value: &Quantity) -> bool {
    value.0.parse::<stead_api::Quantity>().is_ok_and(|value| value.sign() < 0)
}

fn validate_numbers(at: Path, target: &MetricTarget, errors: &mut Errors) {
    match target.type_.as_str() {
        "" => at.child("type").required(errors, "must specify a metric target type"),
        "Utilization" | "Value" | "AverageValue" => {}
        other => at.child("type").invalid(errors, other, "must be either Utilization, Value, or AverageValue"),
    }
    for (field, value) in [("value", &target.value), ("averageValue", &target.average_value)] {
        if let Some(value) = value.as_ref().filter(|value| !is_positive(value)) {
            at.child(field).invalid(errors, value.0.as_str(), "must be positive");
        }
    }
    if let Some(percent) = target.average_utilization.filter(|percent| *percent < 1) {
        at.child("averageUtilization").invalid(errors, percent, "must be greater than 0");
    }
}

fn validate_rules(at: Path, rules: &HPAScalingRules, errors: &mut Errors) {
    if let Some(seconds) = rules.stabilization_window_seconds {
        let at = at.child("stabilizationWindowSeconds");
        if seconds < 0 {
            at.invalid(errors, seconds, "must be greater than or equal to zero");
        } else if seconds > SECONDS_MAX {
            at.invalid(errors, seconds, format!("must be less than or equal to {SECONDS_MAX}"));
        }
    }
    if let Some(tolerance) = rules.tolerance.as_ref().filter(|value| is_negative(value)) {
        at.child("tolerance").invalid(errors, tolerance.0.as_str(), "must be greater than or equal to 0");
    }
    one_of(at.child("selectPolicy"), text(&rules.select_policy), &["Disabled", "Max", "Min"], true, errors);
    let policies = list(&rules.policies);
    if policies.is_empty() {
        at.child("policies").required(errors, "must specify at least one Policy");
    }
    for (index, policy) in policies.iter().enumerate() {
        let all = at.child("policies");
        let at = all.index(index);
        one_of(at.child("type"), &policy.type_, &["Percent", "Pods"], false, errors);
        if policy.value <= 0 {
            at.child("value").invalid(errors, policy.value, "must be greater than zero");
        }
        let at = at.child("periodSeconds");
        if policy.period_seconds <= 0 {
            at.invalid(errors, policy.period_seconds, "must be greater than zero");
        } else if policy.period_seconds > PERIOD_MAX {
            at.invalid(errors, policy.period_seconds, format!("must be less than or equal to {PERIOD_MAX}"));
        }
    }
}
