//! CustomResourceDefinitions and their resources.

use serde_json::{Value, json};

use crate::fixture::Server;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const TABS: &str = "/apis/example.com/v1/namespaces/default/crontabs";

fn definition() -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "required": ["cron"], "properties": {
            "cron": {"type": "string"}, "replicas": {"type": "integer", "minimum": 0, "default": 1}}},
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}}}}});
    let columns = json!([{"name": "Cron", "type": "string", "jsonPath": ".spec.cron"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]);
    let subresources = json!({"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}});
    json!({"metadata": {"name": "crontabs.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"]},
        "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": schema, "subresources": subresources,
             "additionalPrinterColumns": columns},
            {"name": "v1beta1", "served": true, "storage": false, "schema": schema}]}})
}

#[test]
fn a_definition_is_served_from_the_write_that_brings_it() {
    let mut server = Server::new();
    assert_eq!(server.ask(&format!("GET {TABS}"), Value::Null).0, 404);
    let made = server.make(DEFINITIONS, definition());
    assert_eq!(made["status"]["acceptedNames"]["listKind"], "CronTabList");
    assert_eq!(made["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(server.get(TABS)["kind"], "CronTabList");
    let found = server.get("/apis/example.com/v1");
    assert_eq!(found["resources"][0]["shortNames"], json!(["ct"]));

    let tab = json!({"apiVersion": "example.com/v1", "kind": "CronTab", "metadata": {"name": "a"},
        "spec": {"cron": "* * * * *", "extra": 1}, "status": {"replicas": 9}});
    let made = server.make(TABS, tab);
    assert_eq!(made["spec"], json!({"cron": "* * * * *", "replicas": 1}), "pruned and defaulted");
    assert!(made.get("status").is_none());
    let beta = server.get("/apis/example.com/v1beta1/namespaces/default/crontabs/a");
    assert_eq!(beta["apiVersion"], "example.com/v1beta1");

    let wrong = json!({"metadata": {"name": "b"}, "spec": {"replicas": -1}});
    let told = server.refused(&format!("POST {TABS}"), wrong);
    assert!(told.starts_with("422 Invalid CronTab.example.com \"b\" is invalid: ["), "{told}");
    assert!(told.contains("spec.cron: Required value") && told.contains("spec.replicas: Invalid value: -1"), "{told}");
    assert!(
        server
            .refused(&format!("PATCH:strategic {TABS}/a"), json!({"spec": {"cron": "x"}}))
            .starts_with("415 UnsupportedMediaType")
    );
    let scaled = server.done(&format!("PATCH:merge {TABS}/a/scale"), json!({"spec": {"replicas": 4}}));
    assert_eq!(scaled["spec"]["replicas"], 4);
    for part in ["", "/status", "/scale"] {
        let told = server.refused(&format!("PATCH:strategic {TABS}/a{part}"), json!({}));
        assert!(told.starts_with("415 UnsupportedMediaType"), "{told}");
    }
    let status =
        server.done(&format!("PATCH:merge {TABS}/a/status"), json!({"status": {"replicas": 4}, "spec": {"cron": "y"}}));
    assert_eq!((&status["status"]["replicas"], &status["spec"]["cron"]), (&json!(4), &json!("* * * * *")));
    assert_eq!(status["metadata"]["generation"], 2);
    let table = server.done(&format!("GET:table {TABS}"), Value::Null);
    assert_eq!(table["rows"][0]["cells"], json!(["a", "* * * * *", "0s"]));
}

#[test]
fn a_definition_goes_after_its_resources() {
    let mut server = Server::new();
    server.make(DEFINITIONS, definition());
    server.make(TABS, json!({"metadata": {"name": "a"}, "spec": {"cron": "x"}}));
    let path = format!("{DEFINITIONS}/crontabs.example.com");
    let going = server.done(&format!("DELETE {path}"), Value::Null);
    assert_eq!(going["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    assert_eq!(
        server.refused(&format!("POST {TABS}"), json!({"metadata": {"name": "b"}, "spec": {"cron": "x"}})),
        "405 MethodNotAllowed create not allowed while custom resource definition is terminating"
    );
    server.done(&format!("DELETE {TABS}"), Value::Null);
    server.done(&format!("PATCH:merge {path}"), json!({"metadata": {"finalizers": null}}));
    assert_eq!(server.ask(&format!("GET {TABS}"), Value::Null).0, 404);
    assert_eq!(server.ask("GET /apis/example.com", Value::Null).0, 404);
}

#[test]
fn definitions_that_could_not_be_served_are_refused() {
    let mut server = Server::new();
    let mut wrong = definition();
    wrong["metadata"]["name"] = json!("x.example.com");
    wrong["spec"]["versions"][1]["storage"] = json!(true);
    let told = server.refused(&format!("POST {DEFINITIONS}"), wrong);
    assert!(told.contains("metadata.name: Invalid value: \"x.example.com\": must be spec.names.plural"), "{told}");
    assert!(told.contains("must have exactly one version marked as storage version"), "{told}");
    server.make(DEFINITIONS, definition());
    let mut second = definition();
    second["metadata"]["name"] = json!("tabs.example.com");
    second["spec"]["names"] = json!({"plural": "tabs", "singular": "tab", "kind": "CronTab"});
    let made = server.make(DEFINITIONS, second);
    let accepted = &made["status"]["conditions"][0];
    assert_eq!((&accepted["status"], &accepted["reason"]), (&json!("False"), &json!("KindConflict")));
    assert_eq!(server.ask("GET /apis/example.com/v1/tabs", Value::Null).0, 404);
}

#[test]
fn clients_of_a_deprecated_version_are_told() {
    let mut server = Server::new();
    let mut old = definition();
    old["spec"]["versions"][1]["deprecated"] = json!(true);
    server.make(DEFINITIONS, old.clone());
    let mut warnings = |line: &str| match server.reply(line, "") {
        crate::Reply::LongList { warnings, .. } => warnings,
        other => panic!("{other:?}"),
    };
    let beta = "GET /apis/example.com/v1beta1/namespaces/default/crontabs";
    assert_eq!(warnings(beta), ["example.com/v1beta1 CronTab is deprecated; use example.com/v1 CronTab"]);
    assert!(warnings(&format!("GET {TABS}")).is_empty());
    old["spec"]["versions"][1]["deprecationWarning"] = json!("leave it");
    let path = format!("{DEFINITIONS}/crontabs.example.com");
    server.done(&format!("PATCH:merge {path}"), json!({"spec": {"versions": old["spec"]["versions"]}}));
    let crate::Reply::LongList { warnings, .. } = server.reply(beta, "") else { panic!("a list") };
    assert_eq!(warnings, ["leave it"]);
    old["spec"]["versions"][1]["deprecated"] = json!(false);
    let told = server.refused(&format!("PATCH:merge {path}"), json!({"spec": {"versions": old["spec"]["versions"]}}));
    assert!(
        told.ends_with(
            "spec.versions[1].deprecationWarning: Invalid value: \"leave it\": can only be set for deprecated versions"
        ),
        "{told}"
    );
}
