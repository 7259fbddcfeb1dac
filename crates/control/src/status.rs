//! The common parts of a status: conditions, lists, times.

use jiff::Timestamp;
use serde_json::{Value, json};

/// A time as `metav1.Time` prints it: whole seconds.
pub fn time(at: Timestamp) -> Value {
    json!(whole_seconds(at).to_string())
}

pub fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// Replaces `status.conditions` entry `type`, keeping lastTransitionTime while the status stays the same. True when something changed.
pub fn set_condition(conditions: &mut Vec<Value>, new: Value) -> bool {
    let Some(old) = conditions.iter_mut().find(|c| c["type"] == new["type"]) else {
        conditions.push(new);
        return true;
    };
    let mut new = new;
    if old["status"] == new["status"] && !old["lastTransitionTime"].is_null() {
        new["lastTransitionTime"] = old["lastTransitionTime"].clone();
    }
    let same = ["status", "reason", "message"].iter().all(|f| old[*f] == new[*f]);
    if !same {
        *old = new;
    }
    !same
}

/// The list at a path of a value, empty when absent.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
