//! Answers in the forms that Accept headers ask for.

use serde_json::{Value, json};
use stead_api::protobuf::{self, Envelope, Message};

use crate::fixture::{Server, pod};
use crate::{Body, Reply, watch_error, watch_next};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const TABS: &str = "/apis/example.com/v1/namespaces/default/tabs";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const METADATA: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

fn ask(server: &mut Server, accept: &str, line: &str, body: Value) -> Reply {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let mut request = match server.request(line, &text) {
        Ok(request) => request,
        Err(status) => return Reply::failure(status),
    };
    request.accept = accept.into();
    match crate::negotiate(&server.registry, &mut request) {
        Ok(()) => server.perform(&request),
        Err(status) => Reply::failure(status),
    }
}

fn body(reply: Reply) -> Body {
    match reply {
        Reply::Body(body) => body,
        other => panic!("no body: {other:?}"),
    }
}

/// The object in a protobuf body, as JSON.
fn opened(bytes: &[u8]) -> Value {
    let envelope = Envelope::open(bytes).expect("an envelope");
    let version = if envelope.api_version.is_empty() { "v1" } else { &envelope.api_version };
    let of = protobuf::message_of(version, &envelope.kind).expect("a message");
    let mut value = json!({"apiVersion": envelope.api_version, "kind": envelope.kind});
    value.as_object_mut().expect("an object").extend(protobuf::decode(of, envelope.raw).expect("a message"));
    value
}

fn asked(server: &mut Server, accept: &str, line: &str, sent: Value) -> Value {
    let body = body(ask(server, accept, line, sent));
    assert_eq!(body.content_type, PROTOBUF, "{line}");
    opened(&body.pieces.concat())
}

fn refused(server: &mut Server, accept: &str, line: &str) -> String {
    let (code, text) = ask(server, accept, line, Value::Null).flat();
    let status: Value = serde_json::from_slice(&text).expect("a Status");
    format!(
        "{code} {} {}",
        status["reason"].as_str().unwrap_or_default(),
        status["message"].as_str().unwrap_or_default()
    )
}

fn of(name: &str) -> &'static Message {
    protobuf::message(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}")).expect(name)
}

/// The events of frames: each four bytes of length, then a WatchEvent.
fn events(frames: &[bytes::Bytes]) -> Vec<(String, Value)> {
    let all = bytes::Bytes::from(frames.concat());
    let mut at = 0;
    let mut found = Vec::new();
    while at < all.len() {
        let length = u32::from_be_bytes(all[at..at + 4].try_into().expect("four bytes")) as usize;
        let event = all.slice(at + 4..at + 4 + length);
        let name = protobuf::field_of(of("WatchEvent"), &event, "type").expect("a type");
        let object = protobuf::field_of(of("WatchEvent"), &event, "object").expect("an object");
        // RawExtension has its bytes in field 1, as many messages have a message there.
        let body = protobuf::field_of(of("PartialObjectMetadata"), &object, "metadata").expect("a body");
        found.push((String::from_utf8(name.to_vec()).expect("text"), opened(&body)));
        at += 4 + length;
    }
    found
}

fn fill(server: &mut Server, names: &[&str]) {
    for name in names {
        server.make(MAPS, json!({"metadata": {"name": name, "labels": {"n": name}}, "data": {"k": name}}));
    }
}

fn with_tabs() -> Server {
    let mut server = Server::new();
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let definition = json!({"metadata": {"name": "tabs.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "tabs", "kind": "Tab"}, "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}});
    server.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition);
    server.make(TABS, json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {"n": 1}}));
    server
}

#[test]
fn reads_and_writes_are_answered_in_protobuf() {
    let mut server = Server::new();
    let made = asked(&mut server, PROTOBUF, &format!("POST {PODS}"), pod("p"));
    assert_eq!((&made["kind"], &made["metadata"]["name"]), (&json!("Pod"), &json!("p")));
    assert_eq!(made["spec"]["containers"][0]["image"], "stead.local/demo:1");
    let got = asked(&mut server, PROTOBUF, &format!("GET {PODS}/p"), Value::Null);
    // Zeros of fields that are no pointers are the only difference.
    let mut plain = server.get(&format!("{PODS}/p"));
    let mut both = [got.clone(), plain.clone()];
    both.iter_mut().for_each(Value::sort_all_objects);
    assert_eq!(both[0], both[1]);
    let patched =
        asked(&mut server, PROTOBUF, &format!("PATCH:merge {PODS}/p"), json!({"metadata": {"labels": {"l": "1"}}}));
    assert_eq!(patched["metadata"]["labels"]["l"], "1");
    plain["metadata"]["resourceVersion"] = patched["metadata"]["resourceVersion"].clone();
    plain["spec"]["activeDeadlineSeconds"] = json!(9);
    let put = asked(&mut server, PROTOBUF, &format!("PUT {PODS}/p"), plain);
    assert_eq!(put["spec"]["activeDeadlineSeconds"], 9);
    let status = json!({"status": {"phase": "Running"}});
    assert_eq!(
        asked(&mut server, PROTOBUF, &format!("PATCH:merge {PODS}/p/status"), status)["status"]["phase"],
        "Running"
    );
    assert_eq!(asked(&mut server, PROTOBUF, &format!("DELETE {PODS}/p"), Value::Null)["kind"], "Pod");
    fill(&mut server, &["a"]);
    let gone = asked(&mut server, PROTOBUF, &format!("DELETE {MAPS}/a"), Value::Null);
    assert_eq!(
        (&gone["kind"], &gone["status"], &gone["details"]["name"]),
        (&json!("Status"), &json!("Success"), &json!("a"))
    );
}

#[test]
fn lists_are_spliced_from_shared_messages() {
    let mut server = Server::new();
    fill(&mut server, &["a", "b", "c"]);
    let list = asked(&mut server, PROTOBUF, &format!("GET {MAPS}?limit=2"), Value::Null);
    assert_eq!(list["kind"], "ConfigMapList");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2));
    assert_eq!(list["items"][1]["data"]["k"], "b");
    assert_eq!((&list["metadata"]["remainingItemCount"], list["metadata"]["continue"].is_string()), (&json!(1), true));
    let known = |server: &Server, name: &str| {
        let found = server.store.snapshot().find("configmaps", "default", name).expect("an object");
        found.known_protobuf().map(|bytes| bytes.as_ptr())
    };
    let first = known(&server, "a");
    assert!(first.is_some() && known(&server, "c").is_none(), "made for those who ask");
    asked(&mut server, PROTOBUF, &format!("GET {MAPS}"), Value::Null);
    assert_eq!(known(&server, "a"), first);
    let empty = asked(&mut server, PROTOBUF, "GET /api/v1/namespaces/none/pods", Value::Null);
    assert_eq!((&empty["kind"], empty.get("items")), (&json!("PodList"), None));
    let gone = asked(&mut server, PROTOBUF, &format!("DELETE {MAPS}?labelSelector=n"), Value::Null);
    assert_eq!(gone["items"].as_array().map(Vec::len), Some(3));
}

#[test]
fn metadata_is_all_that_metadata_informers_get() {
    let mut server = with_tabs();
    fill(&mut server, &["a"]);
    for line in [format!("GET {MAPS}"), format!("GET {TABS}")] {
        let list = asked(&mut server, METADATA_LIST, &line, Value::Null);
        assert_eq!(
            (&list["kind"], &list["apiVersion"]),
            (&json!("PartialObjectMetadataList"), &json!("meta.k8s.io/v1"))
        );
        let item = list["items"][0].as_object().expect("an item");
        assert_eq!((item.len(), &item["metadata"]["name"]), (1, &json!("a")));
    }
    // Cut out of the whole message where there is one.
    let made = asked(&mut server, METADATA, &format!("GET {MAPS}/a"), Value::Null);
    asked(&mut server, PROTOBUF, &format!("GET {MAPS}/a"), Value::Null);
    let cut = asked(&mut server, METADATA, &format!("GET {MAPS}/a"), Value::Null);
    assert_eq!((&made, &made["metadata"]["labels"]["n"]), (&cut, &json!("a")));
    let beta = METADATA_LIST.replace("v=v1", "v=v1beta1");
    let list = asked(&mut server, &beta, &format!("GET {MAPS}"), Value::Null);
    assert_eq!(
        (&list["apiVersion"], &list["items"][0]["metadata"]["name"]),
        (&json!("meta.k8s.io/v1beta1"), &json!("a"))
    );
    assert_eq!(
        refused(&mut server, METADATA, &format!("GET {PODS}")),
        "406 NotAcceptable you requested PartialObjectMetadata, but the requested object is a list (*core.PodList)"
    );
    assert_eq!(
        refused(&mut server, METADATA_LIST, &format!("GET {TABS}/a")),
        "406 NotAcceptable you requested PartialObjectMetadataList, but the requested object is not a list (*unstructured.Unstructured)"
    );
}

#[test]
fn watches_send_frames_with_their_length_before_them() {
    let mut server = Server::new();
    fill(&mut server, &["a"]);
    for (accept, kind) in [(PROTOBUF, "ConfigMap"), (METADATA, "PartialObjectMetadata")] {
        let line = format!(
            "GET {MAPS}?watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        );
        let Reply::Watch(mut plan) = ask(&mut server, accept, &line, Value::Null) else { panic!("no watch") };
        assert_eq!(plan.content_type(), "application/vnd.kubernetes.protobuf;stream=watch");
        let initial = events(&watch_next(&mut plan, &server.head(), server.now).expect("frames"));
        let shown: Vec<_> =
            initial.iter().map(|(name, object)| (name.as_str(), object["kind"].as_str().unwrap_or_default())).collect();
        assert_eq!(shown, [("ADDED", kind), ("BOOKMARK", kind)]);
        assert_eq!(initial[1].1["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
        server.done(&format!("PATCH:merge {MAPS}/a"), json!({"data": {"k": kind}}));
        server.make(MAPS, json!({"metadata": {"name": "b"}}));
        server.done(&format!("DELETE {MAPS}/b"), Value::Null);
        let next = events(&watch_next(&mut plan, &server.head(), server.now).expect("frames"));
        let shown: Vec<_> = next
            .iter()
            .map(|(name, object)| (name.as_str(), object["metadata"]["name"].as_str().unwrap_or_default()))
            .collect();
        assert_eq!(shown, [("MODIFIED", "a"), ("ADDED", "b"), ("DELETED", "b")]);
        let expected = if kind == "ConfigMap" { json!(kind) } else { Value::Null };
        assert_eq!(next[0].1["data"]["k"], expected);
        let error = events(&[watch_error(&plan, &stead_api::Status::expired("too old"))]);
        assert_eq!(
            (error[0].0.as_str(), &error[0].1["code"], &error[0].1["kind"]),
            ("ERROR", &json!(410), &json!("Status"))
        );
    }
    assert_eq!(
        refused(&mut server, "application/yaml", &format!("GET {MAPS}?watch=1")),
        "406 NotAcceptable only the following media types are accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
    );
}

#[test]
fn subresources_and_reviews_are_answered_in_protobuf() {
    let mut server = Server::new();
    server.make("/apis/apps/v1/namespaces/default/statefulsets", crate::fixture::statefulset("web"));
    let scale = "/apis/apps/v1/namespaces/default/statefulsets/web/scale";
    let got = asked(&mut server, PROTOBUF, &format!("GET {scale}"), Value::Null);
    assert_eq!((&got["kind"], &got["spec"]["replicas"]), (&json!("Scale"), &json!(3)));
    let set = asked(&mut server, PROTOBUF, &format!("PATCH:merge {scale}"), json!({"spec": {"replicas": 2}}));
    assert_eq!(set["spec"]["replicas"], 2);
    server.make(PODS, pod("p"));
    let bound = asked(
        &mut server,
        PROTOBUF,
        &format!("POST {PODS}/p/binding"),
        json!({"target": {"kind": "Node", "name": "n"}}),
    );
    assert_eq!((&bound["kind"], &bound["status"]), (&json!("Status"), &json!("Success")));
    let evicted = asked(&mut server, PROTOBUF, &format!("POST {PODS}/p/eviction"), json!({"metadata": {"name": "p"}}));
    assert_eq!(evicted["status"], "Success");
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let path = "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(asked(&mut server, PROTOBUF, path, review)["status"]["allowed"], true);
    let token = "POST /api/v1/namespaces/default/serviceaccounts/default/token";
    let Reply::Sign(plan) = ask(&mut server, PROTOBUF, token, json!({"spec": {"audiences": []}})) else {
        panic!("no token")
    };
    let options = stead_api::Options {
        form: stead_api::Form { format: stead_api::Format::Protobuf, ..Default::default() },
        ..Default::default()
    };
    let signed = opened(&crate::present(plan.signed("t"), &options, server.now).flat().1);
    assert_eq!((&signed["kind"], &signed["status"]["token"]), (&json!("TokenRequest"), &json!("t")));
}

#[test]
fn discovery_is_answered_in_protobuf() {
    let mut server = Server::new();
    assert_eq!(asked(&mut server, PROTOBUF, "GET /api", Value::Null)["versions"], json!(["v1"]));
    let groups = asked(&mut server, PROTOBUF, "GET /apis", Value::Null);
    assert_eq!(groups["groups"][0]["name"], server.get("/apis")["groups"][0]["name"]);
    assert_eq!(asked(&mut server, PROTOBUF, "GET /apis/apps", Value::Null)["preferredVersion"]["version"], "v1");
    let list = asked(&mut server, PROTOBUF, "GET /apis/apps/v1", Value::Null);
    let plain = server.get("/apis/apps/v1");
    assert_eq!(
        (&list["groupVersion"], &list["resources"][0]["verbs"]),
        (&json!("apps/v1"), &plain["resources"][0]["verbs"])
    );
    let accept = "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let found = body(ask(&mut server, accept, "GET /apis", Value::Null));
    assert_eq!(found.content_type, accept);
    let list = opened(&found.pieces.concat());
    let groups: Vec<_> = list["items"].as_array().into_iter().flatten().map(|one| &one["metadata"]["name"]).collect();
    assert!(list["apiVersion"] == "apidiscovery.k8s.io/v2" && groups.contains(&&json!("apps")), "{groups:?}");
    assert_eq!(
        refused(&mut server, "application/cbor", "GET /apis"),
        "406 NotAcceptable only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
    );
}

#[test]
fn custom_resources_have_no_protobuf_form() {
    let mut server = with_tabs();
    let expected = "406 NotAcceptable only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf";
    assert_eq!(refused(&mut server, PROTOBUF, &format!("GET {TABS}/a")), expected);
    assert_eq!(refused(&mut server, PROTOBUF, &format!("GET {TABS}?watch=1")), expected);
    let both = "application/vnd.kubernetes.protobuf,application/json";
    assert_eq!(body(ask(&mut server, both, &format!("GET {TABS}/a"), Value::Null)).content_type, "application/json");
    let registry = server.registry.clone();
    let (Some(tabs), Some(maps)) = (
        server.request(&format!("POST {TABS}"), "").ok().and_then(|one| one.resource().cloned()),
        server.request(&format!("POST {MAPS}"), "").ok().and_then(|one| one.resource().cloned()),
    ) else {
        panic!("resources")
    };
    let told = |resource: &stead_api::Resource, media: &str| {
        let refused = crate::decode_body(&registry, resource, stead_api::Verb::Create, b"k8s\0", media).err();
        refused.map(|status| format!("{} {}", status.code, status.message)).unwrap_or_default()
    };
    assert_eq!(
        told(&tabs, PROTOBUF),
        "415 the body of the request was in an unknown format - accepted media types include: application/json, application/yaml"
    );
    assert_eq!(
        told(&maps, "application/cbor"),
        "415 the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"
    );
}

#[test]
fn tables_fall_back_to_json_and_know_their_version() {
    let mut server = Server::new();
    fill(&mut server, &["a"]);
    let accept = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io";
    let table = body(ask(&mut server, accept, &format!("GET {MAPS}"), Value::Null));
    assert_eq!(table.content_type, "application/json");
    let table: Value = serde_json::from_slice(&table.pieces.concat()).expect("JSON");
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1beta1")));
    assert_eq!(table["rows"][0]["object"]["apiVersion"], "meta.k8s.io/v1beta1");
    assert_eq!(
        refused(&mut server, "application/json;as=Table;v=v1;g=meta.k8s.io", &format!("GET {MAPS}?includeObject=x")),
        "400 BadRequest Unable to convert to Table as requested: includeObject: Invalid value: \"x\": must be 'Metadata', 'Object', 'None', or empty"
    );
}

#[test]
fn yaml_and_lines_are_for_people() {
    let mut server = Server::new();
    fill(&mut server, &["a"]);
    let yaml = body(ask(&mut server, "application/yaml", &format!("GET {MAPS}/a"), Value::Null));
    assert_eq!(yaml.content_type, "application/yaml");
    let text = String::from_utf8(yaml.pieces.concat()).expect("text");
    assert!(text.starts_with("apiVersion: v1\ndata:\n  k: a\nkind: ConfigMap\nmetadata:\n"), "{text}");
    let lines = |server: &mut Server, query: &str, agent: &str| {
        let mut request = server.request(&format!("GET {MAPS}/a{query}"), "").expect("a request");
        request.user_agent = agent.into();
        crate::negotiate(&server.registry, &mut request).expect("a form");
        String::from_utf8(server.perform(&request).flat().1).expect("text").lines().count() > 1
    };
    assert!(lines(&mut server, "?pretty=true", "kubectl") && lines(&mut server, "", "curl/8.0"));
    assert!(!lines(&mut server, "", "kubectl") && !lines(&mut server, "?pretty=0", "curl/8.0"));
    assert!(!lines(&mut server, "?pretty=", "kubectl"));
}

/// Whatever is promised can be made.
#[test]
fn every_kind_is_listed_in_protobuf_or_refused() {
    let mut server = Server::new();
    let registry = server.registry.clone();
    let mut refused_kinds = Vec::new();
    for kind in registry.all().filter(|kind| kind.verbs != stead_kinds::Verbs::CreateOnly) {
        let base = if kind.group.is_empty() { "/api" } else { "/apis" };
        let line = format!("GET {base}/{}/{}", kind.api_version(), kind.plural);
        let reply = ask(&mut server, PROTOBUF, &line, Value::Null);
        if kind.old.is_some() {
            refused_kinds.push(reply.status().map(|status| status.code));
            continue;
        }
        let list = opened(&body(reply).pieces.concat());
        assert_eq!(
            (list["kind"].as_str(), list["apiVersion"].as_str()),
            (Some(kind.list_kind), Some(&*kind.api_version()))
        );
        let stead_kinds::SchemaRef::Definition(name) = kind.schema else { panic!("{line}") };
        // Metadata is cut out of every message by the same number.
        assert_eq!(protobuf::message(name).and_then(|of| of.number("metadata")), Some(1), "{name}");
    }
    assert!(refused_kinds.iter().all(|code| *code == Some(406)), "{refused_kinds:?}");
}
