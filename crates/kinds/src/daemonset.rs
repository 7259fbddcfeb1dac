//! DaemonSet.

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy};
use serde_json::Value;
use stead_api::object::Fields;
use stead_api::{Errors, Object};

use crate::check::{amount, at_most_all, int_or_percent, int_or_string, not_negative, text};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN, wide};
use crate::fill::{object_or_new, set, set_text};
use crate::names::names;
use crate::path::Path;
use crate::template::defaults::default_template;
use crate::workload::{self, validate_pods, view, workload};
use crate::{Behavior, Column, Hooks, Kind, Subresource};

pub const DAEMONSET: Kind = Kind {
    short: &["ds"],
    immutable: &["spec.selector"],
    subresources: &[Subresource::Status],
    fields: Fields { selectable: &[], indexed: &[], labels_indexed: true, ..Fields::NONE },
    columns: COLUMNS,
    hooks: Hooks::of::<DaemonSet>(),
    ..workload("daemonsets.apps", names!("DaemonSet", "daemonset", "daemonsets"), "io.k8s.api.apps.v1.DaemonSet")
};

impl Behavior for DaemonSet {
    fn default(new: &mut Value) {
        let Some(spec) = object_or_new(new, "spec") else { return };
        set(spec, "revisionHistoryLimit", 10);
        if let Some(strategy) = object_or_new(spec, "updateStrategy") {
            set_text(strategy, "type", "RollingUpdate");
            if strategy.get("type").is_some_and(|found| found == "RollingUpdate")
                && let Some(rolling) = object_or_new(strategy, "rollingUpdate")
            {
                set(rolling, "maxUnavailable", 1);
                set(rolling, "maxSurge", 0);
            }
        }
        default_template(spec);
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let empty = DaemonSetSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&empty);
        if old.and_then(|old| old.spec.as_ref()) == Some(spec) {
            return;
        }
        let at = Path::root("spec");
        validate_pods(at, "DaemonSet", &spec.selector, &spec.template, errors);
        not_negative(at.child("minReadySeconds"), spec.min_ready_seconds, errors);
        if let Some(strategy) = &spec.update_strategy {
            validate_strategy(at.child("updateStrategy"), strategy, errors);
        }
        not_negative(at.child("revisionHistoryLimit"), spec.revision_history_limit, errors);
    }

    fn warn(&self, _old: Option<&Self>) -> Vec<String> {
        self.spec.as_ref().map_or(Vec::new(), |spec| workload::warn_of_template(&spec.template))
    }
}

fn validate_strategy(at: Path, strategy: &DaemonSetUpdateStrategy, errors: &mut Errors) {
    let at_rolling = at.child("rollingUpdate");
    match (text(&strategy.type_), &strategy.rolling_update) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => at_rolling.required(errors, ""),
        ("RollingUpdate", Some(rolling)) => {
            let (unavailable, surge) = (&rolling.max_unavailable, &rolling.max_surge);
            for (field, value) in [("maxUnavailable", unavailable), ("maxSurge", surge)] {
                if let Some(value) = value {
                    int_or_percent(at_rolling.child(field), value, errors);
                    at_most_all(at_rolling.child(field), value, errors);
                }
            }
            let none = |value: &Option<_>| value.as_ref().is_none_or(|value| amount(value) == 0);
            if none(unavailable) && none(surge) {
                let value = unavailable.as_ref().map_or(Value::Null, int_or_string);
                at_rolling.child("maxUnavailable").invalid(errors, value, "cannot be 0 when maxSurge is 0");
            } else if !none(unavailable) && !none(surge) {
                let value = surge.as_ref().map_or(Value::Null, int_or_string);
                at_rolling.child("maxSurge").invalid(errors, value, "may not be set when maxUnavailable is non-zero");
            }
        }
        (other, _) => at.child("type").not_supported(errors, other, &["RollingUpdate", "OnDelete"]),
    }
}

/// A number of the status.
fn count(object: &Object, field: &str) -> Value {
    object.value()["status"][field].as_i64().unwrap_or(0).into()
}

const COLUMNS: &[Column] = &[
    NAME_COLUMN,
    columns::integer("Desired", |object, _| count(object, "desiredNumberScheduled"), "Nodes that should run a pod."),
    columns::integer("Current", |object, _| count(object, "currentNumberScheduled"), "Nodes that have a pod."),
    columns::integer("Ready", |object, _| count(object, "numberReady"), "Nodes whose pod is ready."),
    columns::integer("Up-to-date", |object, _| count(object, "updatedNumberScheduled"), "Pods of the newest template."),
    columns::integer("Available", |object, _| count(object, "numberAvailable"), "Pods ready long enough."),
    columns::text("Node Selector", node_selector, "Labels of the nodes that it is for."),
    AGE_COLUMN,
    wide(columns::text(
        "Containers",
        |object, _| workload::containers(view::<DaemonSet>(object).spec.as_ref().map(|s| &s.template)).into(),
        "Names of the containers in the template.",
    )),
    wide(columns::text(
        "Images",
        |object, _| workload::images(view::<DaemonSet>(object).spec.as_ref().map(|s| &s.template)).into(),
        "Images of the containers in the template.",
    )),
    wide(columns::text(
        "Selector",
        |object, _| {
            let set = view::<DaemonSet>(object);
            set.spec.as_ref().map_or(String::new(), |s| workload::selector_text(&s.selector)).into()
        },
        "Labels of its pods.",
    )),
];

fn node_selector(object: &Object, _now: jiff::Timestamp) -> Value {
    let set = view::<DaemonSet>(object);
    let spec = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    workload::map_text(spec.and_then(|spec| spec.node_selector.as_ref())).into()
}
