//! Owners that are named twice: one is kept, and the client is told.

use serde_json::Value;
use stead_api::Remarks;

/// Takes out references that are wholly the same as one before. `when` says after what they were found, if not in the request.
pub(crate) fn keep_one_of_each(object: &mut Value, when: &str, remarks: &mut Remarks) {
    let Some(owners) = object.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut) else { return };
    let mut kept: Vec<Value> = Vec::with_capacity(owners.len());
    let mut twice = Vec::new();
    for owner in owners.drain(..) {
        match kept.contains(&owner) {
            true => twice.push(owner["uid"].as_str().unwrap_or_default().to_owned()),
            false => kept.push(owner),
        }
    }
    *owners = kept;
    if !twice.is_empty() {
        remarks.warnings.push(format!(
            ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may reject \
             such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            twice.join(", ")
        ));
    }
}
