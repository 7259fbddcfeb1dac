//! The schemas a document refers to, each printed once, with all that they refer to in turn.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use stead_api::schema::{OBJECT_META, definition};
use stead_kinds::{Kind, Registry, SchemaRef};

use super::custom;
use super::descriptions::Descriptions;
use super::dialect::Dialect;

pub(super) const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

pub(super) struct Components<'a> {
    registry: &'a Registry,
    pub dialect: Dialect,
    descriptions: Descriptions,
    done: Map<String, Value>,
    asked: BTreeSet<String>,
    /// Definitions to print yet.
    pending: Vec<String>,
}

impl<'a> Components<'a> {
    pub fn new(registry: &'a Registry, dialect: Dialect) -> Components<'a> {
        let descriptions = Descriptions::unpack();
        Components { registry, dialect, descriptions, done: Map::new(), asked: BTreeSet::new(), pending: Vec::new() }
    }

    /// `{"$ref": …}` to a definition, which is thereby part of the document.
    pub fn reference(&mut self, name: &str) -> Value {
        if self.asked.insert(name.to_owned()) {
            self.pending.push(name.to_owned());
        }
        match self.dialect {
            Dialect::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Dialect::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }

    /// A reference to the object of a kind.
    pub fn object(&mut self, kind: &Kind) -> Value {
        match kind.schema {
            SchemaRef::Definition(name) => self.reference(name),
            SchemaRef::Custom => {
                let name = custom_name(kind, kind.kind);
                let reference = self.reference(&name);
                if !self.done.contains_key(&name) {
                    let schema = self.custom(kind);
                    self.done.insert(name, schema);
                }
                reference
            }
        }
    }

    /// The schema of a custom resource as its definition gives it.
    fn custom(&mut self, kind: &Kind) -> Value {
        let metadata = self.described(OBJECT_META, METADATA);
        let schema = self.registry.custom_schema(kind).map(|schema| &**schema);
        let mut published = custom::publish(schema, self.dialect, &metadata);
        published.insert("x-kubernetes-group-version-kind".into(), json!([group_version_kind(kind, kind.kind)]));
        if !kind.fields.selectable.is_empty() {
            let paths: Vec<Value> = kind.fields.selectable.iter().map(|path| json!({"fieldPath": path})).collect();
            published.insert("x-kubernetes-selectable-fields".into(), paths.into());
        }
        Value::Object(published)
    }

    /// A reference to the list of a kind.
    pub fn list(&mut self, kind: &Kind) -> Value {
        match kind.schema {
            SchemaRef::Definition(name) => {
                let package = name.rsplit_once('.').map_or("", |(package, _)| package);
                self.reference(&format!("{package}.{}", kind.list_kind))
            }
            SchemaRef::Custom => {
                let name = custom_name(kind, kind.list_kind);
                let reference = self.reference(&name);
                if !self.done.contains_key(&name) {
                    let items = self.object(kind);
                    let metadata = self.described(&format!("{META}.ListMeta"), "Standard list metadata.");
                    let mut properties = custom::type_properties();
                    properties.insert("items".into(), json!({"type": "array", "items": items}));
                    properties.insert("metadata".into(), metadata);
                    let schema = json!({"type": "object", "required": ["items"], "properties": properties,
                        "description": format!("{} is a list of {}", kind.list_kind, kind.kind),
                        "x-kubernetes-group-version-kind": [group_version_kind(kind, kind.list_kind)]});
                    self.done.insert(name, schema);
                }
                reference
            }
        }
    }

    /// Prints everything that was referred to.
    pub fn finish(mut self) -> Value {
        while let Some(name) = self.pending.pop() {
            if self.done.contains_key(&name) {
                continue;
            }
            let printed = self.definition(&name);
            self.done.insert(name, printed);
        }
        self.done.sort_keys();
        Value::Object(self.done)
    }

    fn described(&mut self, name: &str, description: &str) -> Value {
        let reference = self.reference(name);
        self.with_siblings(reference, [("description".to_owned(), json!(description))].into_iter().collect())
    }

    /// A reference with further keys: OpenAPI 3.0 ignores what stands beside `$ref`, so it goes into an `allOf`.
    fn with_siblings(&self, reference: Value, mut siblings: Map<String, Value>) -> Value {
        match (self.dialect, siblings.is_empty()) {
            (_, true) => reference,
            (Dialect::V3, false) => {
                siblings.insert("allOf".into(), json!([reference]));
                Value::Object(siblings)
            }
            (Dialect::V2, false) => {
                siblings.extend(reference.as_object().cloned().unwrap_or_default());
                Value::Object(siblings)
            }
        }
    }

    fn definition(&mut self, name: &str) -> Value {
        let Some(found) = definition(name) else { return json!({"type": "object"}) };
        let facts: Value = serde_json::from_str(found.text).unwrap_or_default();
        let mut printed = self.print(&facts);
        let texts = self.descriptions.of(name);
        if let Some(own) = texts.own {
            printed["description"] = own;
        }
        for (property, text) in texts.properties {
            self.describe(&mut printed, &property, text);
        }
        match (found.type_name(), self.dialect) {
            ("IntOrString", Dialect::V3) => {
                printed["oneOf"] = json!([{"type": "integer"}, {"type": "string"}]);
                printed["format"] = json!("int-or-string");
            }
            ("IntOrString", Dialect::V2) => {
                printed["type"] = json!("string");
                printed["format"] = json!("int-or-string");
            }
            ("Quantity", Dialect::V3) => printed["oneOf"] = json!([{"type": "string"}, {"type": "number"}]),
            ("Quantity", Dialect::V2) => printed["type"] = json!("string"),
            _ => {}
        }
        printed
    }

    fn describe(&self, printed: &mut Value, property: &str, text: Value) {
        let Some(member) = printed.get_mut("properties").and_then(|all| all.get_mut(property)) else { return };
        let reference = member.as_object_mut().and_then(|map| map.shift_remove("$ref"));
        match reference {
            Some(reference) => {
                let mut siblings = member.as_object().cloned().unwrap_or_default();
                siblings.insert("description".into(), text);
                *member = self.with_siblings(json!({"$ref": reference}), siblings);
            }
            None => member["description"] = text,
        }
    }

    /// Facts as a schema of this dialect: bare names in `$ref` become pointers.
    fn print(&mut self, facts: &Value) -> Value {
        let Some(facts) = facts.as_object() else { return facts.clone() };
        let mut printed = Map::new();
        let mut reference = None;
        for (key, value) in facts {
            match (key.as_str(), value) {
                ("$ref", Value::String(name)) => reference = Some(self.reference(name)),
                ("items" | "additionalProperties", value) => {
                    printed.insert(key.clone(), self.print(value));
                }
                ("properties", Value::Object(properties)) => {
                    let properties: Map<String, Value> =
                        properties.iter().map(|(name, one)| (name.clone(), self.print(one))).collect();
                    printed.insert(key.clone(), Value::Object(properties));
                }
                _ => {
                    printed.insert(key.clone(), value.clone());
                }
            }
        }
        match reference {
            Some(reference) => self.with_siblings(reference, printed),
            None => Value::Object(printed),
        }
    }
}

pub(super) fn group_version_kind(kind: &Kind, name: &str) -> Value {
    json!({"group": kind.group, "kind": name, "version": kind.version})
}

/// `com.example.stable.v1.CronTab`: the group backwards, as definitions are named.
fn custom_name(kind: &Kind, name: &str) -> String {
    let group: Vec<&str> = kind.group.rsplit('.').collect();
    format!("{}.{}.{name}", group.join("."), kind.version)
}
