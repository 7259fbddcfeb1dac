//! Job: pods that run to an end.

mod facts;
pub mod indexes;
mod validate;

pub use facts::{CONTROLLER_UID, JOB_NAME, OLD_LABELS, has_condition};

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use serde_json::{Value, json};
use stead_api::object::Fields;
use stead_api::{Errors, Object};

use crate::columns::{self, AGE_COLUMN, NAME_COLUMN, wide};
use crate::fill::{each, object, object_or_new, set, set_text};
use crate::names::names;
use crate::replicationcontroller::labels_from_template;
use crate::template::defaults::default_template;
use crate::workload::{self, view};
use crate::{Behavior, Column, Hooks, Kind, Subresource, human};

pub(crate) use validate::validate_template_spec;

pub const JOB: Kind = Kind {
    categories: &["all"],
    has_generation: true,
    subresources: &[Subresource::Status],
    fields: Fields { selectable: &["status.successful"], indexed: &[], labels_indexed: true, ..Fields::NONE },
    columns: COLUMNS,
    hooks: Hooks::of::<Job>(),
    ..Kind::plain("jobs.batch", "batch", "v1", names!("Job", "job", "jobs"), "io.k8s.api.batch.v1.Job")
};

impl Behavior for Job {
    fn default(new: &mut Value) {
        let Some(spec) = object_or_new(new, "spec") else { return };
        default_spec(spec);
        default_template(spec);
        labels_from_template(new);
    }

    /// The selector and the labels that it selects are the server's, unless the client wants to say them.
    fn prepare(new: &mut Value, old: Option<&Value>) {
        if old.is_some() || new["spec"]["manualSelector"] == true {
            return;
        }
        let (uid, name) = (new["metadata"]["uid"].clone(), new["metadata"]["name"].clone());
        let Some(spec) = object(new, "spec") else { return };
        if let Some(template) = object_or_new(spec, "template")
            && let Some(meta) = object_or_new(template, "metadata")
            && let Some(labels) = object_or_new(meta, "labels")
        {
            let [old_uid, old_name] = OLD_LABELS;
            for (label, value) in [(CONTROLLER_UID, &uid), (JOB_NAME, &name), (old_uid, &uid), (old_name, &name)] {
                set(labels, label, value.clone());
            }
        }
        if let Some(selector) = object_or_new(spec, "selector")
            && let Some(labels) = object_or_new(selector, "matchLabels")
        {
            set(labels, CONTROLLER_UID, uid);
        }
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        validate::validate(self, old, errors);
    }

    fn warn(&self, _old: Option<&Self>) -> Vec<String> {
        let mut warnings = self.spec.as_ref().map_or(Vec::new(), |spec| workload::warn_of_template(&spec.template));
        let name = self.metadata.name.as_deref().unwrap_or("");
        let faults = stead_api::names::dns1123_label(name);
        if !faults.is_empty() {
            let what = "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended";
            warnings.push(format!("{what}: [{}]", faults.join(", ")));
        }
        warnings
    }
}

/// Defaults of a job's own spec; a CronJob's template does not get them.
fn default_spec(spec: &mut Value) {
    let is_missing = |spec: &Value, field: &str| spec.get(field).is_none_or(Value::is_null);
    if is_missing(spec, "completions") && is_missing(spec, "parallelism") {
        set(spec, "completions", 1);
    }
    set(spec, "parallelism", 1);
    let limit = if is_missing(spec, "backoffLimitPerIndex") { 6 } else { i32::MAX };
    set(spec, "backoffLimit", limit);
    set_text(spec, "completionMode", "NonIndexed");
    set(spec, "suspend", false);
    set(spec, "manualSelector", false);
    let replacement = if is_missing(spec, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
    set_text(spec, "podReplacementPolicy", replacement);
    default_failure_policy(spec);
}

pub(crate) fn default_failure_policy(spec: &mut Value) {
    let Some(policy) = object(spec, "podFailurePolicy") else { return };
    for rule in each(policy, "rules") {
        for pattern in each(rule, "onPodConditions") {
            set_text(pattern, "status", "True");
        }
    }
}

pub fn is_finished(job: &Job) -> bool {
    has_condition(job, "Complete") || has_condition(job, "Failed")
}

const COLUMNS: &[Column] = &[
    NAME_COLUMN,
    columns::text("Status", |object, _| status(&view::<Job>(object)).into(), "What it does, or how it ended."),
    columns::text(
        "Completions",
        |object, _| completions(&view::<Job>(object)).into(),
        "Pods that succeeded, of those wanted.",
    ),
    columns::text("Duration", duration, "How long it has run, or ran."),
    AGE_COLUMN,
    wide(columns::text(
        "Containers",
        |object, _| workload::containers(view::<Job>(object).spec.as_ref().map(|s| &s.template)).into(),
        "Names of the containers in the template.",
    )),
    wide(columns::text(
        "Images",
        |object, _| workload::images(view::<Job>(object).spec.as_ref().map(|s| &s.template)).into(),
        "Images of the containers in the template.",
    )),
    wide(columns::text(
        "Selector",
        |object, _| {
            let job = view::<Job>(object);
            let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            selector.map_or("<none>".to_owned(), workload::selector_text).into()
        },
        "Labels of its pods.",
    )),
];

fn status(job: &Job) -> &'static str {
    let known = [
        ("Complete", "Complete"),
        ("Failed", "Failed"),
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
        ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ];
    match known.iter().find(|(condition, _)| has_condition(job, condition)) {
        _ if job.metadata.deletion_timestamp.is_some() => "Terminating",
        Some((_, shown)) => shown,
        None => "Running",
    }
}

fn completions(job: &Job) -> String {
    let empty = JobSpec::default();
    let spec = job.spec.as_ref().unwrap_or(&empty);
    let succeeded = job.status.as_ref().and_then(|status| status.succeeded).unwrap_or(0);
    match (spec.completions, spec.parallelism) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, Some(parallel)) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
        _ => format!("{succeeded}/1"),
    }
}

fn duration(object: &Object, now: jiff::Timestamp) -> Value {
    let job = view::<Job>(object);
    let status = job.status.as_ref();
    let Some(start) = status.and_then(|status| status.start_time.as_ref()) else { return json!("") };
    let end = status.and_then(|status| status.completion_time.as_ref()).map_or(now, |end| end.0);
    human::since(start.0, end).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(spec: Value) -> (Value, Vec<String>) {
        let mut value = json!({"metadata": {"name": "a", "namespace": "b", "uid": "u-1"}, "spec": spec});
        value["spec"]["template"]["spec"]["containers"] = json!([{"name": "c", "image": "x"}]);
        (JOB.hooks.default)(&mut value);
        (JOB.hooks.prepare)(&mut value, None);
        let found = JOB.check(&value, None).expect("decodes").errors;
        let errors = found.0.iter().map(ToString::to_string).collect();
        (value, errors)
    }

    #[test]
    fn a_job_gets_its_selector_and_numbers() {
        let (value, errors) = made(json!({"template": {"spec": {"restartPolicy": "Never"}}}));
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(value["spec"]["selector"]["matchLabels"], json!({CONTROLLER_UID: "u-1"}));
        assert_eq!(value["spec"]["template"]["metadata"]["labels"]["job-name"], "a");
        assert_eq!((&value["spec"]["completions"], &value["spec"]["backoffLimit"]), (&json!(1), &json!(6)));
        let (value, _) = made(json!({"parallelism": 3, "template": {"spec": {"restartPolicy": "Never"}}}));
        assert!(value["spec"]["completions"].is_null(), "a work queue has no count");
    }

    #[test]
    fn every_mistake_of_a_job_is_named() {
        let (_, errors) = made(json!({"completionMode": "Indexed", "parallelism": -1, "backoffLimit": -1}));
        assert_eq!(
            errors,
            [
                "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
                "spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0",
                "spec.completions: Required value: when completion mode is Indexed",
                "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
            ]
        );
        let (_, errors) =
            made(json!({"backoffLimitPerIndex": 1, "podFailurePolicy": {"rules": [{"action": "Ignore"}]},
            "template": {"spec": {"restartPolicy": "OnFailure"}}}));
        assert_eq!(
            errors,
            [
                "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
                "spec.podFailurePolicy.rules[0]: Invalid value: {\"action\":\"Ignore\"}: specifying one of OnExitCodes and OnPodConditions is required",
                "spec.template.spec.restartPolicy: Invalid value: \"OnFailure\": only \"Never\" is supported when podFailurePolicy is specified",
                "spec.template.spec.restartPolicy: Invalid value: \"OnFailure\": only \"Never\" is supported when backoffLimitPerIndex is specified",
            ]
        );
    }

    #[test]
    fn what_a_job_is_stays() {
        let (mut value, _) = made(json!({"completions": 2, "template": {"spec": {"restartPolicy": "Never"}}}));
        value["metadata"]["resourceVersion"] = "1".into();
        let old = Object::of_value(stead_api::Key::new("jobs.batch", "b", "a"), &value, &JOB.stored_fields())
            .expect("an object");
        value["spec"]["completions"] = 3.into();
        value["spec"]["template"]["spec"]["containers"][0]["image"] = "y".into();
        let errors = JOB.check(&value, Some(&old)).expect("decodes").errors;
        let fields: Vec<String> =
            errors.0.iter().map(|e| e.to_string().split(':').next().unwrap_or("").to_owned()).collect();
        assert_eq!(fields, ["spec.completions", "spec.template"]);
        value["spec"]["completions"] = 2.into();
        value["spec"]["template"]["spec"]["containers"][0]["image"] = "x".into();
        value["spec"]["parallelism"] = 5.into();
        assert!(JOB.check(&value, Some(&old)).expect("decodes").errors.is_empty());
    }
}
