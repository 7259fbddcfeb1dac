//! OpenAPI: `/openapi/v3`, one document per group version, and `/openapi/v2` (ID-10, K-22).
//!
//! Printed from the registry and the schema when asked for and not kept: clients cache a document by the hash in its URL, which is
//! made of what is declared and so is known without printing. They come in protobuf too (`gnostic.rs`, `gnostic_v3.rs`); kubectl asks for v2 so.

mod custom;
mod descriptions;
mod dialect;
mod gnostic;
mod gnostic_v3;
mod message;
mod paths;
mod schemas;

use std::sync::OnceLock;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use stead_api::{Request, Status};
use stead_kinds::{Kind, Registry, SchemaRef};

use crate::accept::best;
use crate::reply::Body;
use crate::version::{fnv64, version};
use crate::{Head, Reply};
use dialect::Dialect;
use paths::base_path;
use schemas::Components;

const JSON: &str = "application/json";
/// The second is the old name of the third, by which kubectl asks.
const V2_TYPES: &[&str] = &[
    JSON,
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
];
const V3_TYPES: &[&str] = &[
    JSON,
    "application/com.github.proto-openapi.spec.v3@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
];

/// Serves a path below `/openapi`, given without it: `v3`, `v3/apis/apps/v1`, `v2`.
pub(crate) fn serve(head: &Head, request: &Request, path: &[&str]) -> Result<Reply, Status> {
    let registry = &head.registry;
    match path {
        ["v3"] if best(&request.accept, &[JSON]).is_none() => Err(Status::unknown_form(&[JSON])),
        ["v3"] => Ok(document(index(registry), hash_of_all(registry))),
        ["v3", "api", version] => group_version(registry, request, "", version),
        ["v3", "apis", group, version] => group_version(registry, request, group, version),
        ["v2"] => in_form(request, (V2_TYPES, gnostic::encode), v2(registry), hash_of_all(registry)),
        _ => Err(Status::no_such_path()),
    }
}

/// `/openapi/v2` with the documents of other servers, of which only their own paths are taken.
pub(crate) fn v2_with(head: &Head, request: &Request, others: &[(String, &Value)]) -> Result<Reply, Status> {
    let mut all = v2(&head.registry);
    let mut hash = hash_of_all(&head.registry);
    for (path, other) in others {
        for (field, is_ours) in [("paths", Some(path)), ("definitions", None)] {
            let (Some(into), Some(from)) = (all[field].as_object_mut(), other[field].as_object()) else { continue };
            for (name, value) in
                from.iter().filter(|(name, _)| is_ours.is_none_or(|own| name.starts_with(own.as_str())))
            {
                into.entry(name).or_insert_with(|| value.clone());
            }
        }
        hash = format!("{:016X}", fnv64(format!("{hash}{other}").as_bytes()));
    }
    in_form(request, (V2_TYPES, gnostic::encode), all, hash)
}

/// The types that a document comes in, and what makes protobuf of it.
type Forms = (&'static [&'static str], fn(&Value) -> Vec<u8>);

/// A document in the form that is asked for: JSON, or protobuf, whose name is the last of the types.
fn in_form(request: &Request, (types, encode): Forms, value: Value, hash: String) -> Result<Reply, Status> {
    match (best(&request.accept, types).ok_or_else(|| Status::unknown_form(types))?, types.last()) {
        (JSON, _) | (_, None) => Ok(document(value, hash)),
        (_, Some(protobuf)) => Ok(Reply::Body(Body {
            content_type: (*protobuf).into(),
            etag: Some(format!("\"{hash}\"")),
            ..Body::json(200, encode(&value))
        })),
    }
}

fn document(value: Value, hash: String) -> Reply {
    let bytes: Bytes = value.to_string().into();
    let etag = Some(format!("\"{hash}\""));
    Reply::Body(Body { etag, ..Body::json(200, bytes) })
}

fn group_version(registry: &Registry, request: &Request, group: &str, version: &str) -> Result<Reply, Status> {
    let kinds = kinds_of(registry, group, version);
    if kinds.is_empty() {
        return Err(Status::no_such_path());
    }
    in_form(request, (V3_TYPES, gnostic_v3::encode), v3(registry, &kinds), hash(registry, &kinds))
}

fn kinds_of<'a>(registry: &'a Registry, group: &str, version: &str) -> Vec<&'a Kind> {
    registry.all().filter(|kind| kind.group == group && kind.version == version).collect()
}

/// The group versions with their kinds, in order.
fn group_versions(registry: &Registry) -> Vec<(String, Vec<&Kind>)> {
    let mut names: Vec<(&str, &str)> = registry.all().map(|kind| (kind.group, kind.version)).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|(group, version)| (base_path(group, version), kinds_of(registry, group, version))).collect()
}

/// What prints the documents: its own text, so that a client's cache does not outlive a change to it.
static PRINTER: &[&str] = &[
    env!("CARGO_PKG_VERSION"),
    include_str!("openapi.rs"),
    include_str!("openapi/dialect.rs"),
    include_str!("openapi/gnostic.rs"),
    include_str!("openapi/gnostic_v3.rs"),
    include_str!("openapi/message.rs"),
    include_str!("openapi/paths.rs"),
    include_str!("openapi/schemas.rs"),
];

/// Changes with all that goes into every document: the printer, the facts and the descriptions.
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        let parts = PRINTER.iter().map(|text| fnv64(text.as_bytes()));
        let facts = [fnv64(stead_api::schema::facts().as_bytes()), fnv64(descriptions::PACKED)];
        let all: Vec<u8> = parts.chain(facts).flat_map(u64::to_be_bytes).collect();
        fnv64(&all)
    })
}

/// Changes whenever the document would: with the program, the kinds or a custom schema.
fn hash(registry: &Registry, kinds: &[&Kind]) -> String {
    let mut text = seed().to_string();
    for kind in kinds {
        text.push_str(&format!("|{}/{}/{}", kind.group, kind.version, kind.kind));
        for subresource in kind.subresources {
            text.push_str(&format!("+{subresource:?}"));
        }
        if kind.schema == SchemaRef::Custom {
            text.extend(registry.custom_schema(kind).map(|schema| schema.to_string()));
        }
    }
    format!("{:016X}", fnv64(text.as_bytes()))
}

fn hash_of_all(registry: &Registry) -> String {
    let all: Vec<&Kind> = registry.all().collect();
    hash(registry, &all)
}

fn index(registry: &Registry) -> Value {
    let entry = |(path, kinds): (String, Vec<&Kind>)| {
        let url = format!("/openapi/v3/{path}?hash={}", hash(registry, &kinds));
        (path, json!({"serverRelativeURL": url}))
    };
    let paths: Map<String, Value> = group_versions(registry).into_iter().map(entry).collect();
    json!({"paths": paths})
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": version()["gitVersion"]})
}

fn v3(registry: &Registry, kinds: &[&Kind]) -> Value {
    let mut components = Components::new(registry, Dialect::V3);
    let paths = paths::of_kinds(kinds, &mut components);
    let schemas = components.finish();
    let token = json!({"type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication"});
    json!({"openapi": "3.0.0", "info": info(), "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"BearerToken": token}}})
}

fn v2(registry: &Registry) -> Value {
    let mut components = Components::new(registry, Dialect::V2);
    let kinds: Vec<&Kind> = registry.all().filter(|kind| kind.old.is_none()).collect();
    let paths = paths::of_kinds(&kinds, &mut components);
    let token = json!({"type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication"});
    json!({"swagger": "2.0", "info": info(), "paths": paths, "definitions": components.finish(),
        "securityDefinitions": {"BearerToken": token}, "security": [{"BearerToken": []}]})
}

#[cfg(test)]
mod tests;
