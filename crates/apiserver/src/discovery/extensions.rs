//! Discovery and OpenAPI documents with what extension API servers say of themselves.
//!
//! The local document is made first, as if there were no extensions; this adds to it. Groups stand in the order of their
//! APIServices' priorities, as clients look names up in that order.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use stead_api::{Request, Status};

use super::{AGGREGATED_V2, AGGREGATED_V2BETA1, aggregated_type, document, version_rank};
use crate::extension::Extension;
use crate::reply::Body;
use crate::{Head, Reply};

/// What an extension told about its group version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// Resources as aggregated discovery has them; None: it never told.
    pub resources: Option<Vec<Value>>,
    /// Whether it did not answer when it was last asked.
    pub is_stale: bool,
    /// Where its OpenAPI v3 document is, hash included.
    pub openapi_v3: Option<String>,
    /// Its OpenAPI v2 document.
    pub openapi_v2: Option<Value>,
}

/// An extension with what it told.
pub type Known = (Extension, Told);

/// Adds extensions to a local answer. Called only when there are any.
pub fn with_extensions(head: &Head, request: &Request, path: &str, local: Reply, known: &[Known]) -> Reply {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let media = || aggregated_type(&request.accept);
    match (parts.as_slice(), &local) {
        (["apis"], Reply::Body(body)) => match media() {
            Some(media) => edited(body, media, |document| add_aggregated(head, document, media, known)),
            None => edited(body, "application/json", |document| add_groups(head, document, known)),
        },
        (["apis", name], reply) => group(name, reply, known).unwrap_or(local),
        (["openapi", "v3"], Reply::Body(body)) => edited(body, "application/json", |document| add_v3(document, known)),
        (["openapi", "v2"], Reply::Body(_)) => {
            let told = known.iter().filter_map(|(one, told)| Some((one.path(), told.openapi_v2.as_ref()?)));
            let told: Vec<(String, &Value)> = told.collect();
            if told.is_empty() {
                return local;
            }
            crate::openapi::v2_with(head, request, &told).unwrap_or_else(Reply::failure)
        }
        ([], Reply::Body(body)) => edited(body, "application/json", |document| add_paths(document, known)),
        _ => local,
    }
}

fn edited(body: &Body, media: &'static str, edit: impl FnOnce(&mut Value)) -> Reply {
    let mut value = serde_json::from_slice(&body.pieces.concat()).unwrap_or(Value::Null);
    edit(&mut value);
    document(media, value)
}

/// The priority of each group that has an APIService.
fn priorities(head: &Head) -> BTreeMap<String, i64> {
    let mut found: BTreeMap<String, i64> = BTreeMap::new();
    for object in head.store.snapshot.list(crate::extension::API_SERVICES, "") {
        let value = object.value();
        let group = value["spec"]["group"].as_str().unwrap_or_default().to_owned();
        let priority = value["spec"]["groupPriorityMinimum"].as_i64().unwrap_or(0);
        let known = found.entry(group).or_insert(priority);
        *known = priority.max(*known);
    }
    found
}

/// Puts groups in order: those with a higher priority first, those of one priority by name. What has no APIService is an old
/// group's, or the first of all, and stays on its side.
fn in_order(groups: &mut [Value], priorities: &BTreeMap<String, i64>, name: impl Fn(&Value) -> String) {
    let place = |group: &Value| {
        let name = name(group);
        let priority = match name.as_str() {
            "apiregistration.k8s.io" => i64::MAX,
            name => priorities.get(name).copied().unwrap_or(0),
        };
        (std::cmp::Reverse(priority), name)
    };
    // Stable: the order of the local ones among themselves is theirs where priorities are the same.
    groups.sort_by_key(|group| place(group).0);
}

fn add_groups(head: &Head, document: &mut Value, known: &[Known]) {
    let Some(groups) = document["groups"].as_array_mut() else { return };
    for (extension, _) in known.iter().filter(|(extension, _)| !extension.group.is_empty()) {
        match groups.iter_mut().find(|group| group["name"] == extension.group.as_str()) {
            Some(group) => add_version(group, extension, known),
            None => groups.push(new_group(extension)),
        }
    }
    in_order(groups, &priorities(head), |group| text(&group["name"]));
}

fn new_group(extension: &Extension) -> Value {
    let version = version_of(extension);
    json!({"name": extension.group, "versions": [version.clone()], "preferredVersion": version})
}

fn version_of(extension: &Extension) -> Value {
    let group_version = format!("{}/{}", extension.group, extension.version);
    json!({"groupVersion": group_version, "version": extension.version})
}

/// Adds a version to a group and prefers the one with the highest priority.
fn add_version(group: &mut Value, extension: &Extension, known: &[Known]) {
    let version = version_of(extension);
    let Some(versions) = group["versions"].as_array_mut() else { return };
    if !versions.contains(&version) {
        versions.push(version);
    }
    versions.sort_by(|a, b| {
        let rank = |one: &Value| rank(&extension.group, &text(&one["version"]), known);
        rank(b).cmp(&rank(a))
    });
    group["preferredVersion"] = versions.first().cloned().unwrap_or_default();
}

/// Versions stand by the priority that their APIService gives, then by their names.
fn rank(group: &str, version: &str, known: &[Known]) -> (i32, (u8, u64, u64)) {
    /// As those of custom resources.
    const LOCAL: i32 = 100;
    let own = known.iter().find(|(one, _)| one.group == group && one.version == version);
    (own.map_or(LOCAL, |(one, _)| one.version_priority), version_rank(version))
}

/// `/apis/GROUP`; None: the local answer stands.
fn group(name: &str, local: &Reply, known: &[Known]) -> Option<Reply> {
    let ours: Vec<&Extension> = known.iter().map(|(one, _)| one).filter(|one| one.group == name).collect();
    let first = ours.first()?;
    let mut value = match local {
        Reply::Body(body) => serde_json::from_slice(&body.pieces.concat()).ok()?,
        _ => {
            let mut value = json!({"kind": "APIGroup", "apiVersion": "v1"});
            value.as_object_mut()?.extend(new_group(first).as_object()?.clone());
            value
        }
    };
    for extension in ours {
        add_version(&mut value, extension, known);
    }
    Some(document("application/json", value))
}

fn add_aggregated(head: &Head, document: &mut Value, media: &str, known: &[Known]) {
    debug_assert!([AGGREGATED_V2, AGGREGATED_V2BETA1].contains(&media), "one of the two forms");
    let Some(items) = document["items"].as_array_mut() else { return };
    for (extension, told) in known.iter().filter(|(extension, _)| !extension.group.is_empty()) {
        let freshness = if told.is_stale || told.resources.is_none() { "Stale" } else { "Current" };
        let mut version = json!({"version": extension.version, "freshness": freshness});
        if let Some(resources) = told.resources.as_ref().filter(|all| !all.is_empty()) {
            version["resources"] = json!(resources);
        }
        let at = items.iter().position(|item| item["metadata"]["name"] == extension.group.as_str());
        let at = at.unwrap_or_else(|| {
            items.push(json!({"metadata": {"name": extension.group, "creationTimestamp": null}, "versions": []}));
            items.len() - 1
        });
        let Some(versions) = items[at]["versions"].as_array_mut() else { continue };
        versions.retain(|one| one["version"] != extension.version.as_str());
        versions.push(version);
        versions.sort_by(|a, b| {
            let rank = |one: &Value| rank(&extension.group, &text(&one["version"]), known);
            rank(b).cmp(&rank(a))
        });
    }
    in_order(items, &priorities(head), |item| text(&item["metadata"]["name"]));
}

fn add_v3(document: &mut Value, known: &[Known]) {
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for (extension, told) in known {
        if let Some(url) = &told.openapi_v3 {
            paths.insert(extension.path().trim_start_matches('/').to_owned(), json!({"serverRelativeURL": url}));
        }
    }
    let mut sorted: Vec<(String, Value)> = std::mem::take(paths).into_iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    *paths = sorted.into_iter().collect::<Map<String, Value>>();
}

fn add_paths(document: &mut Value, known: &[Known]) {
    let Some(paths) = document["paths"].as_array_mut() else { return };
    for (extension, _) in known {
        let group = format!("/apis/{}", extension.group);
        for path in [group, extension.path()] {
            if !paths.iter().any(|one| *one == path.as_str()) {
                paths.push(json!(path));
            }
        }
    }
    paths.sort_by_key(text);
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Reads what an extension told: its aggregated list, or else its plain list of resources.
///
/// # Errors
/// When it is neither.
pub fn read_resources(extension: &Extension, value: &Value) -> Result<Vec<Value>, Status> {
    if value["kind"] == "APIGroupDiscoveryList" {
        let mut items = value["items"].as_array().into_iter().flatten();
        let group = items.find(|item| item["metadata"]["name"] == extension.group.as_str());
        let mut versions = group.and_then(|group| group["versions"].as_array()).into_iter().flatten();
        let version = versions.find(|one| one["version"] == extension.version.as_str());
        let resources = version.map(|one| one["resources"].as_array().cloned().unwrap_or_default());
        return resources.ok_or_else(|| Status::internal("the extension does not tell of its group version"));
    }
    if value["kind"] != "APIResourceList" {
        return Err(Status::internal("the extension tells no list of resources"));
    }
    let plain: Vec<&Value> = value["resources"].as_array().into_iter().flatten().collect();
    let (subresources, resources): (Vec<&Value>, Vec<&Value>) =
        plain.into_iter().partition(|one| text(&one["name"]).contains('/'));
    let mut all: Vec<Value> = resources.into_iter().map(|one| aggregated(extension, one)).collect();
    for one in subresources {
        let name = text(&one["name"]);
        let Some((resource, subresource)) = name.split_once('/') else { continue };
        let at = all.iter().position(|known| known["resource"] == resource);
        let at = at.unwrap_or_else(|| {
            all.push(json!({"resource": resource, "scope": scope(one)}));
            all.len() - 1
        });
        let entry =
            json!({"subresource": subresource, "responseKind": response_kind(extension, one), "verbs": one["verbs"]});
        match all[at]["subresources"].as_array_mut() {
            Some(list) => list.push(entry),
            None => all[at]["subresources"] = json!([entry]),
        }
    }
    Ok(all)
}

fn aggregated(extension: &Extension, plain: &Value) -> Value {
    let mut one = json!({"resource": plain["name"], "responseKind": response_kind(extension, plain), "scope": scope(plain),
        "singularResource": text(&plain["singularName"]), "verbs": plain["verbs"]});
    for field in ["shortNames", "categories"] {
        if !plain[field].is_null() {
            one[field] = plain[field].clone();
        }
    }
    one
}

fn scope(plain: &Value) -> &'static str {
    if plain["namespaced"] == true { "Namespaced" } else { "Cluster" }
}

fn response_kind(extension: &Extension, plain: &Value) -> Value {
    let or = |field: &str, own: &str| match text(&plain[field]) {
        given if given.is_empty() => own.to_owned(),
        given => given,
    };
    json!({"group": or("group", &extension.group), "version": or("version", &extension.version), "kind": plain["kind"]})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Server;

    fn extension(group: &str, version: &str, priority: i32) -> Extension {
        Extension {
            name: format!("{version}.{group}"),
            group: group.into(),
            version: version.into(),
            namespace: "default".into(),
            service: "x".into(),
            port: 443,
            ca_bundle: [].into(),
            trusts_anyone: true,
            group_priority: priority,
            version_priority: 15,
            is_available: true,
        }
    }

    /// A server with its APIService for each extension, and an answer with them.
    fn asked(accept: &str, path: &str, known: &[Known]) -> (u16, Value) {
        let mut server = Server::new();
        for (one, _) in known {
            let object = json!({"metadata": {"name": one.name}, "spec": {"group": one.group, "version": one.version,
                "groupPriorityMinimum": one.group_priority, "versionPriority": one.version_priority,
                "service": {"namespace": "default", "name": "x"}, "insecureSkipTLSVerify": true}});
            server.make("/apis/apiregistration.k8s.io/v1/apiservices", object);
        }
        let mut request = server.request(&format!("GET {path}"), "").expect("a request");
        request.accept = accept.into();
        let local = crate::serve_read(&server.head(), server.now, &request);
        let (code, bytes) = with_extensions(&server.head(), &request, path, local, known).flat();
        (code, serde_json::from_slice(&bytes).expect("JSON"))
    }

    fn told() -> Told {
        let list = json!({"kind": "APIResourceList", "groupVersion": "metrics.k8s.io/v1beta1", "resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get"],
                "shortNames": ["fl"]},
            {"name": "flunders/scale", "singularName": "", "namespaced": true, "kind": "Scale", "group": "autoscaling",
                "version": "v1", "verbs": ["get"]}]});
        let resources = read_resources(&extension("wardle.example.com", "v1alpha1", 1000), &list).expect("a list");
        let openapi_v3 = Some("/openapi/v3/apis/wardle.example.com/v1alpha1?hash=X".into());
        let paths = json!({"/apis/wardle.example.com/v1alpha1/flunders": {}, "/healthz": {}});
        let openapi_v2 = Some(json!({"paths": paths, "definitions": {"com.example.Flunder": {"type": "object"}}}));
        Told { resources: Some(resources), is_stale: false, openapi_v3, openapi_v2 }
    }

    #[test]
    fn groups_of_extensions_stand_by_priority_and_are_prefered_by_theirs() {
        let known = [
            (extension("low.example.com", "v1", 100), Told::default()),
            (extension("high.example.com", "v1beta1", 19_000), Told::default()),
            (extension("low.example.com", "v2", 100), Told::default()),
        ];
        let (code, list) = asked("", "/apis", &known);
        let names: Vec<String> = list["groups"].as_array().unwrap().iter().map(|group| text(&group["name"])).collect();
        let at = |name: &str| names.iter().position(|one| one == name).expect("it is listed");
        assert_eq!((code, at("apiregistration.k8s.io"), at("high.example.com")), (200, 0, 1));
        let low = &list["groups"][at("low.example.com")];
        assert_eq!(low["preferredVersion"], json!({"groupVersion": "low.example.com/v2", "version": "v2"}));
        let (code, group) = asked("", "/apis/low.example.com", &known);
        assert_eq!((code, &group["kind"], group["versions"].as_array().unwrap().len()), (200, &json!("APIGroup"), 2));
        assert_eq!(asked("", "/apis/other.example.com", &known).0, 404);
    }

    #[test]
    fn aggregated_discovery_tells_what_they_told_and_how_fresh_it_is() {
        let silent = Told { is_stale: true, ..Told::default() };
        let known = [
            (extension("wardle.example.com", "v1alpha1", 1000), told()),
            (extension("gone.example.com", "v1", 1000), silent),
        ];
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let (_, list) = asked(accept, "/apis", &known);
        let find = |name: &str| {
            let items = list["items"].as_array().unwrap();
            items.iter().find(|item| item["metadata"]["name"] == name).expect("it is listed")["versions"].clone()
        };
        assert_eq!(find("gone.example.com"), json!([{"version": "v1", "freshness": "Stale"}]));
        let kind = json!({"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"});
        let scale = json!({"subresource": "scale", "verbs": ["get"],
            "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}});
        assert_eq!(
            find("wardle.example.com"),
            json!([{"version": "v1alpha1", "freshness": "Current", "resources": [{"resource": "flunders",
                "responseKind": kind, "scope": "Namespaced", "singularResource": "flunder", "verbs": ["get"],
                "shortNames": ["fl"], "subresources": [scale]}]}])
        );
    }

    #[test]
    fn openapi_names_their_documents() {
        let known = [(extension("wardle.example.com", "v1alpha1", 1000), told())];
        let (_, index) = asked("", "/openapi/v3", &known);
        let url = &index["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"];
        assert_eq!(url, "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=X");
        assert!(index["paths"]["api/v1"].is_object());
        let (_, v2) = asked("application/json", "/openapi/v2", &known);
        assert!(v2["paths"]["/apis/wardle.example.com/v1alpha1/flunders"].is_object());
        assert!(v2["paths"]["/healthz"].is_null() && v2["paths"]["/api/v1/pods"].is_object());
        assert_eq!(v2["definitions"]["com.example.Flunder"]["type"], "object");
    }
}
