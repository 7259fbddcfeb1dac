//! Ingresses: the default class.

use serde_json::json;
use stead_api::{Request, Status};
use stead_kinds::ingress::{DEFAULT_CLASS, OLD_CLASS};

use crate::Context;
use crate::draft::Draft;

/// An Ingress that names no class gets the one that is marked: the newest of them, then by name.
pub(super) fn default_class(ctx: &mut Context, _: &Request, draft: &mut Draft) -> Result<(), Status> {
    let has_class =
        !draft.new["spec"]["ingressClassName"].is_null() || !draft.new["metadata"]["annotations"][OLD_CLASS].is_null();
    if !draft.is_creation() || has_class {
        return Ok(());
    }
    let classes = ctx.store.snapshot().list("ingressclasses.networking.k8s.io", "");
    let marked = classes.filter(|class| class.meta.annotation(DEFAULT_CLASS) == Some("true"));
    let newest = marked.min_by_key(|class| (std::cmp::Reverse(class.meta.creation_timestamp), class.key.clone()));
    if let Some(class) = newest {
        draft.new["spec"]["ingressClassName"] = json!(&*class.key.name);
    }
    Ok(())
}
