//! Namespaces: what each one has, and how it ends.
//!
//! A living namespace has the ServiceAccount `default` (ID-04) and the ConfigMap `kube-root-ca.crt`. A terminating one loses its content
//! kind by kind, its conditions tell what is left, and its finalizer goes when nothing is. What extension API servers have of it only the
//! shell can delete and count: that is an effect.
//! Upstream: pkg/controller/namespace, serviceaccount, certificates/rootcacertpublisher.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::json;
use stead_api::{Key, KindName, Object};
use stead_apiserver::{API_SERVICES, extensions};
use stead_store::Event;

use crate::content::{Content, finished};
use crate::effect::{Sweep, Work};
use crate::names::{CONFIG_MAP, NAMESPACE, SERVICE_ACCOUNT};
use crate::plan::{ANY, Action, Controller, Plan, Settles, View, Watch};

const ROOT_CA: &str = "kube-root-ca.crt";
const DELETIONS_PER_PLAN_MAX: usize = 200;
/// How long after extension API servers were asked what is left they are asked again.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(5);

pub const CONTROLLER: Controller = Controller {
    name: "namespace-controller",
    settles: Settles::Never,
    watches: &[
        Watch { kind: NAMESPACE, keys: |_, event| vec![event.key().clone()] },
        Watch { kind: SERVICE_ACCOUNT, keys: |_, event| of_named(event, "default") },
        Watch { kind: CONFIG_MAP, keys: |_, event| of_named(event, ROOT_CA) },
        Watch { kind: API_SERVICES, keys: |view, _| all_ending(view) },
        Watch { kind: ANY, keys: ending },
    ],
    reconcile,
};

fn of_named(event: &Event, name: &str) -> Vec<Key> {
    let key = event.key();
    if &*key.name == name { vec![Key::new(NAMESPACE, "", &key.namespace)] } else { Vec::new() }
}

/// Something is gone from a namespace that waits for it.
fn ending(view: &View, event: &Event) -> Vec<Key> {
    let namespace = &event.key().namespace;
    if !event.deleted || namespace.is_empty() {
        return Vec::new();
    }
    let found = view.get(NAMESPACE, "", namespace).filter(|namespace| namespace.meta.is_deleting());
    found.map(|namespace| namespace.key.clone()).into_iter().collect()
}

/// An extension API server has come or gone: so may have content.
fn all_ending(view: &View) -> Vec<Key> {
    let ending = view.snapshot.list(NAMESPACE, "").filter(|namespace| namespace.meta.is_deleting());
    ending.map(|namespace| namespace.key.clone()).collect()
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    match view.snapshot.get(key) {
        Some(namespace) if namespace.meta.is_deleting() => end(view, namespace, &mut plan),
        Some(namespace) => furnish(view, &namespace.key.name, &mut plan),
        None => {}
    }
    plan
}

fn furnish(view: &View, namespace: &str, plan: &mut Plan) {
    if view.get(SERVICE_ACCOUNT, namespace, "default").is_none() {
        plan.create(
            SERVICE_ACCOUNT,
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}}),
        );
    }
    let data = json!({"ca.crt": view.cluster.ca_pem});
    match view.get(CONFIG_MAP, namespace, ROOT_CA) {
        None => plan.create(
            CONFIG_MAP,
            json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": ROOT_CA, "namespace": namespace, "annotations": {"kubernetes.io/description":
                    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."}},
                "data": data}),
        ),
        Some(map) => {
            let mut value = map.value();
            if value["data"] != data {
                value["data"] = data;
                plan.update(CONFIG_MAP, value);
            }
        }
    }
}

fn end(view: &View, namespace: &Arc<Object>, plan: &mut Plan) {
    let name = &*namespace.key.name;
    let mut found = Content::default();
    let mut deleted = 0;
    for kind in kinds(view) {
        for object in view.snapshot.list(kind, name) {
            found.add(kind, object.meta.finalizers.iter().map(String::as_str));
            if !object.meta.is_deleting() && deleted < DELETIONS_PER_PLAN_MAX {
                plan.delete(object);
                deleted += 1;
            }
        }
    }
    let (mut others, away): (Vec<_>, Vec<_>) = extensions(view.snapshot).into_iter().partition(|one| one.is_available);
    found.unseen = away.iter().map(|one| format!("{}/{}", one.group, one.version)).collect();
    let mut value = namespace.value();
    if !others.is_empty() {
        // What they have is not in the snapshot: only asking again tells what has become of it.
        plan.wake(view.now.checked_add(ASK_AGAIN).unwrap_or(view.now));
        let others = others.drain(..).map(|one| one.name).collect();
        let work = Work::Sweep(Sweep { namespace: name.to_owned(), extensions: others, found, now: view.now });
        plan.actions.push(Action::Make { kind: NAMESPACE, subresource: "status", value, work });
    } else if found.is_empty() {
        if let Some(value) = finished(value) {
            plan.update_subresource(NAMESPACE, "finalize", value);
        }
    } else if found.tell(&mut value, view.now) && deleted == 0 {
        // While this plan deletes, what is left is not worth telling; the last deletion wakes us again.
        plan.update_status(NAMESPACE, value);
    }
}

/// The namespaced kinds that have objects.
fn kinds(view: &View) -> BTreeSet<KindName> {
    view.snapshot.kinds().filter(|kind| view.registry.stored(kind).is_none_or(|k| k.namespaced)).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::fixture::{World, show};

    fn check(text: &str, expected: Expect) {
        let world = World::of(text);
        expected.assert_eq(&show(&world, &reconcile(&world.view(), &Key::new(NAMESPACE, "", "shop"))));
    }

    #[test]
    fn a_namespace_has_an_account_and_the_root_certificate_id04() {
        check(
            "ns shop",
            expect![[r#"
            create ServiceAccount default
            create ConfigMap kube-root-ca.crt
        "#]],
        );
        check(
            "ns shop\n sa shop/default\n cm shop/kube-root-ca.crt {\"data\":{\"ca.crt\":\"old\"}}",
            expect![[r#"
            update ConfigMap kube-root-ca.crt {"data":{"ca.crt":"CA"}}
        "#]],
        );
    }

    #[test]
    fn a_terminating_namespace_deletes_its_content_and_waits_for_the_rest() {
        check(
            "ns shop deleting\n pod shop/a\n cm shop/b\n pod other/c",
            expect![[r#"
            delete configmaps/shop/b
            delete pods/shop/a
        "#]],
        );
        check(
            "ns shop deleting\n pod shop/a deleting finalizer=keep",
            expect![[r#"
            status Namespace shop {"conditions":[{"type":"NamespaceDeletionDiscoveryFailure","status":"False","reason":"ResourcesDiscovered","message":"All resources successfully discovered","lastTransitionTime":"1970-01-12T13:46:40Z"},{"type":"NamespaceDeletionGroupVersionParsingFailure","status":"False","reason":"ParsedGroupVersions","message":"All legacy kube types successfully parsed","lastTransitionTime":"1970-01-12T13:46:40Z"},{"type":"NamespaceDeletionContentFailure","status":"False","reason":"ContentDeleted","message":"All content successfully deleted, may be waiting on finalization","lastTransitionTime":"1970-01-12T13:46:40Z"},{"type":"NamespaceContentRemaining","status":"True","reason":"SomeResourcesRemain","message":"Some resources are remaining: pods. has 1 resource instances","lastTransitionTime":"1970-01-12T13:46:40Z"},{"type":"NamespaceFinalizersRemaining","status":"True","reason":"SomeFinalizersRemain","message":"Some content in the namespace has finalizers remaining: keep in 1 resource instances","lastTransitionTime":"1970-01-12T13:46:40Z"}]}
        "#]],
        );
        check(
            "ns shop deleting",
            expect![[r#"
            finalize Namespace shop {"spec":{"finalizers":[]}}
        "#]],
        );
    }

    fn with_extension(text: &str, available: &str) -> World {
        let mut world = World::of(text);
        let name = "v1alpha1.wardle.example.com";
        let spec = json!({"group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 1, "versionPriority": 1,
            "service": {"namespace": "default", "name": "wardle"}});
        let condition = json!({"type": "Available", "status": available, "reason": "R", "message": "m"});
        let service = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name},
            "spec": spec, "status": {"conditions": [condition]}});
        world.put(API_SERVICES, service);
        world
    }

    fn message(world: &World, plan: &Plan, condition: &str) -> String {
        let [Action::UpdateStatus { value, .. }] = &plan.actions[..] else { panic!("{}", show(world, plan)) };
        told(value, condition)
    }

    fn told(namespace: &serde_json::Value, condition: &str) -> String {
        let all = namespace["status"]["conditions"].as_array().expect("conditions");
        let one = all.iter().find(|one| one["type"] == condition).expect("it is told");
        format!("{} {} {}", one["status"], one["reason"], one["message"]).replace('"', "")
    }

    #[test]
    fn an_extension_that_does_not_answer_holds_the_namespace() {
        let world = with_extension("ns shop deleting", "False");
        let plan = reconcile(&world.view(), &Key::new(NAMESPACE, "", "shop"));
        assert_eq!(
            message(&world, &plan, "NamespaceDeletionDiscoveryFailure"),
            "True DiscoveryFailed Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: \
             wardle.example.com/v1alpha1: stale GroupVersion discovery: wardle.example.com/v1alpha1"
        );
        assert_eq!(
            message(&world, &plan, "NamespaceContentRemaining"),
            "False ContentRemoved All content successfully removed"
        );
    }

    #[test]
    fn what_extensions_have_is_swept_before_the_namespace_goes() {
        let world = with_extension("ns shop deleting", "True");
        let plan = reconcile(&world.view(), &Key::new(NAMESPACE, "", "shop"));
        let [Action::Make { value, work, .. }] = &plan.actions[..] else { panic!("{}", show(&world, &plan)) };
        assert_eq!(plan.wake_at, world.now.checked_add(ASK_AGAIN).ok());
        let done = |left: Content| {
            let resource = stead_api::Resource { subresource: "status".into(), ..Default::default() };
            let user = stead_api::User::default();
            let request = stead_api::Request::of(Arc::new(user), stead_api::Verb::Update, resource, value.clone());
            crate::Effect { work: work.clone(), request }.swept(left).expect("there is something to say")
        };
        let mut left = Content::default();
        left.add("flunders.wardle.example.com", ["example.com/keep"].into_iter());
        left.failures.push("it is broken".into());
        let request = done(left);
        assert_eq!(request.resource().map(|one| one.subresource.as_str()), Some("status"));
        for (condition, expected) in [
            (
                "NamespaceContentRemaining",
                "True SomeResourcesRemain Some resources are remaining: flunders.wardle.example.com has 1 resource instances",
            ),
            (
                "NamespaceFinalizersRemaining",
                "True SomeFinalizersRemain Some content in the namespace has finalizers remaining: example.com/keep in 1 resource instances",
            ),
            (
                "NamespaceDeletionContentFailure",
                "True ContentDeletionFailed Failed to delete all resource types, 1 remaining: it is broken",
            ),
            ("NamespaceDeletionDiscoveryFailure", "False ResourcesDiscovered All resources successfully discovered"),
        ] {
            assert_eq!(told(&request.body, condition), expected);
        }
        let request = done(Content::default());
        assert_eq!(request.resource().map(|one| one.subresource.as_str()), Some("finalize"));
        assert_eq!(request.body["spec"]["finalizers"], json!([]));
    }
}
