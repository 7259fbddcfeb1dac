//! StatefulSet status: a function of the set, its pods and its revisions (Level).
//!
//! Rows ST-01 … ST-09. Beyond ST-07: currentRevision advances under OnDelete too, once every pod is at the newest revision.

use serde_json::json;

use super::revision::Revisions;
use super::set::{Member, Set, wake_when_available};
use crate::facts;
use crate::names::STATEFUL_SET;
use crate::plan::Plan;

/// Writes the status if it changed; `revisions.current` advances when the rollout is complete (ST-06).
pub fn write(set: &Set, members: &[Member], revisions: &mut Revisions, plan: &mut Plan) {
    let count = |matches: &dyn Fn(&Member) -> bool| members.iter().filter(|m| matches(m)).count() as i64;
    let exists = |m: &Member| !facts::phase(&m.pod).is_empty();
    let replicas = count(&exists);
    let ready = count(&|m| m.is_running_and_ready());
    let available = count(&|m| m.is_running_and_available());
    let mut current = count(&|m| exists(m) && !m.is_terminating() && m.revision() == revisions.current);
    let updated = count(&|m| exists(m) && !m.is_terminating() && m.revision() == revisions.update);
    members.iter().filter(|m| m.is_running_and_ready()).for_each(|m| wake_when_available(m, plan));

    if [updated, ready, replicas].iter().all(|n| *n == set.replicas()) {
        current = updated;
        revisions.complete();
    }
    let mut status = json!({"observedGeneration": set.object.meta.generation, "replicas": replicas});
    for (field, n) in [("readyReplicas", ready), ("currentReplicas", current), ("updatedReplicas", updated)] {
        if n > 0 {
            status[field] = json!(n);
        }
    }
    status["availableReplicas"] = json!(available);
    status["currentRevision"] = json!(revisions.current);
    status["updateRevision"] = json!(revisions.update);
    status["collisionCount"] = json!(revisions.collision_count);
    if !is_same(&set.value["status"], &status) {
        let mut value = set.value.clone();
        value["status"] = status;
        plan.update_status(STATEFUL_SET, value);
    }
}

/// Equal as Kubernetes' types see it: a zero and an absent count are the same, the order of keys means nothing. Conditions that others
/// put there are left until something is to be written, and then go (ST-09).
fn is_same(old: &serde_json::Value, new: &serde_json::Value) -> bool {
    let counts =
        ["replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas", "collisionCount"];
    counts.iter().all(|f| old[*f].as_i64().unwrap_or(0) == new[*f].as_i64().unwrap_or(0))
        && ["observedGeneration", "currentRevision", "updateRevision"].iter().all(|f| old[*f] == new[*f])
}
