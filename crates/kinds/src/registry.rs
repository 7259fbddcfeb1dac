//! `Registry`: the kinds served at one moment, built-in and custom.
//!
//! Immutable; the apiserver makes a new one when a CustomResourceDefinition changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use stead_api::object::Fields;
use stead_api::schema::{self, KindSchema};
use stead_api::{Errors, KindName, Revision, Schema};

use crate::custom::rules::{self, Rules};
use crate::path::Path;
use crate::{ALL, Kind, SchemaRef, old};

#[derive(Clone, Default)]
pub struct Registry {
    /// By group, version and plural.
    served: BTreeMap<&'static str, BTreeMap<&'static str, BTreeMap<&'static str, Kind>>>,
    /// The stored version, by storage name.
    stored: BTreeMap<KindName, Kind>,
    /// `openAPIV3Schema` of custom kinds, by storage name and version.
    schemas: BTreeMap<KindName, BTreeMap<&'static str, Arc<Value>>>,
    /// The same, compiled.
    structural: BTreeMap<KindName, BTreeMap<&'static str, Compiled>>,
    /// When the schemas of a custom kind last changed: what was stored until then may lack what they default, and have what they prune.
    since: BTreeMap<KindName, Revision>,
}

/// A custom kind's schema and its rules.
#[derive(Clone)]
struct Compiled {
    schema: Arc<Schema>,
    rules: Arc<Rules>,
}

impl Compiled {
    /// A schema with a mistake is refused when the definition is written; nothing is checked by it then.
    fn of(json: &Value) -> Option<Compiled> {
        let schema = Schema::from_crd(json, false).or_else(|_| Schema::from_crd(&Value::Null, true)).ok()?;
        let rules = rules::compile(Path::root(""), json, &schema, &mut Errors::default());
        Some(Compiled { schema: Arc::new(schema), rules: Arc::new(rules) })
    }
}

impl Registry {
    /// The built-in kinds and these custom ones.
    pub fn with(custom: impl IntoIterator<Item = (Kind, Arc<Value>)>) -> Registry {
        Registry::default().renewed(custom)
    }

    /// The built-in kinds and these custom ones; what was compiled already is kept.
    pub fn renewed(&self, custom: impl IntoIterator<Item = (Kind, Arc<Value>)>) -> Registry {
        let mut registry = Registry::default();
        for kind in ALL.iter().chain(old::ALL) {
            registry.add(*kind);
        }
        for (kind, schema) in custom {
            registry.add(kind);
            let known = self.custom_schema(&kind).filter(|known| **known == schema);
            let known = known.and_then(|_| self.structural.get(kind.storage)?.get(kind.version).cloned());
            if let Some(compiled) = known.or_else(|| Compiled::of(&schema)) {
                registry.structural.entry(kind.storage).or_default().insert(kind.version, compiled);
            }
            registry.schemas.entry(kind.storage).or_default().insert(kind.version, schema);
        }
        registry
    }

    /// Notes that the definition of a custom kind was written at a revision; if it says what it said `before`, nothing follows from it.
    pub fn note_definition(&mut self, before: &Registry, name: &str, revision: Revision) {
        let Some((storage, schemas)) = self.schemas.get_key_value(name) else { return };
        let is_same = before.schemas.get(storage) == Some(schemas);
        let since = before.since.get(storage).filter(|_| is_same).copied().unwrap_or(revision);
        self.since.insert(storage, since);
    }

    /// Whether an object of a custom kind was stored before its schemas were what they are.
    pub fn is_older(&self, kind: &Kind, revision: Revision) -> bool {
        kind.schema == SchemaRef::Custom && self.since.get(kind.storage).is_some_and(|since| revision <= *since)
    }

    /// The schema of one version of a custom kind.
    pub fn schema_of_version(&self, kind: &Kind, version: &str) -> Option<&Schema> {
        self.structural.get(kind.storage)?.get(version).map(|compiled| &*compiled.schema)
    }

    fn add(&mut self, kind: Kind) {
        if kind.convert.is_none() || kind.is_stored {
            self.stored.entry(kind.storage).or_insert(kind);
        }
        if kind.served {
            self.served.entry(kind.group).or_default().entry(kind.version).or_default().insert(kind.plural, kind);
        }
    }

    /// The schema of a custom kind.
    pub fn custom_schema(&self, kind: &Kind) -> Option<&Arc<Value>> {
        self.schemas.get(kind.storage)?.get(kind.version)
    }

    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Kind> {
        self.served.get(group)?.get(version)?.get(plural)
    }

    /// By apiVersion and kind, as ownerReferences and manifests name it.
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Kind> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.served.get(group)?.get(version)?.values().find(|k| k.kind == kind)
    }

    /// The stored version of a storage name.
    pub fn stored(&self, name: KindName) -> Option<&Kind> {
        self.stored.get(name)
    }

    /// The schema of a kind, for decoding, patching, applying and OpenAPI.
    pub fn schema(&self, kind: &Kind) -> Option<KindSchema> {
        match kind.schema {
            SchemaRef::Definition(name) => schema::definition(name).map(KindSchema::Builtin),
            SchemaRef::Custom => {
                let compiled = self.structural.get(kind.storage)?.get(kind.version)?;
                Some(KindSchema::Custom(Arc::clone(&compiled.schema)))
            }
        }
    }

    /// The rules of a custom kind's schema.
    pub fn rules(&self, kind: &Kind) -> Option<&Rules> {
        self.structural
            .get(kind.storage)?
            .get(kind.version)
            .map(|compiled| &*compiled.rules)
            .filter(|rules| rules.is_needed())
    }

    /// All served kinds, by group, version and plural.
    pub fn all(&self) -> impl Iterator<Item = &Kind> {
        self.served.values().flat_map(|versions| versions.values().flat_map(|kinds| kinds.values()))
    }

    /// What the store indexes of a kind.
    pub fn fields(&self, name: KindName) -> Fields {
        self.stored.get(name).map(Kind::stored_fields).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_resource_and_by_kind() {
        let registry = Registry::with([]);
        for kind in ALL.iter().chain(old::ALL) {
            assert_eq!(registry.find(kind.group, kind.version, kind.plural).map(|k| k.kind), Some(kind.kind));
            assert_eq!(registry.of_kind(&kind.api_version(), kind.kind).map(|k| k.plural), Some(kind.plural));
            let suffix = if kind.group.is_empty() { String::new() } else { format!(".{}", kind.group) };
            let is_second_view = kind.convert.is_some();
            assert!(registry.schema(kind).is_some(), "{} has no schema", kind.kind);
            assert!(is_second_view || kind.storage == format!("{}{suffix}", kind.plural), "{}", kind.storage);
        }
        assert_eq!(registry.stored("events").map(|k| k.group), Some(""));
        assert_eq!(registry.all().count(), ALL.len() + old::ALL.len());
    }
}
