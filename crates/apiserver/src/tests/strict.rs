//! What strict requests are told of their bodies and options, word for word.

use serde_json::json;

use crate::Reply;
use crate::fixture::Server;

const SETS: &str = "/apis/apps/v1/namespaces/default/statefulsets";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// One StatefulSet with three mistakes, as JSON.
fn wrong_json(name: &str) -> String {
    format!(
        r#"{{"metadata": {{"name": "{name}"}}, "spec": {{"unknown": 1, "replicas": 2, "replicas": 3, "serviceName": "s",
        "selector": {{"matchLabels": {{"a": "b"}}}}, "template": {{"metadata": {{"labels": {{"a": "b"}}}}, "spec": {{"containers":
        [{{"name": "c", "image": "i", "nested": 1, "imagePullPolicy": "Always", "imagePullPolicy": "Never"}}]}}}}}}}}"#
    )
}

fn warnings(server: &mut Server, line: &str, body: &str) -> Vec<String> {
    match server.reply(line, body) {
        Reply::Body(body) if body.code < 300 => body.warnings.to_vec(),
        other => panic!("{line}: {other:?}"),
    }
}

fn refusal(server: &mut Server, line: &str, body: &str) -> String {
    match server.reply(line, body) {
        Reply::Failure { status, .. } => format!("{} {}", status.code, status.message),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn mistakes_in_json_are_told_in_their_order() {
    let mut server = Server::new();
    let told = refusal(&mut server, &format!("POST {SETS}?fieldValidation=Strict"), &wrong_json("a"));
    let expected = [
        r#"unknown field "spec.unknown""#,
        r#"duplicate field "spec.replicas""#,
        r#"unknown field "spec.template.spec.containers[0].nested""#,
        r#"duplicate field "spec.template.spec.containers[0].imagePullPolicy""#,
    ];
    let prefix = "400 StatefulSet in version \"v1\" cannot be handled as a StatefulSet: strict decoding error: ";
    assert_eq!(told, format!("{prefix}{}", expected.join(", ")));
    assert_eq!(warnings(&mut server, &format!("POST {SETS}"), &wrong_json("a")), expected);
}

#[test]
fn mistakes_in_yaml_have_lines_and_then_names() {
    let mut server = Server::new();
    let yaml = "metadata:\n  name: a\nzebra: 1\ndata:\n  k: v\n  k: w\nalpha: 1\nimmutable: true\nimmutable: false\n";
    let told = refusal(&mut server, &format!("POST:yaml {MAPS}?fieldValidation=Strict"), yaml);
    let prefix = "400 ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: ";
    let lines = ["line 6: key \"k\" already set in map", "line 9: key \"immutable\" already set in map"];
    let unknown = ["unknown field \"alpha\"", "unknown field \"zebra\""];
    let text = format!("yaml: unmarshal errors:\n  {}\n  {}, {}", lines[0], lines[1], unknown.join(", "));
    assert_eq!(told, format!("{prefix}{text}"));
    assert_eq!(warnings(&mut server, &format!("POST:yaml {MAPS}"), yaml), [lines, unknown].concat());
}

#[test]
fn mistakes_in_patches_come_before_those_in_what_they_make() {
    let mut server = Server::new();
    server.make(MAPS, json!({"metadata": {"name": "a"}}));
    let patch = r#"[{"op": "add", "path": "/zebra", "value": 1, "foo": "bar"},
        {"op": "add", "path": "/none", "path": "/alpha", "value": 1}]"#;
    let expected = [
        r#"json patch unknown field "[0].foo""#,
        r#"json patch duplicate field "[1].path""#,
        r#"unknown field "alpha""#,
        r#"unknown field "zebra""#,
    ];
    assert_eq!(warnings(&mut server, &format!("PATCH:json {MAPS}/a"), patch), expected);
    let patch = r#"{"zebra": 1, "immutable": true, "immutable": false, "alpha": 1}"#;
    let expected = [r#"duplicate field "immutable""#, r#"unknown field "alpha""#, r#"unknown field "zebra""#];
    for how in ["merge", "strategic"] {
        assert_eq!(warnings(&mut server, &format!("PATCH:{how} {MAPS}/a"), patch), expected);
    }
}

#[test]
fn a_refused_patch_is_quoted_as_what_it_made() {
    let mut server = Server::new();
    server.make(MAPS, json!({"metadata": {"name": "a"}, "data": {"k": "v"}}));
    let made = server.get(&format!("{MAPS}/a"));
    let why = r#"": strict decoding error: unknown field "zebra""#;
    for (how, patch) in [
        ("merge", r#"{"zebra": 1, "data": {"b": "2", "a": "1"}}"#),
        ("json", r#"[{"op": "add", "path": "/zebra", "value": 1}]"#),
    ] {
        let told = refusal(&mut server, &format!("PATCH:{how} {MAPS}/a?fieldValidation=Strict"), patch);
        assert!(
            told.starts_with(r#"422  "" is invalid: patch: Invalid value: "{\"apiVersion\":\"v1\",\"data\":{"#),
            "{told}"
        );
        assert!(told.contains(r#"}},\"kind\":\"ConfigMap\",\"metadata\":{"#.trim_start_matches('}')), "{told}");
        assert!(told.ends_with(&format!(r#",\"zebra\":1}}{why}"#)), "{told}");
        assert!(how != "merge" || told.contains(r#"{\"a\":\"1\",\"b\":\"2\",\"k\":\"v\"}"#), "{told}");
    }
    let told = refusal(&mut server, &format!("PATCH:strategic {MAPS}/a?fieldValidation=Strict"), r#"{"zebra": 1}"#);
    assert_eq!(told, format!(r#"422  "" is invalid: patch: Invalid value: "map[zebra:1]{why}"#));
    assert_eq!(server.get(&format!("{MAPS}/a")), made);
}

#[test]
fn a_configuration_has_only_fields_of_the_schema_and_each_once() {
    let mut server = Server::new();
    let line = format!("PATCH:apply {MAPS}/a?fieldManager=m");
    let config = |more: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n{more}");
    for validation in ["Ignore", "Warn", "Strict"] {
        let told = refusal(&mut server, &format!("{line}&fieldValidation={validation}"), &config("unknown: 1\n"));
        let why = "failed to create typed patch object (default/a; v1, Kind=ConfigMap): .unknown: field not declared in schema";
        assert_eq!(told, format!("500 {why}"), "{validation}");
    }
    let twice = config("data:\n  k: v\n  k: w\n");
    let told = refusal(&mut server, &format!("{line}&fieldValidation=Strict"), &twice);
    let problem = "line 7: key \"k\" already set in map";
    let prefix = "400 error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  ";
    assert_eq!(told, format!("{prefix}{problem}"));
    assert_eq!(warnings(&mut server, &line, &twice), [problem]);
}

#[test]
fn options_are_those_of_their_verb() {
    let mut server = Server::new();
    server.make(MAPS, json!({"metadata": {"name": "a"}}));
    let body = json!({"metadata": {"name": "a"}}).to_string();
    let manager = "m".repeat(129);
    for (line, expected) in [
        (
            format!("POST {MAPS}?dryRun=x"),
            "CreateOptions|dryRun: Unsupported value: [\"x\"]: supported values: \"All\"",
        ),
        (
            format!("DELETE {MAPS}/a?dryRun=x"),
            "DeleteOptions|dryRun: Unsupported value: [\"x\"]: supported values: \"All\"",
        ),
        (
            format!("PUT {MAPS}/a?fieldValidation=x"),
            "UpdateOptions|fieldValidation: Unsupported value: \"x\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
        ),
        (
            format!("PATCH:merge {MAPS}/a?fieldManager={manager}"),
            "PatchOptions|fieldManager: Too long: may not be more than 128 bytes",
        ),
        (
            format!("PATCH:merge {MAPS}/a?force=true&fieldManager=a%0Ab"),
            "PatchOptions|[force: Forbidden: may not be specified for non-apply patch, fieldManager: Invalid value: \"a\\nb\": \
             invalid character U+000A (at position 1)]",
        ),
    ] {
        let (kind, why) = expected.split_once('|').expect("both");
        let body = if line.starts_with("DELETE") { "" } else { &body };
        assert_eq!(refusal(&mut server, &line, body), format!("422 {kind}.meta.k8s.io \"\" is invalid: {why}"));
    }
    let both = json!({"propagationPolicy": "Orphan", "orphanDependents": true}).to_string();
    let why =
        "propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set";
    let expected = format!("422 DeleteOptions.meta.k8s.io \"\" is invalid: {why}");
    assert_eq!(refusal(&mut server, &format!("DELETE {MAPS}/a"), &both), expected);

    server.make(MAPS, json!({"metadata": {"name": "b"}}));
    let token = server.get(&format!("{MAPS}?limit=1"))["metadata"]["continue"].as_str().expect("a token").to_owned();
    let told = refusal(&mut server, &format!("GET {MAPS}?continue={token}&resourceVersionMatch=Exact"), "");
    assert!(told.contains("resourceVersionMatch is forbidden when continue is provided"), "{told}");
}

#[test]
fn owners_are_named_once_and_finalizers_have_a_domain() {
    let mut server = Server::new();
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"});
    let body = json!({"metadata": {"name": "a", "ownerReferences": [owner, owner]}}).to_string();
    let told = warnings(&mut server, &format!("POST {MAPS}"), &body);
    assert!(told[0].starts_with(".metadata.ownerReferences contains duplicate entries; "), "{told:?}");
    assert!(told[0].ends_with("duplicate UID(s) observed: u"), "{told:?}");
    assert_eq!(server.get(&format!("{MAPS}/a"))["metadata"]["ownerReferences"], json!([owner]));

    let body = |names: &[&str]| json!({"metadata": {"name": "f", "finalizers": names}});
    let told = refusal(&mut server, &format!("POST {MAPS}"), &body(&["orphan", "mine"]).to_string());
    let why = "name is neither a standard finalizer name nor is it fully qualified";
    assert_eq!(told, format!("422 ConfigMap \"f\" is invalid: metadata.finalizers[1]: Invalid value: \"mine\": {why}"));
    server.make(MAPS, body(&["example.com/mine", "kubernetes"]));
}

#[test]
fn a_patch_whose_outcome_is_no_object_is_invalid() {
    let mut server = Server::new();
    let map = r#"{"metadata": {"name": "m", "annotations": {"a": "b"}}}"#;
    assert!(matches!(server.reply(&format!("POST {MAPS}"), map), Reply::Body(_)));
    let body = r#"{"metadata": {"annotations": {"foo": ["bar", 1, null]}}}"#;
    let told = refusal(&mut server, &format!("PATCH:strategic {MAPS}/m"), body);
    let expected = "422  \"\" is invalid: patch: Invalid value: \"map[metadata:map[annotations:map[foo:[bar 1 <nil>]]]]\": \
                    unrecognized type: string";
    assert_eq!(told, expected);
    let told = refusal(&mut server, &format!("PATCH:merge {MAPS}/m"), body);
    assert!(told.starts_with("422  \"\" is invalid: patch: Invalid value: \"{"), "{told}");
    let why = "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.annotations of type string";
    assert!(told.ends_with(why), "{told}");
}
