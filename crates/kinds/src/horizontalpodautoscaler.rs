//! HorizontalPodAutoscaler: stored as autoscaling/v2, also served as v1, which knows one target: the use of CPU.

mod convert;
mod validate;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde_json::{Value, json};
use stead_api::{Errors, Object};

use crate::columns::{self, AGE_COLUMN, NAME_COLUMN};
use crate::fill::{each, object, object_or_new, quantity, set, set_text};
use crate::names::names;
use crate::{Behavior, Column, Convert, Hooks, Kind, Subresource};

pub const HORIZONTALPODAUTOSCALER: Kind = Kind {
    short: &["hpa"],
    categories: &["all"],
    has_generation: true,
    subresources: &[Subresource::Status],
    columns: COLUMNS,
    hooks: Hooks::of::<HorizontalPodAutoscaler>(),
    ..Kind::plain(
        "horizontalpodautoscalers.autoscaling",
        "autoscaling",
        "v2",
        names!("HorizontalPodAutoscaler", "horizontalpodautoscaler", "horizontalpodautoscalers"),
        "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
    )
};

pub const HORIZONTALPODAUTOSCALER_V1: Kind = Kind {
    version: "v1",
    schema: crate::SchemaRef::Definition("io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler"),
    convert: Some(Convert { from_stored: convert::from_stored, to_stored: convert::to_stored }),
    ..HORIZONTALPODAUTOSCALER
};

impl Behavior for HorizontalPodAutoscaler {
    fn default(new: &mut Value) {
        let Some(spec) = object_or_new(new, "spec") else { return };
        set(spec, "minReplicas", 1);
        if spec.get("metrics").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            spec["metrics"] = json!([{"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 80}}}]);
        }
        for metric in each(spec, "metrics") {
            for source in ["object", "pods", "resource", "containerResource", "external"] {
                if let Some(source) = object(metric, source)
                    && let Some(target) = object(source, "target")
                {
                    quantity(target, "value");
                    quantity(target, "averageValue");
                }
            }
        }
        if let Some(behavior) = object(spec, "behavior") {
            default_rules(
                behavior,
                "scaleUp",
                json!([
                {"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]),
            );
            default_rules(behavior, "scaleDown", json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]));
            if let Some(up) = object(behavior, "scaleUp") {
                set(up, "stabilizationWindowSeconds", 0);
            }
        }
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let spec = &self.spec;
        if old.map(|old| &old.spec) != Some(spec) {
            validate::validate(spec, errors);
        }
    }
}

fn default_rules(behavior: &mut Value, direction: &str, policies: Value) {
    let Some(rules) = object_or_new(behavior, direction) else { return };
    set_text(rules, "selectPolicy", "Max");
    quantity(rules, "tolerance");
    if rules.get("policies").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        rules["policies"] = policies;
    }
}

const COLUMNS: &[Column] = &[
    NAME_COLUMN,
    columns::text("Reference", reference, "What it scales."),
    columns::text("Targets", targets, "What is measured, of what is wanted."),
    columns::text("MinPods", min_pods, "The fewest pods."),
    columns::integer("MaxPods", |object, _| object.value()["spec"]["maxReplicas"].clone(), "The most pods."),
    columns::integer(
        "Replicas",
        |object, _| object.value()["status"]["currentReplicas"].as_i64().unwrap_or(0).into(),
        "Pods that there are.",
    ),
    AGE_COLUMN,
];

fn reference(object: &Object, _now: jiff::Timestamp) -> Value {
    let value = object.value();
    let of = &value["spec"]["scaleTargetRef"];
    format!("{}/{}", of["kind"].as_str().unwrap_or(""), of["name"].as_str().unwrap_or("")).into()
}

fn min_pods(object: &Object, _now: jiff::Timestamp) -> Value {
    match &object.value()["spec"]["minReplicas"] {
        Value::Null => "<unset>".into(),
        number => number.to_string().into(),
    }
}

/// `cpu: <unknown>/80%`, at most two of them.
fn targets(object: &Object, _now: jiff::Timestamp) -> Value {
    const SHOWN: usize = 2;
    let value = object.value();
    let metrics = value["spec"]["metrics"].as_array().map_or(&[][..], Vec::as_slice);
    if metrics.is_empty() {
        return "<none>".into();
    }
    let current = value["status"]["currentMetrics"].as_array().map_or(&[][..], Vec::as_slice);
    let shown = metrics.iter().take(SHOWN).enumerate().map(|(index, metric)| target(metric, current.get(index)));
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if metrics.len() > SHOWN {
        text.push_str(&format!(" + {} more...", metrics.len() - SHOWN));
    }
    text.into()
}

fn target(metric: &Value, current: Option<&Value>) -> String {
    let field = match metric["type"].as_str().unwrap_or("") {
        "ContainerResource" => "containerResource",
        "Resource" => "resource",
        "Pods" => "pods",
        "Object" => "object",
        _ => "external",
    };
    let (source, now) = (&metric[field], current.map_or(&Value::Null, |current| &current[field]["current"]));
    let show = |found: &Value| found.as_str().map_or("<unknown>".to_owned(), str::to_owned);
    let percent = |found: &Value| found.as_i64().map_or("<unknown>".to_owned(), |number| format!("{number}%"));
    let wanted = &source["target"];
    let amounts = match (&wanted["averageUtilization"], &wanted["averageValue"]) {
        (Value::Number(number), _) => format!("{}/{number}%", percent(&now["averageUtilization"])),
        (_, Value::String(text)) if field == "resource" || field == "containerResource" || field == "pods" => {
            format!("{}/{text}", show(&now["averageValue"]))
        }
        (_, Value::String(text)) => format!("{}/{text} (avg)", show(&now["averageValue"])),
        _ => format!("{}/{}", show(&now["value"]), wanted["value"].as_str().unwrap_or("<auto>")),
    };
    let name = source["name"].as_str().unwrap_or("");
    if name.is_empty() { amounts } else { format!("{name}: {amounts}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: Value) -> (Value, Vec<String>) {
        let mut value = json!({"metadata": {"name": "a", "namespace": "b", "resourceVersion": "1"}, "spec": spec});
        (HORIZONTALPODAUTOSCALER.hooks.default)(&mut value);
        let found = HORIZONTALPODAUTOSCALER.check(&value, None).expect("decodes").errors;
        (value, found.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn cpu_is_the_default_and_shows_as_unknown() {
        let (value, errors) = check(json!({"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "maxReplicas": 3}));
        assert_eq!(errors, Vec::<String>::new());
        let key = stead_api::Key::new(HORIZONTALPODAUTOSCALER.storage, "b", "a");
        let object = Object::of_value(key, &value, &HORIZONTALPODAUTOSCALER.stored_fields()).expect("an object");
        assert_eq!(targets(&object, jiff::Timestamp::UNIX_EPOCH), "cpu: <unknown>/80%");
        assert_eq!(reference(&object, jiff::Timestamp::UNIX_EPOCH), "Deployment/web");
    }

    #[test]
    fn bounds_and_metrics_are_checked() {
        let (_, errors) = check(
            json!({"scaleTargetRef": {"kind": "", "name": "web"}, "minReplicas": 5, "maxReplicas": 3,
            "metrics": [{"type": "Resource"}, {"type": "Pods", "pods": {"metric": {"name": "q"}, "target": {"type": "Value"}}}]}),
        );
        assert_eq!(
            errors,
            [
                "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`",
                "spec.scaleTargetRef.kind: Required value",
                "spec.metrics[0].resource: Required value: must populate information for the given metric source",
                "spec.metrics[1].pods.target.averageValue: Required value: must specify a positive target averageValue",
            ]
        );
    }

    #[test]
    fn version_one_says_the_same_with_annotations() {
        let (mut value, _) = check(json!({"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "maxReplicas": 3,
            "metrics": [{"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 50}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}]}));
        let stored = value.clone();
        convert::from_stored(&mut value);
        assert_eq!(value["spec"]["targetCPUUtilizationPercentage"], 70);
        assert!(value["spec"]["metrics"].is_null());
        convert::to_stored(&mut value);
        let mut metrics = stored["spec"]["metrics"].as_array().expect("a list").clone();
        metrics.reverse();
        assert_eq!(value["spec"]["metrics"], json!(metrics), "the use of CPU comes first");
        assert!(value["metadata"]["annotations"].is_null());
    }
}
