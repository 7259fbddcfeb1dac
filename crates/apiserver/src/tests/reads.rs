//! Get, list, watch, discovery.

use serde_json::{Value, json};

use crate::fixture::{Server, pod};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn fill(server: &mut Server, names: &[&str]) {
    for name in names {
        server.make(MAPS, json!({"metadata": {"name": name, "labels": {"n": name}}, "data": {"k": "1"}}));
    }
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().into_iter().flatten().filter_map(|item| item["metadata"]["name"].as_str()).collect()
}

#[test]
fn pages_of_a_list_show_one_revision() {
    let mut server = Server::new();
    fill(&mut server, &["a", "b", "c", "d", "e"]);
    let first = server.get(&format!("{MAPS}?limit=2"));
    assert_eq!((names(&first), &first["metadata"]["remainingItemCount"]), (vec!["a", "b"], &json!(3)));
    server.done(&format!("DELETE {MAPS}/c"), Value::Null);
    server.done(&format!("DELETE {MAPS}/e"), Value::Null);
    fill(&mut server, &["bb", "z"]);
    server.done(&format!("PATCH:merge {MAPS}/d"), json!({"data": {"k": "2"}}));
    let token = first["metadata"]["continue"].as_str().expect("a token");
    let second = server.get(&format!("{MAPS}?limit=2&continue={token}"));
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["items"][1]["data"]["k"], "1", "the past is shown as it was");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().expect("a token");
    let third = server.get(&format!("{MAPS}?limit=2&continue={token}"));
    assert_eq!(names(&third), ["e"]);
    assert!(third["metadata"].get("continue").is_none());
    assert!(server.refused(&format!("GET {MAPS}?continue=nonsense"), Value::Null).starts_with("400 BadRequest"));
}

#[test]
fn lists_are_selected() {
    let mut server = Server::new();
    fill(&mut server, &["a", "b", "c"]);
    assert_eq!(names(&server.get(&format!("{MAPS}?labelSelector=n%20in%20(a,c)"))), ["a", "c"]);
    assert_eq!(names(&server.get(&format!("{MAPS}?fieldSelector=metadata.name%3Db"))), ["b"]);
    assert_eq!(names(&server.get("/api/v1/configmaps?fieldSelector=metadata.name!%3Db")), ["a", "c"]);
    assert_eq!(
        server.refused(&format!("GET {MAPS}?fieldSelector=data.k%3D1"), Value::Null),
        "400 BadRequest field label not supported: data.k"
    );
    assert_eq!(
        server.refused(&format!("GET {MAPS}?labelSelector=a%3D("), Value::Null),
        "400 BadRequest unable to parse requirement: found '(', expected: identifier"
    );
}

#[test]
fn revisions_are_exact_or_not_older() {
    let mut server = Server::new();
    fill(&mut server, &["a"]);
    let then = server.get(MAPS)["metadata"]["resourceVersion"].as_str().expect("a revision").to_owned();
    fill(&mut server, &["b"]);
    let exact = server.get(&format!("{MAPS}?resourceVersion={then}&resourceVersionMatch=Exact"));
    assert_eq!((names(&exact), &exact["metadata"]["resourceVersion"]), (vec!["a"], &json!(then)));
    let newer = server.get(&format!("{MAPS}?resourceVersion={then}&resourceVersionMatch=NotOlderThan"));
    assert_eq!(names(&newer), ["a", "b"]);
    assert_eq!(names(&server.get(&format!("{MAPS}?resourceVersion=0"))), ["a", "b"]);
    let (code, future) = server.ask(&format!("GET {MAPS}?resourceVersion=999"), Value::Null);
    assert_eq!((code, future["reason"].as_str()), (504, Some("Timeout")));
    assert_eq!(future["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    assert_eq!(future["details"]["retryAfterSeconds"], 1);
    assert_eq!(
        server.refused(&format!("GET {MAPS}?resourceVersionMatch=Exact"), Value::Null),
        "422 Invalid ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
    );
    assert!(server.refused(&format!("GET {MAPS}?resourceVersion=x"), Value::Null).starts_with("400 BadRequest"));
}

#[test]
fn watches_are_ordered_and_relative_to_selectors() {
    let mut server = Server::new();
    fill(&mut server, &["a"]);
    let revision = server.store.snapshot().revision();
    let mut all = server.watch(&format!("GET {MAPS}?watch=1&resourceVersion={revision}"));
    let mut some = server.watch(&format!("GET {MAPS}?watch=1&resourceVersion={revision}&labelSelector=on"));
    let mut named = server.watch(&format!("GET {MAPS}?watch=1&fieldSelector=metadata.name%3Db"));
    let mut elsewhere = server.watch("GET /api/v1/namespaces/other/configmaps?watch=1");
    fill(&mut server, &["b"]);
    server.done(&format!("PATCH:merge {MAPS}/a"), json!({"metadata": {"labels": {"on": "1"}}}));
    server.done(&format!("PATCH:merge {MAPS}/a"), json!({"data": {"k": "3"}}));
    server.done(&format!("PATCH:merge {MAPS}/a"), json!({"metadata": {"labels": {"on": null}}}));
    server.done(&format!("DELETE {MAPS}/b"), Value::Null);
    assert_eq!(
        server.frames(&mut all),
        ["ADDED b@4", "MODIFIED a@5", "MODIFIED a@6", "MODIFIED a@7", "DELETED b@8"].map(|frame| {
            let (text, at) = frame.split_once('@').expect("a revision");
            format!("{text}@{}", at.parse::<u64>().expect("a number") + revision - 3)
        })
    );
    let told = server.frame_values(&mut some);
    let kinds: Vec<_> = told.iter().map(|frame| frame["type"].as_str().expect("a type")).collect();
    assert_eq!(kinds, ["ADDED", "MODIFIED", "DELETED"]);
    assert_eq!(told[2]["object"]["metadata"]["labels"]["on"], "1", "the last state that was selected");
    assert_eq!(server.frames(&mut named).len(), 2);
    assert!(server.frames(&mut elsewhere).is_empty());
    assert!(server.frames(&mut all).is_empty(), "nothing is told twice");
    let bookmark: Value = serde_json::from_slice(&crate::watch_bookmark(&all, &server.head())).expect("a frame");
    assert_eq!(bookmark["object"]["metadata"]["resourceVersion"], server.store.snapshot().revision().to_string());
}

#[test]
fn watches_begin_with_what_is_there() {
    let mut server = Server::new();
    let many: Vec<String> = (0..600).map(|index| format!("m{index:03}")).collect();
    fill(&mut server, &many.iter().map(String::as_str).collect::<Vec<_>>());
    for query in ["watch=1", "watch=1&resourceVersion=0"] {
        let mut plan = server.watch(&format!("GET {MAPS}?{query}"));
        let frames = server.frames(&mut plan);
        assert_eq!(frames.len(), 600);
        assert!(frames[599].starts_with("ADDED m599"));
    }
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut plan = server.watch(&format!("GET {MAPS}?{query}&labelSelector=n%3Dm007"));
    let frames = server.frame_values(&mut plan);
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[1]["type"], "BOOKMARK");
    assert_eq!(frames[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert!(
        server
            .refused(&format!("GET {MAPS}?watch=1&sendInitialEvents=true"), Value::Null)
            .contains("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
    );
}

#[test]
fn a_watch_of_a_forgotten_past_is_told() {
    let mut server = Server::new();
    fill(&mut server, &["a"]);
    let kept = std::mem::take(&mut server.store);
    server.store = stead_store::Store::restored(kept.snapshot().clone());
    let mut plan = server.watch(&format!("GET {MAPS}?watch=1&resourceVersion=1"));
    let frames = server.frame_values(&mut plan);
    assert_eq!((&frames[0]["type"], &frames[0]["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(frames[0]["object"]["reason"], "Expired");
}

#[test]
fn a_list_of_a_forgotten_past_may_go_on_with_what_is_there_now() {
    let mut server = Server::new();
    fill(&mut server, &["a", "b", "c", "d"]);
    let first = server.get(&format!("{MAPS}?limit=2"));
    server.done(&format!("DELETE {MAPS}/c"), Value::Null);
    fill(&mut server, &["e", "f"]);
    server.store = stead_store::Store::restored(server.store.snapshot().clone());
    let of = |list: &Value| list["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
    let (code, told) = server.ask(&format!("GET {MAPS}?limit=2&continue={}", of(&first)), Value::Null);
    assert_eq!((code, &told["reason"]), (410, &json!("Expired")));
    let text = told["message"].as_str().unwrap_or_default();
    assert!(
        text.contains("or use the continue token in this response to retrieve the remainder of the results"),
        "{text}"
    );
    let second = server.get(&format!("{MAPS}?limit=2&continue={}", of(&told)));
    assert_eq!(names(&second), ["d", "e"]);
    let third = server.get(&format!("{MAPS}?limit=2&continue={}", of(&second)));
    assert_eq!((names(&third), of(&third).as_str()), (vec!["f"], ""));
    let then = first["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    assert_eq!(
        server.refused(&format!("GET {MAPS}?resourceVersion={then}&resourceVersionMatch=Exact"), Value::Null),
        "410 Expired The resourceVersion for the provided list is too old."
    );
}

#[test]
fn k04_tables_and_metadata() {
    let mut server = Server::new();
    server.make("/api/v1/namespaces/default/pods", pod("a"));
    server.wait(65);
    let table = server.done("GET:table /api/v1/namespaces/default/pods", Value::Null);
    assert_eq!(table["kind"], "Table");
    let columns: Vec<_> =
        table["columnDefinitions"].as_array().into_iter().flatten().map(|one| one["name"].clone()).collect();
    assert!(columns.contains(&json!("Name")) && columns.contains(&json!("Age")), "{columns:?}");
    let cells = table["rows"][0]["cells"].as_array().expect("cells");
    assert!(cells.contains(&json!("a")) && cells.contains(&json!("65s")), "{cells:?}");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let whole = server.done("GET:table /api/v1/namespaces/default/pods/a?includeObject=Object", Value::Null);
    assert_eq!(whole["rows"][0]["object"]["kind"], "Pod");
    let list = server.done("GET:metadata /api/v1/namespaces/default/pods", Value::Null);
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert!(list["items"][0].get("spec").is_none());
    let mut plan = server.watch("GET:table /api/v1/namespaces/default/pods?watch=1");
    server.make("/api/v1/namespaces/default/pods", pod("b"));
    let frames = server.frame_values(&mut plan);
    assert!(frames[0]["object"]["columnDefinitions"].is_array());
    assert!(frames[1]["object"]["columnDefinitions"].is_null(), "columns are told once");
}

#[test]
fn id10_discovery_says_what_is_served() {
    let mut server = Server::new();
    let v1 = server.get("/api/v1");
    let pods = v1["resources"].as_array().into_iter().flatten().find(|one| one["name"] == "pods").expect("pods");
    assert_eq!(pods["shortNames"], json!(["po"]));
    let apps = server.get("/apis/apps/v1");
    let scale = apps["resources"].as_array().into_iter().flatten().find(|one| one["name"] == "statefulsets/scale");
    assert_eq!(scale.map(|one| one["group"].clone()), Some(json!("autoscaling")));
    let mut request = server.request("GET /apis", "").expect("a request");
    request.accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json".into();
    let (_, body) = server.perform(&request).flat();
    let list: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(list["kind"], "APIGroupDiscoveryList");
    assert_eq!(list["items"][0]["metadata"]["name"], "apiregistration.k8s.io");
    assert_eq!(list["items"][1]["metadata"]["name"], "apps");
    assert_eq!(server.get("/version")["gitVersion"], "v1.36.0+stead");
    assert_eq!(server.ask("GET /apis/none", Value::Null).0, 404);
    assert_eq!(
        server.refused("GET /api/v1/nones", Value::Null),
        "404 NotFound the server could not find the requested resource"
    );
}

#[test]
fn events_are_selected_by_the_names_of_their_version() {
    let mut server = Server::new();
    let body = json!({"metadata": {"name": "e"}, "regarding": {"name": "p", "namespace": "default"}, "type": "Normal",
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "c", "reportingInstance": "i", "action": "a",
        "reason": "r"});
    let of = "/apis/events.k8s.io/v1/namespaces/default/events";
    server.make(of, body);
    for (selector, count) in
        [("reportingController%3Dc", 1), ("regarding.name%3Dp,reason%3Dr,type%3DNormal", 1), ("regarding.name%3Dq", 0)]
    {
        let found = server.get(&format!("{of}?fieldSelector={selector}"));
        assert_eq!(found["items"].as_array().map_or(9, Vec::len), count, "{selector}");
    }
    let core = "/api/v1/namespaces/default/events?fieldSelector=reportingController%3Dc";
    assert!(server.refused(&format!("GET {core}"), json!(null)).starts_with("400"));
}
