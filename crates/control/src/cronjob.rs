//! CronJob → Jobs by the clock.
//!
//! Guarantees: one job a scheduled time, for its name is made of it; of the times that were missed only the last one is made up for,
//! and only within the starting deadline.
//! Upstream: pkg/controller/cronjob.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, Job};
use serde_json::{Value, json};
use stead_api::{Key, Object};
use stead_kinds::cron::{self, Schedule};
use stead_kinds::job::{has_condition, is_finished};
use stead_store::Event;

use crate::facts;
use crate::names::{CRON_JOB, JOB};
use crate::plan::{Action, Controller, Note, Plan, Settles, View, Watch};

/// More missed times than this are worth a warning.
const MISSED_MAX: usize = 100;
/// How far back the last missed time is looked for, in seconds, nearest first; the last one is five years.
const WINDOWS: [i64; 5] = [3600, 86_400, 31 * 86_400, 366 * 86_400, 5 * 366 * 86_400];
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

pub const CONTROLLER: Controller = Controller {
    name: "cronjob-controller",
    settles: Settles::Never,
    watches: &[
        Watch { kind: CRON_JOB, keys: |_, event| vec![event.key().clone()] },
        Watch { kind: JOB, keys: crons_of_job },
    ],
    reconcile,
};

fn crons_of_job(_: &View, event: &Event) -> Vec<Key> {
    let object = &event.object;
    let owner = object.meta.controller().filter(|owner| owner.kind == "CronJob");
    owner.map(|owner| Key::new(CRON_JOB, &object.key.namespace, &owner.name)).into_iter().collect()
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let Some(object) = view.snapshot.get(key) else { return plan };
    let cron = object.view::<CronJob>();
    let jobs = facts::controlled(view, JOB, &object.meta.uid);
    let mut value = object.value();
    note_ends(object, &jobs, &mut value, &mut plan);
    tidy(object, &cron.spec, &jobs, &mut plan);
    if !object.meta.is_deleting() {
        start(view, object, &cron, &jobs, &mut value, &mut plan);
    }
    if value["status"] != object.value()["status"] {
        plan.update_status(CRON_JOB, value);
    }
    plan
}

fn is_active(job: &Object) -> bool {
    !is_finished(&job.view::<Job>())
}

/// Keeps the list of running jobs, and says how the others ended.
fn note_ends(object: &Arc<Object>, jobs: &[&Arc<Object>], value: &mut Value, plan: &mut Plan) {
    let listed = facts::list(&value["status"]["active"]).to_vec();
    for entry in &listed {
        let name = entry["name"].as_str().unwrap_or_default();
        let Some(job) = jobs.iter().find(|job| *job.key.name == *name) else {
            let message = format!("Active job went missing: {name}");
            plan.note(Note::normal(&object.key, "MissingJob", message));
            continue;
        };
        if is_active(job) {
            continue;
        }
        let view = job.view::<Job>();
        let end = if has_condition(&view, "Complete") { "Complete" } else { "Failed" };
        plan.note(Note::normal(&object.key, "SawCompletedJob", format!("Saw completed job: {name}, condition: {end}")));
        let done = view.status.as_ref().and_then(|status| status.completion_time.as_ref()).map(|at| at.0);
        if let Some(done) = done.filter(|_| end == "Complete") {
            let last = value["status"]["lastSuccessfulTime"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
            value["status"]["lastSuccessfulTime"] = facts::time(last.map_or(done, |last| last.max(done)));
        }
    }
    let active: Vec<Value> = jobs.iter().filter(|job| is_active(job)).map(|job| reference(job)).collect();
    list_active(value, active);
}

fn list_active(value: &mut Value, active: Vec<Value>) {
    match active.is_empty() {
        false => value["status"]["active"] = json!(active),
        true => {
            if let Some(status) = value.get_mut("status").and_then(Value::as_object_mut) {
                status.shift_remove("active");
            }
        }
    }
}

fn reference(job: &Object) -> Value {
    json!({"kind": "Job", "namespace": &*job.key.namespace, "name": &*job.key.name, "uid": job.meta.uid,
        "apiVersion": "batch/v1", "resourceVersion": job.revision().to_string()})
}

/// Removes the oldest of the jobs that have ended, beyond what is to be kept.
fn tidy(object: &Arc<Object>, spec: &CronJobSpec, jobs: &[&Arc<Object>], plan: &mut Plan) {
    let ended = |name: &'static str| {
        let mut found: Vec<&Arc<Object>> = jobs
            .iter()
            .copied()
            .filter(|job| !job.meta.is_deleting() && has_condition(&job.view::<Job>(), name))
            .collect();
        found.sort_by_key(|job| {
            (job.view::<Job>().status.as_ref().and_then(|s| s.start_time.as_ref().map(|at| at.0)), job.key.clone())
        });
        found
    };
    for (name, limit) in [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)]
    {
        let Some(limit) = limit else { continue };
        let found = ended(name);
        let surplus = found.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        for job in found.into_iter().take(surplus) {
            let note = Note::normal(&object.key, "SuccessfulDelete", format!("Deleted job {}", job.key.name));
            plan.delete_noted(
                job,
                Some(note),
                Some(Note::warning(&object.key, "FailedDelete", "Deleted job: {error}")),
            );
        }
    }
}

/// Makes the job of the last time that has come, and looks again when the next one does.
fn start(view: &View, object: &Arc<Object>, cron: &CronJob, jobs: &[&Arc<Object>], value: &mut Value, plan: &mut Plan) {
    let spec = &cron.spec;
    if spec.suspend == Some(true) {
        return;
    }
    let schedule = match Schedule::parse(&spec.schedule) {
        Ok(schedule) => schedule,
        Err(why) => {
            let message = format!("unparseable schedule: {:?} : {why}", spec.schedule);
            return plan.note(Note::warning(&object.key, "UnparseableSchedule", message));
        }
    };
    let Some(zone) = cron::zone(spec.time_zone.as_deref().unwrap_or("UTC")) else {
        let message = format!("invalid timeZone: {:?}", spec.time_zone);
        return plan.note(Note::warning(&object.key, "UnknownTimeZone", message));
    };
    if let Some(next) = schedule.next(view.now, &zone) {
        plan.wake(next);
    }
    let last = cron.status.as_ref().and_then(|status| status.last_schedule_time.as_ref()).map(|at| at.0);
    let earliest = last.or(object.meta.creation_timestamp).unwrap_or(view.now);
    let within =
        spec.starting_deadline_seconds.map_or(earliest, |seconds| earliest.max(facts::after(view.now, -seconds)));
    let Some(due) = last_missed(&schedule, &zone, within, view.now) else { return };
    if last.is_some_and(|last| last >= due) {
        return;
    }
    if count_missed(&schedule, &zone, within, view.now) > MISSED_MAX {
        let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.note(Note::warning(&object.key, "TooManyMissedTimes", message));
    }
    let active: Vec<&Arc<Object>> = jobs.iter().copied().filter(|job| is_active(job)).collect();
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.note(Note::normal(&object.key, "JobAlreadyActive", message));
            return;
        }
        Some("Replace") => {
            for job in active.iter().filter(|job| !job.meta.is_deleting()) {
                let note = Note::normal(&object.key, "SuccessfulDelete", format!("Deleted job {}", job.key.name));
                plan.delete_noted(job, Some(note), None);
            }
            list_active(value, Vec::new());
        }
        _ => {}
    }
    let job = new_job(object, due);
    let name = job["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let exists = view.get(JOB, &object.key.namespace, &name).is_some();
    if !exists {
        plan.actions.push(Action::Create {
            kind: JOB,
            value: job,
            on_success: Some(Note::normal(&object.key, "SuccessfulCreate", format!("Created job {name}"))),
            on_failure: Some(Note::warning(&object.key, "FailedCreate", "Error creating job: {error}")),
        });
    }
    value["status"]["lastScheduleTime"] = facts::time(due);
}

/// The last scheduled time after `earliest` and not after `now`; looked for from near to far, so that it costs little.
fn last_missed(schedule: &Schedule, zone: &TimeZone, earliest: Timestamp, now: Timestamp) -> Option<Timestamp> {
    if let Schedule::Every(every) = schedule {
        let (every, passed) = (every.as_secs(), now.as_second() - earliest.as_second());
        return (passed >= every).then(|| facts::after(earliest, passed / every * every));
    }
    for seconds in WINDOWS {
        let mut at = earliest.max(facts::after(now, -seconds));
        let mut found = None;
        while let Some(next) = schedule.next(at, zone).filter(|next| *next <= now) {
            (found, at) = (Some(next), next);
        }
        if found.is_some() || at == earliest {
            return found;
        }
    }
    None
}

/// How many times were missed, counted until there are too many.
fn count_missed(schedule: &Schedule, zone: &TimeZone, earliest: Timestamp, now: Timestamp) -> usize {
    let mut at = earliest;
    let mut count = 0;
    while count <= MISSED_MAX
        && let Some(next) = schedule.next(at, zone).filter(|next| *next <= now)
    {
        (count, at) = (count + 1, next);
    }
    count
}

fn new_job(object: &Arc<Object>, due: Timestamp) -> Value {
    let value = object.value();
    let template = &value["spec"]["jobTemplate"];
    let mut metadata = json!({"name": format!("{}-{}", object.key.name, due.as_second() / 60),
        "namespace": &*object.key.namespace,
        "ownerReferences": [facts::controller_reference("batch/v1", "CronJob", object)]});
    for field in ["labels", "annotations"] {
        if !template["metadata"][field].is_null() {
            metadata[field] = template["metadata"][field].clone();
        }
    }
    let zone = value["spec"]["timeZone"].as_str().and_then(cron::zone).unwrap_or(TimeZone::UTC);
    let shown = due.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().replace("+00:00", "Z");
    metadata["annotations"][SCHEDULED] = json!(shown);
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"]})
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::fixture::{World, show};

    /// Now is 1970-01-12T13:46:40Z.
    fn check(text: &str, expected: Expect) {
        let world = World::of(text);
        let plan = reconcile(&world.view(), &Key::new(CRON_JOB, "default", "nightly"));
        expected.assert_eq(&show(&world, &plan));
    }

    #[test]
    fn the_last_missed_time_is_made_up_for() {
        check(
            r#"cron nightly created=7200 {"spec":{"schedule":"*/30 * * * *"}}"#,
            expect![[r#"
                create Job nightly-16650
                status CronJob nightly {"lastScheduleTime":"1970-01-12T13:30:00Z"}
                wake in 800 s
            "#]],
        );
    }

    #[test]
    fn a_time_that_was_served_is_not_served_again() {
        check(
            r#"cron nightly created=7200 {"spec":{"schedule":"*/30 * * * *"},"status":{"lastScheduleTime":"1970-01-12T13:30:00Z"}}"#,
            expect![[r#"
                wake in 800 s
            "#]],
        );
    }

    #[test]
    fn what_is_too_late_or_forbidden_is_not_started() {
        check(
            r#"cron nightly created=7200 {"spec":{"schedule":"*/30 * * * *","startingDeadlineSeconds":60}}"#,
            expect![[r#"
                wake in 800 s
            "#]],
        );
        check(
            r#"cron nightly created=7200 {"spec":{"schedule":"*/30 * * * *","concurrencyPolicy":"Forbid"}}
               job nightly-1 owner=cron:nightly {"status":{"active":1}}"#,
            expect![[r#"
                status CronJob nightly {"active":[{"kind":"Job","namespace":"default","name":"nightly-1","uid":"job-nightly-1","apiVersion":"batch/v1","resourceVersion":"2"}]}
                event cronjobs.batch/default/nightly Normal JobAlreadyActive: Not starting job because prior execution is running and concurrency policy is Forbid
                wake in 800 s
            "#]],
        );
    }

    #[test]
    fn old_jobs_go_and_ends_are_told() {
        check(
            r#"cron nightly created=7200 {"spec":{"schedule":"0 0 1 1 *","successfulJobsHistoryLimit":1},"status":{"active":[{"name":"nightly-2"}]}}
               job nightly-1 owner=cron:nightly {"status":{"startTime":"1970-01-10T00:00:00Z","conditions":[{"type":"Complete","status":"True"}]}}
               job nightly-2 owner=cron:nightly {"status":{"startTime":"1970-01-11T00:00:00Z","completionTime":"1970-01-11T00:05:00Z","conditions":[{"type":"Complete","status":"True"}]}}"#,
            expect![[r#"
                delete jobs.batch/default/nightly-1
                status CronJob nightly {"lastSuccessfulTime":"1970-01-11T00:05:00Z","active":null}
                event cronjobs.batch/default/nightly Normal SawCompletedJob: Saw completed job: nightly-2, condition: Complete
                wake in 30536000 s
            "#]],
        );
    }
}
