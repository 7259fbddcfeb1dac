//! How old versions differ from the current ones: defaults of their own, and fields by other names.

use serde_json::{Value, json};

use crate::fill::{each, object, object_or_new, put, set, set_text};

fn take(value: &mut Value, field: &str) -> Option<Value> {
    value.as_object_mut()?.shift_remove(field).filter(|found| !found.is_null())
}

/// Once, a selector followed from the labels of the template.
pub(super) fn selector(value: &mut Value) {
    let labels = value["spec"]["template"]["metadata"]["labels"].clone();
    if let Some(spec) = object(value, "spec")
        && labels.as_object().is_some_and(|labels| !labels.is_empty())
    {
        set(spec, "selector", json!({"matchLabels": labels}));
    }
}

fn rolling(spec: &mut Value, amount: &Value) {
    if let Some(strategy) = object_or_new(spec, "strategy") {
        set_text(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) = object_or_new(strategy, "rollingUpdate")
        {
            set(rolling, "maxUnavailable", amount.clone());
            set(rolling, "maxSurge", amount.clone());
        }
    }
}

/// extensions/v1beta1: no deadline, all of the history, one pod at a time.
pub(super) fn extensions_deployment(value: &mut Value) {
    selector(value);
    let Some(spec) = object(value, "spec") else { return };
    take(spec, "rollbackTo");
    set(spec, "progressDeadlineSeconds", i32::MAX);
    set(spec, "revisionHistoryLimit", i32::MAX);
    rolling(spec, &json!(1));
}

/// apps/v1beta1: a history of two.
pub(super) fn first_deployment(value: &mut Value) {
    selector(value);
    let Some(spec) = object(value, "spec") else { return };
    take(spec, "rollbackTo");
    set(spec, "revisionHistoryLimit", 2);
    rolling(spec, &json!("25%"));
}

fn on_delete(value: &mut Value) {
    selector(value);
    if let Some(spec) = object(value, "spec")
        && let Some(strategy) = object_or_new(spec, "updateStrategy")
    {
        set_text(strategy, "type", "OnDelete");
    }
}

/// apps/v1beta1: pods are replaced when somebody deletes them.
pub(super) fn first_statefulset(value: &mut Value) {
    on_delete(value);
}

pub(super) fn extensions_daemonset(value: &mut Value) {
    on_delete(value);
    if let Some(spec) = object(value, "spec") {
        take(spec, "templateGeneration");
    }
}

/// `serviceName` and `servicePort` as a service with a port.
fn backend_to_stored(backend: &mut Value) {
    let (name, port) = (take(backend, "serviceName"), take(backend, "servicePort"));
    let Some(name) = name else { return };
    let port = match port {
        Some(Value::String(text)) => json!({"name": text}),
        Some(number) => json!({"number": number}),
        None => json!({}),
    };
    set(backend, "service", json!({"name": name, "port": port}));
}

fn backend_from_stored(backend: &mut Value) {
    let Some(service) = take(backend, "service") else { return };
    put(backend, "serviceName", Some(service["name"].clone()));
    let port = &service["port"];
    let port = if port["name"].is_string() { &port["name"] } else { &port["number"] };
    put(backend, "servicePort", Some(port.clone()));
}

fn each_path(spec: &mut Value, act: fn(&mut Value)) {
    for rule in each(spec, "rules") {
        if let Some(http) = object(rule, "http") {
            each(http, "paths").for_each(act);
        }
    }
}

pub(super) fn ingress_to_stored(value: &mut Value) {
    let Some(spec) = object(value, "spec") else { return };
    if let Some(backend) = take(spec, "backend") {
        set(spec, "defaultBackend", backend);
    }
    if let Some(backend) = object(spec, "defaultBackend") {
        backend_to_stored(backend);
    }
    each_path(spec, |path| {
        if let Some(backend) = object(path, "backend") {
            backend_to_stored(backend);
        }
        set_text(path, "pathType", "ImplementationSpecific");
    });
}

pub(super) fn ingress_from_stored(value: &mut Value) {
    let Some(spec) = object(value, "spec") else { return };
    if let Some(mut backend) = take(spec, "defaultBackend") {
        backend_from_stored(&mut backend);
        put(spec, "backend", Some(backend));
    }
    each_path(spec, |path| {
        if let Some(backend) = object(path, "backend") {
            backend_from_stored(backend);
        }
    });
}

/// The sources of metrics, and whether a metric's name stands in them.
const SOURCES: &[&str] = &["object", "pods", "resource", "containerResource", "external"];

/// Old field of a target, its current field, and the type that it makes.
const TARGETS: &[(&str, &str, &str)] = &[
    ("targetAverageUtilization", "averageUtilization", "Utilization"),
    ("targetAverageValue", "averageValue", "AverageValue"),
    ("averageValue", "averageValue", "AverageValue"),
    ("targetValue", "value", "Value"),
];

pub(super) fn autoscaler_to_stored(value: &mut Value) {
    let Some(spec) = object(value, "spec") else { return };
    for metric in each(spec, "metrics") {
        for name in SOURCES {
            if let Some(source) = object(metric, name) {
                source_to_stored(source, name);
            }
        }
    }
}

fn source_to_stored(source: &mut Value, name: &str) {
    // The target of an object metric was the object itself.
    if name == "object"
        && source["target"]["kind"].is_string()
        && let Some(target) = take(source, "target")
    {
        put(source, "describedObject", Some(target));
    }
    if let Some(metric) = take(source, "metricName") {
        let mut found = json!({"name": metric});
        let selector = if name == "external" { "metricSelector" } else { "selector" };
        put(&mut found, "selector", take(source, selector));
        if found["selector"].is_null() {
            put(&mut found, "selector", None);
        }
        put(source, "metric", Some(found));
    }
    for (old, new, of) in TARGETS {
        if let Some(amount) = take(source, old)
            && let Some(target) = object_or_new(source, "target")
        {
            set(target, "type", *of);
            put(target, new, Some(amount));
        }
    }
}

pub(super) fn autoscaler_from_stored(value: &mut Value) {
    if let Some(spec) = object(value, "spec") {
        for metric in each(spec, "metrics") {
            for name in SOURCES {
                if let Some(source) = object(metric, name) {
                    source_from_stored(source, name);
                }
            }
        }
    }
    let Some(status) = object(value, "status") else { return };
    for metric in each(status, "currentMetrics") {
        for name in SOURCES {
            let Some(source) = object(metric, name) else { continue };
            let Some(current) = take(source, "current") else { continue };
            for (new, old) in [
                ("averageUtilization", "currentAverageUtilization"),
                ("averageValue", "currentAverageValue"),
                ("value", "currentValue"),
            ] {
                if !current[new].is_null() {
                    put(source, old, Some(current[new].clone()));
                }
            }
        }
    }
}

fn source_from_stored(source: &mut Value, name: &str) {
    if let Some(target) = take(source, "target") {
        let is_object = name == "object";
        for (new, old) in [
            ("averageUtilization", "targetAverageUtilization"),
            ("averageValue", if is_object { "averageValue" } else { "targetAverageValue" }),
            ("value", "targetValue"),
        ] {
            if !target[new].is_null() {
                put(source, old, Some(target[new].clone()));
            }
        }
    }
    if let Some(described) = take(source, "describedObject") {
        put(source, "target", Some(described));
    }
    if let Some(metric) = take(source, "metric") {
        put(source, "metricName", Some(metric["name"].clone()));
        let selector = if name == "external" { "metricSelector" } else { "selector" };
        if !metric["selector"].is_null() {
            put(source, selector, Some(metric["selector"].clone()));
        }
    }
}
