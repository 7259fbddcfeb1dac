//! ReplicationController: the elder ReplicaSet, whose selector is a plain map.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ReplicationController, ReplicationControllerSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;
use stead_api::Errors;
use stead_api::object::Fields;

use crate::check::not_negative;
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN, wide};
use crate::fill::{object_or_new, set};
use crate::names::names;
use crate::path::Path;
use crate::template::defaults::default_template;
use crate::template::validate::{validate_long_running, validate_template};
use crate::workload::{self, SCALE, view};
use crate::{Behavior, Column, Hooks, Kind, Subresource};

pub const REPLICATIONCONTROLLER: Kind = Kind {
    short: &["rc"],
    categories: &["all"],
    has_generation: true,
    subresources: &[Subresource::Status, SCALE],
    fields: Fields { selectable: &["status.replicas"], indexed: &[], labels_indexed: true, ..Fields::NONE },
    columns: COLUMNS,
    hooks: Hooks::of::<ReplicationController>(),
    ..Kind::plain(
        "replicationcontrollers",
        "",
        "v1",
        names!("ReplicationController", "replicationcontroller", "replicationcontrollers"),
        "io.k8s.api.core.v1.ReplicationController",
    )
};

/// The map as the selector that other workloads have.
pub fn selector(spec: &ReplicationControllerSpec) -> LabelSelector {
    LabelSelector { match_labels: spec.selector.clone(), match_expressions: None }
}

fn is_empty(value: Option<&Value>) -> bool {
    value.and_then(Value::as_object).is_none_or(serde_json::Map::is_empty)
}

/// The labels of a workload are those of its template unless it has its own.
pub(crate) fn labels_from_template(new: &mut Value) {
    let labels = new["spec"]["template"]["metadata"]["labels"].clone();
    if is_empty(Some(&labels)) {
        return;
    }
    if let Some(meta) = object_or_new(new, "metadata")
        && is_empty(meta.get("labels"))
    {
        meta["labels"] = labels;
    }
}

impl Behavior for ReplicationController {
    fn default(new: &mut Value) {
        let Some(spec) = object_or_new(new, "spec") else { return };
        set(spec, "replicas", 1);
        if spec.get("template").is_some_and(|template| !template.is_null()) {
            default_template(spec);
            let labels = spec["template"]["metadata"]["labels"].clone();
            if is_empty(spec.get("selector")) && !is_empty(Some(&labels)) {
                spec["selector"] = labels;
            }
            labels_from_template(new);
        }
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let empty = ReplicationControllerSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&empty);
        if old.and_then(|old| old.spec.as_ref()) == Some(spec) {
            return;
        }
        let at = Path::root("spec");
        not_negative(at.child("minReadySeconds"), spec.min_ready_seconds, errors);
        if spec.selector.as_ref().is_none_or(BTreeMap::is_empty) {
            at.child("selector").required(errors, "");
        }
        not_negative(at.child("replicas"), spec.replicas, errors);
        match &spec.template {
            None => at.child("template").required(errors, ""),
            Some(template) => {
                validate_template(at.child("template"), template, &selector(spec), errors);
                validate_long_running(at.child("template"), template, "ReplicationController", errors);
            }
        }
    }

    fn warn(&self, _old: Option<&Self>) -> Vec<String> {
        let template = self.spec.as_ref().and_then(|spec| spec.template.as_ref());
        template.map_or(Vec::new(), workload::warn_of_template)
    }
}

const COLUMNS: &[Column] = &[
    NAME_COLUMN,
    columns::integer("Desired", |object, _| spec_of(object).replicas.unwrap_or(0).into(), "Pods wanted."),
    columns::integer(
        "Current",
        |object, _| view::<ReplicationController>(object).status.as_ref().map_or(0, |s| s.replicas).into(),
        "Pods that exist.",
    ),
    columns::integer(
        "Ready",
        |object, _| {
            let ready = view::<ReplicationController>(object).status.as_ref().and_then(|s| s.ready_replicas);
            ready.unwrap_or(0).into()
        },
        "Pods that are ready.",
    ),
    AGE_COLUMN,
    wide(columns::text(
        "Containers",
        |object, _| workload::containers(spec_of(object).template.as_ref()).into(),
        "Names of the containers in the template.",
    )),
    wide(columns::text(
        "Images",
        |object, _| workload::images(spec_of(object).template.as_ref()).into(),
        "Images of the containers in the template.",
    )),
    wide(columns::text(
        "Selector",
        |object, _| workload::selector_text(&selector(&spec_of(object))).into(),
        "Labels of its pods.",
    )),
];

fn spec_of(object: &stead_api::Object) -> ReplicationControllerSpec {
    view::<ReplicationController>(object).spec.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn filled(spec: Value) -> Value {
        let mut value = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": spec});
        (REPLICATIONCONTROLLER.hooks.default)(&mut value);
        value
    }

    fn errors(value: &Value) -> Vec<String> {
        let found = REPLICATIONCONTROLLER.check(value, None).expect("decodes").errors;
        found.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn labels_and_selector_follow_the_template() {
        let value = filled(json!({"template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "x"}]}}}));
        assert_eq!(value["metadata"]["labels"], json!({"app": "web"}));
        assert_eq!(value["spec"]["selector"], json!({"app": "web"}));
        assert_eq!(errors(&value), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_or_does_not_match_is_named() {
        assert_eq!(errors(&filled(json!({}))), ["spec.selector: Required value", "spec.template: Required value"]);
        let other = filled(json!({"selector": {"app": "db"}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}}));
        assert_eq!(
            errors(&other),
            [
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ]
        );
    }
}
