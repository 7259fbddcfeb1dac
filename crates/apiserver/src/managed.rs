//! managedFields: who set which field (K-02).
//!
//! Which fields an endpoint writes is decided here; the algebra is `stead_api::apply`'s.

use serde_json::{Value, json};
use stead_api::apply::{self, Write};
use stead_api::{Request, Status};
use stead_kinds::Kind;

use crate::draft::{Draft, Part};
use crate::{Context, scale};

/// What an endpoint does not write, though its objects hold it.
fn ignored(kind: &Kind, part: Part) -> Vec<&'static str> {
    match part {
        Part::Status => kind.status_keeps.iter().copied().chain(["spec"]).collect(),
        _ if kind.subresource("status").is_some() => vec!["status"],
        _ => Vec::new(),
    }
}

/// `apps/v1`, as the request's path says it.
fn api_version(request: &Request) -> String {
    match request.resource() {
        Some(resource) if !resource.group.is_empty() => format!("{}/{}", resource.group, resource.version),
        Some(resource) => resource.version.clone(),
        None => String::new(),
    }
}

/// Records what an update, patch or creation changed.
pub(crate) fn track(ctx: &Context, request: &Request, draft: &mut Draft) {
    let Some(schema) = ctx.registry.schema(&draft.kind) else { return };
    let (manager, api_version) = (request.manager(), api_version(request));
    let write = Write {
        manager: &manager,
        api_version: &api_version,
        subresource: draft.part.subresource(),
        now: ctx.now,
        ignored: &ignored(&draft.kind, draft.part),
    };
    let old = (!draft.is_creation()).then_some(&draft.old_value);
    apply::track_update(&schema, old, &mut draft.new, &write);
}

/// The object that an apply makes of the stored one, managedFields included; of the version that is served.
pub(crate) fn apply(
    ctx: &Context,
    request: &Request,
    kind: &Kind,
    part: Part,
    live: Option<&Value>,
    body: &Value,
) -> Result<Value, Status> {
    let schema = ctx.registry.schema(kind).ok_or_else(Status::no_such_path)?;
    let (manager, api_version) = (request.manager(), api_version(request));
    let write = Write {
        manager: &manager,
        api_version: &api_version,
        subresource: part.subresource(),
        now: ctx.now,
        ignored: &ignored(kind, part),
    };
    let of_scale;
    let config = match part {
        Part::Scale => {
            of_scale = scale_config(kind, body);
            &of_scale
        }
        _ => body,
    };
    apply::apply(&schema, live, config, &write, request.options.force)
}

/// A configuration of the scaled object that says what a configuration of its Scale says.
fn scale_config(kind: &Kind, body: &Value) -> Value {
    let mut config = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": body["metadata"]});
    if let Some(replicas) = body["spec"]["replicas"].as_i64() {
        scale::set_replicas(kind, &mut config, replicas);
    }
    config
}
