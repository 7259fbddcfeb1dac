//! Custom resources in several versions, converted by a webhook that the test plays.

use serde_json::{Value, json};

use crate::fixture::Server;

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const V1: &str = "/apis/example.com/v1/namespaces/default/hosts";
const V2: &str = "/apis/example.com/v2/namespaces/default/hosts";

/// In v1 a host is `spec.address`, in v2 `spec.host` and `spec.port`.
fn definition(storage: &str) -> Value {
    let version = |name: &str, properties: Value| {
        json!({"name": name, "served": true, "storage": name == storage, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": properties}, "status": {"type": "object",
                    "x-kubernetes-preserve-unknown-fields": true}}}}})
    };
    json!({"metadata": {"name": "hosts.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "hosts", "kind": "Host"},
        "conversion": {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
            "clientConfig": {"service": {"namespace": "ops", "name": "converter", "path": "/convert"}}}},
        "versions": [version("v1", json!({"address": {"type": "string"}})),
            version("v2", json!({"host": {"type": "string"}, "port": {"type": "string", "default": "80"}}))]}})
}

fn convert(request: &Value) -> Result<Value, String> {
    let wanted = request["desiredAPIVersion"].as_str().expect("a version");
    let objects = request["objects"].as_array().expect("a list").iter().map(|object| {
        let mut object = object.clone();
        assert_ne!(object["apiVersion"], wanted, "what is of the version already is not sent");
        object["apiVersion"] = json!(wanted);
        object["spec"] = match wanted {
            "example.com/v2" => {
                let address = object["spec"]["address"].as_str().unwrap_or_default();
                let (host, port) = address.split_once(':').unwrap_or((address, "80"));
                json!({"host": host, "port": port})
            }
            _ => {
                let text = |field: &str| object["spec"][field].as_str().unwrap_or_default().to_owned();
                json!({"address": format!("{}:{}", text("host"), text("port"))})
            }
        };
        object
    });
    Ok(json!({"result": {"status": "Success"}, "convertedObjects": objects.collect::<Vec<_>>()}))
}

fn server() -> Server {
    let mut server = Server::new();
    server.make(CRDS, definition("v1"));
    server.webhook = Box::new(|_, request| convert(request));
    server
}

fn host(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": spec})
}

fn stored(server: &Server, name: &str) -> Value {
    let found = server.store.snapshot().find("hosts.example.com", "default", name);
    found.expect("an object").value()
}

#[test]
fn every_version_reads_and_writes_all_objects() {
    let mut server = server();
    let made = server.make(V1, host("a", json!({"address": "db:5432"})));
    assert_eq!((made["apiVersion"].as_str(), server.asked.len()), (Some("example.com/v1"), 0), "nobody is needed");
    let read = server.get(&format!("{V2}/a"));
    assert_eq!(
        (&read["apiVersion"], &read["spec"]),
        (&json!("example.com/v2"), &json!({"host": "db", "port": "5432"}))
    );
    assert_eq!(read["metadata"], made["metadata"]);

    let made = server.make(V2, host("b", json!({"host": "web"})));
    assert_eq!(made["spec"], json!({"host": "web", "port": "80"}), "defaults are the version's own");
    assert_eq!(
        (&stored(&server, "b")["apiVersion"], &stored(&server, "b")["spec"]),
        (&json!("example.com/v1"), &json!({"address": "web:80"}))
    );

    server.asked.clear();
    let list = server.get(V2);
    let specs: Vec<&Value> = list["items"].as_array().expect("items").iter().map(|one| &one["spec"]).collect();
    assert_eq!(specs, [&json!({"host": "db", "port": "5432"}), &json!({"host": "web", "port": "80"})]);
    assert_eq!(server.asked.len(), 1, "a list is one review");

    let patched = server.done(&format!("PATCH:merge {V2}/a"), json!({"spec": {"port": "1"}}));
    assert_eq!(patched["spec"], json!({"host": "db", "port": "1"}));
    assert_eq!(stored(&server, "a")["spec"], json!({"address": "db:1"}));
    assert_eq!(patched["metadata"]["generation"], 2);
    let version = patched["metadata"]["resourceVersion"].clone();
    let same = server.done(&format!("PATCH:merge {V2}/a"), json!({"spec": {"port": "1"}}));
    assert_eq!(same["metadata"]["resourceVersion"], version, "what changes nothing is not stored");
    let status = server.done(&format!("PATCH:merge {V2}/a/status"), json!({"status": {"is": "up"}}));
    assert_eq!((&status["status"]["is"], &status["spec"]["port"]), (&json!("up"), &json!("1")));
}

#[test]
fn an_apply_is_of_its_version() {
    let mut server = server();
    let apply = |port: &str| json!({"apiVersion": "example.com/v2", "kind": "Host", "metadata": {"name": "a"}, "spec": {"host": "db", "port": port}});
    let path = format!("PATCH:apply {V2}/a?fieldManager=me");
    server.done(&path, apply("1"));
    let applied = server.done(&path, apply("2"));
    assert_eq!(applied["spec"], json!({"host": "db", "port": "2"}));
    let fields = &applied["metadata"]["managedFields"][0];
    assert_eq!((&fields["apiVersion"], &fields["operation"]), (&json!("example.com/v2"), &json!("Apply")));
    assert_eq!(stored(&server, "a")["spec"], json!({"address": "db:2"}));
    let refused = server.refused(
        &format!("PATCH:apply {V2}/a?fieldManager=you"),
        json!({"apiVersion": "example.com/v2", "kind": "Host", "metadata": {"name": "a"}, "spec": {"port": "3"}}),
    );
    assert!(refused.starts_with("409 Conflict Apply failed with 1 conflict: conflict with \"me\""), "{refused}");
}

#[test]
fn watches_show_the_version_that_is_watched() {
    let mut server = server();
    server.make(V1, host("a", json!({"address": "db:1"})));
    let mut plan = server.watch(&format!("GET {V2}?watch=true"));
    let mut labelled = server.watch(&format!("GET {V2}?watch=true&resourceVersion=1&labelSelector=x=y"));
    let shown = |frames: Vec<Value>| -> Vec<String> {
        let line = |frame: &Value| {
            format!("{} {} {}", frame["type"], frame["object"]["apiVersion"], frame["object"]["spec"]["port"])
        };
        frames.iter().map(|frame| line(frame).replace('"', "")).collect()
    };
    assert_eq!(shown(server.frame_values(&mut plan)), ["ADDED example.com/v2 1"]);
    server
        .done(&format!("PATCH:merge {V1}/a"), json!({"spec": {"address": "db:2"}, "metadata": {"labels": {"x": "y"}}}));
    server
        .done(&format!("PATCH:merge {V1}/a"), json!({"spec": {"address": "db:3"}, "metadata": {"labels": {"x": "z"}}}));
    server.done(&format!("DELETE {V1}/a"), Value::Null);
    let frames = shown(server.frame_values(&mut plan));
    assert_eq!(frames, ["MODIFIED example.com/v2 2", "MODIFIED example.com/v2 3", "DELETED example.com/v2 3"]);
    let frames = shown(server.frame_values(&mut labelled));
    assert_eq!(
        frames,
        ["ADDED example.com/v2 2", "DELETED example.com/v2 2"],
        "the last that the selector let through"
    );
    server.webhook = Box::new(|_, _| Err("gone".into()));
    server.make(V1, host("b", json!({"address": "db:1"})));
    let frames = server.frame_values(&mut plan);
    assert_eq!(frames[0]["object"]["message"], "conversion webhook for example.com/v1, Kind=Host failed: gone");
}

/// Breaks an answer.
type Change = fn(&mut Value);

#[test]
fn what_comes_back_is_checked() {
    let mut server = server();
    server.make(V1, host("a", json!({"address": "db:1"})));
    let broken = |change: Change| {
        move |_: &str, request: &Value| {
            let mut response = convert(request)?;
            change(&mut response);
            Ok(response)
        }
    };
    let cases: [(Change, &str); 9] = [
        (|r| r["result"] = json!({"status": "Failure", "message": "cannot"}), "failed: cannot"),
        (|r| r["result"] = json!({"status": "Odd"}), "failed: response.result.status was 'Odd', not 'Success'"),
        (|r| r["convertedObjects"] = json!([]), "returned 0 objects, expected 1"),
        (
            |r| r["convertedObjects"][0]["apiVersion"] = json!("example.com/v3"),
            "returned invalid converted object: invalid groupVersion (expected example.com/v2, received example.com/v3)",
        ),
        (
            |r| r["convertedObjects"][0]["kind"] = json!("Guest"),
            "returned invalid converted object: invalid kind (expected Host, received Guest)",
        ),
        (
            |r| r["convertedObjects"][0]["metadata"]["name"] = json!("b"),
            "returned invalid converted object: must have the same name: a != b",
        ),
        (
            |r| r["convertedObjects"][0]["metadata"]["uid"] = json!("x"),
            "returned invalid converted object: must have the same UID: ",
        ),
        (
            |r| r["convertedObjects"][0]["metadata"]["labels"] = json!({"a": 1}),
            "returned invalid metadata: metadata.labels.a must be a string",
        ),
        (
            |r| r["convertedObjects"][0]["metadata"]["labels"] = json!({"a": "!"}),
            "returned invalid metadata: invalid labels: a: ",
        ),
    ];
    for (change, expected) in cases {
        server.webhook = Box::new(broken(change));
        let refused = server.refused(&format!("GET {V2}/a"), Value::Null);
        let why = format!("500  conversion webhook for example.com/v1, Kind=Host {expected}");
        assert!(refused.starts_with(&why), "{refused}\nis not\n{why}");
    }
    server.webhook = Box::new(broken(|r| {
        let meta = &mut r["convertedObjects"][0]["metadata"];
        meta["labels"] = json!({"a": "b"});
        meta["finalizers"] = json!(["example.com/forged"]);
    }));
    let read = server.get(&format!("{V2}/a"));
    assert_eq!((&read["metadata"]["labels"], &read["metadata"]["finalizers"]), (&json!({"a": "b"}), &Value::Null));
}

#[test]
fn the_stored_version_changes_with_each_write() {
    let mut server = server();
    server.make(V1, host("a", json!({"address": "db:1"})));
    server.make(V1, host("b", json!({"address": "db:2"})));
    let path = format!("{CRDS}/hosts.example.com");
    let mut new = definition("v2");
    new["metadata"]["resourceVersion"] = server.get(&path)["metadata"]["resourceVersion"].clone();
    let changed = server.done(&format!("PUT {path}"), new);
    assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v2"]));
    assert_eq!(server.get(&format!("{V2}/a"))["spec"], json!({"host": "db", "port": "1"}));
    assert_eq!(server.get(&format!("{V1}/a"))["spec"], json!({"address": "db:1"}));
    server.make(V2, host("c", json!({"host": "web", "port": "9"})));
    let list = server.get(V1);
    let specs: Vec<&Value> =
        list["items"].as_array().expect("items").iter().map(|one| &one["spec"]["address"]).collect();
    assert_eq!(specs, ["db:1", "db:2", "web:9"]);
    let same = server.get(&format!("{V1}/a"));
    server.done(&format!("PUT {V1}/a"), same);
    assert_eq!(stored(&server, "a")["apiVersion"], "example.com/v2", "a write without a change stores anew");
    server.done(&format!("PATCH:merge {V1}/b"), json!({"metadata": {"finalizers": ["example.com/wait"]}}));
    let waiting = server.done(&format!("DELETE {V1}/b"), Value::Null);
    assert_eq!((&waiting["apiVersion"], &waiting["spec"]["address"]), (&json!("example.com/v1"), &json!("db:2")));
    assert!(waiting["metadata"]["deletionTimestamp"].is_string());
    server.done(&format!("PATCH:merge {path}/status"), json!({"status": {"storedVersions": ["v2"]}}));
    let refused = server.refused(&format!("PATCH:merge {path}/status"), json!({"status": {"storedVersions": ["v1"]}}));
    assert!(
        refused.contains("status.storedVersions: Invalid value: [\"v1\"]: must have the storage version v2"),
        "{refused}"
    );
}

#[test]
fn without_a_webhook_versions_differ_by_their_name_alone() {
    let mut server = server();
    let path = format!("{CRDS}/hosts.example.com");
    server.done(&format!("PATCH:merge {path}"), json!({"spec": {"conversion": {"strategy": "None", "webhook": null}}}));
    server.make(V1, host("a", json!({"address": "db:1"})));
    server.done(
        &format!("PATCH:json {path}"),
        json!([
        {"op": "replace", "path": "/spec/versions/0/storage", "value": false},
        {"op": "replace", "path": "/spec/versions/1/storage", "value": true}]),
    );
    assert_eq!(server.get(&format!("{V2}/a"))["apiVersion"], "example.com/v2", "though it is stored as v1");
    assert_eq!(server.get(V2)["items"][0]["apiVersion"], "example.com/v2");
    assert!(server.asked.is_empty());
}

#[test]
fn admission_looks_at_the_version_that_it_knows() {
    let mut server = server();
    server.make("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", json!({"metadata": {"name": "v"},
        "webhooks": [{"name": "v.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://127.0.0.1:9/"}, "rules": [{"apiGroups": ["example.com"], "apiVersions": ["v2"],
                "operations": ["*"], "resources": ["hosts"]}]}]}));
    server.webhook = Box::new(|name, request| match name {
        "v.example.com" => Ok(json!({"allowed": request["object"]["spec"]["port"] != "666"})),
        _ => convert(request),
    });
    server.make(V1, host("a", json!({"address": "db:1"})));
    let seen = server.asked.iter().find(|(name, _)| name == "v.example.com").expect("it was asked").1.clone();
    assert_eq!((&seen["kind"]["version"], &seen["requestKind"]["version"]), (&json!("v2"), &json!("v1")));
    assert_eq!(seen["object"]["spec"], json!({"host": "db", "port": "1"}));
    let refused = server.refused(&format!("POST {V1}"), host("b", json!({"address": "db:666"})));
    assert!(refused.contains("admission webhook \"v.example.com\" denied the request"), "{refused}");
    server.done(&format!("DELETE {V1}/a"), Value::Null);
}

#[test]
fn policies_say_what_they_cannot_see() {
    let mut server = server();
    let group = "/apis/admissionregistration.k8s.io/v1";
    let rule =
        json!({"apiGroups": ["example.com"], "apiVersions": ["v2"], "operations": ["*"], "resources": ["hosts"]});
    server.make(
        &format!("{group}/validatingadmissionpolicies"),
        json!({"metadata": {"name": "p"}, "spec": {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "oldObject != null || object.spec.port != '666'"}]}}),
    );
    server.make(
        &format!("{group}/validatingadmissionpolicybindings"),
        json!({"metadata": {"name": "p"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}}),
    );
    server.make(V2, host("a", json!({"host": "db", "port": "1"})));
    assert!(
        server
            .refused(&format!("POST {V2}"), host("b", json!({"host": "db", "port": "666"})))
            .contains("denied request")
    );
    let refused = server.refused(&format!("POST {V1}"), host("b", json!({"address": "db:1"})));
    assert!(
        refused.contains("objects of example.com/v1 are not converted to example.com/v2 for policies"),
        "{refused}"
    );
    server.done(&format!("DELETE {V2}/a"), Value::Null);
}
