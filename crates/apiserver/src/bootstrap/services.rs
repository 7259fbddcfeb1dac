//! An APIService for each group and version that the server itself serves, so that clients which look for who serves what find it.

use serde_json::{Value, json};

/// Priorities of a group, and of its version, as clients order groups by them: higher first.
const PRIORITIES: &[(&str, i64, i64)] = &[
    ("", 18_000, 1),
    ("apps", 17_800, 15),
    ("events.k8s.io", 17_750, 5),
    ("authentication.k8s.io", 17_700, 15),
    ("authorization.k8s.io", 17_600, 15),
    ("autoscaling", 17_500, 15),
    ("batch", 17_400, 15),
    ("certificates.k8s.io", 17_300, 15),
    ("networking.k8s.io", 17_200, 15),
    ("policy", 17_100, 15),
    ("rbac.authorization.k8s.io", 17_000, 15),
    ("storage.k8s.io", 16_800, 15),
    ("apiextensions.k8s.io", 16_700, 15),
    ("admissionregistration.k8s.io", 16_700, 15),
    ("scheduling.k8s.io", 16_600, 15),
    ("coordination.k8s.io", 16_500, 15),
    ("node.k8s.io", 16_300, 15),
    ("discovery.k8s.io", 16_200, 15),
    ("flowcontrol.apiserver.k8s.io", 16_100, 21),
    ("resource.k8s.io", 15_900, 11),
];

/// Every APIService, status included.
pub(super) fn api_services(now: &str) -> Vec<Value> {
    let v1 = PRIORITIES.iter().map(|(group, priority, version)| api_service(group, "v1", *priority, *version, now));
    v1.chain([api_service("autoscaling", "v2", 17_500, 30, now)]).collect()
}

/// That of what pods and nodes use, with the priorities that metrics servers have.
pub(super) fn usage(now: &str) -> Value {
    api_service("metrics.k8s.io", "v1beta1", 100, 100, now)
}

fn api_service(group: &str, version: &str, priority: i64, version_priority: i64, now: &str) -> Value {
    let mut spec = json!({"version": version, "groupPriorityMinimum": priority, "versionPriority": version_priority});
    if !group.is_empty() {
        spec["group"] = json!(group);
    }
    json!({"metadata": {"name": format!("{version}.{group}"), "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}},
        "spec": spec, "status": {"conditions": [{"type": "Available", "status": "True", "lastTransitionTime": now,
            "reason": "Local", "message": "Local APIServices are always available"}]}})
}
