//! Making and removing a job's pods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use stead_api::Object;

use super::tally::{INDEX, INDEX_FAILURES, Tally, index_of};
use super::tracking::{TRACKED, is_tracked, untracked};
use crate::facts;
use crate::names::POD;
use crate::plan::{Action, Note, Plan, View};

/// How many pods one plan makes or removes.
const PODS_PER_PLAN_MAX: usize = 100;
/// How long a pod that failed is not replaced: this, doubled with each further failure, up to the most.
const BACKOFF_SECONDS: i64 = 10;
const BACKOFF_SECONDS_MAX: i64 = 600;

/// Lets a pod go whose end will be counted.
pub fn remove(job: &Arc<Object>, pod: &Arc<Object>, plan: &mut Plan) {
    plan.delete_noted(
        pod,
        Some(Note::normal(&job.key, "SuccessfulDelete", format!("Deleted pod: {}", pod.key.name))),
        Some(Note::warning(&job.key, "FailedDelete", "Error deleting: {error}")),
    );
}

/// Lets a pod go that is no longer wanted; its end means nothing.
pub fn give_up(job: &Arc<Object>, pod: &Arc<Object>, plan: &mut Plan) {
    if is_tracked(pod) {
        plan.update(POD, untracked(pod));
    }
    remove(job, pod, plan);
}

/// How often a pod's containers were started again.
pub fn restarts(object: &Object) -> i32 {
    let pod = object.view::<Pod>();
    let Some(status) = &pod.status else { return 0 };
    status.container_statuses.iter().chain(&status.init_container_statuses).flatten().map(|one| one.restart_count).sum()
}

/// Makes the pods that are missing and removes those that are too many.
pub fn scale(view: &View, job: &Arc<Object>, spec: &JobSpec, tally: &Tally, plan: &mut Plan) {
    let parallelism = usize::try_from(spec.parallelism.unwrap_or(1)).unwrap_or(0);
    let active = tally.active.len();
    let wanted = match spec.completions {
        Some(all) => parallelism.min(left(tally, all)),
        None if tally.succeeded > 0 => active.min(parallelism),
        None => parallelism,
    };
    let surplus = surplus(tally, active.saturating_sub(wanted));
    for pod in surplus.iter().take(PODS_PER_PLAN_MAX) {
        give_up(job, pod, plan);
    }
    let waits = spec.pod_replacement_policy.as_deref() == Some("Failed");
    let going = if waits { usize::try_from(tally.terminating).unwrap_or(0) } else { 0 };
    let missing = wanted.saturating_sub(active - surplus.len() + going).min(PODS_PER_PLAN_MAX);
    if missing == 0 {
        return;
    }
    if tally.is_indexed {
        return make_indexed(view, job, spec, tally, missing, plan);
    }
    if let Some(at) = backoff_end(tally.pods.iter().copied()).filter(|at| *at > view.now) {
        return plan.wake(at);
    }
    (0..missing).for_each(|_| create(job, new_pod(job, None), plan));
}

/// How many ends are still wanted.
fn left(tally: &Tally, all: i32) -> usize {
    let done = match tally.is_indexed {
        true => tally.completed.len() + tally.failed_indexes.len(),
        false => usize::try_from(tally.succeeded).unwrap_or(0),
    };
    usize::try_from(all).unwrap_or(0).saturating_sub(done)
}

/// Pods of parts that are done or done twice, then as many others as are too many: those that are least along first.
fn surplus<'a>(tally: &Tally<'a>, too_many: usize) -> Vec<&'a Arc<Object>> {
    let mut chosen: Vec<&Arc<Object>> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut others = Vec::new();
    let mut pods = tally.active.clone();
    let rank = |pod: &Object| {
        let view = pod.view::<Pod>();
        let placed = view.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        (facts::is_ready(&view), facts::phase(&view) == "Running", placed)
    };
    pods.sort_by_key(|pod| (std::cmp::Reverse(rank(pod)), pod.meta.creation_timestamp, pod.key.clone()));
    for pod in pods {
        let is_done = |index: &i32| tally.completed.contains(index) || tally.failed_indexes.contains(index);
        match index_of(pod).filter(|_| tally.is_indexed) {
            Some(index) if is_done(&index) || !seen.insert(index) => chosen.push(pod),
            _ => others.push(pod),
        }
    }
    while chosen.len() < too_many
        && let Some(pod) = others.pop()
    {
        chosen.push(pod);
    }
    chosen
}

fn make_indexed(view: &View, job: &Arc<Object>, spec: &JobSpec, tally: &Tally, missing: usize, plan: &mut Plan) {
    let mut of_index: BTreeMap<i32, Vec<&Arc<Object>>> = BTreeMap::new();
    for pod in &tally.pods {
        of_index.entry(index_of(pod).unwrap_or(-1)).or_default().push(pod);
    }
    let waits = spec.pod_replacement_policy.as_deref() == Some("Failed");
    let is_busy = |index: &i32| {
        let pods = of_index.get(index).into_iter().flatten();
        let mut alive = pods.filter(|pod| !facts::is_finished(&pod.view::<Pod>()));
        alive.any(|pod| waits || !pod.meta.is_deleting())
    };
    let done = |index: &i32| tally.completed.contains(index) || tally.failed_indexes.contains(index);
    let everything = spec.backoff_limit_per_index.is_none().then(|| backoff_end(tally.pods.iter().copied())).flatten();
    let mut made = 0;
    for index in (0..spec.completions.unwrap_or(0)).filter(|index| !done(index) && !is_busy(index)) {
        if made == missing {
            return;
        }
        let own = of_index.get(&index).map_or(&[][..], Vec::as_slice);
        let until = match spec.backoff_limit_per_index {
            Some(_) => backoff_end(own.iter().copied()),
            None => everything,
        };
        if let Some(at) = until.filter(|at| *at > view.now) {
            plan.wake(at);
            continue;
        }
        let failures = own
            .iter()
            .filter(|pod| facts::phase(&pod.view::<Pod>()) == "Failed")
            .map(|pod| pod.meta.annotation(INDEX_FAILURES).and_then(|text| text.parse::<i32>().ok()).unwrap_or(0) + 1);
        let failures = failures.max().unwrap_or(0);
        let per_index = spec.backoff_limit_per_index.is_some();
        create(job, new_pod(job, Some((index, per_index.then_some(failures)))), plan);
        made += 1;
    }
}

/// When the next pod may be made after those that failed since the last success.
fn backoff_end<'a>(pods: impl Iterator<Item = &'a Arc<Object>>) -> Option<Timestamp> {
    let mut ends: Vec<(Timestamp, bool)> = pods
        .filter_map(|object| {
            let pod = object.view::<Pod>();
            let failed = match facts::phase(&pod) {
                "Failed" => true,
                "Succeeded" => false,
                _ => return None,
            };
            Some((ended_at(object, &pod)?, failed))
        })
        .collect();
    ends.sort_unstable();
    let failures = ends.iter().rev().take_while(|(_, failed)| *failed).count();
    let (last, _) = ends.last().filter(|_| failures > 0)?;
    let doublings = u32::try_from(failures - 1).unwrap_or(u32::MAX).min(16);
    let seconds = (BACKOFF_SECONDS << doublings).min(BACKOFF_SECONDS_MAX);
    Some(facts::after(*last, seconds))
}

/// When the last container of a pod ended.
fn ended_at(object: &Object, pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let ended = statuses.filter_map(|one| Some(one.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0)).max();
    let ready = facts::pod_condition(pod, "Ready").and_then(|one| one.last_transition_time.as_ref()).map(|at| at.0);
    ended.or(ready).or(object.meta.deletion_timestamp).or(object.meta.creation_timestamp)
}

fn create(job: &Arc<Object>, value: Value, plan: &mut Plan) {
    plan.actions.push(Action::Create {
        kind: POD,
        value,
        on_success: Some(Note::normal(&job.key, "SuccessfulCreate", "Created pod: {name}")),
        on_failure: Some(Note::warning(&job.key, "FailedCreate", "Error creating: {error}")),
    });
}

/// A pod of the template; for a numbered part, with its number and how often it failed.
fn new_pod(job: &Arc<Object>, part: Option<(i32, Option<i32>)>) -> Value {
    let value = job.value();
    let template = &value["spec"]["template"];
    let mut metadata = json!({"namespace": &*job.key.namespace, "generateName": format!("{}-", job.key.name),
        "ownerReferences": [facts::controller_reference("batch/v1", "Job", job)], "finalizers": [TRACKED]});
    for field in ["labels", "annotations"] {
        if !template["metadata"][field].is_null() {
            metadata[field] = template["metadata"][field].clone();
        }
    }
    let own = facts::list(&template["metadata"]["finalizers"]).iter().filter(|name| **name != TRACKED);
    let mut finalizers: Vec<Value> = own.cloned().collect();
    finalizers.push(json!(TRACKED));
    metadata["finalizers"] = json!(finalizers);
    let mut spec = template["spec"].clone();
    if let Some((index, failures)) = part {
        metadata["generateName"] = json!(format!("{}-{index}-", job.key.name));
        metadata["labels"][INDEX] = json!(index.to_string());
        metadata["annotations"][INDEX] = json!(index.to_string());
        if let Some(failures) = failures {
            metadata["annotations"][INDEX_FAILURES] = json!(failures.to_string());
        }
        spec["hostname"] = json!(format!("{}-{index}", job.key.name));
        tell_index(&mut spec);
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

/// Containers read their part's number from the environment.
fn tell_index(spec: &mut Value) {
    const NAME: &str = "JOB_COMPLETION_INDEX";
    let variable = json!({"name": NAME, "valueFrom": {"fieldRef": {"apiVersion": "v1",
        "fieldPath": format!("metadata.labels['{INDEX}']")}}});
    for field in ["containers", "initContainers"] {
        for container in spec.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            let env = &mut container["env"];
            match env.as_array_mut() {
                Some(list) if list.iter().any(|one| one["name"] == NAME) => {}
                Some(list) => list.push(variable.clone()),
                None => *env = json!([variable]),
            }
        }
    }
}
