//! Manifests of old tutorials.

use serde_json::{Value, json};

use crate::Reply;
use crate::fixture::{Server, pod};

fn warnings(reply: &Reply) -> Vec<String> {
    match reply {
        Reply::Body(body) => body.warnings.clone(),
        Reply::Object { warnings, .. } | Reply::List { warnings, .. } | Reply::Failure { warnings, .. } => {
            warnings.clone()
        }
        _ => Vec::new(),
    }
}

#[test]
fn an_old_stateful_set_is_accepted_warned_of_and_stored_as_current() {
    let mut server = Server::new();
    let template = json!({"metadata": {"labels": {"role": "mongo"}}, "spec": pod("x")["spec"]});
    let body = json!({"apiVersion": "apps/v1beta1", "kind": "StatefulSet", "metadata": {"name": "mongo"},
        "spec": {"serviceName": "mongo", "replicas": 3, "template": template}});
    let of = "/apis/apps/v1beta1/namespaces/default/statefulsets";
    let reply = server.reply(&format!("POST {of}?fieldValidation=Strict"), &body.to_string());
    assert_eq!(
        warnings(&reply),
        ["apps/v1beta1 StatefulSet is deprecated in v1.8+, unavailable in v1.16+; use apps/v1 StatefulSet"]
    );
    let current = server.get("/apis/apps/v1/namespaces/default/statefulsets/mongo");
    assert_eq!(current["spec"]["selector"]["matchLabels"], json!({"role": "mongo"}));
    assert_eq!(current["spec"]["updateStrategy"]["type"], "OnDelete");
    assert_eq!(server.get(&format!("{of}/mongo"))["apiVersion"], "apps/v1beta1");
    let patched = server.done(&format!("PATCH:strategic {of}/mongo"), json!({"spec": {"replicas": 5}}));
    assert_eq!((&patched["spec"]["replicas"], &patched["metadata"]["generation"]), (&json!(5), &json!(2)));
}

#[test]
fn an_old_ingress_keeps_its_shape_in_its_own_version() {
    let mut server = Server::new();
    let body = json!({"apiVersion": "extensions/v1beta1", "kind": "Ingress", "metadata": {"name": "a"}, "spec": {"rules": [
        {"host": "a.example.com", "http": {"paths": [{"path": "/", "backend": {"serviceName": "s", "servicePort": 80}}]}}]}});
    let of = "/apis/extensions/v1beta1/namespaces/default/ingresses";
    let old = server.done(&format!("POST {of}?fieldValidation=Strict"), body);
    let path = &old["spec"]["rules"][0]["http"]["paths"][0];
    assert_eq!(path["backend"], json!({"serviceName": "s", "servicePort": 80}));
    let current = server.get("/apis/networking.k8s.io/v1/namespaces/default/ingresses/a");
    let path = &current["spec"]["rules"][0]["http"]["paths"][0];
    assert_eq!(path["backend"], json!({"service": {"name": "s", "port": {"number": 80}}}));
    assert_eq!(path["pathType"], "ImplementationSpecific");
    let patch = json!([{"op": "replace", "path": "/spec/rules/0/http/paths/0/backend/servicePort", "value": "http"}]);
    server.done(&format!("PATCH:json {of}/a?fieldValidation=Strict"), patch);
    let current = server.get("/apis/networking.k8s.io/v1/namespaces/default/ingresses/a");
    assert_eq!(current["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"], json!({"name": "http"}));
}

#[test]
fn old_versions_are_named_but_never_preferred() {
    let mut server = Server::new();
    let groups = server.get("/apis");
    let groups = groups["groups"].as_array().expect("groups");
    let apps = groups.iter().find(|group| group["name"] == "apps").expect("apps");
    assert_eq!(apps["preferredVersion"]["version"], "v1");
    assert!(apps["versions"].as_array().expect("versions").iter().any(|one| one["version"] == "v1beta1"));
    let autoscaling = groups.iter().find(|group| group["name"] == "autoscaling").expect("autoscaling");
    assert_eq!(autoscaling["preferredVersion"]["version"], "v2");
    assert_eq!(groups.last().map(|group| &group["name"]), Some(&json!("extensions")));
    let resources = server.get("/apis/extensions/v1beta1");
    let resources = resources["resources"].as_array().expect("resources");
    let deployments = resources.iter().find(|one| one["name"] == "deployments").expect("deployments");
    assert_eq!(deployments["verbs"], Value::Array(Vec::new()));
}
