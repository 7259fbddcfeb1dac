//! Custom resources that were stored before their schema was what it is, and versions with schemas of their own.

use serde_json::{Value, json};

use crate::fixture::Server;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn version(name: &str, is_stored: bool, properties: Value) -> Value {
    json!({"name": name, "served": true, "storage": is_stored,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}}})
}

fn define(server: &mut Server, versions: &[Value]) {
    server.make(
        DEFINITIONS,
        json!({"metadata": {"name": "foos.example.com"}, "spec": {"group": "example.com", "scope": "Cluster",
            "names": {"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"}, "versions": versions}}),
    );
    let established = json!({"status": {"conditions": [
        {"type": "Established", "status": "True", "reason": "InitialNamesAccepted", "message": "m"}]}});
    server.done(&format!("PATCH:merge {DEFINITIONS}/foos.example.com/status"), established);
}

fn redefine(server: &mut Server, patch: Value) {
    server.done(&format!("PATCH:json {DEFINITIONS}/foos.example.com"), patch);
}

fn foo(version: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("example.com/{version}"), "kind": "Foo", "metadata": {"name": name}, "spec": spec})
}

#[test]
fn what_is_older_than_its_schema_is_read_as_the_schema_has_it() {
    let mut server = Server::new();
    define(&mut server, &[version("v1", true, json!({"a": {"type": "string"}, "gone": {"type": "string"}}))]);
    let at = "/apis/example.com/v1/foos";
    let made = server.make(at, foo("v1", "old", json!({"gone": "x"})));
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    redefine(
        &mut server,
        json!([{"op": "add", "path": format!("{spec}/a/default"), "value": "A"}, {"op": "remove", "path": format!("{spec}/gone")}]),
    );
    let expected = json!({"a": "A"});
    let read = server.get(&format!("{at}/old"));
    assert_eq!(
        (&read["spec"], &read["metadata"]["resourceVersion"]),
        (&expected, &made["metadata"]["resourceVersion"])
    );
    assert_eq!(server.get(at)["items"][0]["spec"], expected);
    let mut watch = server.watch(&format!("GET {at}?watch=1"));
    assert_eq!(server.frame_values(&mut watch)[0]["object"]["spec"], expected);
    // A change starts from what is read, and stores it.
    let changed = server.done(&format!("PATCH:merge {at}/old"), json!({"metadata": {"labels": {"l": "1"}}}));
    assert_eq!(changed["spec"], expected);
    let deleted = server.make(at, foo("v1", "new", json!({})));
    assert_eq!(deleted["spec"], expected);
}

#[test]
fn each_version_has_its_own_defaults_and_is_checked_by_its_own_schema() {
    let mut server = Server::new();
    let some = |default: &str| json!({"type": "string", "default": default});
    define(
        &mut server,
        &[
            version("v1", true, json!({"both": some("1"), "one": some("1"), "n": {"type": "integer", "maximum": 9}})),
            version("v2", false, json!({"both": some("2"), "two": some("2"), "n": {"type": "integer", "maximum": 5}})),
        ],
    );
    let made = server.make("/apis/example.com/v2/foos", foo("v2", "x", json!({"n": 5})));
    assert_eq!(made["apiVersion"], "example.com/v2");
    assert_eq!(made["spec"], json!({"n": 5, "both": "2", "two": "2"}));
    assert_eq!(server.get("/apis/example.com/v1/foos/x")["spec"], json!({"n": 5, "both": "2", "one": "1"}));
    assert_eq!(server.get("/apis/example.com/v2/foos")["items"][0]["apiVersion"], "example.com/v2");
    let refused = server.refused("POST /apis/example.com/v2/foos", foo("v2", "y", json!({"n": 6})));
    assert!(
        refused.contains("spec.n: Invalid value: 6: spec.n in body should be less than or equal to 5"),
        "{refused}"
    );
    let first = server.make("/apis/example.com/v1/foos", foo("v1", "y", json!({"n": 6})));
    assert_eq!(first["spec"], json!({"n": 6, "both": "1", "one": "1"}));
    let mut watch = server.watch("GET /apis/example.com/v2/foos?watch=1");
    let frames = server.frame_values(&mut watch);
    assert_eq!(frames[1]["object"]["spec"], json!({"n": 6, "both": "1", "two": "2"}));
}
