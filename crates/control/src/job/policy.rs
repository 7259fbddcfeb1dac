//! What a pod's failure means to its job, and when a part of the successes is enough.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{JobSpec, PodFailurePolicyOnExitCodesRequirement};
use k8s_openapi::api::core::v1::Pod;
use stead_api::Object;
use stead_kinds::job::indexes;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Count,
    Ignore,
    FailIndex,
    /// With what is to be told.
    FailJob(String),
}

/// The first rule that matches says what a failure means; without one it counts.
pub fn judge(spec: &JobSpec, object: &Object, pod: &Pod) -> Action {
    let rules = spec.pod_failure_policy.iter().flat_map(|policy| &policy.rules);
    let who = format!("{}/{}", object.key.namespace, object.key.name);
    for (index, rule) in rules.enumerate() {
        let end = format!("matching {} rule at index {index}", rule.action);
        let matched = match (&rule.on_exit_codes, &rule.on_pod_conditions) {
            (Some(codes), _) => exit(codes, pod).map(|(container, code)| {
                format!("Container {container} for pod {who} failed with exit code {code} {end}")
            }),
            (None, Some(patterns)) => patterns
                .iter()
                .find(|pattern| {
                    let wanted = pattern.status.as_deref().unwrap_or("True");
                    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
                    conditions.into_iter().any(|one| one.type_ == pattern.type_ && one.status == wanted)
                })
                .map(|pattern| format!("Pod {who} has condition {} {end}", pattern.type_)),
            (None, None) => None,
        };
        let Some(message) = matched else { continue };
        return match rule.action.as_str() {
            "Ignore" => Action::Ignore,
            "FailIndex" => Action::FailIndex,
            "FailJob" => Action::FailJob(message),
            _ => Action::Count,
        };
    }
    Action::Count
}

/// The container whose exit code a rule means.
fn exit(rule: &PodFailurePolicyOnExitCodesRequirement, pod: &Pod) -> Option<(String, i32)> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let named = containers.filter(|one| rule.container_name.as_ref().is_none_or(|name| *name == one.name));
    let ended = named.filter_map(|one| {
        let ended = one.state.as_ref()?.terminated.as_ref()?;
        Some((one.name.clone(), ended.exit_code))
    });
    let mut failed = ended.filter(|(_, code)| *code != 0);
    failed.find(|(_, code)| rule.values.contains(code) == (rule.operator == "In"))
}

/// The rule of the success policy that the completed parts meet.
pub fn succeeded(spec: &JobSpec, completed: &BTreeSet<i32>) -> Option<usize> {
    let rules = &spec.success_policy.as_ref()?.rules;
    rules.iter().position(|rule| {
        let among = rule.succeeded_indexes.as_deref().map(indexes::parse);
        let met = match &among {
            Some(wanted) => wanted.intersection(completed).count(),
            None => completed.len(),
        };
        let needed = match (rule.succeeded_count, &among) {
            (Some(count), _) => usize::try_from(count).unwrap_or(0),
            (None, Some(wanted)) => wanted.len(),
            (None, None) => return false,
        };
        met >= needed
    })
}
