//! OwnerReferencesPermissionEnforcement: who may say that one object owns another.
//!
//! Changing the owners of an object is a way to have it deleted, so it needs the right to delete it; blocking the deletion of an
//! owner needs the right to set that owner's finalizers.

use serde_json::Value;
use stead_api::{Request, Status};

use crate::Context;
use crate::access;
use crate::attributes::Attributes;
use crate::draft::Draft;

pub(super) fn permitted(ctx: &mut Context, request: &Request, draft: &mut Draft) -> Result<(), Status> {
    let (new, old) = (&draft.new["metadata"]["ownerReferences"], &draft.old_value["metadata"]["ownerReferences"]);
    if request.user.is_in("system:masters") || !differ(new, old) {
        return Ok(());
    }
    let kind = &draft.kind;
    let wanted = Attributes {
        verb: "delete",
        group: kind.group,
        resource: kind.plural,
        namespace: &draft.key.namespace,
        name: &draft.key.name,
        ..Attributes::default()
    };
    let snapshot = ctx.store.snapshot();
    if !draft.is_creation() && access::allowed(snapshot, &request.user, &wanted).is_err() {
        return Err(draft.forbidden("cannot set an ownerRef on a resource you can't delete: , <nil>"));
    }
    for owner in blocking(new).filter(|owner| !blocking(old).any(|before| before["uid"] == owner["uid"])) {
        let text = |field: &str| owner[field].as_str().unwrap_or_default();
        let Some(of) = ctx.registry.of_kind(text("apiVersion"), text("kind")) else {
            let why = "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion";
            let why = format!("{why} {} Kind {}", text("apiVersion"), text("kind"));
            return Err(draft.forbidden(&why));
        };
        let wanted = Attributes {
            verb: "update",
            group: of.group,
            resource: of.plural,
            subresource: "finalizers",
            namespace: if of.namespaced { &draft.key.namespace } else { "" },
            name: text("name"),
            ..Attributes::default()
        };
        if access::allowed(snapshot, &request.user, &wanted).is_err() {
            let why = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>";
            return Err(draft.forbidden(why));
        }
    }
    Ok(())
}

fn list(owners: &Value) -> &[Value] {
    owners.as_array().map_or(&[], Vec::as_slice)
}

fn blocking(owners: &Value) -> impl Iterator<Item = &Value> {
    list(owners).iter().filter(|owner| owner["blockOwnerDeletion"] == true)
}

fn differ(new: &Value, old: &Value) -> bool {
    list(new) != list(old)
}
