//! The kinds that a CustomResourceDefinition brings: the same value as a built-in kind, with interned names.
//!
//! Guarantees: a definition that passed validation makes one kind for each version that is served or stored; the same
//! definition makes the same kinds again without taking more memory.

pub mod embedded;
pub(crate) mod field_path;
pub(crate) mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use stead_api::intern;
use stead_api::object::Fields;

use crate::columns::{AGE_COLUMN, NAME_COLUMN};
use crate::{Cell, Column, Convert, Kind, METADATA, Names, SchemaRef, Subresource};

impl Kind {
    /// The kinds of a definition, with their schemas; also of versions that are not served.
    pub fn of_crd(definition: &Value) -> Vec<(Kind, Arc<Value>)> {
        let spec = &definition["spec"];
        let versions = spec["versions"].as_array().into_iter().flatten();
        let is_mixed = definition["status"]["storedVersions"].as_array().is_some_and(|stored| stored.len() > 1);
        let is_versioned = versions.clone().count() > 1;
        versions.map(|version| (remembered(spec, version, (is_mixed, is_versioned)), schema(version))).collect()
    }
}

fn schema(version: &Value) -> Arc<Value> {
    match version.get("schema").and_then(|schema| schema.get("openAPIV3Schema")) {
        Some(schema) => Arc::new(schema.clone()),
        None => Arc::new(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})),
    }
}

/// Makes a kind once for each different declaration.
fn remembered(spec: &Value, version: &Value, versions: (bool, bool)) -> Kind {
    static MADE: Mutex<BTreeMap<String, Kind>> = Mutex::new(BTreeMap::new());
    let mut essence = version.clone();
    crate::fill::put(&mut essence, "schema", None);
    let key = json!([
        spec["group"],
        spec["names"],
        spec["scope"],
        essence,
        selectable_paths(spec),
        deprecation(spec, version),
        spec["conversion"]["strategy"],
        versions
    ])
    .to_string();
    let mut made = MADE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *made.entry(key).or_insert_with(|| make(spec, version, versions))
}

fn word(value: &Value, field: &str) -> &'static str {
    intern(value[field].as_str().unwrap_or(""))
}

fn words(value: &Value, field: &str) -> &'static [&'static str] {
    let all = value[field].as_array().into_iter().flatten().filter_map(Value::as_str);
    all.map(intern).collect::<Vec<_>>().leak()
}

fn make(spec: &Value, version: &Value, (is_mixed, is_versioned): (bool, bool)) -> Kind {
    let (group, names) = (word(spec, "group"), &spec["names"]);
    let plural = word(names, "plural");
    let singular = match word(names, "singular") {
        "" => intern(&word(names, "kind").to_lowercase()),
        singular => singular,
    };
    let list_kind = match word(names, "listKind") {
        "" => intern(&format!("{}List", word(names, "kind"))),
        list_kind => list_kind,
    };
    let is_stored = version["storage"] == true;
    Kind {
        short: words(names, "shortNames"),
        categories: words(names, "categories"),
        namespaced: spec["scope"] == "Namespaced",
        subresources: subresources(&version["subresources"]),
        fields: Fields {
            selectable: selectable_paths(spec).into_iter().collect::<Vec<_>>().leak(),
            indexed: &[],
            labels_indexed: false,
            ..Fields::NONE
        },
        columns: columns(version),
        schema: SchemaRef::Custom,
        has_generation: true,
        unconditional_update: false,
        status_keeps: METADATA,
        served: version["served"] == true,
        deprecated: intern(&deprecation(spec, version)),
        // Without a webhook, versions differ in their apiVersion alone, which the caller sets.
        convert: (!is_stored || is_mixed).then_some(Convert { from_stored: |_| {}, to_stored: |_| {} }),
        is_stored,
        by_webhook: spec["conversion"]["strategy"] == "Webhook",
        is_versioned,
        ..Kind::plain(
            intern(&format!("{plural}.{group}")),
            group,
            word(version, "name"),
            Names { kind: word(names, "kind"), list_kind, plural, singular },
            "",
        )
    }
}

/// What is told about a deprecated version: its own words, or which version to use instead.
fn deprecation(spec: &Value, version: &Value) -> String {
    if version["deprecated"] != true {
        return String::new();
    }
    if let Some(own) = version["deprecationWarning"].as_str() {
        return own.to_owned();
    }
    let (group, kind) = (word(spec, "group"), word(&spec["names"], "kind"));
    let age = version_rank(word(version, "name"));
    let versions = spec["versions"].as_array().into_iter().flatten();
    let newer = versions
        .filter(|other| other["served"] == true && other["deprecated"] != true)
        .map(|other| word(other, "name"))
        .filter(|name| version_rank(name) > age)
        .max_by_key(|name| version_rank(name));
    let instead = newer.map(|newer| format!("; use {group}/{newer} {kind}")).unwrap_or_default();
    format!("{group}/{} {kind} is deprecated{instead}", word(version, "name"))
}

/// Orders versions as Kubernetes does: `v2` after `v1` after `v1beta2` after `v1alpha1`, any other name before them.
fn version_rank(name: &str) -> (u8, u64, u64) {
    let parse = || -> Option<(u8, u64, u64)> {
        let rest = name.strip_prefix('v')?;
        for (stage, rank) in [("alpha", 1), ("beta", 2)] {
            if let Some((major, minor)) = rest.split_once(stage) {
                return Some((rank, major.parse().ok()?, minor.parse().ok()?));
            }
        }
        Some((3, rest.parse().ok()?, 0))
    };
    parse().unwrap_or_default()
}

/// `.spec.replicas` as a dotted path.
fn dotted(path: &Value) -> &'static str {
    intern(path.as_str().unwrap_or("").trim_start_matches('.'))
}

/// The fields that selectors may name, of all versions: objects are indexed in the stored one.
fn selectable_paths(spec: &Value) -> BTreeSet<&'static str> {
    let versions = spec["versions"].as_array().into_iter().flatten();
    let fields = versions.flat_map(|version| version["selectableFields"].as_array().into_iter().flatten());
    fields.map(|field| dotted(&field["jsonPath"])).collect()
}

fn subresources(declared: &Value) -> &'static [Subresource] {
    let mut found = Vec::new();
    if declared["status"].is_object() {
        found.push(Subresource::Status);
    }
    let scale = &declared["scale"];
    if scale.is_object() {
        found.push(Subresource::Scale {
            spec: dotted(&scale["specReplicasPath"]),
            status: dotted(&scale["statusReplicasPath"]),
            selector: dotted(&scale["labelSelectorPath"]),
        });
    }
    found.leak()
}

const CREATION_DESCRIPTION: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is \
                                    not guaranteed to be set in happens-before order across separate operations. Clients may not set \
                                    this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. \
                                    Read-only. Null for lists. More info: \
                                    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// The name, then what the definition says; without that, the age.
fn columns(version: &Value) -> &'static [Column] {
    let declared = version["additionalPrinterColumns"].as_array().map_or(&[][..], Vec::as_slice);
    let mut found = vec![NAME_COLUMN];
    for column in declared {
        found.push(Column {
            name: word(column, "name"),
            r#type: word(column, "type"),
            format: word(column, "format"),
            description: match word(column, "description") {
                "" => intern(&format!(
                    "Custom resource definition column (in JSONPath format): {}",
                    word(column, "jsonPath")
                )),
                description => description,
            },
            priority: column["priority"].as_i64().and_then(|priority| i32::try_from(priority).ok()).unwrap_or(0),
            cell: Cell::JsonPath(word(column, "jsonPath")),
        });
    }
    if declared.is_empty() {
        found.push(Column {
            r#type: "date",
            description: CREATION_DESCRIPTION,
            cell: Cell::JsonPath(".metadata.creationTimestamp"),
            ..AGE_COLUMN
        });
    }
    found.leak()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Registry;

    fn definition() -> Value {
        json!({"spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "crons", "singular": "cron", "kind": "Cron", "shortNames": ["cr"], "categories": ["all"]},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}},
                 "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
                 "selectableFields": [{"jsonPath": ".spec.color"}],
                 "additionalPrinterColumns": [{"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec", "priority": 1}]},
                {"name": "v1beta1", "served": true, "storage": false},
                {"name": "v1alpha1", "served": false, "storage": false}]}})
    }

    #[test]
    fn a_definition_is_a_kind_for_each_version() {
        let kinds = Kind::of_crd(&definition());
        assert_eq!(
            kinds.iter().map(|(kind, _)| (kind.version, kind.served)).collect::<Vec<_>>(),
            [("v1", true), ("v1beta1", true), ("v1alpha1", false)]
        );
        let kind = kinds[0].0;
        assert_eq!((kind.storage, kind.list_kind), ("crons.example.com", "CronList"));
        assert_eq!(
            (kind.short, kind.categories, kind.fields.selectable),
            (&["cr"][..], &["all"][..], &["spec.color"][..])
        );
        assert_eq!(kind.subresources.len(), 2);
        assert_eq!(kind.columns.iter().map(|c| (c.name, c.priority)).collect::<Vec<_>>(), [("Name", 0), ("Spec", 1)]);
        assert!(kind.convert.is_none() && kinds[1].0.convert.is_some());
        assert_eq!(kinds[1].0.columns.len(), 2);
    }

    #[test]
    fn the_same_definition_takes_no_more_memory() {
        let (first, second) = (Kind::of_crd(&definition()), Kind::of_crd(&definition()));
        assert!(std::ptr::eq(first[0].0.columns, second[0].0.columns));
    }

    #[test]
    fn a_version_that_is_stored_but_not_served_is_only_stored() {
        let mut definition = definition();
        definition["spec"]["versions"][0]["served"] = false.into();
        let registry = Registry::with(Kind::of_crd(&definition));
        assert!(registry.find("example.com", "v1", "crons").is_none());
        assert_eq!(registry.find("example.com", "v1beta1", "crons").map(|kind| kind.version), Some("v1beta1"));
        assert_eq!(registry.stored("crons.example.com").map(|kind| kind.version), Some("v1"));
        assert_eq!(registry.all().filter(|kind| kind.group == "example.com").count(), 1);
    }
}
