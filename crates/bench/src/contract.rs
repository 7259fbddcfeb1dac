//! What the richer parts of the API cost beside plain writes: server-side apply, and custom resources that CEL rules judge.

use std::time::Duration;

use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

use crate::client::Target;
use crate::crud::{appears, make_namespace, remove_namespace};
use crate::plan::Plan;
use crate::stats::measure;

const NAMESPACE: &str = "stead-bench-contract";
const GROUP: &str = "bench.stead.local";
/// As many as in the objects of `crud`.
const TEXT_BYTES: usize = 700;

/// Applies ConfigMaps that are new, then with a change, then as they are.
pub async fn apply(target: &Target, plan: &Plan) -> Result<()> {
    make_namespace(target, NAMESPACE).await?;
    for (what, round) in [("new", 0), ("changed", 1), ("unchanged", 1)] {
        let text = "x".repeat(TEXT_BYTES);
        let name = format!("apply, {what} ({} in flight)", plan.workers);
        measure(&name, target, plan.workers, plan.objects, move |mut c, n| {
            let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/cm-{n}?fieldManager=stead-bench&force=true");
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("cm-{n}"),
                "labels": {"app": "bench"}}, "data": {"text": text, "round": round.to_string()}});
            async move {
                c.call(Method::PATCH, &path, "application/apply-patch+yaml", object.to_string()).await?;
                Ok(c)
            }
        })
        .await?;
    }
    remove_namespace(target, NAMESPACE).await
}

/// Makes and patches custom resources with validation rules, one of them about the change itself.
pub async fn custom(target: &Target, plan: &Plan) -> Result<()> {
    make_namespace(target, NAMESPACE).await?;
    let definition = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.{GROUP}");
    let mut admin = target.connect().await?;
    let body = definition_of_things().to_string();
    admin
        .call(Method::POST, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "application/json", body)
        .await?;
    let collection = format!("/apis/{GROUP}/v1/namespaces/{NAMESPACE}/things");
    appears(target, &collection, Duration::from_secs(30)).await?;

    let (path, text) = (collection.clone(), "x".repeat(TEXT_BYTES));
    let name = format!("create custom, CEL ({} in flight)", plan.workers);
    measure(&name, target, plan.workers, plan.objects, move |mut c, n| {
        let object = json!({"apiVersion": format!("{GROUP}/v1"), "kind": "Thing",
            "metadata": {"name": format!("thing-{n}")},
            "spec": {"replicas": 1, "max": 1_000_000, "text": text, "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}});
        let path = path.clone();
        async move {
            c.call(Method::POST, &path, "application/json", object.to_string()).await?;
            Ok(c)
        }
    })
    .await?;

    let path = collection.clone();
    let name = format!("patch custom, CEL ({} in flight)", plan.workers);
    measure(&name, target, plan.workers, plan.objects, move |mut c, n| {
        let path = format!("{path}/thing-{n}");
        async move {
            c.merge_patch(&path, &json!({"spec": {"replicas": 2}})).await?;
            Ok(c)
        }
    })
    .await?;
    remove_namespace(target, NAMESPACE).await?;
    admin.delete(&definition, &json!({})).await
}

fn definition_of_things() -> Value {
    let port = json!({"type": "object", "required": ["name", "port"], "properties": {
        "name": {"type": "string", "maxLength": 63}, "port": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.port > 0 && self.port < 65536", "message": "no such port"}]});
    let spec = json!({"type": "object", "required": ["replicas", "max"], "properties": {
        "replicas": {"type": "integer", "minimum": 0}, "max": {"type": "integer"},
        "text": {"type": "string", "maxLength": 4096},
        "ports": {"type": "array", "maxItems": 16, "items": port}},
        "x-kubernetes-validations": [
            {"rule": "self.replicas <= self.max", "messageExpression": "'more than ' + string(self.max)"},
            {"rule": "self.ports.all(p, self.ports.exists_one(q, q.name == p.name))", "message": "a name twice"},
            {"rule": "self.max >= oldSelf.max", "message": "max never falls"}]});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("things.{GROUP}")},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}}]}})
}
