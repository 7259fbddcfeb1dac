//! What clients look for in the documents.

use std::sync::Arc;

use super::*;

fn registry() -> Registry {
    Registry::with([])
}

fn document_of(group: &str, version: &str) -> Value {
    let registry = registry();
    v3(&registry, &kinds_of(&registry, group, version))
}

/// Every `$ref` below a value.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|one| references(one, found));
        }
        Value::Array(list) => list.iter().for_each(|one| references(one, found)),
        _ => {}
    }
}

#[test]
fn every_reference_has_its_target_in_the_same_document() {
    let registry = registry();
    for (path, kinds) in group_versions(&registry) {
        let document = v3(&registry, &kinds);
        let mut found = Vec::new();
        references(&document, &mut found);
        for reference in found {
            let name = reference.strip_prefix("#/components/schemas/").expect("a pointer");
            // JSONSchemaProps has a property that is itself called `$ref`.
            assert!(document["components"]["schemas"].get(name).is_some(), "{path}: {reference}");
        }
    }
    let document = v2(&registry);
    let mut found = Vec::new();
    references(&document, &mut found);
    for reference in found {
        let name = reference.strip_prefix("#/definitions/").expect("a pointer");
        assert!(document["definitions"].get(name).is_some(), "{reference}");
    }
}

#[test]
fn kubectl_finds_what_it_looks_for() {
    let document = document_of("apps", "v1");
    let item = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}"];
    let patch = &item["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "kind": "StatefulSet", "version": "v1"})
    );
    assert_eq!(
        (&patch["x-kubernetes-action"], &patch["operationId"]),
        (&json!("patch"), &json!("patchAppsV1NamespacedStatefulSet"))
    );
    let names: Vec<&str> =
        patch["parameters"].as_array().expect("parameters").iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    let schemas = &document["components"]["schemas"];
    let set = &schemas["io.k8s.api.apps.v1.StatefulSet"];
    assert_eq!(set["x-kubernetes-group-version-kind"][0]["kind"], "StatefulSet");
    assert_eq!(
        set["properties"]["spec"]["allOf"][0]["$ref"],
        "#/components/schemas/io.k8s.api.apps.v1.StatefulSetSpec"
    );
    assert!(set["properties"]["spec"]["description"].is_string());
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(
        (&containers["x-kubernetes-patch-merge-key"], &containers["x-kubernetes-list-map-keys"]),
        (&json!("name"), &json!(["name"]))
    );
    let scale = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}/scale"]["put"];
    assert_eq!(scale["x-kubernetes-group-version-kind"]["kind"], "Scale");
}

#[test]
fn the_index_names_every_group_version_by_its_hash() {
    let registry = registry();
    let index = index(&registry);
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().expect("a url");
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="), "{url}");
    assert!(index["paths"].get("api/v1").is_some());
}

#[test]
fn a_custom_resource_is_described_by_its_own_schema() {
    let crd = json!({"kind": "CustomResourceDefinition", "metadata": {"name": "crontabs.stable.example.com"}, "spec": {
        "group": "stable.example.com", "scope": "Namespaced", "names": {"plural": "crontabs", "kind": "CronTab"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
            "properties": {"spec": {"type": "object", "properties": {"image": {"type": "string", "nullable": true}}}}}}}]}});
    let schema = Arc::new(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone());
    let plain = *registry().find("apps", "v1", "controllerrevisions").expect("a kind");
    let kind = Kind {
        group: "stable.example.com",
        kind: "CronTab",
        list_kind: "CronTabList",
        plural: "crontabs",
        storage: "crontabs.stable.example.com",
        schema: SchemaRef::Custom,
        ..plain
    };
    let registry = Registry::with([(kind, schema)]);
    let document = v3(&registry, &kinds_of(&registry, "stable.example.com", "v1"));
    let printed = &document["components"]["schemas"]["com.example.stable.v1.CronTab"];
    assert_eq!(printed["properties"]["spec"]["properties"]["image"], json!({"type": "string", "nullable": true}));
    assert!(
        printed["properties"]["metadata"]["allOf"][0]["$ref"].as_str().is_some_and(|name| name.ends_with("ObjectMeta"))
    );
    assert!(document["components"]["schemas"].get("com.example.stable.v1.CronTabList").is_some());
    let patch = &document["paths"]["/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}"]["patch"];
    assert!(patch["requestBody"]["content"].get("application/strategic-merge-patch+json").is_none());
    let before = super::hash(&registry, &kinds_of(&registry, "stable.example.com", "v1"));
    let changed = Registry::with([(kind, Arc::new(json!({"type": "object"})))]);
    assert_ne!(before, super::hash(&changed, &kinds_of(&changed, "stable.example.com", "v1")));
}

#[test]
fn documents_are_served_in_the_forms_that_are_asked_for() {
    let mut server = crate::fixture::Server::new();
    let mut ask_at = |path: &str, accept: &str| {
        let mut request = server.request(&format!("GET {path}"), "").expect("a request");
        request.accept = accept.into();
        match server.perform(&request) {
            Reply::Body(body) => (body.content_type.into_owned(), body.pieces.concat()),
            other => (format!("{:?}", other.status().map(|status| status.code)), Vec::new()),
        }
    };
    let v3 = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";
    let (content_type, bytes) = ask_at("/openapi/v3/apis/apps/v1", v3);
    assert_eq!((content_type.as_str(), &bytes[..7]), (V3_TYPES[2], &b"\x0a\x053.0.0"[..]));
    assert_eq!(ask_at("/openapi/v3/apis/apps/v1", "application/json, */*").0, JSON);
    assert_eq!(ask_at("/openapi/v3", v3).0, "Some(406)");
    let mut ask = |accept: &str| ask_at("/openapi/v2", accept);
    for accept in ["", "application/json, */*", "application/json;q=0.9"] {
        assert_eq!(ask(accept).0, JSON, "{accept}");
    }
    assert_eq!(ask("application/yaml").0, "Some(406)");
    let (content_type, bytes) = ask("application/com.github.proto-openapi.spec.v2@v1.0+protobuf");
    assert_eq!((content_type.as_str(), &bytes[..5]), (V2_TYPES[2], &b"\x0a\x032.0"[..]));
}
