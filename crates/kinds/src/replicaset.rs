//! ReplicaSet.

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use serde_json::Value;
use stead_api::Errors;
use stead_api::object::Fields;

use crate::check::not_negative;
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN, wide};
use crate::fill::{object_or_new, set};
use crate::names::names;
use crate::path::Path;
use crate::template::defaults::default_template;
use crate::workload::{self, validate_pods, view, workload};
use crate::{Behavior, Column, Hooks, Kind};

pub const REPLICASET: Kind = Kind {
    short: &["rs"],
    immutable: &["spec.selector"],
    fields: Fields { selectable: &["status.replicas"], indexed: &[], labels_indexed: true, ..Fields::NONE },
    columns: COLUMNS,
    hooks: Hooks::of::<ReplicaSet>(),
    ..workload("replicasets.apps", names!("ReplicaSet", "replicaset", "replicasets"), "io.k8s.api.apps.v1.ReplicaSet")
};

impl Behavior for ReplicaSet {
    fn default(new: &mut Value) {
        if let Some(spec) = object_or_new(new, "spec") {
            set(spec, "replicas", 1);
            default_template(spec);
        }
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let empty = ReplicaSetSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&empty);
        if old.and_then(|old| old.spec.as_ref()) == Some(spec) {
            return;
        }
        let at = Path::root("spec");
        not_negative(at.child("replicas"), spec.replicas, errors);
        not_negative(at.child("minReadySeconds"), spec.min_ready_seconds, errors);
        let template = spec.template.clone().unwrap_or_default();
        validate_pods(at, "ReplicaSet", &spec.selector, &template, errors);
    }

    fn warn(&self, _old: Option<&Self>) -> Vec<String> {
        let template = self.spec.as_ref().and_then(|spec| spec.template.as_ref());
        template.map_or(Vec::new(), workload::warn_of_template)
    }
}

const COLUMNS: &[Column] = &[
    NAME_COLUMN,
    columns::integer(
        "Desired",
        |object, _| view::<ReplicaSet>(object).spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0).into(),
        "Pods wanted.",
    ),
    columns::integer(
        "Current",
        |object, _| view::<ReplicaSet>(object).status.as_ref().map_or(0, |status| status.replicas).into(),
        "Pods that exist.",
    ),
    columns::integer(
        "Ready",
        |object, _| view::<ReplicaSet>(object).status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0).into(),
        "Pods that are ready.",
    ),
    AGE_COLUMN,
    wide(columns::text(
        "Containers",
        |object, _| {
            workload::containers(view::<ReplicaSet>(object).spec.as_ref().and_then(|s| s.template.as_ref())).into()
        },
        "Names of the containers in the template.",
    )),
    wide(columns::text(
        "Images",
        |object, _| workload::images(view::<ReplicaSet>(object).spec.as_ref().and_then(|s| s.template.as_ref())).into(),
        "Images of the containers in the template.",
    )),
    wide(columns::text(
        "Selector",
        |object, _| {
            view::<ReplicaSet>(object)
                .spec
                .as_ref()
                .map_or(String::new(), |s| workload::selector_text(&s.selector))
                .into()
        },
        "Labels of its pods.",
    )),
];
