//! Deployment.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use serde_json::Value;
use stead_api::Errors;

use crate::check::{amount, at_most_all, int_or_percent, int_or_string, not_negative, text};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN, wide};
use crate::fill::{object_or_new, set, set_text};
use crate::names::names;
use crate::path::Path;
use crate::template::defaults::default_template;
use crate::workload::{self, validate_pods, view, workload};
use crate::{Behavior, Column, Hooks, Kind};

pub const DEPLOYMENT: Kind = Kind {
    short: &["deploy"],
    immutable: &["spec.selector"],
    status_keeps: &["metadata.labels"],
    columns: COLUMNS,
    hooks: Hooks::of::<Deployment>(),
    ..workload("deployments.apps", names!("Deployment", "deployment", "deployments"), "io.k8s.api.apps.v1.Deployment")
};

impl Behavior for Deployment {
    fn default(new: &mut Value) {
        let Some(spec) = object_or_new(new, "spec") else { return };
        set(spec, "replicas", 1);
        set(spec, "revisionHistoryLimit", 10);
        set(spec, "progressDeadlineSeconds", 600);
        if let Some(strategy) = object_or_new(spec, "strategy") {
            set_text(strategy, "type", "RollingUpdate");
            if strategy.get("type").is_some_and(|found| found == "RollingUpdate")
                && let Some(rolling) = object_or_new(strategy, "rollingUpdate")
            {
                set(rolling, "maxUnavailable", "25%");
                set(rolling, "maxSurge", "25%");
            }
        }
        default_template(spec);
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let empty = DeploymentSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&empty);
        if old.and_then(|old| old.spec.as_ref()) == Some(spec) {
            return;
        }
        let at = Path::root("spec");
        not_negative(at.child("replicas"), spec.replicas, errors);
        validate_pods(at, "Deployment", &spec.selector, &spec.template, errors);
        if let Some(strategy) = &spec.strategy {
            validate_strategy(at.child("strategy"), strategy, errors);
        }
        not_negative(at.child("minReadySeconds"), spec.min_ready_seconds, errors);
        not_negative(at.child("revisionHistoryLimit"), spec.revision_history_limit, errors);
        if let Some(deadline) = spec.progress_deadline_seconds {
            not_negative(at.child("progressDeadlineSeconds"), Some(deadline), errors);
            if deadline <= spec.min_ready_seconds.unwrap_or(0) {
                let detail = "must be greater than minReadySeconds";
                at.child("progressDeadlineSeconds").invalid(errors, deadline, detail);
            }
        }
    }

    fn warn(&self, _old: Option<&Self>) -> Vec<String> {
        self.spec.as_ref().map_or(Vec::new(), |spec| workload::warn_of_template(&spec.template))
    }
}

fn validate_strategy(at: Path, strategy: &DeploymentStrategy, errors: &mut Errors) {
    let rolling_at = at.child("rollingUpdate");
    match (text(&strategy.type_), &strategy.rolling_update) {
        ("Recreate", Some(_)) => {
            rolling_at.forbidden(errors, "may not be specified when strategy `type` is 'Recreate'");
        }
        ("RollingUpdate", None) => rolling_at.required(errors, "this should be defaulted and never be nil"),
        ("RollingUpdate", Some(rolling)) => {
            let (unavailable, surge) = (&rolling.max_unavailable, &rolling.max_surge);
            for (field, value) in [("maxUnavailable", unavailable), ("maxSurge", surge)] {
                if let Some(value) = value {
                    int_or_percent(rolling_at.child(field), value, errors);
                }
            }
            if let Some(value) = unavailable {
                at_most_all(rolling_at.child("maxUnavailable"), value, errors);
                if amount(value) == 0 && surge.as_ref().is_none_or(|surge| amount(surge) == 0) {
                    let detail = "may not be 0 when `maxSurge` is 0";
                    rolling_at.child("maxUnavailable").invalid(errors, int_or_string(value), detail);
                }
            }
        }
        ("Recreate", None) => {}
        (other, _) => at.child("type").not_supported(errors, other, &["Recreate", "RollingUpdate"]),
    }
}

const COLUMNS: &[Column] = &[
    NAME_COLUMN,
    columns::text(
        "Ready",
        |object, _| {
            let found = view::<Deployment>(object);
            let ready = found.status.as_ref().and_then(|status| status.ready_replicas);
            workload::ready_text(ready, found.spec.as_ref().and_then(|spec| spec.replicas)).into()
        },
        "Pods that are ready, of those wanted.",
    ),
    columns::integer(
        "Up-to-date",
        |object, _| view::<Deployment>(object).status.as_ref().and_then(|s| s.updated_replicas).unwrap_or(0).into(),
        "Pods of the newest template.",
    ),
    columns::integer(
        "Available",
        |object, _| view::<Deployment>(object).status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0).into(),
        "Pods that have been ready long enough.",
    ),
    AGE_COLUMN,
    wide(columns::text(
        "Containers",
        |object, _| workload::containers(view::<Deployment>(object).spec.as_ref().map(|s| &s.template)).into(),
        "Names of the containers in the template.",
    )),
    wide(columns::text(
        "Images",
        |object, _| workload::images(view::<Deployment>(object).spec.as_ref().map(|s| &s.template)).into(),
        "Images of the containers in the template.",
    )),
    wide(columns::text(
        "Selector",
        |object, _| {
            view::<Deployment>(object)
                .spec
                .as_ref()
                .map_or(String::new(), |s| workload::selector_text(&s.selector))
                .into()
        },
        "Labels of its pods.",
    )),
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_and_strategy() {
        let make = |strategy: Value| {
            let mut value = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"strategy": strategy,
                "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
                    "spec": {"containers": [{"name": "c", "image": "x"}]}}}});
            (DEPLOYMENT.hooks.default)(&mut value);
            let checked = DEPLOYMENT.check(&value, None).expect("decodes");
            (value, checked.errors.0.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let (value, errors) = make(json!(null));
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(
            value["spec"]["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
        );
        assert_eq!(
            make(json!({"type": "Recreate", "rollingUpdate": {}})).1,
            ["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"]
        );
        assert_eq!(
            make(json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}})).1,
            ["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0"]
        );
    }
}
