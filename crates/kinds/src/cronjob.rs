//! CronJob: makes Jobs by the clock.

use k8s_openapi::api::batch::v1::CronJob;
use serde_json::Value;
use stead_api::names::dns1123_subdomain;
use stead_api::{Errors, Object};

use crate::check::{not_negative, one_of, text};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN, wide};
use crate::cron::Schedule;
use crate::fill::{object, object_or_new, set, set_text};
use crate::names::names;
use crate::path::Path;
use crate::template::defaults::default_template;
use crate::workload::{self, view};
use crate::{Behavior, Column, Hooks, Kind, Subresource, human, job};

pub const CRONJOB: Kind = Kind {
    short: &["cj"],
    categories: &["all"],
    name_rule: cron_name,
    has_generation: true,
    subresources: &[Subresource::Status],
    columns: COLUMNS,
    hooks: Hooks::of::<CronJob>(),
    ..Kind::plain(
        "cronjobs.batch",
        "batch",
        "v1",
        names!("CronJob", "cronjob", "cronjobs"),
        "io.k8s.api.batch.v1.CronJob",
    )
};

/// A job's name is this name and a dash and ten digits, and its pods carry it as a label of at most 63 characters.
pub const NAME_MAX: usize = 52;

fn cron_name(name: &str) -> Vec<String> {
    let mut messages = dns1123_subdomain(name);
    if name.len() > NAME_MAX {
        messages.push(format!("must be no more than {NAME_MAX} characters"));
    }
    messages
}

impl Behavior for CronJob {
    fn default(new: &mut Value) {
        let Some(spec) = object_or_new(new, "spec") else { return };
        set_text(spec, "concurrencyPolicy", "Allow");
        set(spec, "suspend", false);
        set(spec, "successfulJobsHistoryLimit", 3);
        set(spec, "failedJobsHistoryLimit", 1);
        let Some(template) = object_or_new(spec, "jobTemplate") else { return };
        object_or_new(template, "metadata");
        if let Some(spec) = object_or_new(template, "spec") {
            default_template(spec);
            job::default_failure_policy(spec);
        }
        if let Some(template) = object(spec, "jobTemplate") {
            crate::replicationcontroller::labels_from_template(template);
        }
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let spec = &self.spec;
        if old.map(|old| &old.spec) == Some(spec) {
            return;
        }
        let at = Path::root("spec");
        let at_schedule = at.child("schedule");
        if spec.schedule.is_empty() {
            at_schedule.required(errors, "");
        } else if spec.schedule.contains("TZ") {
            let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            at_schedule.invalid(errors, spec.schedule.as_str(), detail);
        } else if let Err(why) = Schedule::parse(&spec.schedule) {
            at_schedule.invalid(errors, spec.schedule.as_str(), why);
        }
        if let Some(zone) = &spec.time_zone {
            let at = at.child("timeZone");
            if zone.is_empty() {
                at.invalid(errors, zone.as_str(), "timeZone must be nil or non-empty string");
            } else if zone.eq_ignore_ascii_case("local") {
                at.invalid(
                    errors,
                    zone.as_str(),
                    "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
                );
            } else if crate::cron::zone(zone).is_none() {
                at.invalid(errors, zone.as_str(), format!("unknown time zone {zone}"));
            }
        }
        not_negative(at.child("startingDeadlineSeconds"), spec.starting_deadline_seconds, errors);
        let policies = ["Allow", "Forbid", "Replace"];
        one_of(at.child("concurrencyPolicy"), text(&spec.concurrency_policy), &policies, false, errors);
        not_negative(at.child("successfulJobsHistoryLimit"), spec.successful_jobs_history_limit, errors);
        not_negative(at.child("failedJobsHistoryLimit"), spec.failed_jobs_history_limit, errors);
        job::validate_template_spec(at.child("jobTemplate"), &spec.job_template, errors);
    }

    fn warn(&self, _old: Option<&Self>) -> Vec<String> {
        let spec = self.spec.job_template.spec.as_ref();
        spec.map_or(Vec::new(), |spec| workload::warn_of_template(&spec.template))
    }
}

const COLUMNS: &[Column] = &[
    NAME_COLUMN,
    columns::path("Schedule", "spec.schedule", "When it makes jobs."),
    columns::path("Timezone", "spec.timeZone", "By whose clock."),
    columns::text("Suspend", |object, _| suspended(object).into(), "Whether it rests."),
    columns::integer(
        "Active",
        |object, _| object.value()["status"]["active"].as_array().map_or(0, Vec::len).into(),
        "Jobs that run.",
    ),
    columns::text("Last Schedule", last_schedule, "Since it last made a job."),
    AGE_COLUMN,
    wide(columns::text(
        "Containers",
        |object, _| workload::containers(template(object).as_ref()).into(),
        "Names of the containers in the template.",
    )),
    wide(columns::text(
        "Images",
        |object, _| workload::images(template(object).as_ref()).into(),
        "Images of the containers in the template.",
    )),
    wide(columns::text("Selector", selector, "Labels of its jobs' pods.")),
];

fn suspended(object: &Object) -> &'static str {
    match object.value()["spec"]["suspend"].as_bool() {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    }
}

fn last_schedule(object: &Object, now: jiff::Timestamp) -> Value {
    let cron = view::<CronJob>(object);
    let last = cron.status.as_ref().and_then(|status| status.last_schedule_time.as_ref());
    last.map_or("<none>".to_owned(), |last| human::since(last.0, now)).into()
}

fn template(object: &Object) -> Option<k8s_openapi::api::core::v1::PodTemplateSpec> {
    let cron = view::<CronJob>(object);
    cron.spec.job_template.spec.as_ref().map(|spec| spec.template.clone())
}

fn selector(object: &Object, _now: jiff::Timestamp) -> Value {
    let cron = view::<CronJob>(object);
    let spec = cron.spec.job_template.spec.as_ref();
    let selector = spec.and_then(|spec| spec.selector.as_ref());
    selector.map_or("<none>".to_owned(), workload::selector_text).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn errors(change: Value) -> Vec<String> {
        let mut value = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"schedule": "*/5 * * * *",
            "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never",
                "containers": [{"name": "c", "image": "x"}]}}}}}});
        for (field, new) in change.as_object().expect("an object") {
            value["spec"][field] = new.clone();
        }
        (CRONJOB.hooks.default)(&mut value);
        let found = CRONJOB.check(&value, None).expect("decodes").errors;
        found.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn schedule_and_zone_must_be_known() {
        assert_eq!(errors(json!({"timeZone": "Europe/Berlin"})), Vec::<String>::new());
        assert_eq!(
            errors(json!({"schedule": "* * *", "timeZone": "Mars/Base", "concurrencyPolicy": "Maybe"})),
            [
                "spec.schedule: Invalid value: \"* * *\": expected exactly 5 fields, found 3: [* * *]",
                "spec.timeZone: Invalid value: \"Mars/Base\": unknown time zone Mars/Base",
                "spec.concurrencyPolicy: Unsupported value: \"Maybe\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
            ]
        );
        assert_eq!(
            errors(json!({"schedule": "TZ=UTC * * * * *"})),
            [
                "spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
            ]
        );
    }
}
