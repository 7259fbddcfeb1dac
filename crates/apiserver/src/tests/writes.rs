//! Create, update, patch, delete.

use serde_json::{Value, json};

use crate::fixture::{Server, pod, statefulset};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SETS: &str = "/apis/apps/v1/namespaces/default/statefulsets";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn map(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"k": value}})
}

#[test]
fn create_fills_in_what_the_server_says() {
    let mut server = Server::new();
    let made = server.make(MAPS, map("a", "1"));
    assert_eq!((made["kind"].as_str(), made["apiVersion"].as_str()), (Some("ConfigMap"), Some("v1")));
    let meta = &made["metadata"];
    assert_eq!(meta["creationTimestamp"], "2026-01-01T00:00:00Z");
    assert_eq!(meta["resourceVersion"], "3");
    assert_eq!(meta["namespace"], "default");
    assert_eq!(meta["uid"].as_str().map(str::len), Some(36));
    assert_eq!(server.get(&format!("{MAPS}/a")), made);
    assert_eq!(
        server.refused(&format!("POST {MAPS}"), map("a", "1")),
        "409 AlreadyExists configmaps \"a\" already exists"
    );
    assert_eq!(
        server.refused("POST /api/v1/namespaces/none/configmaps", map("a", "1")),
        "404 NotFound namespaces \"none\" not found"
    );
    let elsewhere = json!({"metadata": {"name": "b", "namespace": "other"}});
    assert_eq!(
        server.refused(&format!("POST {MAPS}"), elsewhere),
        "400 BadRequest the namespace of the provided object does not match the namespace sent on the request"
    );
    assert!(
        server
            .refused(&format!("POST {MAPS}"), map("Bad_Name", "1"))
            .starts_with("422 Invalid ConfigMap \"Bad_Name\" is invalid: metadata.name: Invalid value: \"Bad_Name\"")
    );
}

#[test]
fn generated_names_are_free_names() {
    let mut server = Server::new();
    let body = json!({"metadata": {"generateName": "job-"}});
    let names: std::collections::BTreeSet<String> = (0..50)
        .map(|_| server.make(MAPS, body.clone())["metadata"]["name"].as_str().expect("a name").to_owned())
        .collect();
    assert_eq!(names.len(), 50);
    assert!(names.iter().all(|name| name.starts_with("job-") && name.len() == 9));
}

#[test]
fn updates_conflict_or_apply_and_no_change_is_no_write() {
    let mut server = Server::new();
    let made = server.make(MAPS, map("a", "1"));
    let path = format!("PUT {MAPS}/a");
    let mut newer = made.clone();
    newer["data"]["k"] = json!("2");
    let updated = server.done(&path, newer.clone());
    assert_eq!(updated["metadata"]["resourceVersion"], "4");
    assert_eq!(
        server.refused(&path, newer),
        "409 Conflict Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    assert_eq!(server.done(&path, updated.clone()), updated, "nothing changed");
    assert_eq!(server.store.snapshot().revision(), 4);
    assert_eq!(server.done(&path, map("a", "3"))["metadata"]["uid"], made["metadata"]["uid"], "unconditional (S-19)");
    let mut other = map("a", "4");
    other["metadata"]["uid"] = json!("x");
    assert!(server.refused(&path, other).starts_with(
        "409 Conflict Operation cannot be fulfilled on configmaps \"a\": Precondition failed: UID in precondition: x"
    ));
    assert_eq!(
        server.refused(&format!("PATCH:merge {}", path.trim_start_matches("PUT ")), json!({"metadata": {"uid": "x"}})),
        "422 Invalid ConfigMap \"a\" is invalid: metadata.uid: Invalid value: \"x\": field is immutable"
    );
    assert_eq!(
        server.refused(&path, map("b", "1")),
        "400 BadRequest the name of the object (b) does not match the name on the URL (a)"
    );
    assert_eq!(
        server.refused(&format!("PUT {MAPS}/none"), map("none", "1")),
        "404 NotFound configmaps \"none\" not found"
    );
}

#[test]
fn s17_s18_generation_counts_spec_and_status_is_apart() {
    let mut server = Server::new();
    let mut body = statefulset("web");
    body["status"] = json!({"replicas": 9});
    let made = server.make(SETS, body);
    assert_eq!(made["metadata"]["generation"], 1);
    assert_ne!(made["status"]["replicas"], 9, "status on the main resource is dropped");
    let mut status = made.clone();
    status["status"] = json!({"replicas": 2, "observedGeneration": 1});
    status["spec"]["replicas"] = json!(7);
    let after = server.done(&format!("PUT {SETS}/web/status"), status);
    assert_eq!(after["status"]["replicas"], 2);
    assert_eq!(after["spec"]["replicas"], 3, "spec on /status is dropped");
    assert_eq!(after["metadata"]["generation"], 1);
    let patch = json!({"spec": {"replicas": 5}, "status": {"replicas": 8}});
    let after = server.done(&format!("PATCH:merge {SETS}/web"), patch);
    assert_eq!(after["metadata"]["generation"], 2);
    assert_eq!((&after["spec"]["replicas"], &after["status"]["replicas"]), (&json!(5), &json!(2)));
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(server.done(&format!("PATCH:merge {SETS}/web"), label)["metadata"]["generation"], 2);
}

#[test]
fn st11_scale_is_read_put_and_patched() {
    let mut server = Server::new();
    server.make(SETS, statefulset("web"));
    let path = format!("{SETS}/web/scale");
    let scale = server.get(&path);
    assert_eq!((scale["kind"].as_str(), scale["spec"]["replicas"].as_i64()), (Some("Scale"), Some(3)));
    assert_eq!(scale["status"]["selector"], "app=web");
    let mut put = scale.clone();
    put["spec"]["replicas"] = json!(5);
    let after = server.done(&format!("PUT {path}"), put.clone());
    assert_eq!((&after["kind"], &after["spec"]["replicas"]), (&json!("Scale"), &json!(5)));
    assert!(server.refused(&format!("PUT {path}"), put).starts_with("409 Conflict"), "a stale resourceVersion");
    for kind in ["merge", "strategic"] {
        let replicas = if kind == "merge" { 1 } else { 4 };
        let after = server.done(&format!("PATCH:{kind} {path}"), json!({"spec": {"replicas": replicas}}));
        assert_eq!(after["spec"]["replicas"], replicas);
    }
    assert_eq!(server.get(&format!("{SETS}/web"))["spec"]["replicas"], 4);
    assert_eq!(
        server.refused(&format!("PATCH:merge {path}"), json!({"spec": {"replicas": -1}})),
        "422 Invalid Scale.autoscaling \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    );
}

#[test]
fn k01_patches_of_every_type() {
    let mut server = Server::new();
    server.make(SETS, statefulset("web"));
    let path = format!("{SETS}/web");
    let strategic =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "env": [{"name": "A", "value": "1"}]}]}}}});
    let after = server.done(&format!("PATCH:strategic {path}"), strategic);
    let container = &after["spec"]["template"]["spec"]["containers"][0];
    assert_eq!((&container["image"], &container["env"][0]["value"]), (&json!("stead.local/demo:1"), &json!("1")));
    let operations = json!([{"op": "replace", "path": "/spec/replicas", "value": 2}]);
    assert_eq!(server.done(&format!("PATCH:json {path}"), operations)["spec"]["replicas"], 2);
    let stale = json!({"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 1}});
    assert!(server.refused(&format!("PATCH:merge {path}"), stale).starts_with("409 Conflict"));
    assert!(
        server
            .refused(&format!("PATCH:merge {path}"), json!({"metadata": {"name": "x"}}))
            .starts_with("400 BadRequest the name of the object (x) does not match")
    );
    assert_eq!(
        server.refused(&format!("PATCH:merge {SETS}/none"), json!({})),
        "404 NotFound statefulsets.apps \"none\" not found"
    );
    assert!(
        server
            .refused(&format!("PATCH:merge {path}?fieldValidation=Strict"), json!({"spec": {"foo": 1}}))
            .ends_with("strict decoding error: unknown field \"spec.foo\"")
    );
}

#[test]
fn strict_validation_refuses_or_warns() {
    let mut server = Server::new();
    let body = json!({"metadata": {"name": "a"}, "dat": {}});
    assert_eq!(
        server.refused(&format!("POST {MAPS}?fieldValidation=Strict"), body.clone()),
        "400 BadRequest ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"dat\""
    );
    match server.reply(&format!("POST {MAPS}"), &body.to_string()) {
        crate::Reply::Body(body) => assert_eq!(body.warnings, ["unknown field \"dat\""]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn dry_runs_change_nothing() {
    let mut server = Server::new();
    let made = server.make(&format!("{MAPS}?dryRun=All"), map("a", "1"));
    assert_eq!(made["metadata"]["name"], "a");
    assert_eq!(server.ask(&format!("GET {MAPS}/a"), Value::Null).0, 404);
    server.make(MAPS, map("a", "1"));
    let before = server.store.snapshot().revision();
    assert_eq!(server.done(&format!("PATCH:merge {MAPS}/a?dryRun=All"), json!({"data": {"k": "2"}}))["data"]["k"], "2");
    server.done(&format!("DELETE {MAPS}/a?dryRun=All"), Value::Null);
    server.done(&format!("DELETE {MAPS}/a"), json!({"dryRun": ["All"]}));
    assert_eq!(server.store.snapshot().revision(), before);
}

#[test]
fn k17_deletion_waits_for_finalizers() {
    let mut server = Server::new();
    let mut body = map("a", "1");
    body["metadata"]["finalizers"] = json!(["example.com/keep"]);
    server.make(MAPS, body);
    let path = format!("{MAPS}/a");
    let going = server.done(&format!("DELETE {path}"), Value::Null);
    assert_eq!(going["metadata"]["deletionTimestamp"], "2026-01-01T00:00:00Z");
    assert_eq!(
        server.refused(&format!("POST {MAPS}"), map("a", "1")),
        "409 AlreadyExists object is being deleted: configmaps \"a\" already exists"
    );
    assert!(
        server
            .refused(
                &format!("PATCH:merge {path}"),
                json!({"metadata": {"finalizers": ["example.com/keep", "example.com/new"]}})
            )
            .contains("no new finalizers can be added if the object is being deleted")
    );
    server.done(&format!("PATCH:merge {path}"), json!({"metadata": {"finalizers": null}}));
    assert_eq!(server.ask(&format!("GET {path}"), Value::Null).0, 404);

    server.make(MAPS, map("b", "1"));
    let going = server.done(&format!("DELETE {MAPS}/b"), json!({"propagationPolicy": "Foreground"}));
    assert_eq!(going["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    server.make(MAPS, map("c", "1"));
    assert!(
        server
            .refused(&format!("DELETE {MAPS}/c"), json!({"preconditions": {"uid": "x"}}))
            .starts_with("409 Conflict Operation cannot be fulfilled on configmaps \"c\": Precondition failed: UID")
    );
    let gone = server.done(&format!("DELETE {MAPS}/c"), Value::Null);
    assert_eq!((&gone["status"], &gone["details"]["name"]), (&json!("Success"), &json!("c")));
}

#[test]
fn some_deletions_are_answered_with_the_object() {
    let mut server = Server::new();
    let made = [
        ("/api/v1/namespaces/default/resourcequotas", json!({"spec": {"hard": {"pods": "9"}}})),
        ("/apis/storage.k8s.io/v1/storageclasses", json!({"provisioner": "example.com/none"})),
        ("/apis/storage.k8s.io/v1/csidrivers", json!({"spec": {"attachRequired": false}})),
    ];
    for (path, mut body) in made {
        body["metadata"] = json!({"name": "a"});
        let uid = server.make(path, body)["metadata"]["uid"].clone();
        assert_eq!(server.done(&format!("DELETE {path}/a"), Value::Null)["metadata"]["uid"], uid, "{path}");
    }
    for name in crate::delete::RETURNED {
        assert!(server.registry.stored(name).is_some(), "{name}");
    }
}

#[test]
fn f05_f10_pods_stop_gracefully() {
    let mut server = Server::new();
    for name in ["a", "b"] {
        server.make(PODS, pod(name));
    }
    server.done(&format!("DELETE {PODS}/a"), Value::Null);
    assert_eq!(server.ask(&format!("GET {PODS}/a"), Value::Null).0, 404, "an unscheduled pod goes at once");

    server.done(&format!("POST {PODS}/b/binding"), json!({"target": {"kind": "Node", "name": "n1"}}));
    assert_eq!(server.get(&format!("{PODS}/b"))["spec"]["nodeName"], "n1");
    assert!(
        server
            .refused(&format!("POST {PODS}/b/binding"), json!({"target": {"kind": "Node", "name": "n2"}}))
            .ends_with("pod b is already assigned to node \"n1\"")
    );
    let going = server.done(&format!("DELETE {PODS}/b"), Value::Null);
    assert_eq!(going["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30);
    server.wait(5);
    let same = server.done(&format!("DELETE {PODS}/b"), Value::Null);
    assert_eq!(same["metadata"]["resourceVersion"], going["metadata"]["resourceVersion"]);
    let shorter = server.done(&format!("DELETE {PODS}/b"), json!({"gracePeriodSeconds": 10}));
    assert_eq!(shorter["metadata"]["deletionTimestamp"], "2026-01-01T00:00:10Z");
    let same = server.done(&format!("DELETE {PODS}/b"), json!({"gracePeriodSeconds": 20}));
    assert_eq!(same["metadata"]["deletionGracePeriodSeconds"], 10, "a grace period is never made longer");
    server.done(&format!("DELETE {PODS}/b"), json!({"gracePeriodSeconds": 0}));
    assert_eq!(server.ask(&format!("GET {PODS}/b"), Value::Null).0, 404);
}

#[test]
fn collections_are_deleted_by_selector() {
    let mut server = Server::new();
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "x")] {
        let mut body = map(name, "1");
        body["metadata"]["labels"] = json!({"l": label});
        server.make(MAPS, body);
    }
    let gone = server.done(&format!("DELETE {MAPS}?labelSelector=l%3Dx"), Value::Null);
    assert_eq!(gone["items"].as_array().map(Vec::len), Some(2));
    let left = server.get(MAPS);
    assert_eq!(left["items"][0]["metadata"]["name"], "b");
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1));
}

#[test]
fn namespaces_end_when_their_content_has() {
    let mut server = Server::new();
    server.make("/api/v1/namespaces", json!({"metadata": {"name": "n"}}));
    let going = server.done("DELETE /api/v1/namespaces/n", Value::Null);
    assert_eq!(going["status"]["phase"], "Terminating");
    assert_eq!(
        server.refused("POST /api/v1/namespaces/n/configmaps", map("a", "1")),
        "403 Forbidden configmaps \"a\" is forbidden: unable to create new content in namespace n because it is being terminated"
    );
    let done = json!({"metadata": {"name": "n"}, "spec": {"finalizers": []}});
    server.done("PUT /api/v1/namespaces/n/finalize", done);
    assert_eq!(server.ask("GET /api/v1/namespaces/n", Value::Null).0, 404);
    assert_eq!(
        server.refused("DELETE /api/v1/namespaces/default", Value::Null),
        "403 Forbidden namespaces \"default\" is forbidden: this namespace may not be deleted"
    );
}

#[test]
fn k02_server_side_apply_owns_conflicts_and_takes_over() {
    let mut server = Server::new();
    let config = |replicas: i64| {
        let mut body = statefulset("web");
        body["spec"]["replicas"] = json!(replicas);
        body
    };
    let apply = |manager: &str| format!("PATCH:apply {SETS}/web?fieldManager={manager}");
    let (code, made) = server.ask(&apply("kubectl"), config(3));
    assert_eq!((code, &made["metadata"]["generation"]), (201, &json!(1)));
    assert_eq!(made["metadata"]["managedFields"][0]["manager"], "kubectl");
    assert_eq!(made["metadata"]["managedFields"][0]["operation"], "Apply");
    let again = server.done(&apply("kubectl"), config(3));
    assert_eq!(again["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"], "applying again is no write");

    let (code, conflict) = server.ask(&apply("other"), config(5));
    assert_eq!((code, conflict["reason"].as_str()), (409, Some("Conflict")));
    let causes: Vec<_> = conflict["details"]["causes"].as_array().into_iter().flatten().collect();
    assert!(causes.iter().any(|cause| cause["field"] == ".spec.replicas"), "{conflict}");
    let forced = server.done(&format!("{}&force=true", apply("other")), config(5));
    assert_eq!(forced["spec"]["replicas"], 5);

    server.done(&format!("PATCH:merge {SETS}/web/scale"), json!({"spec": {"replicas": 4}}));
    let set = server.get(&format!("{SETS}/web"));
    let entries = set["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    assert!(entries.iter().any(|one| one["subresource"] == "scale" && one["manager"] == "test"), "{entries:?}");
    assert_eq!(
        server.refused(&format!("PATCH:apply {SETS}/web"), config(1)),
        "422 Invalid PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
}

#[test]
fn managed_fields_follow_updates() {
    let mut server = Server::new();
    let made = server.make(MAPS, map("a", "1"));
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!((&entry["manager"], &entry["operation"]), (&json!("test"), &json!("Update")));
    assert!(entry["fieldsV1"]["f:data"]["f:k"].is_object());
    server.wait(60);
    let same = server.done(&format!("PATCH:merge {MAPS}/a"), json!({"data": {"k": "1"}}));
    assert_eq!(same, made);
}
