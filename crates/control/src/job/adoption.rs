//! Which pods are a job's: those that its selector names. One that lost its owner is taken back, one that lost its labels let go.
//!
//! Upstream: the controller reference manager, as the job controller uses it: with its finalizer.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::JobSpec;
use serde_json::{Value, json};
use stead_api::{LabelSelector, Object};

use super::tracking::{TRACKED, is_tracked, untracked};
use crate::facts;
use crate::names::POD;
use crate::plan::{Plan, View};

/// What a job names its pods by; None when it names none, or all.
pub fn selector(spec: &JobSpec) -> Option<LabelSelector> {
    let selector = LabelSelector::from_typed(spec.selector.as_ref()).ok()?;
    Some(selector).filter(|selector| !selector.is_everything() && *selector != LabelSelector::Nothing)
}

/// Takes back and lets go. Whether anything is to be done before the pods are counted.
pub fn claim(view: &View, job: &Arc<Object>, spec: &JobSpec, plan: &mut Plan) -> bool {
    let Some(selector) = selector(spec) else { return false };
    let uid = &job.meta.uid;
    for pod in facts::controlled(view, POD, uid) {
        if !selector.matches(&pod.meta.labels) && !pod.meta.is_deleting() {
            let mut value = untracked(pod);
            value["metadata"]["ownerReferences"] = facts::released(pod, uid)["metadata"]["ownerReferences"].take();
            plan.update(POD, value);
        }
    }
    if !job.meta.is_deleting() {
        let is_orphan = |pod: &&Arc<Object>| pod.meta.controller().is_none() && !pod.meta.is_deleting();
        for pod in facts::select(view, POD, &job.key.namespace, &selector).into_iter().filter(is_orphan) {
            plan.update(POD, tracked(pod, facts::adopted(pod, facts::controller_reference("batch/v1", "Job", job))));
        }
    }
    !plan.actions.is_empty()
}

fn tracked(pod: &Object, mut value: Value) -> Value {
    if !is_tracked(pod) {
        let finalizers = &mut value["metadata"]["finalizers"];
        match finalizers.as_array_mut() {
            Some(list) => list.push(json!(TRACKED)),
            None => *finalizers = json!([TRACKED]),
        }
    }
    value
}
