//! What an object of a kind may hold: types, list keys, merge keys, defaults.
//!
//! One [`Schema`] describes one value. Those of the built-in kinds come from [`definition`] (facts in `schema/`, decoded
//! on first use); a CustomResourceDefinition brings its own through [`Schema::from_crd`]. Everything that must
//! know the shape of an object asks here: strict decoding ([`decode`]), defaulting and validation of custom resources,
//! strategic merge patch, server-side apply and OpenAPI.
//! Rule's source: the structural schema rules of CustomResourceDefinitions; row ID-10.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use regex::Regex;
use serde_json::Value;

mod crd;
pub mod decode;
mod defaulting;
pub mod formats;
mod validate;

/// The facts, as `name<TAB>json` lines sorted by name.
static DEFINITIONS: &str = include_str!("../../../schema/definitions.txt");

pub const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// A named schema of the built-in API, decoded when first asked for.
#[derive(Debug)]
pub struct Definition {
    /// `io.k8s.api.apps.v1.StatefulSet`
    pub name: &'static str,
    /// The facts as JSON (`$ref` holds the bare name).
    pub text: &'static str,
    schema: OnceLock<Schema>,
}

impl Definition {
    pub fn schema(&'static self) -> &'static Schema {
        self.schema.get_or_init(|| {
            let json: Value = serde_json::from_str(self.text).unwrap_or_default();
            Schema::from_definition(self.name, &json)
        })
    }

    /// The last part of the name: the Go type and, for a kind, the Kind.
    pub fn type_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }
}

/// The schema of a kind: a built-in definition, or what a CustomResourceDefinition brought.
#[derive(Clone, Debug)]
pub enum KindSchema {
    Builtin(&'static Definition),
    Custom(Arc<Schema>),
}

impl Deref for KindSchema {
    type Target = Schema;

    fn deref(&self) -> &Schema {
        match self {
            KindSchema::Builtin(definition) => definition.schema(),
            KindSchema::Custom(schema) => schema,
        }
    }
}

impl KindSchema {
    /// Strategic merge patch is for built-in kinds alone.
    pub fn is_builtin(&self) -> bool {
        matches!(self, KindSchema::Builtin(_))
    }
}

/// Every definition, sorted by name.
pub fn definitions() -> &'static [Definition] {
    static INDEX: OnceLock<Vec<Definition>> = OnceLock::new();
    INDEX.get_or_init(|| {
        let lines = DEFINITIONS.lines().filter_map(|line| line.split_once('\t'));
        lines.map(|(name, text)| Definition { name, text, schema: OnceLock::new() }).collect()
    })
}

/// The facts as they are kept, for telling whether two programs have the same.
pub fn facts() -> &'static str {
    DEFINITIONS
}

/// The definition of that name, such as `io.k8s.api.apps.v1.StatefulSet`.
pub fn definition(name: &str) -> Option<&'static Definition> {
    let all = definitions();
    all.binary_search_by(|one| one.name.cmp(name)).ok().map(|index| &all[index])
}

/// The schema of that name.
pub fn builtin(name: &str) -> Option<&'static Schema> {
    definition(name).map(Definition::schema)
}

/// What one value may be.
#[derive(Clone, Debug)]
pub struct Schema {
    pub shape: Shape,
    /// How apply merges a list; only arrays have it.
    pub list: List,
    /// True when apply treats an object as one value.
    pub atomic: bool,
    pub patch: PatchStrategy,
    pub default: Option<Value>,
    pub required: Vec<String>,
    pub nullable: bool,
    /// A whole object with apiVersion, kind and metadata of its own.
    pub embedded: bool,
    /// What a custom resource's schema says of a field whose type is given: apiVersion, kind and metadata.
    pub declared: Option<Box<Schema>>,
    /// What a custom resource's values must satisfy besides the shape.
    pub rules: Option<Box<Rules>>,
}

/// Value rules of one node of a custom resource's schema.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The declared type, for messages; empty when none is declared.
    pub type_name: String,
    pub format: String,
    pub options: Vec<Value>,
    pub minimum: Option<f64>,
    pub maximum: Option<f64>,
    pub exclusive_minimum: bool,
    pub exclusive_maximum: bool,
    pub multiple_of: Option<f64>,
    pub min_length: Option<u64>,
    pub max_length: Option<u64>,
    pub pattern: Option<(String, Regex)>,
    pub min_items: Option<u64>,
    pub max_items: Option<u64>,
    pub min_properties: Option<u64>,
    pub max_properties: Option<u64>,
    pub all_of: Vec<Schema>,
    pub any_of: Vec<Schema>,
    pub one_of: Vec<Schema>,
    pub not: Option<Schema>,
}

#[derive(Clone, Debug)]
pub enum Shape {
    /// Anything at all, kept as it is.
    Any,
    String,
    /// Base64 text.
    Bytes,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    Int32,
    Int64,
    Number,
    Boolean,
    Object(Fields),
    Array(Box<Schema>),
    Ref(&'static Definition),
}

/// The members of an object: named fields, sorted, and what other names may hold.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    pub named: Vec<(String, Schema)>,
    pub rest: Rest,
}

#[derive(Clone, Debug, Default)]
pub enum Rest {
    /// No other names: they are pruned.
    #[default]
    Closed,
    /// A map: every other name holds this.
    Map(Box<Schema>),
    /// Other names are kept, whatever they hold.
    Keep,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum List {
    #[default]
    Atomic,
    Set,
    /// Elements are told apart by these keys.
    Map(Vec<String>),
}

/// `x-kubernetes-patch-strategy` and `-merge-key`, for strategic merge patch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    pub merge: bool,
    pub retain_keys: bool,
    pub merge_key: Option<String>,
}

impl Fields {
    /// The schema of a member, if the object may have it.
    pub fn get(&self, name: &str) -> Option<&Schema> {
        match self.named.binary_search_by(|(field, _)| field.as_str().cmp(name)) {
            Ok(index) => Some(&self.named[index].1),
            Err(_) => match &self.rest {
                Rest::Map(values) => Some(values),
                Rest::Closed | Rest::Keep => None,
            },
        }
    }
}

/// What a value of unknown shape is.
pub static ANY: Schema = Schema::of(Shape::Any);

impl Schema {
    pub const fn of(shape: Shape) -> Schema {
        Schema {
            shape,
            list: List::Atomic,
            atomic: false,
            patch: PatchStrategy { merge: false, retain_keys: false, merge_key: None },
            default: None,
            required: Vec::new(),
            nullable: false,
            embedded: false,
            declared: None,
            rules: None,
        }
    }

    /// Follows a reference.
    pub fn resolved(&self) -> &Schema {
        match &self.shape {
            Shape::Ref(definition) => definition.schema(),
            _ => self,
        }
    }

    /// The members, when this is an object (or a reference to one).
    pub fn fields(&self) -> Option<&Fields> {
        match &self.resolved().shape {
            Shape::Object(fields) => Some(fields),
            _ => None,
        }
    }

    /// The schema of the member `name`.
    pub fn field(&self, name: &str) -> Option<&Schema> {
        self.fields()?.get(name)
    }

    /// The schema of the elements, when this is an array.
    pub fn items(&self) -> Option<&Schema> {
        match &self.resolved().shape {
            Shape::Array(items) => Some(items),
            _ => None,
        }
    }

    /// True when server-side apply owns the object as a whole; a reference inherits its target's mark.
    pub fn is_atomic_map(&self) -> bool {
        self.atomic || self.resolved().atomic
    }

    fn from_definition(name: &str, json: &Value) -> Schema {
        let known = match name.rsplit('.').next() {
            Some("Quantity") => Shape::Quantity,
            Some("IntOrString") => Shape::IntOrString,
            Some("Time") => Shape::Time,
            Some("MicroTime") => Shape::MicroTime,
            Some("RawExtension" | "FieldsV1" | "JSON" | "Patch") => Shape::Any,
            Some("JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray") => Shape::Any,
            _ => return Schema::from_json(json),
        };
        Schema { atomic: true, ..Schema::of(known) }
    }

    fn from_json(json: &Value) -> Schema {
        let text = |key: &str| json.get(key).and_then(Value::as_str);
        let shape = match (text("$ref"), text("type"), text("format")) {
            (Some(name), _, _) => definition(name).map_or(Shape::Any, Shape::Ref),
            (_, Some("string"), Some("byte")) => Shape::Bytes,
            (_, Some("string"), Some("date-time")) => Shape::Time,
            (_, Some("string"), _) => Shape::String,
            (_, Some("integer"), Some("int32")) => Shape::Int32,
            (_, Some("integer"), _) => Shape::Int64,
            (_, Some("number"), _) => Shape::Number,
            (_, Some("boolean"), _) => Shape::Boolean,
            (_, Some("array"), _) => {
                Shape::Array(Box::new(json.get("items").map_or(Schema::of(Shape::Any), Schema::from_json)))
            }
            (_, Some("object"), _) => Shape::Object(fields_from_json(json)),
            _ => Shape::Any,
        };
        let strategy = text("x-kubernetes-patch-strategy").unwrap_or_default();
        Schema {
            list: list_from_json(json),
            atomic: text("x-kubernetes-map-type") == Some("atomic"),
            patch: PatchStrategy {
                merge: strategy.split(',').any(|one| one == "merge"),
                retain_keys: strategy.split(',').any(|one| one == "retainKeys"),
                merge_key: text("x-kubernetes-patch-merge-key").map(str::to_owned),
            },
            default: json.get("default").cloned(),
            required: strings(json.get("required")),
            ..Schema::of(shape)
        }
    }
}

fn fields_from_json(json: &Value) -> Fields {
    let properties = json.get("properties").and_then(Value::as_object);
    let mut named: Vec<(String, Schema)> = properties
        .map(|properties| properties.iter().map(|(name, one)| (name.clone(), Schema::from_json(one))).collect())
        .unwrap_or_default();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    let rest = match json.get("additionalProperties") {
        Some(values @ Value::Object(_)) => Rest::Map(Box::new(Schema::from_json(values))),
        _ => Rest::Closed,
    };
    Fields { named, rest }
}

fn list_from_json(json: &Value) -> List {
    match json.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => List::Set,
        Some("map") => List::Map(strings(json.get("x-kubernetes-list-map-keys"))),
        _ => List::Atomic,
    }
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

/// The JSON type of a value, as validation names it.
pub(crate) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_decodes_and_every_reference_has_a_target() {
        assert!(definitions().windows(2).all(|pair| pair[0].name < pair[1].name));
        for one in definitions() {
            let json: Value = serde_json::from_str(one.text).expect(one.name);
            let mut pending = vec![&json];
            while let Some(value) = pending.pop() {
                if let Some(name) = value.get("$ref").and_then(Value::as_str) {
                    assert!(definition(name).is_some(), "{} refers to {name}", one.name);
                }
                match value {
                    Value::Object(map) => pending.extend(map.values()),
                    Value::Array(list) => pending.extend(list),
                    _ => {}
                }
            }
            one.schema();
        }
    }

    #[test]
    fn keys_and_strategies_are_found() {
        let pod = builtin("io.k8s.api.core.v1.PodSpec").expect("a definition");
        let containers = pod.field("containers").expect("containers");
        assert_eq!(containers.list, List::Map(vec!["name".into()]));
        assert_eq!(containers.patch.merge_key.as_deref(), Some("name"));
        let ports = containers.items().and_then(|one| one.field("ports")).expect("ports");
        assert_eq!(ports.list, List::Map(vec!["containerPort".into(), "protocol".into()]));
        assert_eq!(
            ports.items().and_then(|one| one.field("protocol")).and_then(|one| one.default.clone()),
            Some("TCP".into())
        );
        let deployment = builtin("io.k8s.api.apps.v1.DeploymentSpec").expect("a definition");
        assert!(deployment.field("strategy").expect("strategy").patch.retain_keys);
        assert!(deployment.field("selector").expect("selector").is_atomic_map());
    }
}
