//! The ControllerRevisions of a DaemonSet: one for each template, so that a rollout can be undone.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::DaemonSetSpec;
use serde_json::{Value, json};
use stead_api::Object;

use super::seat::Seat;
use crate::facts;
use crate::names::{CONTROLLER_REVISION, DAEMON_SET};
use crate::plan::{Plan, View};
use crate::statefulset::revision::{data_of, data_text, hash, number};

/// On pods and revisions: the hash of the template.
pub const LABEL: &str = "controller-revision-hash";

fn all<'a>(view: &View<'a>, set: &Object) -> Vec<&'a Arc<Object>> {
    let mut all = facts::controlled(view, CONTROLLER_REVISION, &set.meta.uid);
    all.sort_by_key(|revision| (number(revision), revision.key.clone()));
    all
}

/// The hash of the present template, whose revision is made or becomes the newest. None when the plan must be applied first.
pub fn ensure(view: &View, set: &Arc<Object>, plan: &mut Plan) -> Option<String> {
    let value = set.value();
    let template = &value["spec"]["template"];
    let data = data_text(template);
    let known = all(view, set);
    let next = known.last().map_or(1, |newest| number(newest) + 1);
    let label = |revision: &Object| revision.meta.label(LABEL).unwrap_or_default().to_owned();
    if let Some(same) = known.iter().rev().find(|revision| data_of(revision) == data) {
        if number(same) != next - 1 && !set.meta.is_deleting() {
            let mut value = same.value();
            value["revision"] = json!(next);
            plan.update(CONTROLLER_REVISION, value);
        }
        return Some(label(same));
    }
    let collisions = i32::try_from(value["status"]["collisionCount"].as_i64().unwrap_or(0)).unwrap_or(0);
    let hash = hash(&data, collisions);
    if set.meta.is_deleting() {
        return Some(hash);
    }
    let name = format!("{}-{hash}", set.key.name);
    if view.get(CONTROLLER_REVISION, &set.key.namespace, &name).is_some() {
        // Another template has the same hash: the next count makes another one.
        let mut value = value.clone();
        value["status"]["collisionCount"] = json!(collisions + 1);
        plan.update_status(DAEMON_SET, value);
        plan.retry = true;
        return None;
    }
    let mut metadata = json!({"name": name, "namespace": &*set.key.namespace, "labels": template["metadata"]["labels"],
        "ownerReferences": [facts::controller_reference("apps/v1", "DaemonSet", set)]});
    metadata["labels"][LABEL] = json!(hash);
    if value["metadata"]["annotations"].is_object() {
        metadata["annotations"] = value["metadata"]["annotations"].clone();
    }
    let data: Value = serde_json::from_str(&data).unwrap_or_default();
    plan.create(
        CONTROLLER_REVISION,
        json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": metadata, "data": data, "revision": next}),
    );
    Some(hash)
}

/// Forgets the oldest revisions that no pod has, down to the limit.
pub fn trim(view: &View, set: &Object, spec: &DaemonSetSpec, hash: &str, seats: &[Seat], plan: &mut Plan) {
    let Ok(limit) = usize::try_from(spec.revision_history_limit.unwrap_or(10)) else { return };
    let in_use = |revision: &Object| {
        let own = revision.meta.label(LABEL);
        let mut pods = seats.iter().flat_map(|seat| &seat.members);
        own == Some(hash) || pods.any(|member| member.object.meta.label(LABEL) == own)
    };
    let dead: Vec<_> =
        all(view, set).into_iter().filter(|revision| !in_use(revision) && !revision.meta.is_deleting()).collect();
    for revision in dead.iter().take(dead.len().saturating_sub(limit)) {
        plan.delete(revision);
    }
}
