//! The finalizer by which a Job's pods wait until they are counted.

use serde_json::Value;
use stead_api::Object;

/// Keeps a pod until its end was counted.
pub const TRACKED: &str = "batch.kubernetes.io/job-tracking";

pub fn is_tracked(pod: &Object) -> bool {
    pod.meta.finalizers.iter().any(|name| name == TRACKED)
}

/// The pod again without the tracking finalizer.
pub fn untracked(pod: &Object) -> Value {
    let mut value = pod.value();
    if let Some(list) = value["metadata"]["finalizers"].as_array_mut() {
        list.retain(|name| name != TRACKED);
    }
    value
}
