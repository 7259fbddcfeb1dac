//! Get and list, and the way to everything else that changes nothing.
//!
//! Contract: what is answered is one revision of the head that was handed in; nothing waits.

use std::sync::Arc;

use jiff::Timestamp;
use stead_api::{Object, Remarks, Request, Status, Target, Verb};
use stead_kinds::{Kind, Verbs};

use crate::halt::Halt;
use crate::listed::{ListMeta, Objects};
use crate::select::Selection;
use crate::target::{find, resolve};
use crate::{Head, Reply, access, components, connect, conversion, discovery, page, review, scale, watch};

pub(crate) fn serve(head: &Head, now: Timestamp, request: &Request, remarks: &mut Remarks) -> Result<Reply, Halt> {
    let resource = match &request.target {
        Target::Path(_) if request.verb != Verb::Get => return Err(Status::method_not_allowed().into()),
        Target::Path(path) => {
            access::authorize_request(&head.store.snapshot, request)?;
            return Ok(discovery::serve(head, request, path)?);
        }
        Target::Resource(resource) => resource,
    };
    let kind = resolve(&head.registry, resource)?;
    access::authorize_request(&head.store.snapshot, request)?;
    if kind.verbs == Verbs::CreateOnly || resource.subresource == "token" {
        return review::serve(head, now, request, &kind, remarks);
    }
    match (request.verb, resource.subresource.as_str()) {
        (Verb::Connect, _) | (Verb::Get, "log") => {
            let changed = connect::permit(head, request, &kind, remarks)?;
            let changed = changed.map(|options| connect::with_options(request, &options));
            Ok(connect::serve(head, changed.as_ref().unwrap_or(request), &kind)?)
        }
        (Verb::Get, "" | "status" | "approval" | "ephemeralcontainers" | "resize") => get(head, request, &kind),
        (Verb::Get, "scale") => {
            let object = one(head, request, &kind)?;
            Ok(Reply::json(200, scale::of(&kind, &object).to_string()))
        }
        (Verb::List, _) => list(head, request, &kind),
        (Verb::Watch, _) => Ok(Reply::Watch(Box::new(watch::start(head, request, &kind)?))),
        _ => Err(Status::method_not_allowed().into()),
    }
}

fn get(head: &Head, request: &Request, kind: &Kind) -> Result<Reply, Halt> {
    if let Some(revision) = page::parse_revision(&request.options.resource_version)? {
        page::not_in_the_future(revision, head)?;
    }
    let object = one(head, request, kind)?;
    Ok(Reply::object(200, kind, object).with_warnings(components::warnings(kind)))
}

/// The object that is named, in the version that is asked for.
fn one(head: &Head, request: &Request, kind: &Kind) -> Result<Arc<Object>, Halt> {
    let object = find(head, kind, request)?;
    let shown = conversion::shown(head.place(), request, kind, vec![object])?;
    shown.into_iter().next().ok_or_else(|| Status::internal("a conversion lost its object").into())
}

fn list(head: &Head, request: &Request, kind: &Kind) -> Result<Reply, Halt> {
    let selection = Selection::of(kind, request)?;
    let mut page = page::page(head, kind, &selection, &request.options)?;
    if kind.storage == components::STORAGE {
        let those = components::all().into_iter().filter(|object| selection.matches(object));
        page.objects = Objects::These(those.collect());
    }
    if page.objects.iter(kind).any(|object| conversion::concerns(&head.registry, kind, object)) {
        let objects = page.objects.iter(kind).cloned().collect();
        page.objects = Objects::These(conversion::shown(head.place(), request, kind, objects)?);
    }
    let meta = ListMeta {
        revision: page.revision,
        remaining: page.next.as_ref().and_then(|next| next.remaining),
        continue_token: page.next.map(|next| next.encode()).unwrap_or_default(),
    };
    Ok(Reply::list(kind, page.objects, meta).with_warnings(components::warnings(kind)))
}
