//! What the metrics of an autoscaler recommend, each for itself, and all together: the most pods that one of them asks for.

use std::sync::Arc;

use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, MetricSpec, MetricTarget};
use serde_json::{Value, json};
use stead_api::{LabelSelector, Object, Quantity};

use super::pods::{self, Resource};
use super::replicas::{Goal, Tolerance, wanted};
use super::target::Target;
use super::{behavior, target};
use crate::facts;
use crate::names::{AUTOSCALER, POD};
use crate::plan::{Note, Plan, View};

/// Whether a metric is what pods use.
pub fn needs_usage(scaler: &HorizontalPodAutoscaler) -> bool {
    scaler.spec.metrics.iter().flatten().any(|metric| metric.type_ == "Resource" || metric.type_ == "ContainerResource")
}

pub struct Found {
    /// How many pods, and what asks for them; None: nothing is to be done.
    pub recommended: Option<(i32, String)>,
    /// `status.currentMetrics`
    pub current: Vec<Value>,
    /// Status, reason and message of ScalingActive.
    pub condition: (&'static str, &'static str, String),
    pub failure: Option<String>,
}

struct Failure {
    reason: &'static str,
    message: String,
}

struct One {
    replicas: i32,
    name: String,
    status: Value,
}

pub fn of_all(
    view: &View,
    object: &Arc<Object>,
    scaler: &HorizontalPodAutoscaler,
    target: &Target,
    plan: &mut Plan,
) -> Found {
    let metrics = scaler.spec.metrics.as_deref().unwrap_or_default();
    let mut found =
        Found { recommended: None, current: Vec::new(), condition: ("True", "", String::new()), failure: None };
    let pods = match selected(view, object, target) {
        Ok(pods) => pods,
        Err((reason, why)) => {
            let event =
                if target.selector.is_empty() { ("SelectorRequired", "selector is required") } else { (reason, &*why) };
            plan.note(Note::warning(&object.key, event.0, event.1));
            found.failure = Some(if target.selector.is_empty() { event.1.to_owned() } else { why.clone() });
            found.condition = ("False", reason, why);
            return found;
        }
    };
    let tolerance = behavior::tolerance(scaler.spec.behavior.as_ref());
    let mut first: Option<Failure> = None;
    let mut failures = 0;
    for metric in metrics {
        match of_one(view, metric, target.replicas, &pods, tolerance) {
            Ok(one) => {
                if found.recommended.as_ref().is_none_or(|(most, _)| one.replicas > *most) {
                    found.recommended = Some((one.replicas, one.name));
                }
                found.current.push(one.status);
            }
            Err(failure) => {
                plan.note(Note::warning(&object.key, failure.reason, failure.message.clone()));
                found.current.push(json!({"type": ""}));
                failures += 1;
                first.get_or_insert(failure);
            }
        }
    }
    // What cannot be measured may be what needs the pods.
    let shrinks = found.recommended.as_ref().is_none_or(|(most, _)| *most < target.replicas);
    if let Some(failure) = first.filter(|_| shrinks) {
        found.recommended = None;
        let (of, why) = (metrics.len(), failure.message);
        found.failure = Some(format!("invalid metrics ({failures} invalid out of {of}), first error is: {why}"));
        let message = format!("the HPA was unable to compute the replica count: {why}");
        found.condition = ("False", failure.reason, message);
    } else if let Some((_, name)) = &found.recommended {
        let message = format!("the HPA was able to successfully calculate a replica count from {name}");
        found.condition = ("True", "ValidMetricFound", message);
    }
    found
}

/// The target's pods, if no other autoscaler has a say about them.
fn selected<'a>(
    view: &View<'a>,
    object: &Object,
    target: &Target,
) -> Result<Vec<&'a Arc<Object>>, (&'static str, String)> {
    let selector = target.pods()?;
    let namespace = &*object.key.namespace;
    let pods = facts::select(view, POD, namespace, &selector);
    let rivals: Vec<&Arc<Object>> = view.snapshot.list(AUTOSCALER, namespace).collect();
    if rivals.len() < 2 {
        return Ok(pods);
    }
    let has_a_say = |rival: &&Arc<Object>| {
        rival.key == object.key
            || selector_of(view, rival).is_some_and(|other| pods.iter().any(|pod| other.matches(&pod.meta.labels)))
    };
    let names: Vec<String> =
        rivals.into_iter().filter(has_a_say).map(|rival| format!("{{{} {namespace}}}", rival.key.name)).collect();
    if names.len() < 2 {
        return Ok(pods);
    }
    let why = format!("pods by selector {} are controlled by multiple HPAs: [{}]", target.selector, names.join(" "));
    Err(("AmbiguousSelector", why))
}

fn selector_of(view: &View, scaler: &Object) -> Option<LabelSelector> {
    let target = &scaler.view::<HorizontalPodAutoscaler>().spec.scale_target_ref;
    target::Target::find(view, &scaler.key.namespace, target).ok()?.pods().ok()
}

fn of_one(
    view: &View,
    metric: &MetricSpec,
    current: i32,
    pods: &[&Arc<Object>],
    tolerance: Tolerance,
) -> Result<One, Failure> {
    if let Some(source) = &metric.resource {
        let resource = Resource { name: &source.name, container: None };
        let found = of_resource(view, resource, &source.target, current, pods, tolerance);
        let (replicas, name, current) =
            found.map_err(|message| Failure { reason: "FailedGetResourceMetric", message })?;
        let status = json!({"type": "Resource", "resource": {"name": source.name, "current": current}});
        return Ok(One { replicas, name, status });
    }
    if let Some(source) = &metric.container_resource {
        let resource = Resource { name: &source.name, container: Some(&source.container) };
        let found = of_resource(view, resource, &source.target, current, pods, tolerance);
        let (replicas, name, current) =
            found.map_err(|message| Failure { reason: "FailedGetContainerResourceMetric", message })?;
        let status = json!({"type": "ContainerResource",
            "containerResource": {"name": source.name, "container": source.container, "current": current}});
        return Ok(One { replicas, name, status });
    }
    Err(of_others(metric, pods))
}

/// How many pods, the metric's name, and what is used.
fn of_resource(
    view: &View,
    resource: Resource,
    target: &MetricTarget,
    current: i32,
    pods: &[&Arc<Object>],
    tolerance: Tolerance,
) -> Result<(i32, String, Value), String> {
    let milli = target.average_value.as_ref().and_then(|value| value.0.parse::<Quantity>().ok());
    let what = if milli.is_some() { "usage" } else { "utilization" };
    let find = || {
        let used = pods::used(view, pods, resource)?;
        let goal = match (milli, target.average_utilization) {
            (Some(wanted), _) => Goal::Average(wanted.milli_value()),
            (None, Some(percent)) => Goal::Utilization { percent, requests: pods::requests(pods, resource)? },
            (None, None) => {
                return Err("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set".into());
            }
        };
        wanted(current, used, &goal, tolerance)
    };
    let found = find().map_err(|why: String| format!("failed to get {} {what}: {why}", resource.name))?;
    let mut status = json!({"averageValue": Quantity::from_milli(found.average).to_string()});
    let mut name = format!("{} resource", resource.name);
    if let Some(percent) = found.utilization {
        status["averageUtilization"] = json!(percent);
        let of = if resource.container.is_some() { "container resource" } else { "resource" };
        name = format!("{} {of} utilization (percentage of request)", resource.name);
    }
    Ok((found.replicas, name, status))
}

/// Metrics that other API servers have.
fn of_others(metric: &MetricSpec, pods: &[&Arc<Object>]) -> Failure {
    const CUSTOM: &str = "no custom metrics API (custom.metrics.k8s.io) registered";
    let namespace = pods.first().map(|pod| pod.key.namespace.to_string()).unwrap_or_default();
    if let Some(source) = &metric.pods {
        let name = &source.metric.name;
        let message = format!("unable to get metric {name}: unable to fetch metrics from custom metrics API: {CUSTOM}");
        return Failure { reason: "FailedGetPodsMetric", message };
    }
    if let Some(source) = &metric.object {
        let (name, of) = (&source.metric.name, &source.described_object);
        let message = format!("unable to get metric {name}: {} on {namespace} {}/{CUSTOM}", of.kind, of.name);
        return Failure { reason: "FailedGetObjectMetric", message };
    }
    if let Some(source) = &metric.external {
        let name = &source.metric.name;
        let message = format!(
            "unable to get external metric {namespace}/{name}: unable to fetch metrics from external metrics API: the server could not find the requested resource (get {name}.external.metrics.k8s.io)"
        );
        return Failure { reason: "FailedGetExternalMetric", message };
    }
    Failure { reason: "InvalidMetricSourceType", message: format!("unknown metric source type {:?}", metric.type_) }
}
