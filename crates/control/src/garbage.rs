//! Ownership: dependents go with their owners, or are let go of.
//!
//! Guarantees: an object goes only when every owner it names is gone or going in the foreground; an owner in foreground deletion stays
//! until no dependent blocks it; orphaned dependents lose the reference, nothing else. An owner is the object with that *uid*: another one
//! of the same name is no owner. Owners of kinds that are not served are taken to live.
//! Rows B-27, B-28, K-17. Upstream: pkg/controller/garbagecollector.

pub mod expiry;
pub mod pods;

use std::sync::Arc;

use serde_json::Value;
use stead_api::request::Propagation;
use stead_api::{Key, Object, OwnerRef};
use stead_store::Event;

use crate::facts;
use crate::names::CUSTOM_RESOURCE;
use crate::plan::{ANY, Action, Controller, Plan, Settles, View, Watch};

pub use pods::NAME as POD_COLLECTOR;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// How many dependents one plan handles.
const DEPENDENTS_PER_PLAN_MAX: usize = 200;

pub const CONTROLLER: Controller = Controller {
    name: "generic-garbage-collector",
    settles: Settles::Never,
    watches: &[Watch { kind: ANY, keys: woken }],
    reconcile,
};

fn woken(view: &View, event: &Event) -> Vec<Key> {
    let object = &event.object;
    if object.key.kind == CUSTOM_RESOURCE && event.old.is_none() {
        return dependents_of_kind(view, object);
    }
    if event.deleted {
        let mut keys: Vec<Key> = view.snapshot.owned(&object.meta.uid).map(|dependent| dependent.key.clone()).collect();
        // An owner may have waited for this one.
        let owners = object.meta.owner_references.iter().filter_map(|owner| owner_of(view, object, owner).existing());
        keys.extend(owners.filter(|owner| owner.meta.is_deleting()).map(|owner| owner.key.clone()));
        return keys;
    }
    let waits = object.meta.is_deleting() && object.meta.finalizers.iter().any(|f| f == ORPHAN || f == FOREGROUND);
    let is_new_dependent = !object.meta.owner_references.is_empty()
        && event.old.as_ref().is_none_or(|old| old.meta.owner_references != object.meta.owner_references);
    let mut keys = if waits || is_new_dependent { vec![object.key.clone()] } else { Vec::new() };
    // A dependent that was let go of may have been the last that an owner waited for.
    if let Some(old) = event.old.as_ref().filter(|old| old.meta.owner_references != object.meta.owner_references) {
        let owners = old.meta.owner_references.iter().filter_map(|owner| owner_of(view, old, owner).existing());
        keys.extend(owners.filter(|owner| owner.meta.is_deleting()).map(|owner| owner.key.clone()));
    }
    keys
}

/// Nothing could be concluded about owners of a kind that was not served; now it is.
fn dependents_of_kind(view: &View, definition: &Object) -> Vec<Key> {
    let spec = &definition.value()["spec"];
    let is_it = |owner: &OwnerRef| {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        spec["names"]["kind"] == *owner.kind && spec["group"] == *group
    };
    let dependents = view.snapshot.all().filter(|object| object.meta.owner_references.iter().any(is_it));
    dependents.map(|dependent| dependent.key.clone()).collect()
}

enum Owner<'a> {
    Here(&'a Arc<Object>),
    Gone,
    /// Of a kind that is not served, or out of reach: nothing is concluded from it.
    Unknown,
}

impl<'a> Owner<'a> {
    fn existing(self) -> Option<&'a Arc<Object>> {
        match self {
            Owner::Here(owner) => Some(owner),
            _ => None,
        }
    }
}

fn owner_of<'a>(view: &View<'a>, dependent: &Object, owner: &OwnerRef) -> Owner<'a> {
    let Some(kind) = view.registry.of_kind(&owner.api_version, &owner.kind) else { return Owner::Unknown };
    if kind.namespaced && dependent.key.namespace.is_empty() {
        return Owner::Unknown;
    }
    let namespace = if kind.namespaced { &*dependent.key.namespace } else { "" };
    match view.get(kind.storage, namespace, &owner.name).filter(|found| found.meta.uid == owner.uid) {
        Some(found) => Owner::Here(found),
        None => Owner::Gone,
    }
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let Some(object) = view.snapshot.get(key) else { return Plan::none() };
    let has = |name: &str| object.meta.finalizers.iter().any(|f| f == name);
    match object.meta.is_deleting() {
        true if has(ORPHAN) => orphan(view, object),
        true if has(FOREGROUND) => wait_for_dependents(view, object),
        true => Plan::none(),
        false => judge(view, object),
    }
}

/// Takes the references away, then the finalizer.
fn orphan(view: &View, owner: &Arc<Object>) -> Plan {
    let mut plan = Plan::none();
    let dependents: Vec<_> = view.snapshot.owned(&owner.meta.uid).take(DEPENDENTS_PER_PLAN_MAX).collect();
    for dependent in &dependents {
        plan.update(dependent.key.kind, facts::released(dependent, &owner.meta.uid));
    }
    if dependents.is_empty() {
        plan.update(owner.key.kind, without_finalizer(owner, ORPHAN));
    } else {
        plan.retry = dependents.len() == DEPENDENTS_PER_PLAN_MAX;
    }
    plan
}

fn without_finalizer(object: &Object, name: &str) -> Value {
    let mut value = object.value();
    if let Some(list) = value["metadata"]["finalizers"].as_array_mut() {
        list.retain(|finalizer| finalizer != name);
    }
    value
}

fn wait_for_dependents(view: &View, owner: &Arc<Object>) -> Plan {
    let mut plan = Plan::none();
    let uid = &owner.meta.uid;
    let mut is_blocked = false;
    for dependent in view.snapshot.owned(uid) {
        let references = &dependent.meta.owner_references;
        is_blocked |= references.iter().any(|owner| owner.uid == *uid && owner.block_owner_deletion);
        if !dependent.meta.is_deleting() && plan.actions.len() < DEPENDENTS_PER_PLAN_MAX {
            plan.actions.extend(judge(view, dependent).actions);
        }
    }
    if !is_blocked {
        plan = Plan::none();
        plan.update(owner.key.kind, without_finalizer(owner, FOREGROUND));
    }
    plan
}

/// Deletes an object whose owners are all gone or going; takes away references to those that are, when another still lives.
fn judge(view: &View, object: &Arc<Object>) -> Plan {
    let mut plan = Plan::none();
    let references = &object.meta.owner_references;
    let (mut lives, mut gone, mut is_waited_for) = (false, Vec::new(), false);
    for reference in references {
        match owner_of(view, object, reference) {
            Owner::Here(owner) => {
                let waits = owner.meta.is_deleting() && owner.meta.finalizers.iter().any(|f| f == FOREGROUND);
                lives |= !waits;
                is_waited_for |= waits;
                if waits {
                    gone.push(reference.uid.as_str());
                }
            }
            Owner::Unknown => lives = true,
            Owner::Gone => gone.push(&reference.uid),
        }
    }
    if gone.is_empty() {
        return plan;
    }
    if lives {
        let mut value = object.value();
        if let Some(list) = value["metadata"]["ownerReferences"].as_array_mut() {
            list.retain(|reference| !gone.iter().any(|uid| reference["uid"] == **uid));
        }
        plan.update(object.key.kind, value);
        return plan;
    }
    if is_waited_for && closes_a_circle(view, object) {
        plan.update(object.key.kind, unblocking(object));
        return plan;
    }
    let has_dependents = view.snapshot.owned(&object.meta.uid).next().is_some();
    let propagation = match object.meta.finalizers.iter().find(|f| *f == ORPHAN || *f == FOREGROUND) {
        Some(finalizer) if finalizer == ORPHAN => Propagation::Orphan,
        Some(_) => Propagation::Foreground,
        None if is_waited_for && has_dependents => Propagation::Foreground,
        None => Propagation::Background,
    };
    plan.actions.push(Action::Delete {
        key: object.key.clone(),
        uid: object.meta.uid.clone(),
        propagation,
        grace_seconds: None,
        on_success: None,
        on_failure: None,
    });
    plan
}

/// Whether an object holds up owners while its own dependents wait for theirs: some of these may be owners of those.
fn closes_a_circle(view: &View, object: &Object) -> bool {
    let waits = |dependent: &Arc<Object>| {
        dependent.meta.is_deleting() && dependent.meta.finalizers.iter().any(|finalizer| finalizer == FOREGROUND)
    };
    object.meta.owner_references.iter().any(|owner| owner.block_owner_deletion)
        && view.snapshot.owned(&object.meta.uid).any(waits)
}

/// The object, its owners no longer held up by it.
fn unblocking(object: &Object) -> Value {
    let mut value = object.value();
    for reference in value["metadata"]["ownerReferences"].as_array_mut().into_iter().flatten() {
        reference["blockOwnerDeletion"] = false.into();
    }
    value
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;
    use crate::fixture::{World, show};
    use crate::names::{POD, REPLICA_SET, STATEFUL_SET};

    fn check(text: &str, key: (&'static str, &str), expected: Expect) {
        let world = World::of(text);
        expected.assert_eq(&show(&world, &reconcile(&world.view(), &Key::new(key.0, "default", key.1))));
    }

    /// Found by the simulator: a dependent made while its owner's kind was not served stayed for ever once the kind was back.
    #[test]
    fn a_new_definition_wakes_the_dependents_of_its_kind() {
        let mut world = World::of("cm left\n cm other");
        let owner = |kind: &str| json!([{"apiVersion": "example.com/v1", "kind": kind, "name": "db", "uid": "u"}]);
        for (name, kind) in [("left", "Database"), ("other", "Queue")] {
            let mut value = world.store.snapshot().find("configmaps", "default", name).expect("the map").value();
            value["metadata"]["ownerReferences"] = owner(kind);
            world.put("configmaps", value);
        }
        world.put(
            CUSTOM_RESOURCE,
            json!({"metadata": {"name": "databases.example.com", "uid": "d"},
                "spec": {"group": "example.com", "names": {"kind": "Database"}}}),
        );
        let definition = world.store.snapshot().find(CUSTOM_RESOURCE, "", "databases.example.com").cloned();
        let event = Event::new(None, definition.expect("the definition"), false);
        let woken: Vec<String> = woken(&world.view(), &event).iter().map(|key| key.name.to_string()).collect();
        assert_eq!(woken, ["left"]);
    }

    #[test]
    fn a_dependent_goes_when_its_owner_is_gone_or_another_of_the_same_name() {
        check("sts web\n pod web-0 owner=web", (POD, "web-0"), expect![""]);
        check(
            "pod web-0 owner=web",
            (POD, "web-0"),
            expect![[r#"
            delete pods/default/web-0
        "#]],
        );
        check(
            "sts web uid=second\n pod web-0 owner=web",
            (POD, "web-0"),
            expect![[r#"
            delete pods/default/web-0
        "#]],
        );
        check(
            "rs a\n pod web-0 owner=web owner=rs:a",
            (POD, "web-0"),
            expect![[r#"
            update Pod web-0 {"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"a","uid":"rs-a","controller":true,"blockOwnerDeletion":true}]}}
        "#]],
        );
        check(
            r#"pod web-0 {"metadata":{"ownerReferences":[{"apiVersion":"x/v1","kind":"Odd","name":"a","uid":"1"}]}}"#,
            (POD, "web-0"),
            expect![""],
        );
    }

    #[test]
    fn orphans_lose_the_reference_before_the_owner_goes_b28() {
        check(
            "sts web deleting finalizer=orphan\n pod web-0 owner=web",
            (STATEFUL_SET, "web"),
            expect![[r#"
            update Pod web-0 {"metadata":{"ownerReferences":[]}}
        "#]],
        );
        check(
            "sts web deleting finalizer=orphan",
            (STATEFUL_SET, "web"),
            expect![[r#"
            update StatefulSet web {"metadata":{"finalizers":[]}}
        "#]],
        );
    }

    #[test]
    fn foreground_deletion_waits_for_blocking_dependents() {
        let owner = "deploy web deleting finalizer=foregroundDeletion";
        let dependents = "rs a owner=deploy:web\n pod a-1 owner=rs:a";
        check(
            &format!("{owner}\n {dependents}"),
            (crate::names::DEPLOYMENT, "web"),
            expect![[r#"
            delete replicasets.apps/default/a foreground
        "#]],
        );
        check(
            "rs a deleting finalizer=foregroundDeletion\n pod a-1 owner=rs:a deleting",
            (REPLICA_SET, "a"),
            expect![""],
        );
        check(
            owner,
            (crate::names::DEPLOYMENT, "web"),
            expect![[r#"
            update Deployment web {"metadata":{"finalizers":[]}}
        "#]],
        );
    }

    /// Kubernetes' conformance: three objects that own each other in turn, one of them deleted in the foreground, all go.
    #[test]
    fn a_circle_is_opened_by_the_one_that_closes_it() {
        let others = "rs a deleting finalizer=foregroundDeletion owner=rs:c\n rs b deleting finalizer=foregroundDeletion owner=rs:a";
        check(
            &format!("{others}\n rs c owner=rs:b"),
            (REPLICA_SET, "b"),
            expect![[r#"
            update ReplicaSet c {"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"b","uid":"rs-b","controller":true,"blockOwnerDeletion":false}]}}
        "#]],
        );
        check(
            &format!("{others}\n rs c owner=rs:b"),
            (REPLICA_SET, "c"),
            expect![[r#"
            update ReplicaSet c {"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"b","uid":"rs-b","controller":true,"blockOwnerDeletion":false}]}}
        "#]],
        );
        let open = r#"rs c {"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"b","uid":"rs-b","controller":true,"blockOwnerDeletion":false}]}}"#;
        check(
            &format!("{others}\n {open}"),
            (REPLICA_SET, "c"),
            expect![[r#"
            delete replicasets.apps/default/c foreground
        "#]],
        );
        check(
            &format!("{others}\n {open}"),
            (REPLICA_SET, "b"),
            expect![[r#"
            update ReplicaSet b {"metadata":{"finalizers":[]}}
        "#]],
        );
    }
}
