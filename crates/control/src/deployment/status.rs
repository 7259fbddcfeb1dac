//! Deployment status: counts from the ReplicaSets' status, conditions Available and Progressing.
//!
//! Upstream: sync.go `calculateStatus`, progress.go.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Made;
use super::sets::{Desired, Set, Sets};
use crate::facts;
use crate::names::DEPLOYMENT;
use crate::plan::Plan;
use crate::replicaset::REPLICA_FAILURE;

#[derive(Default, PartialEq)]
pub struct Counts {
    replicas: i64,
    updated: i64,
    ready: i64,
    available: i64,
    unavailable: i64,
    terminating: i64,
}

pub fn counts(_desired: &Desired, sets: &Sets) -> Counts {
    let mut counts = Counts::default();
    for set in sets.all() {
        let status = set.typed.status.clone().unwrap_or_default();
        counts.replicas += i64::from(status.replicas);
        counts.ready += i64::from(status.ready_replicas.unwrap_or(0));
        counts.available += i64::from(status.available_replicas.unwrap_or(0));
        counts.terminating += i64::from(status.terminating_replicas.unwrap_or(0));
    }
    counts.updated = sets.new.as_ref().and_then(|new| new.typed.status.as_ref()).map_or(0, |s| i64::from(s.replicas));
    counts.unavailable = (sets.total() - counts.available).max(0);
    counts
}

/// The rollout is over.
pub fn is_complete(desired: &Desired, counts: &Counts) -> bool {
    let wanted = desired.replicas();
    counts.updated == wanted && counts.replicas == wanted && counts.available == wanted
}

pub fn write(desired: &Desired, sets: &Sets, made: Option<&Made>, plan: &mut Plan) {
    let counts = counts(desired, sets);
    let old = &desired.value["status"];
    let mut status = json!({"observedGeneration": desired.object.meta.generation});
    let fields = [
        ("replicas", counts.replicas),
        ("updatedReplicas", counts.updated),
        ("readyReplicas", counts.ready),
        ("availableReplicas", counts.available),
        ("unavailableReplicas", counts.unavailable),
        ("terminatingReplicas", counts.terminating),
    ];
    for (field, count) in fields.into_iter().filter(|(_, count)| *count > 0) {
        status[field] = json!(count);
    }
    let mut conditions = facts::list(&old["conditions"]).to_vec();
    available(desired, &counts, &mut conditions);
    progressing(desired, sets, &counts, made, &mut conditions, plan);
    if !desired.is_paused() {
        failing(sets, &mut conditions);
    }
    status["conditions"] = json!(conditions);
    let collisions = made.map(|made| made.collisions).filter(|count| *count > 0);
    if let Some(count) = collisions.map(Value::from).or_else(|| old.get("collisionCount").cloned()) {
        status["collisionCount"] = count;
    }
    let same = fields.iter().all(|(f, count)| old[*f].as_i64().unwrap_or(0) == *count)
        && old["observedGeneration"] == status["observedGeneration"]
        && old["collisionCount"] == status["collisionCount"]
        && facts::list(&old["conditions"]) == conditions;
    if !same {
        let mut value = desired.value.clone();
        value["status"] = status;
        plan.update_status(DEPLOYMENT, value);
    }
}

fn set(desired: &Desired, conditions: &mut Vec<Value>, kind: &str, status: &str, reason: &str, message: &str) {
    let now = facts::time(desired.view.now);
    let condition = json!({"type": kind, "status": status, "lastUpdateTime": now, "lastTransitionTime": now,
        "reason": reason, "message": message});
    facts::set_condition(conditions, condition);
}

fn available(desired: &Desired, counts: &Counts, conditions: &mut Vec<Value>) {
    let (_, unavailable) = desired.limits();
    if counts.available >= desired.replicas() - unavailable {
        let message = "Deployment has minimum availability.";
        set(desired, conditions, "Available", "True", "MinimumReplicasAvailable", message);
    } else {
        let message = "Deployment does not have minimum availability.";
        set(desired, conditions, "Available", "False", "MinimumReplicasUnavailable", message);
    }
}

fn find<'c>(conditions: &'c mut [Value], kind: &str) -> Option<&'c mut Value> {
    conditions.iter_mut().find(|c| c["type"] == kind)
}

fn progressing(
    desired: &Desired,
    sets: &Sets,
    counts: &Counts,
    made: Option<&Made>,
    conditions: &mut Vec<Value>,
    plan: &mut Plan,
) {
    let Some(deadline) = desired.spec().progress_deadline_seconds.filter(|s| *s != i32::MAX) else {
        conditions.retain(|c| c["type"] != "Progressing");
        return;
    };
    let current = find(conditions, "Progressing").cloned();
    let reason = current.as_ref().and_then(|c| c["reason"].as_str()).unwrap_or_default();
    if let Some(made) = made {
        let message = format!("Created new replica set \"{}\"", made.name);
        return set(desired, conditions, "Progressing", "True", "NewReplicaSetCreated", &message);
    }
    match (desired.is_paused(), reason) {
        (_, "ProgressDeadlineExceeded") => {}
        (true, "DeploymentPaused") => return,
        (true, _) => {
            return set(desired, conditions, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused");
        }
        (false, "DeploymentPaused") => {
            return set(desired, conditions, "Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed");
        }
        (false, _) => {}
    }
    let subject = match &sets.new {
        Some(new) => format!("ReplicaSet \"{}\"", new.object.key.name),
        None => format!("Deployment \"{}\"", desired.name()),
    };
    if counts.replicas == counts.updated && reason == "NewReplicaSetAvailable" {
        return;
    }
    if is_complete(desired, counts) {
        let message = format!("{subject} has successfully progressed.");
        set(desired, conditions, "Progressing", "True", "NewReplicaSetAvailable", &message);
    } else if is_progressing(desired, counts) {
        let message = format!("{subject} is progressing.");
        set(desired, conditions, "Progressing", "True", "ReplicaSetUpdated", &message);
        if let Some(condition) = find(conditions, "Progressing") {
            condition["lastUpdateTime"] = facts::time(desired.view.now);
        }
    } else if let Some(condition) = &current {
        let at = condition["lastUpdateTime"].as_str().and_then(|t| t.parse::<Timestamp>().ok());
        let ends = facts::after(at.unwrap_or(desired.view.now), i64::from(deadline));
        let is_over = matches!(reason, "ProgressDeadlineExceeded" | "NewReplicaSetAvailable");
        if !is_over && ends <= desired.view.now {
            let message = format!("{subject} has timed out progressing.");
            set(desired, conditions, "Progressing", "False", "ProgressDeadlineExceeded", &message);
        }
    }
    if let Some(condition) = find(conditions, "Progressing")
        && condition["reason"] == "ReplicaSetUpdated"
        && let Some(at) = condition["lastUpdateTime"].as_str().and_then(|t| t.parse::<Timestamp>().ok())
    {
        plan.wake(facts::after(at, i64::from(deadline)));
    }
}

/// Takes over why pods cannot be made: from the new ReplicaSet, else from an old one.
fn failing(sets: &Sets, conditions: &mut Vec<Value>) {
    let of_set = |set: &Set| {
        let value = set.object.value();
        facts::list(&value["status"]["conditions"]).iter().find(|one| one["type"] == REPLICA_FAILURE).cloned()
    };
    let Some(mut found) = sets.all().find_map(of_set) else {
        return conditions.retain(|one| one["type"] != REPLICA_FAILURE);
    };
    let known = conditions.iter().find(|one| one["type"] == REPLICA_FAILURE);
    if known.is_some_and(|known| known["status"] == found["status"] && known["reason"] == found["reason"]) {
        return;
    }
    found["lastUpdateTime"] = found["lastTransitionTime"].clone();
    facts::set_condition(conditions, found);
}

/// More pods are updated, ready or available than before, or fewer old ones are left.
fn is_progressing(desired: &Desired, counts: &Counts) -> bool {
    let old = &desired.value["status"];
    let before = |field: &str| old[field].as_i64().unwrap_or(0);
    counts.updated > before("updatedReplicas")
        || counts.replicas - counts.updated < before("replicas") - before("updatedReplicas")
        || counts.ready > before("readyReplicas")
        || counts.available > before("availableReplicas")
}
