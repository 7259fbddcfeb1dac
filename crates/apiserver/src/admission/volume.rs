//! Claims and volumes: default class, resizing (V-03, V-16).

use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::json;
use stead_api::{Quantity, Request, Status};
use stead_store::Snapshot;

use crate::Context;
use crate::draft::Draft;

const CLASSES: &str = "storageclasses.storage.k8s.io";
const IS_DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// The class of claims that name none: the newest of those marked, then by name.
pub fn default_storage_class(snapshot: &Snapshot) -> Option<String> {
    let marked = snapshot
        .list(CLASSES, "")
        .filter(|class| IS_DEFAULT.iter().any(|key| class.meta.annotation(key) == Some("true")));
    let newest = marked.min_by_key(|class| (std::cmp::Reverse(class.meta.creation_timestamp), class.key.clone()));
    newest.map(|class| class.key.name.to_string())
}

/// A claim that names no class gets the default one; an empty name means none.
pub(super) fn default_class(ctx: &mut Context, _: &Request, draft: &mut Draft) -> Result<(), Status> {
    let has_class = !draft.new["spec"]["storageClassName"].is_null()
        || !draft.new["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].is_null();
    if !draft.is_creation() || has_class {
        return Ok(());
    }
    if let Some(name) = default_storage_class(ctx.store.snapshot()) {
        draft.new["spec"]["storageClassName"] = json!(name);
    }
    Ok(())
}

/// Only claims of a class that allows it may grow.
pub(super) fn resize(ctx: &mut Context, _: &Request, draft: &mut Draft) -> Result<(), Status> {
    let size = |value: &serde_json::Value| -> Option<Quantity> {
        value["spec"]["resources"]["requests"]["storage"].as_str()?.parse().ok()
    };
    let (Some(before), Some(after)) = (size(&draft.old_value), size(&draft.new)) else { return Ok(()) };
    if after <= before {
        return Ok(());
    }
    if draft.old_value["status"]["phase"] != "Bound" {
        return Err(draft.forbidden("Only bound persistent volume claims can be expanded"));
    }
    let class = draft.old_value["spec"]["storageClassName"].as_str().unwrap_or_default();
    let allows = ctx
        .store
        .snapshot()
        .find(CLASSES, "", class)
        .is_some_and(|object| object.view::<StorageClass>().allow_volume_expansion == Some(true));
    if allows {
        return Ok(());
    }
    Err(draft.forbidden(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    ))
}
