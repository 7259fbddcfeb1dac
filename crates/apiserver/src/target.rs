//! What a request names: the kind behind its path, and the object.

use std::sync::Arc;

use stead_api::{Object, Request, Resource, Status};
use stead_kinds::{Kind, Registry};

use crate::{Head, components};

/// The kind behind a resource, provided that it has the subresource and takes the scope.
pub(crate) fn resolve(registry: &Registry, resource: &Resource) -> Result<Kind, Status> {
    let kind = registry.find(&resource.group, &resource.version, &resource.plural).ok_or_else(Status::no_such_path)?;
    if !resource.subresource.is_empty() && kind.subresource(&resource.subresource).is_none() {
        return Err(Status::no_such_path());
    }
    let is_in_namespace = !resource.namespace.is_empty() && kind.storage != "namespaces";
    let needs_namespace = !resource.name.is_empty() && kind.namespaced;
    if (is_in_namespace && !kind.namespaced) || (needs_namespace && resource.namespace.is_empty()) {
        return Err(Status::no_such_path());
    }
    Ok(*kind)
}

/// The namespace part of a key of this kind.
pub(crate) fn namespace_of<'a>(kind: &Kind, resource: &'a Resource) -> &'a str {
    if kind.namespaced { &resource.namespace } else { "" }
}

/// The object that the request names.
pub(crate) fn find(head: &Head, kind: &Kind, request: &Request) -> Result<Arc<Object>, Status> {
    let resource = request.resource().ok_or_else(Status::no_such_path)?;
    if kind.storage == components::STORAGE {
        let found = components::all().into_iter().find(|object| *object.key.name == *resource.name);
        return found.ok_or_else(|| Status::not_found(kind.group, kind.plural, &resource.name));
    }
    let found = head.store.snapshot.find(kind.storage, namespace_of(kind, resource), &resource.name);
    found.cloned().ok_or_else(|| Status::not_found(kind.group, kind.plural, &resource.name))
}
