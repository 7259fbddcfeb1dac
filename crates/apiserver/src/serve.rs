//! The two functions that answer a request, with the warnings that every answer carries: one reads a head, one changes the store.

use jiff::Timestamp;
use stead_api::{Request, Target, Verb};
use stead_kinds::Registry;

use crate::{Context, Head, Reply, replay};

/// Whether `serve_read` answers this request. Reviews are creates that store nothing, so they are reads too.
pub fn is_read(request: &Request) -> bool {
    match &request.target {
        Target::Path(_) => true,
        Target::Resource(resource) => {
            request.verb.is_read()
                || request.verb == Verb::Connect
                || matches!(resource.group.as_str(), "authentication.k8s.io" | "authorization.k8s.io")
                || (resource.plural == "serviceaccounts" && resource.subresource == "token")
        }
    }
}

/// Answers a request that changes nothing.
pub fn serve_read(head: &Head, now: Timestamp, request: &Request) -> Reply {
    let reply = replay::read(head, now, request);
    reply.with_warnings(deprecation(&head.registry, request))
}

/// Performs a request that changes something.
pub fn serve_write(ctx: &mut Context, request: &Request) -> Reply {
    let warnings = deprecation(ctx.registry, request);
    replay::write(ctx, request).with_warnings(warnings)
}

/// What clients are told that ask for a version which is deprecated, or which Kubernetes no longer serves.
fn deprecation(registry: &Registry, request: &Request) -> Vec<String> {
    let Some(resource) = request.resource() else { return Vec::new() };
    let asked = registry.find(&resource.group, &resource.version, &resource.plural);
    if let Some(asked) = asked.filter(|kind| !kind.deprecated.is_empty()) {
        return vec![asked.deprecated.to_owned()];
    }
    let Some(asked) = asked.filter(|kind| kind.old.is_some()) else { return Vec::new() };
    registry.stored(asked.storage).and_then(|current| asked.deprecation(current)).into_iter().collect()
}
