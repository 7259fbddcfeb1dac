//! Namespaces: what each one has, and how it ends.
//!
//! A living namespace has the ServiceAccount `default` (ID-04) and the ConfigMap `kube-root-ca.crt`. A terminating one loses its content
//! kind by kind, its conditions tell what is left, and its finalizer goes when nothing is.
//! Upstream: pkg/controller/namespace, serviceaccount, certificates/rootcacertpublisher.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;
use stead_api::{Key, KindName, Object};
use stead_store::Event;

use crate::facts;
use crate::names::{CONFIG_MAP, NAMESPACE, SERVICE_ACCOUNT};
use crate::plan::{ANY, Action, Controller, Plan, Settles, View, Watch};

const ROOT_CA: &str = "kube-root-ca.crt";
const DELETIONS_PER_PLAN_MAX: usize = 200;

pub const CONTROLLER: Controller = Controller {
    name: "namespace-controller",
    settles: Settles::Never,
    watches: &[
        Watch { kind: NAMESPACE, keys: |_, event| vec![event.key().clone()] },
        Watch { kind: SERVICE_ACCOUNT, keys: |_, event| of_named(event, "default") },
        Watch { kind: CONFIG_MAP, keys: |_, event| of_named(event, ROOT_CA) },
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
    let mut remaining: BTreeMap<KindName, usize> = BTreeMap::new();
    let mut finalizers: BTreeMap<&str, usize> = BTreeMap::new();
    let mut deleted = 0;
    for kind in kinds(view) {
        for object in view.snapshot.list(kind, name) {
            *remaining.entry(kind).or_insert(0) += 1;
            for finalizer in &object.meta.finalizers {
                *finalizers.entry(finalizer).or_insert(0) += 1;
            }
            if !object.meta.is_deleting() && deleted < DELETIONS_PER_PLAN_MAX {
                plan.delete(object);
                deleted += 1;
            }
        }
    }
    if remaining.is_empty() {
        finish(namespace, plan);
        return;
    }
    let mut value = namespace.value();
    let mut list = facts::list(&value["status"]["conditions"]).to_vec();
    let mut changed = false;
    for (kind, status, reason, message) in conditions(&remaining, &finalizers) {
        let condition = json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": facts::time(view.now)});
        changed |= facts::set_condition(&mut list, condition);
    }
    // While this plan deletes, what is left is not worth telling; the last deletion wakes us again.
    if changed && deleted == 0 {
        value["status"]["conditions"] = json!(list);
        plan.update_status(NAMESPACE, value);
    }
}

/// The namespaced kinds that have objects.
fn kinds(view: &View) -> BTreeSet<KindName> {
    view.snapshot.kinds().filter(|kind| view.registry.stored(kind).is_none_or(|k| k.namespaced)).collect()
}

fn finish(namespace: &Object, plan: &mut Plan) {
    let mut value = namespace.value();
    if let Some(list) = value["spec"]["finalizers"].as_array_mut().filter(|list| list.contains(&json!("kubernetes"))) {
        list.retain(|finalizer| finalizer != "kubernetes");
        plan.actions.push(Action::UpdateSubresource { kind: NAMESPACE, subresource: "finalize", value });
    }
}

fn conditions(
    remaining: &BTreeMap<KindName, usize>,
    finalizers: &BTreeMap<&str, usize>,
) -> [(&'static str, &'static str, &'static str, String); 5] {
    // Upstream prints `pods.` for the core group.
    let plural = |kind: &str| if kind.contains('.') { kind.to_owned() } else { format!("{kind}.") };
    let counts: Vec<String> =
        remaining.iter().map(|(kind, n)| format!("{} has {n} resource instances", plural(kind))).collect();
    let held: Vec<String> = finalizers.iter().map(|(name, n)| format!("{name} in {n} resource instances")).collect();
    let finalizing = match held.is_empty() {
        true => ("False", "ContentHasNoFinalizers", "All content-preserving finalizers finished".to_owned()),
        false => {
            let message = format!("Some content in the namespace has finalizers remaining: {}", held.join(", "));
            ("True", "SomeFinalizersRemain", message)
        }
    };
    [
        (
            "NamespaceDeletionDiscoveryFailure",
            "False",
            "ResourcesDiscovered",
            "All resources successfully discovered".into(),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            "False",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".into(),
        ),
        (
            "NamespaceDeletionContentFailure",
            "False",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization".into(),
        ),
        (
            "NamespaceContentRemaining",
            "True",
            "SomeResourcesRemain",
            format!("Some resources are remaining: {}", counts.join(", ")),
        ),
        ("NamespaceFinalizersRemaining", finalizing.0, finalizing.1, finalizing.2),
    ]
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
}
