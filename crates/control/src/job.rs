//! Job → pods that run to an end.
//!
//! Guarantees: a pod that ended is counted once, for it keeps the tracking finalizer until its uid stands in the status, and leaves
//! `uncountedTerminatedPods` for the counters only when the finalizer is gone; a finished job has no pods left that run.
//! `tally.rs` counts, `policy.rs` judges failures, `pods.rs` makes and removes pods; here is what follows from it.
//! Upstream: pkg/controller/job.

mod adoption;
mod pods;
mod policy;
mod tally;
mod tracking;
pub mod ttl;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use serde_json::{Value, json};
use stead_api::{Key, Object};
use stead_kinds::job::{JOB_NAME, has_condition, indexes, is_finished};
use stead_store::Event;

use crate::facts;
use crate::names::{JOB, POD};
use crate::plan::{Controller, Note, Plan, Settles, View, Watch};
use tally::Tally;
use tracking::{is_tracked, untracked};

pub const CONTROLLER: Controller = Controller {
    name: "job-controller",
    settles: Settles::Never,
    watches: &[Watch { kind: JOB, keys: |_, event| vec![event.key().clone()] }, Watch { kind: POD, keys: jobs_of_pod }],
    reconcile,
};

/// The manager that a job names which is this controller's.
const MANAGER: &str = "kubernetes.io/job-controller";

fn jobs_of_pod(view: &View, event: &Event) -> Vec<Key> {
    let mut keys = Vec::new();
    for object in event.old.iter().chain([&event.object]) {
        let owner = object.meta.controller().filter(|owner| owner.kind == "Job").map(|owner| owner.name.as_str());
        // A pod that lost its job still waits for its finalizer to go.
        let label = object.meta.label(JOB_NAME).filter(|_| is_tracked(object));
        keys.extend(owner.or(label).map(|name| Key::new(JOB, &object.key.namespace, name)));
    }
    let pod = &event.object;
    if pod.meta.controller().is_none() && !event.deleted && !pod.meta.labels.is_empty() {
        let names = |job: &Object| {
            let selector = job.view::<Job>().spec.as_ref().and_then(adoption::selector);
            selector.is_some_and(|selector| selector.matches(&pod.meta.labels))
        };
        let jobs = view.snapshot.list(JOB, &pod.key.namespace).filter(|job| names(job));
        keys.extend(jobs.map(|job| job.key.clone()));
    }
    keys.dedup();
    keys
}

/// Why a job comes to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct End {
    /// `SuccessCriteriaMet`, or `FailureTarget`.
    target: &'static str,
    reason: String,
    message: String,
}

impl End {
    fn failure(reason: &str, message: impl Into<String>) -> End {
        End { target: "FailureTarget", reason: reason.to_owned(), message: message.into() }
    }

    fn success(reason: &str, message: impl Into<String>) -> End {
        End { target: "SuccessCriteriaMet", reason: reason.to_owned(), message: message.into() }
    }

    /// The condition that says that it has ended.
    fn last(&self) -> &'static str {
        if self.target == "FailureTarget" { "Failed" } else { "Complete" }
    }
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let Some(object) = view.snapshot.get(key) else { return release_orphans(view, key) };
    let job = object.view::<Job>();
    let empty = JobSpec::default();
    let spec = job.spec.as_ref().unwrap_or(&empty);
    let mut plan = Plan::none();
    if spec.managed_by.as_deref().is_some_and(|manager| manager != MANAGER) {
        return plan;
    }
    if !is_finished(&job) && adoption::claim(view, object, spec, &mut plan) {
        return plan;
    }
    let tally = Tally::of(view, object, &job, spec);
    if is_finished(&job) {
        tally.release.iter().for_each(|pod| plan.update(POD, untracked(pod)));
        return plan;
    }
    let suspended = spec.suspend == Some(true);
    let end = ending(view, &job, spec, &tally, suspended, &mut plan);
    let mut value = object.value();
    status(view, object, &mut value, &tally, spec, suspended, end.as_ref(), &mut plan);
    if value["status"] != object.value()["status"] {
        plan.update_status(JOB, value);
    }
    tally.release.iter().for_each(|pod| plan.update(POD, untracked(pod)));
    match &end {
        Some(_) => tally.active.iter().for_each(|pod| pods::remove(object, pod, &mut plan)),
        None if suspended => tally.active.iter().for_each(|pod| pods::give_up(object, pod, &mut plan)),
        None if object.meta.is_deleting() => {}
        None => pods::scale(view, object, spec, &tally, &mut plan),
    }
    plan
}

/// Pods whose job is gone need not be counted.
fn release_orphans(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let selector = stead_api::LabelSelector::from_labels([(&JOB_NAME.to_owned(), &key.name.to_string())]);
    for pod in facts::select(view, POD, &key.namespace, &selector).into_iter().filter(|pod| is_tracked(pod)) {
        plan.update(POD, untracked(pod));
    }
    plan
}

/// Whether the job is to end, and why; what was decided once stays decided.
fn ending(view: &View, job: &Job, spec: &JobSpec, tally: &Tally, suspended: bool, plan: &mut Plan) -> Option<End> {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    for condition in conditions.filter(|one| one.status == "True") {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (reason, message) = (text(&condition.reason), text(&condition.message));
        match condition.type_.as_str() {
            "FailureTarget" => return Some(End::failure(&reason, message)),
            "SuccessCriteriaMet" => return Some(End::success(&reason, message)),
            _ => {}
        }
    }
    if let Some(message) = &tally.fail_job {
        return Some(End::failure("PodFailurePolicy", message));
    }
    if let Some(ends) = deadline(job, spec).filter(|_| !suspended) {
        if ends <= view.now {
            return Some(End::failure("DeadlineExceeded", "Job was active longer than specified deadline"));
        }
        plan.wake(ends);
    }
    let limit = spec.backoff_limit.unwrap_or(6);
    if (tally.has_new_failure && tally.failed > limit) || too_many_restarts(spec, tally, limit) {
        return Some(End::failure("BackoffLimitExceeded", "Job has reached the specified backoff limit"));
    }
    let failed_indexes = tally.failed_indexes.len();
    if let Some(most) = spec.max_failed_indexes
        && usize::try_from(most).is_ok_and(|most| failed_indexes > most)
    {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return Some(End::failure("MaxFailedIndexesExceeded", message));
    }
    if let Some(rule) = policy::succeeded(spec, &tally.completed) {
        return Some(End::success("SuccessPolicy", format!("Matched rules at index {rule}")));
    }
    let wanted = spec.completions.map(|count| usize::try_from(count).unwrap_or(0));
    if tally.is_indexed && failed_indexes > 0 && wanted.is_some_and(|all| tally.completed.len() + failed_indexes >= all)
    {
        return Some(End::failure("FailedIndexes", "Job has failed indexes"));
    }
    let is_complete = match spec.completions {
        Some(wanted) => tally.succeeded >= wanted,
        None => tally.succeeded > 0 && tally.active.is_empty(),
    };
    let message = "Reached expected number of succeeded pods";
    is_complete.then(|| End::success("CompletionsReached", message))
}

fn deadline(job: &Job, spec: &JobSpec) -> Option<Timestamp> {
    let start = job.status.as_ref().and_then(|status| status.start_time.as_ref())?;
    Some(facts::after(start.0, spec.active_deadline_seconds?))
}

/// Pods that are restarted in place fail without ending.
fn too_many_restarts(spec: &JobSpec, tally: &Tally, limit: i32) -> bool {
    let policy = spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    if policy != Some("OnFailure") {
        return false;
    }
    let restarts: i32 = tally.active.iter().map(|pod| pods::restarts(pod)).sum();
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

#[allow(clippy::too_many_arguments)]
fn status(
    view: &View,
    object: &Arc<Object>,
    value: &mut Value,
    tally: &Tally,
    spec: &JobSpec,
    suspended: bool,
    end: Option<&End>,
    plan: &mut Plan,
) {
    let status = &mut value["status"];
    if !status.is_object() {
        *status = json!({});
    }
    let mut put = |field: &str, new: Value, is_set: bool| match is_set {
        true => status[field] = new,
        false => drop(status.as_object_mut().and_then(|map| map.shift_remove(field))),
    };
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let active = count(tally.active.len());
    put("active", json!(active), active > 0);
    put("ready", json!(tally.ready), true);
    put("terminating", json!(tally.terminating), true);
    put("succeeded", json!(tally.succeeded), tally.succeeded > 0);
    put("failed", json!(tally.failed), tally.failed > 0);
    put("completedIndexes", json!(indexes::text(&tally.completed)), tally.is_indexed && !tally.completed.is_empty());
    put("failedIndexes", json!(indexes::text(&tally.failed_indexes)), spec.backoff_limit_per_index.is_some());
    put("uncountedTerminatedPods", tally.uncounted_value(), true);
    let now = facts::time(view.now);
    let mut conditions = facts::list(&status["conditions"]).to_vec();
    let mut say = |kind: &str, status: &str, reason: &str, message: &str| {
        let condition = json!({"type": kind, "status": status, "lastProbeTime": now, "lastTransitionTime": now,
            "reason": reason, "message": message});
        facts::set_condition(&mut conditions, condition)
    };
    let was_suspended = has_condition(&object.view::<Job>(), "Suspended");
    if end.is_none() && suspended && !was_suspended {
        say("Suspended", "True", "JobSuspended", "Job suspended");
        plan.note(Note::normal(&object.key, "Suspended", "Job suspended"));
    } else if end.is_none() && !suspended && was_suspended {
        say("Suspended", "False", "JobResumed", "Job resumed");
        status["startTime"] = now.clone();
        plan.note(Note::normal(&object.key, "Resumed", "Job resumed"));
    }
    if suspended && end.is_none() {
        status.as_object_mut().map(|map| map.shift_remove("startTime"));
    } else if status["startTime"].is_null() {
        status["startTime"] = now.clone();
        if let Some(seconds) = spec.active_deadline_seconds {
            plan.wake(facts::after(view.now, seconds));
        }
    }
    if let Some(end) = end {
        say(end.target, "True", &end.reason, &end.message);
        if tally.is_over() {
            say(end.last(), "True", &end.reason, &end.message);
            plan.note(match end.last() {
                "Complete" => {
                    status["completionTime"] = now.clone();
                    Note::normal(&object.key, "Completed", "Job completed")
                }
                _ => {
                    Note { reason: failure_reason(&end.reason), ..Note::warning(&object.key, "", end.message.clone()) }
                }
            });
        }
    }
    if !conditions.is_empty() {
        status["conditions"] = json!(conditions);
    }
}

/// The reason of an Event is fixed text.
fn failure_reason(reason: &str) -> &'static str {
    const KNOWN: &[&str] =
        &["BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes", "MaxFailedIndexesExceeded", "PodFailurePolicy"];
    KNOWN.iter().find(|known| **known == reason).copied().unwrap_or("Failed")
}

#[cfg(test)]
mod tests;
