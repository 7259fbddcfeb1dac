//! Who goes with whom: owners, namespaces, finalizers; and Services' addresses.

use k8s_openapi::api::core::v1::Service;
use stead_api::Object;
use stead_control::names::{CONFIG_MAP, CUSTOM_RESOURCE, DEPLOYMENT, NAMESPACE, POD, SERVICE, STATEFUL_SET};
use stead_store::Event;

use super::{ADDRESS, CLOSED, FINAL, OWNED, Verdict, begins_to_go, violated};
use crate::ledger::Ledger;
use crate::manifests::DATABASES;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What only users, owners and namespaces take away.
const FREE: &[&str] = &[STATEFUL_SET, DEPLOYMENT, CONFIG_MAP, SERVICE, DATABASES];

fn has(object: &Object, finalizer: &str) -> bool {
    object.meta.finalizers.iter().any(|own| own == finalizer)
}

/// Whether an object had owners, and each is gone or waits for it in a foreground deletion.
pub fn are_all_gone(ledger: &Ledger, object: &Object) -> bool {
    let lives =
        |uid: &str| ledger.by_uid(uid).is_some_and(|owner| !(owner.meta.is_deleting() && has(owner, FOREGROUND)));
    let owners = &object.meta.owner_references;
    !owners.is_empty() && !owners.iter().any(|owner| lives(&owner.uid))
}

/// Owned: of an object that begins to go.
pub fn of_removal(ledger: &Ledger, event: &Event) -> Verdict {
    let object = &event.object;
    let is_judged = match object.key.kind {
        // A controller may have reasons of its own.
        POD => object.meta.controller().is_none(),
        kind => FREE.contains(&kind),
    };
    if !is_judged || !begins_to_go(event) || ledger.is_excused(object) || are_all_gone(ledger, object) {
        return Ok(());
    }
    let definition = ledger.find(CUSTOM_RESOURCE, "", object.key.kind);
    if object.key.kind == DATABASES && definition.is_none_or(|definition| definition.meta.is_deleting()) {
        return Ok(());
    }
    violated(
        &OWNED,
        format!("{} goes, nobody asked for it and it is owned by {:?}", object.key, object.meta.owner_references),
    )
}

/// Owned: of an owner that has waited for its dependents.
pub fn of_waiting(ledger: &Ledger, event: &Event) -> Verdict {
    let (object, Some(old)) = (&event.object, &event.old) else { return Ok(()) };
    let uid = &object.meta.uid;
    // Who asks twice may ask for another way.
    if ledger.reconsidered.contains(uid) {
        return Ok(());
    }
    let ends = |finalizer: &str| has(old, finalizer) && !has(object, finalizer);
    if ends(FOREGROUND)
        && let Some(left) = ledger.owned(uid).find(|dependent| {
            dependent.meta.owner_references.iter().any(|owner| owner.uid == *uid && owner.block_owner_deletion)
        })
    {
        return violated(&OWNED, format!("{} goes in the foreground before {}", object.key, left.key));
    }
    if ends(ORPHAN)
        && let Some(left) = ledger.owned(uid).next()
    {
        return violated(&OWNED, format!("{} orphans, and {} still names it", object.key, left.key));
    }
    Ok(())
}

/// Closed: of anything that appears, and of a namespace that goes.
pub fn of_namespace(ledger: &Ledger, event: &Event) -> Verdict {
    let object = &event.object;
    let namespace = &*object.key.namespace;
    if event.deleted && object.key.kind == NAMESPACE {
        return match ledger.all().find(|other| *other.key.namespace == *object.key.name) {
            Some(left) => violated(&CLOSED, format!("{} is gone, and {} is left", object.key, left.key)),
            None => Ok(()),
        };
    }
    let is_new = event.old.is_none() && !event.deleted && !namespace.is_empty();
    if is_new && ledger.is_namespace_going(namespace) {
        return violated(&CLOSED, format!("{} was made in a namespace that is going or gone", object.key));
    }
    Ok(())
}

/// Final: of any change of an object.
pub fn of_finality(event: &Event) -> Verdict {
    let (object, Some(old)) = (&event.object, &event.old) else { return Ok(()) };
    let (meta, was) = (&object.meta, &old.meta);
    if meta.uid != was.uid {
        return violated(&FINAL, format!("{} was {} and is {}", object.key, was.uid, meta.uid));
    }
    if event.deleted && !meta.finalizers.is_empty() {
        return violated(&FINAL, format!("{} is gone with finalizers {:?}", object.key, meta.finalizers));
    }
    if !event.deleted && was.is_deleting() && (!meta.is_deleting() || meta.deletion_timestamp > was.deletion_timestamp)
    {
        let times = (was.deletion_timestamp, meta.deletion_timestamp);
        return violated(&FINAL, format!("the deletion of {} was put off: {times:?}", object.key));
    }
    Ok(())
}

/// Address: of a Service that appears or changes.
pub fn of_address(ledger: &Ledger, event: &Event) -> Verdict {
    let own = |object: &Object| object.view::<Service>().spec.as_ref().and_then(|s| s.cluster_ip.clone());
    let Some(address) = own(&event.object).filter(|ip| !ip.is_empty() && ip != "None" && !event.deleted) else {
        return Ok(());
    };
    let other = ledger.list(SERVICE).find(|o| o.key != event.object.key && own(o).as_ref() == Some(&address));
    match other {
        Some(other) => violated(&ADDRESS, format!("{} and {} have {address}", other.key, event.object.key)),
        None => Ok(()),
    }
}
