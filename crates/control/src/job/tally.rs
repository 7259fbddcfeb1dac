//! What a job's pods came to.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use stead_api::Object;
use stead_kinds::job::indexes;

use super::policy::{self, Action};
use super::tracking::is_tracked;
use crate::facts;
use crate::names::POD;
use crate::plan::View;

/// Which of a job's numbered parts a pod does.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often the part had failed when the pod was made.
pub const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";

pub struct Tally<'a> {
    pub is_indexed: bool,
    /// All pods of the job.
    pub pods: Vec<&'a Arc<Object>>,
    /// Those that run or will, and are not going.
    pub active: Vec<&'a Arc<Object>>,
    /// Those that are going and have not ended.
    pub terminating: i32,
    pub ready: i32,
    pub succeeded: i32,
    pub failed: i32,
    pub has_new_failure: bool,
    pub completed: BTreeSet<i32>,
    pub failed_indexes: BTreeSet<i32>,
    /// Why the failure policy ends the job.
    pub fail_job: Option<String>,
    /// Ended pods whose end stands in the status that is written before they are let go.
    pub release: Vec<&'a Arc<Object>>,
    uncounted_succeeded: BTreeSet<String>,
    uncounted_failed: BTreeSet<String>,
}

/// The number of the part that a pod does.
pub fn index_of(pod: &Object) -> Option<i32> {
    pod.meta.annotation(INDEX).and_then(|text| text.parse().ok())
}

impl<'a> Tally<'a> {
    pub fn of(view: &View<'a>, object: &Object, job: &Job, spec: &JobSpec) -> Tally<'a> {
        let pods = facts::controlled(view, POD, &object.meta.uid);
        let status = job.status.clone().unwrap_or_default();
        let is_indexed = spec.completion_mode.as_deref() == Some("Indexed");
        let uncounted = status.uncounted_terminated_pods.unwrap_or_default();
        let mut tally = Tally {
            is_indexed,
            pods: pods.clone(),
            active: Vec::new(),
            terminating: 0,
            ready: 0,
            succeeded: status.succeeded.unwrap_or(0),
            failed: status.failed.unwrap_or(0),
            has_new_failure: false,
            completed: indexes::parse(status.completed_indexes.as_deref().unwrap_or_default()),
            failed_indexes: indexes::parse(status.failed_indexes.as_deref().unwrap_or_default()),
            fail_job: None,
            release: Vec::new(),
            uncounted_succeeded: uncounted.succeeded.unwrap_or_default().into_iter().collect(),
            uncounted_failed: uncounted.failed.unwrap_or_default().into_iter().collect(),
        };
        // The counters of the status include what is not counted for good; only the uids of those that are gone leave the list.
        let tracked: BTreeSet<&str> =
            pods.iter().filter(|pod| is_tracked(pod)).map(|pod| pod.meta.uid.as_str()).collect();
        tally.uncounted_succeeded.retain(|uid| tracked.contains(uid.as_str()));
        tally.uncounted_failed.retain(|uid| tracked.contains(uid.as_str()));
        for object in pods {
            tally.add(object, spec);
        }
        if is_indexed {
            let wanted = spec.completions.unwrap_or(0);
            tally.completed.retain(|index| *index < wanted);
            tally.failed_indexes.retain(|index| *index < wanted);
            tally.succeeded = i32::try_from(tally.completed.len()).unwrap_or(i32::MAX);
        }
        tally
    }

    fn add(&mut self, object: &'a Arc<Object>, spec: &JobSpec) {
        let pod = object.view::<Pod>();
        let is_going = object.meta.is_deleting();
        if !facts::is_finished(&pod) {
            match is_going {
                true => self.terminating += 1,
                false => {
                    self.active.push(object);
                    self.ready += i32::from(facts::is_ready(&pod));
                }
            }
        }
        if !is_tracked(object) {
            return;
        }
        if facts::phase(&pod) == "Succeeded" {
            self.succeed(object);
        } else if has_failed(&pod, is_going, spec) {
            self.fail(object, &pod, spec);
        }
    }

    fn succeed(&mut self, object: &'a Arc<Object>) {
        self.release.push(object);
        match (self.is_indexed, index_of(object)) {
            (true, Some(index)) => drop(self.completed.insert(index)),
            (true, None) => {}
            (false, _) if self.uncounted_succeeded.insert(object.meta.uid.clone()) => self.succeeded += 1,
            (false, _) => {}
        }
    }

    fn fail(&mut self, object: &'a Arc<Object>, pod: &Pod, spec: &JobSpec) {
        self.release.push(object);
        if self.uncounted_failed.contains(&object.meta.uid) {
            return;
        }
        let judged = policy::judge(spec, object, pod);
        if judged == Action::Ignore {
            return;
        }
        self.uncounted_failed.insert(object.meta.uid.clone());
        self.failed += 1;
        self.has_new_failure = true;
        let before: i32 = object.meta.annotation(INDEX_FAILURES).and_then(|text| text.parse().ok()).unwrap_or(0);
        let is_last = spec.backoff_limit_per_index.is_some_and(|limit| before >= limit);
        if let Some(index) = index_of(object).filter(|index| !self.completed.contains(index))
            && (is_last || judged == Action::FailIndex)
        {
            self.failed_indexes.insert(index);
        }
        if let Action::FailJob(message) = judged {
            self.fail_job.get_or_insert(message);
        }
    }

    pub fn uncounted_value(&self) -> Value {
        let mut value = json!({});
        for (field, uids) in [("succeeded", &self.uncounted_succeeded), ("failed", &self.uncounted_failed)] {
            if !uids.is_empty() {
                value[field] = json!(uids);
            }
        }
        value
    }

    /// Whether nothing runs and everything is counted.
    pub fn is_over(&self) -> bool {
        self.active.is_empty()
            && self.terminating == 0
            && self.release.is_empty()
            && self.uncounted_succeeded.is_empty()
            && self.uncounted_failed.is_empty()
    }
}

/// A pod that was deleted before its end counts as failed, unless pods are replaced only when they have ended.
fn has_failed(pod: &Pod, is_going: bool, spec: &JobSpec) -> bool {
    let waits = spec.pod_replacement_policy.as_deref() == Some("Failed");
    match facts::phase(pod) {
        "Failed" => true,
        "Pending" => is_going,
        _ => is_going && !waits,
    }
}
