//! managedFields: who set which field (K-02).

use serde_json::Value;
use stead_api::{Object, Request, Status};
use stead_kinds::Kind;

use crate::Context;
use crate::draft::{Draft, Part};

/// Records what an update, patch or creation changed.
pub(crate) fn track(_ctx: &Context, _request: &Request, draft: &mut Draft) -> Result<(), Status> {
    let kept = draft.old_value["metadata"]["managedFields"].clone();
    if let Some(meta) = draft.new["metadata"].as_object_mut() {
        meta.shift_remove("managedFields");
        if !kept.is_null() {
            meta.insert("managedFields".into(), kept);
        }
    }
    Ok(())
}

/// The object that an apply makes of the stored one, managedFields included.
pub(crate) fn apply(
    _ctx: &Context,
    _request: &Request,
    _kind: &Kind,
    _part: Part,
    _old: Option<&Object>,
    _body: &Value,
) -> Result<Value, Status> {
    Err(Status::internal("apply is missing"))
}
