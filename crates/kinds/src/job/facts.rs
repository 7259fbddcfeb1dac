//! What a Job's pods carry, and what its conditions say.

use k8s_openapi::api::batch::v1::Job;

/// The labels by which a job knows its pods; the short ones are older.
pub const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";

pub const JOB_NAME: &str = "batch.kubernetes.io/job-name";

pub const OLD_LABELS: [&str; 2] = ["controller-uid", "job-name"];

/// Whether a condition of this type is True.
pub fn has_condition(job: &Job, name: &str) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|one| one.type_ == name && one.status == "True")
}
