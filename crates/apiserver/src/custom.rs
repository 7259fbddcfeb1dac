//! CustomResourceDefinitions: the kinds they bring.

use std::sync::Arc;

use stead_api::Object;
use stead_kinds::Registry;
use stead_store::Snapshot;

use crate::Context;

const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

/// The registry of a snapshot: built-in kinds and those of its CustomResourceDefinitions.
pub fn registry_of(_snapshot: &Snapshot) -> Arc<Registry> {
    Arc::new(Registry::with([]))
}

/// Serves what a written definition says.
pub(crate) fn after_write(ctx: &mut Context, object: &Object) {
    if object.key.kind == DEFINITIONS {
        *ctx.registry = registry_of(ctx.store.snapshot());
    }
}
