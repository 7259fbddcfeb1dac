//! Discovery documents, printed from the registry (ID-10, K-24).
//!
//! Contract: `/api`, `/apis`, groups, versions and the aggregated form (v2 and v2beta1) say exactly what is served; an ETag is a
//! hash of the document. What extension servers add is in `discovery/extensions.rs`.

pub(crate) mod extensions;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use stead_api::{Request, Status};
use stead_kinds::{Kind, Registry, Subresource, Verbs};

use crate::accept::{aggregated_version, choose};
use crate::reply::Body;
use crate::version::{fnv64, version};
use crate::{Head, Reply};

const VERBS_ALL: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const VERBS_READ: &[&str] = &["get", "list"];
/// The types of aggregated discovery; other encodings name theirs instead of JSON's.
const AGGREGATED_V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const AGGREGATED_V2BETA1: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// The order in which clients look a resource name up; other groups follow by name.
const GROUP_ORDER: &[&str] = &[
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
];

pub(crate) fn serve(head: &Head, request: &Request, path: &str) -> Result<Reply, Status> {
    let registry = &head.registry;
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let aggregated = || aggregated_type(&request.accept);
    match parts.as_slice() {
        ["api"] => match aggregated() {
            Some(media) => Ok(document(media, aggregated_list(registry, media, &[String::new()]))),
            None => Ok(document("application/json", core_versions())),
        },
        ["apis"] => match aggregated() {
            Some(media) => Ok(document(media, aggregated_list(registry, media, &groups(registry)))),
            None => {
                let groups: Vec<Value> = groups(registry).iter().map(|name| group(registry, name)).collect();
                let list = json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups});
                Ok(document("application/json", list))
            }
        },
        ["apis", name] if !versions(registry, name).is_empty() => {
            let mut one = group(registry, name);
            one["kind"] = json!("APIGroup");
            one["apiVersion"] = json!("v1");
            Ok(document("application/json", one))
        }
        ["api", version] => resources(registry, "", version),
        ["apis", name, version] => resources(registry, name, version),
        ["openapi", rest @ ..] => crate::openapi::serve(head, request, rest),
        ["version"] => Ok(in_lines(version())),
        [] => Ok(in_lines(json!({"paths": paths(registry)}))),
        _ => Err(Status::no_such_path()),
    }
}

fn aggregated_type(accept: &str) -> Option<&'static str> {
    let choice = choose(accept, |_, convert| convert.is_none_or(|one| aggregated_version(one).is_some()))?;
    match aggregated_version(choice.convert?)? {
        "v2" => Some(AGGREGATED_V2),
        _ => Some(AGGREGATED_V2BETA1),
    }
}

fn document(content_type: &'static str, value: Value) -> Reply {
    let bytes: Bytes = value.to_string().into();
    let etag = Some(format!("\"{:016X}\"", fnv64(&bytes)));
    Reply::Body(Body { content_type: content_type.into(), etag, ..Body::json(200, bytes) })
}

/// The documents that are always JSON for people.
fn in_lines(value: Value) -> Reply {
    Reply::json(200, format!("{value:#}"))
}

fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// The groups that are served, core left out.
fn groups(registry: &Registry) -> Vec<String> {
    let mut names: Vec<&str> = registry.all().map(|kind| kind.group).filter(|group| !group.is_empty()).collect();
    let place = |name: &str| GROUP_ORDER.iter().position(|one| *one == name).unwrap_or(GROUP_ORDER.len());
    // A group of old versions alone is looked at last.
    let is_old = |name: &str| registry.all().filter(|kind| kind.group == name).all(|kind| kind.old.is_some());
    names.sort_by_key(|name| (is_old(name), place(name), *name));
    names.dedup();
    names.into_iter().map(str::to_owned).collect()
}

/// The versions of a group, the preferred one first: stable before beta before alpha, higher before lower.
fn versions(registry: &Registry, group: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> =
        registry.all().filter(|kind| kind.group == group).map(|kind| kind.version).collect();
    names.sort_by(|a, b| version_rank(b).cmp(&version_rank(a)).then(a.cmp(b)));
    names.dedup();
    names
}

/// `v2` > `v1` > `v1beta2` > `v1beta1` > `v1alpha1` > anything else.
fn version_rank(version: &str) -> (u8, u64, u64) {
    let number = |text: &str| text.parse::<u64>().ok();
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    for (rank, word) in [(2, "beta"), (1, "alpha")] {
        if let Some((major, minor)) = rest.split_once(word) {
            return match (number(major), number(minor)) {
                (Some(major), Some(minor)) => (rank, major, minor),
                _ => (0, 0, 0),
            };
        }
    }
    number(rest).map_or((0, 0, 0), |major| (3, major, 0))
}

fn group(registry: &Registry, name: &str) -> Value {
    let versions: Vec<Value> = versions(registry, name)
        .iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions.first()})
}

fn kinds<'a>(registry: &'a Registry, group: &'a str, version: &'a str) -> impl Iterator<Item = &'a Kind> {
    registry.all().filter(move |kind| kind.group == group && kind.version == version)
}

/// Old versions have no verbs to show: they can be named, and clients that look for what there is pass them by.
fn verbs(kind: &Kind) -> Vec<&'static str> {
    match kind.verbs {
        _ if kind.old.is_some() => Vec::new(),
        Verbs::CreateOnly => vec!["create"],
        Verbs::ReadOnly => VERBS_READ.to_vec(),
        // Namespaces are deleted one by one.
        Verbs::All => {
            VERBS_ALL.iter().copied().filter(|v| kind.storage != "namespaces" || *v != "deletecollection").collect()
        }
    }
}

/// The group, version and kind a subresource speaks, and its verbs.
fn subresource(kind: &Kind, one: &Subresource) -> (String, String, String, &'static [&'static str]) {
    const CHANGE: &[&str] = &["get", "patch", "update"];
    const CREATE: &[&str] = &["create"];
    const CONNECT: &[&str] = &["create", "get"];
    const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];
    let of = |group: &str, version: &str, name: &str, verbs| (group.into(), version.into(), name.into(), verbs);
    let own = |verbs| of(kind.group, kind.version, kind.kind, verbs);
    match one {
        Subresource::Status => own(CHANGE),
        Subresource::Scale { .. } => of("autoscaling", "v1", "Scale", CHANGE),
        Subresource::Named(name) => match *name {
            "log" => own(&["get"]),
            "exec" => of("", "v1", "PodExecOptions", CONNECT),
            "attach" => of("", "v1", "PodAttachOptions", CONNECT),
            "portforward" => of("", "v1", "PodPortForwardOptions", CONNECT),
            "proxy" => of("", "v1", &format!("{}ProxyOptions", kind.kind), PROXY),
            "binding" => of("", "v1", "Binding", CREATE),
            "eviction" => of("policy", "v1", "Eviction", CREATE),
            "token" => of("authentication.k8s.io", "v1", "TokenRequest", CREATE),
            "finalize" => own(&["update"]),
            _ => own(CHANGE),
        },
    }
}

/// Tells clients that two resources are stored as the same kind, and when that changes: the first bytes of a hash of its name.
fn storage_version_hash(stored: &Kind) -> String {
    const BYTES: usize = 8;
    let name = format!("{}/{}/{}", stored.group, stored.version, stored.kind);
    let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
    BASE64.encode(&digest.as_ref()[..BYTES])
}

fn resources(registry: &Registry, group: &str, version: &str) -> Result<Reply, Status> {
    let mut list = Vec::new();
    for kind in kinds(registry, group, version) {
        let mut one = json!({"name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
            "kind": kind.kind, "verbs": verbs(kind)});
        if kind.verbs == Verbs::All
            && let Some(stored) = registry.stored(kind.storage)
        {
            one["storageVersionHash"] = json!(storage_version_hash(stored));
        }
        if !kind.short.is_empty() {
            one["shortNames"] = json!(kind.short);
        }
        if !kind.categories.is_empty() {
            one["categories"] = json!(kind.categories);
        }
        list.push(one);
        for sub in kind.subresources {
            let (its_group, its_version, its_kind, verbs) = subresource(kind, sub);
            let mut one = json!({"name": format!("{}/{}", kind.plural, sub.name()), "singularName": "",
                "namespaced": kind.namespaced, "kind": its_kind, "verbs": verbs});
            if (its_group.as_str(), its_version.as_str()) != (group, version) {
                one["group"] = json!(its_group);
                one["version"] = json!(its_version);
            }
            list.push(one);
        }
    }
    if list.is_empty() {
        return Err(Status::no_such_path());
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list});
    Ok(document("application/json", list))
}

fn aggregated_list(registry: &Registry, media: &str, groups: &[String]) -> Value {
    let version = if media == AGGREGATED_V2 { "v2" } else { "v2beta1" };
    let items: Vec<Value> = groups.iter().map(|group| aggregated_group(registry, group)).collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {},
        "items": items})
}

fn aggregated_group(registry: &Registry, group: &str) -> Value {
    let versions: Vec<Value> = versions(registry, group)
        .iter()
        .map(|version| {
            let resources: Vec<Value> = kinds(registry, group, version).map(aggregated_resource).collect();
            json!({"version": version, "resources": resources, "freshness": "Current"})
        })
        .collect();
    json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": versions})
}

fn aggregated_resource(kind: &Kind) -> Value {
    let scope = if kind.namespaced { "Namespaced" } else { "Cluster" };
    let mut one = json!({"resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": scope, "singularResource": kind.singular, "verbs": verbs(kind)});
    if !kind.short.is_empty() {
        one["shortNames"] = json!(kind.short);
    }
    if !kind.categories.is_empty() {
        one["categories"] = json!(kind.categories);
    }
    let subresources: Vec<Value> = kind
        .subresources
        .iter()
        .map(|sub| {
            let (group, version, name, verbs) = subresource(kind, sub);
            json!({"subresource": sub.name(), "verbs": verbs,
                "responseKind": {"group": group, "version": version, "kind": name}})
        })
        .collect();
    if !subresources.is_empty() {
        one["subresources"] = json!(subresources);
    }
    one
}

fn paths(registry: &Registry) -> Vec<String> {
    let mut paths: BTreeMap<String, ()> = BTreeMap::new();
    for path in ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
    {
        paths.insert(path.into(), ());
    }
    for kind in registry.all().filter(|kind| !kind.group.is_empty()) {
        paths.insert(format!("/apis/{}", kind.group), ());
        paths.insert(format!("/apis/{}/{}", kind.group, kind.version), ());
    }
    paths.into_keys().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_has_the_hash_of_what_is_stored() {
        let registry = Registry::with([]);
        let hash = |group: &str, version: &str, plural: &str| {
            let Ok(Reply::Body(body)) = resources(&registry, group, version) else { panic!("a list") };
            let list: Value = serde_json::from_slice(&body.pieces.concat()).expect("JSON");
            let found = list["resources"].as_array().into_iter().flatten().find(|one| one["name"] == plural).cloned();
            found.expect("a resource")["storageVersionHash"].as_str().map(str::to_owned)
        };
        assert_eq!(hash("", "v1", "pods").as_deref(), Some("xPOwRZ+Yhw8="), "as Kubernetes has it");
        assert_eq!(hash("apps", "v1", "deployments").as_deref(), Some("8aSe+NMegvE="));
        assert_eq!(hash("events.k8s.io", "v1", "events"), hash("", "v1", "events"), "one kind is stored");
        assert_eq!(hash("", "v1", "pods/status"), None);
        assert_eq!(hash("authorization.k8s.io", "v1", "subjectaccessreviews"), None, "nothing is stored");
    }

    #[test]
    fn stable_versions_come_first() {
        let mut versions = ["v1alpha1", "v1", "odd", "v2beta1", "v10", "v1beta2"];
        versions.sort_by_key(|one| std::cmp::Reverse(version_rank(one)));
        assert_eq!(versions, ["v10", "v1", "v2beta1", "v1beta2", "v1alpha1", "odd"]);
    }
}
