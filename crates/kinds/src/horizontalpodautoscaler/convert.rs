//! autoscaling/v1: what has no field there stands in annotations, as upstream writes it.

use serde_json::{Value, json};

use crate::fill::put;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

fn take(value: &mut Value, part: &str, field: &str) -> Option<Value> {
    value.get_mut(part)?.as_object_mut()?.shift_remove(field).filter(|found| !found.is_null())
}

fn annotate(value: &mut Value, key: &str, content: &Value) {
    if let Some(annotations) = crate::fill::object_or_new(&mut value["metadata"], "annotations") {
        annotations[key] = content.to_string().into();
    }
}

fn annotation(value: &mut Value, key: &str) -> Option<Value> {
    let annotations = value.get_mut("metadata")?.get_mut("annotations")?.as_object_mut()?;
    let text = annotations.shift_remove(key)?;
    if annotations.is_empty() {
        put(&mut value["metadata"], "annotations", None);
    }
    serde_json::from_str(text.as_str()?).ok()
}

pub(super) fn from_stored(value: &mut Value) {
    let mut others = Vec::new();
    for metric in take(value, "spec", "metrics").as_ref().and_then(Value::as_array).into_iter().flatten() {
        let percent = &metric["resource"]["target"]["averageUtilization"];
        let is_first = value["spec"]["targetCPUUtilizationPercentage"].is_null();
        if is_cpu(metric) && percent.is_number() && is_first {
            value["spec"]["targetCPUUtilizationPercentage"] = percent.clone();
        } else {
            others.push(metric.clone());
        }
    }
    if !others.is_empty() {
        annotate(value, METRICS, &json!(others));
    }
    if let Some(behavior) = take(value, "spec", "behavior") {
        annotate(value, BEHAVIOR, &behavior);
    }
    let current = take(value, "status", "currentMetrics");
    for metric in current.as_ref().and_then(Value::as_array).into_iter().flatten() {
        let percent = &metric["resource"]["current"]["averageUtilization"];
        if is_cpu(metric) && percent.is_number() {
            value["status"]["currentCPUUtilizationPercentage"] = percent.clone();
        }
    }
    if let Some(current) = current {
        annotate(value, CURRENT_METRICS, &current);
    }
    if let Some(conditions) = take(value, "status", "conditions") {
        annotate(value, CONDITIONS, &conditions);
    }
}

pub(super) fn to_stored(value: &mut Value) {
    let mut metrics = Vec::new();
    if let Some(percent) = take(value, "spec", "targetCPUUtilizationPercentage") {
        metrics.push(json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": percent}}}));
    }
    if let Some(Value::Array(others)) = annotation(value, METRICS) {
        metrics.extend(others);
    }
    if !metrics.is_empty() {
        value["spec"]["metrics"] = json!(metrics);
    }
    if let Some(behavior) = annotation(value, BEHAVIOR) {
        value["spec"]["behavior"] = behavior;
    }
    take(value, "status", "currentCPUUtilizationPercentage");
    for (key, field) in [(CURRENT_METRICS, "currentMetrics"), (CONDITIONS, "conditions")] {
        if let Some(content) = annotation(value, key) {
            value["status"][field] = content;
        }
    }
}
