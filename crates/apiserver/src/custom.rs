//! CustomResourceDefinitions: the kinds they bring (one `Kind` for every served version).
//!
//! Contract: an established definition is served from the write that established it; names are interned and columns kept by
//! their text, so that rewriting a definition does not grow the process.

pub(crate) mod definition;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use stead_api::object::Fields;
use stead_api::{Object, intern};
use stead_kinds::columns::{DEFAULT_COLUMNS, NAME_COLUMN};
use stead_kinds::{Cell, Column, Convert, Kind, Names, Registry, SchemaRef, Subresource};
use stead_store::Snapshot;

use crate::Context;

pub(crate) const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

/// The registry of a snapshot: built-in kinds and those of its CustomResourceDefinitions.
pub fn registry_of(snapshot: &Snapshot) -> Arc<Registry> {
    let definitions: Vec<Value> = snapshot.list(DEFINITIONS, "").map(|object| object.value()).collect();
    let kinds = definitions.iter().filter(|one| is_established(one)).flat_map(kinds_of).collect::<Vec<_>>();
    let hidden: Vec<Kind> = kinds.iter().filter(|one| !one.is_served).map(|one| one.kind).collect();
    let mut registry = Registry::with(kinds.into_iter().map(|one| (one.kind, one.schema)));
    hidden.iter().for_each(|kind| registry.hide(kind));
    Arc::new(registry)
}

/// Serves what a written definition says.
pub(crate) fn after_write(ctx: &mut Context, object: &Object) {
    if object.key.kind == DEFINITIONS {
        *ctx.registry = registry_of(ctx.store.snapshot());
    }
}

/// Whether the definition of a custom kind is going away: nothing is created then.
pub(crate) fn is_ending(snapshot: &Snapshot, kind: &Kind) -> bool {
    kind.schema == SchemaRef::Custom
        && snapshot.find(DEFINITIONS, "", kind.storage).is_some_and(|object| object.meta.is_deleting())
}

fn is_established(definition: &Value) -> bool {
    let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|one| one["type"] == "Established" && one["status"] == "True")
}

struct CustomKind {
    kind: Kind,
    schema: Arc<Value>,
    is_served: bool,
}

/// One kind for every version that is served or stored.
fn kinds_of(definition: &Value) -> Vec<CustomKind> {
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let wanted = versions.into_iter().filter(|one| one["served"] == true || one["storage"] == true);
    wanted.map(|version| kind_of(definition, version)).collect()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn kind_of(definition: &Value, version: &Value) -> CustomKind {
    let spec = &definition["spec"];
    let names = &spec["names"];
    let (group, plural) = (intern(text(spec, "group")), intern(text(names, "plural")));
    let kind_names = Names {
        kind: intern(text(names, "kind")),
        list_kind: intern(text(names, "listKind")),
        plural,
        singular: intern(text(names, "singular")),
    };
    let identity = Convert { from_stored: |_| {}, to_stored: |_| {} };
    let storage = intern(&format!("{plural}.{group}"));
    let kind = Kind {
        namespaced: text(spec, "scope") == "Namespaced",
        short: texts(&names["shortNames"]),
        categories: texts(&names["categories"]),
        subresources: subresources(&version["subresources"]),
        columns: columns(&version["additionalPrinterColumns"]),
        fields: Fields { selectable: selectable(spec), indexed: &[], labels_indexed: false },
        schema: SchemaRef::Custom,
        has_generation: true,
        unconditional_update: false,
        convert: (version["storage"] != true).then_some(identity),
        ..Kind::plain(storage, group, intern(text(version, "name")), kind_names, "")
    };
    let schema = Arc::new(version["schema"]["openAPIV3Schema"].clone());
    CustomKind { kind, schema, is_served: version["served"] == true }
}

/// A list made once for each text that describes it.
fn kept<T: Sync>(
    lists: &Mutex<BTreeMap<String, &'static [T]>>,
    described: &Value,
    make: impl FnOnce() -> Vec<T>,
) -> &'static [T] {
    let mut lists = lists.lock().unwrap_or_else(PoisonError::into_inner);
    let text = described.to_string();
    if let Some(list) = lists.get(&text) {
        return list;
    }
    let list: &'static [T] = Box::leak(make().into_boxed_slice());
    lists.insert(text, list);
    list
}

fn texts(list: &Value) -> &'static [&'static str] {
    static LISTS: Mutex<BTreeMap<String, &'static [&'static str]>> = Mutex::new(BTreeMap::new());
    kept(&LISTS, list, || list.as_array().into_iter().flatten().filter_map(Value::as_str).map(intern).collect())
}

/// A field path as our own code writes them: without the dot in front.
fn path(value: &Value) -> &'static str {
    intern(value.as_str().unwrap_or_default().trim_start_matches('.'))
}

fn subresources(described: &Value) -> &'static [Subresource] {
    static LISTS: Mutex<BTreeMap<String, &'static [Subresource]>> = Mutex::new(BTreeMap::new());
    kept(&LISTS, described, || {
        let mut list = Vec::new();
        if described["status"].is_object() {
            list.push(Subresource::Status);
        }
        let scale = &described["scale"];
        if scale.is_object() {
            list.push(Subresource::Scale {
                spec: path(&scale["specReplicasPath"]),
                status: path(&scale["statusReplicasPath"]),
                selector: path(&scale["labelSelectorPath"]),
            });
        }
        list
    })
}

fn columns(described: &Value) -> &'static [Column] {
    static LISTS: Mutex<BTreeMap<String, &'static [Column]>> = Mutex::new(BTreeMap::new());
    let Some(list) = described.as_array().filter(|list| !list.is_empty()) else { return DEFAULT_COLUMNS };
    kept(&LISTS, described, || {
        let own = list.iter().map(|one| Column {
            name: intern(text(one, "name")),
            r#type: intern(text(one, "type")),
            format: intern(text(one, "format")),
            description: intern(text(one, "description")),
            wide: one["priority"].as_i64().unwrap_or(0) > 0,
            cell: Cell::JsonPath(intern(text(one, "jsonPath"))),
        });
        std::iter::once(NAME_COLUMN).chain(own).collect()
    })
}

/// The fields that selectors may name, of all versions.
fn selectable(spec: &Value) -> &'static [&'static str] {
    let mut paths: Vec<&'static str> = Vec::new();
    for version in spec["versions"].as_array().into_iter().flatten() {
        for field in version["selectableFields"].as_array().into_iter().flatten() {
            paths.push(path(&field["jsonPath"]));
        }
    }
    paths.sort_unstable();
    paths.dedup();
    texts(&json!(paths))
}
