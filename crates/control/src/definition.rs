//! CustomResourceDefinitions that go away take their objects with them.
//!
//! Deletion adds the finalizer `customresourcecleanup.apiextensions.k8s.io`; it is removed here when no object of the kind is left.
//! Names and conditions of living definitions are set in the write path; a definition that lost its names to another one is written
//! again here when they are free.
//! Upstream: apiextensions-apiserver, pkg/controller/finalizer, pkg/controller/status.

use serde_json::json;
use stead_api::{Key, intern};
use stead_apiserver::may_have_its_names;
use stead_store::Event;

use crate::facts;
use crate::names::CUSTOM_RESOURCE;
use crate::plan::{ANY, Controller, Plan, Settles, View, Watch};

const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
const DELETIONS_PER_PLAN_MAX: usize = 200;

pub const CONTROLLER: Controller = Controller {
    name: "crd-controller",
    settles: Settles::Never,
    watches: &[Watch { kind: CUSTOM_RESOURCE, keys: of_group }, Watch { kind: ANY, keys: definition_of }],
    reconcile,
};

/// Definitions of one group share names. Each is called by its plural and its group.
fn of_group(view: &View, event: &Event) -> Vec<Key> {
    let group_of = |key: &Key| key.name.split_once('.').map(|(_, group)| group.to_owned());
    let group = group_of(event.key());
    let others = view.snapshot.list(CUSTOM_RESOURCE, "").map(|one| &one.key);
    let others = others.filter(|other| *other != event.key() && group_of(other) == group);
    std::iter::once(event.key()).chain(others).cloned().collect()
}

/// The storage name of a custom kind is the name of its definition.
fn definition_of(view: &View, event: &Event) -> Vec<Key> {
    if !event.deleted || !event.key().kind.contains('.') {
        return Vec::new();
    }
    let found = view.get(CUSTOM_RESOURCE, "", event.key().kind).filter(|definition| definition.meta.is_deleting());
    found.map(|definition| definition.key.clone()).into_iter().collect()
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let Some(definition) = view.snapshot.get(key) else { return plan };
    if !definition.meta.is_deleting() {
        let value = definition.value();
        if may_have_its_names(view.snapshot, &value) {
            plan.update_status(CUSTOM_RESOURCE, value);
        }
        return plan;
    }
    if !definition.meta.finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        return plan;
    }
    let objects: Vec<_> = view.snapshot.list(intern(&key.name), "").collect();
    let mut value = definition.value();
    if objects.is_empty() {
        if let Some(list) = value["metadata"]["finalizers"].as_array_mut() {
            list.retain(|finalizer| finalizer != FINALIZER);
        }
        plan.update(CUSTOM_RESOURCE, value);
        return plan;
    }
    let mut conditions = facts::list(&value["status"]["conditions"]).to_vec();
    let condition = json!({"type": "Terminating", "status": "True", "reason": "InstanceDeletionInProgress",
        "message": "CustomResource deletion is in progress", "lastTransitionTime": facts::time(view.now)});
    if facts::set_condition(&mut conditions, condition) {
        value["status"]["conditions"] = json!(conditions);
        plan.update_status(CUSTOM_RESOURCE, value);
    }
    for object in objects.into_iter().filter(|object| !object.meta.is_deleting()).take(DELETIONS_PER_PLAN_MAX) {
        plan.delete(object);
    }
    plan
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::fixture::{World, show};

    #[test]
    fn names_that_are_free_again_are_taken() {
        let names = r#""group":"example.com","names":{"plural":"bs","kind":"B","shortNames":["x"]}"#;
        let refused = r#""status":{"conditions":[{"type":"NamesAccepted","status":"False"}]}"#;
        let second = format!("crd bs.example.com {{\"spec\":{{{names}}},{refused}}}");
        let first = r#"crd as.example.com {"spec":{"group":"example.com"},"status":{"acceptedNames":{"plural":"as","shortNames":["x"]}}}"#;
        let plan =
            |world: &World| show(world, &reconcile(&world.view(), &Key::new(CUSTOM_RESOURCE, "", "bs.example.com")));
        assert_eq!(plan(&World::of(&format!("{first}\n{second}"))), "");
        assert!(plan(&World::of(&second)).starts_with("status CustomResourceDefinition bs.example.com"));
    }

    #[test]
    fn a_definition_waits_for_its_objects() {
        let mut world =
            World::of("crd things.example.com deleting finalizer=customresourcecleanup.apiextensions.k8s.io");
        let plan = |world: &World| {
            show(world, &reconcile(&world.view(), &Key::new(CUSTOM_RESOURCE, "", "things.example.com")))
        };
        expect![[r#"
            update CustomResourceDefinition things.example.com {"metadata":{"finalizers":[]}}
        "#]]
        .assert_eq(&plan(&world));
        let thing = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a", "namespace": "default", "uid": "1"}});
        world.put(intern("things.example.com"), thing);
        expect![[r#"
            status CustomResourceDefinition things.example.com {"conditions":[{"type":"Terminating","status":"True","reason":"InstanceDeletionInProgress","message":"CustomResource deletion is in progress","lastTransitionTime":"1970-01-12T13:46:40Z"}]}
            delete things.example.com/default/a
        "#]]
        .assert_eq(&plan(&world));
    }
}
