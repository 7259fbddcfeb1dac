//! The table of facts: the fields of every message, by number.
//!
//! `schema/protobuf.txt` is made by `cargo xtask protobuf`, whose documentation tells the notation. A message's line
//! is read when the message is first used.

use std::sync::OnceLock;

/// The facts, as lines sorted by name.
static TABLE: &str = include_str!("../../../../schema/protobuf.txt");

/// A message, such as `io.k8s.api.core.v1.Pod`; read when first used.
#[derive(Debug)]
pub struct Message {
    pub name: &'static str,
    text: &'static str,
    layout: OnceLock<Layout>,
}

#[derive(Debug)]
pub(super) struct Layout {
    /// By number.
    pub fields: Vec<Field>,
    /// The JSON is the value of the only field.
    pub is_list: bool,
    /// Every JSON name with its place, sorted.
    names: Vec<Place>,
}

/// Where a JSON member stands.
#[derive(Debug)]
pub(super) struct Place {
    name: &'static str,
    /// The numbers of the messages within messages whose fields stand among those of the outermost.
    pub way: Vec<u32>,
    of: &'static Message,
    index: usize,
}

impl Place {
    pub fn field(&self) -> &'static Field {
        &self.of.layout().fields[self.index]
    }
}

#[derive(Debug)]
pub(super) struct Field {
    pub number: u32,
    /// Empty for a message whose fields stand among those of the message that holds it.
    pub name: &'static str,
    /// Present or not, whatever the value.
    pub is_pointer: bool,
    /// A zero is written in JSON too.
    pub keeps_zero: bool,
    pub many: Many,
    pub of: Type,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Many {
    One,
    List,
    /// From strings.
    Map,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Type {
    String,
    Bytes,
    Bool,
    Int32,
    Int64,
    Double,
    Message(&'static Message),
    // Messages with a JSON form of their own.
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    /// JSON as bytes.
    Json,
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrStrings,
}

/// The message of that name; a kind's message has the name of its definition.
pub fn message(name: &str) -> Option<&'static Message> {
    let all = messages();
    all.binary_search_by(|one| one.name.cmp(name)).ok().map(|index| &all[index])
}

/// The message of a built-in type by what objects say of themselves: `apps/v1` and `StatefulSet`.
pub fn message_of(api_version: &str, kind: &str) -> Option<&'static Message> {
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta";
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let package = match group {
        "" => {
            let common = || message(&format!("{META}.{version}.{kind}"));
            return message(&format!("io.k8s.api.core.{version}.{kind}")).or_else(common);
        }
        "meta.k8s.io" => {
            // The beta has a list of its own, whose items are those of v1.
            return message(&format!("{META}.{version}.{kind}")).or_else(|| message(&format!("{META}.v1.{kind}")));
        }
        "apiextensions.k8s.io" => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions".to_owned(),
        "apiregistration.k8s.io" => "io.k8s.kube-aggregator.pkg.apis.apiregistration".to_owned(),
        "internal.apiserver.k8s.io" => "io.k8s.api.apiserverinternal".to_owned(),
        "apps" | "autoscaling" | "batch" | "policy" | "extensions" => format!("io.k8s.api.{group}"),
        other => format!("io.k8s.api.{}", other.strip_suffix(".k8s.io")?.split('.').next()?),
    };
    message(&format!("{package}.{version}.{kind}"))
}

/// Every message, sorted by name.
pub(super) fn messages() -> &'static [Message] {
    static INDEX: OnceLock<Vec<Message>> = OnceLock::new();
    INDEX.get_or_init(|| {
        let lines = TABLE.lines().filter_map(|line| line.split_once('\t'));
        lines.map(|(name, text)| Message { name, text, layout: OnceLock::new() }).collect()
    })
}

impl Message {
    pub(super) fn layout(&'static self) -> &'static Layout {
        self.layout.get_or_init(|| {
            let package = self.name.rfind('.').map_or("", |end| &self.name[..=end]);
            let (is_list, text) = match self.text.strip_prefix('=') {
                Some(text) => (true, text),
                None => (false, self.text),
            };
            let fields: Vec<Field> = text.split(' ').filter_map(|field| Field::read(field, package)).collect();
            let mut names = Vec::with_capacity(fields.len());
            for (index, field) in fields.iter().enumerate() {
                match field.of {
                    Type::Message(inner) if field.name.is_empty() && !is_list => {
                        names.extend(
                            inner
                                .layout()
                                .names
                                .iter()
                                .map(|place| Place { way: [&[field.number], &place.way[..]].concat(), ..*place }),
                        );
                    }
                    _ => names.push(Place { name: field.name, way: Vec::new(), of: self, index }),
                }
            }
            names.sort_by_key(|place| place.name);
            Layout { fields, is_list, names }
        })
    }

    /// The number of the field that a JSON member fills.
    pub fn number(&'static self, name: &str) -> Option<u32> {
        self.layout().place(name).filter(|place| place.way.is_empty()).map(|place| place.field().number)
    }
}

impl Layout {
    pub fn field(&self, number: u32) -> Option<&Field> {
        let fields = &self.fields;
        fields.binary_search_by_key(&number, |field| field.number).ok().map(|index| &fields[index])
    }

    pub fn place(&self, name: &str) -> Option<&Place> {
        self.names.binary_search_by(|place| place.name.cmp(name)).ok().map(|index| &self.names[index])
    }
}

impl Field {
    /// `2:command:*s`
    fn read(text: &'static str, package: &str) -> Option<Field> {
        let (number, rest) = text.split_once(':')?;
        let (name, mut of) = rest.split_once(':')?;
        let mut field = Field {
            number: number.parse().ok()?,
            name,
            is_pointer: false,
            keeps_zero: false,
            many: Many::One,
            of: Type::String,
        };
        loop {
            match of.as_bytes().first()? {
                b'?' => field.is_pointer = true,
                b'!' => field.keeps_zero = true,
                b'*' => field.many = Many::List,
                b'%' => field.many = Many::Map,
                _ => break,
            }
            of = &of[1..];
        }
        field.of = Type::read(of, package)?;
        Some(field)
    }
}

impl Type {
    fn read(text: &str, package: &str) -> Option<Type> {
        let full = match text {
            "s" => return Some(Type::String),
            "y" => return Some(Type::Bytes),
            "b" => return Some(Type::Bool),
            "i" => return Some(Type::Int32),
            "l" => return Some(Type::Int64),
            "d" => return Some(Type::Double),
            _ => match text.strip_prefix('.') {
                Some(short) => format!("{package}{short}"),
                None => text.to_owned(),
            },
        };
        if let Some(found) = message(&full) {
            return Some(Type::Message(found));
        }
        match full.rsplit('.').next()? {
            "Quantity" => Some(Type::Quantity),
            "IntOrString" => Some(Type::IntOrString),
            "Time" => Some(Type::Time),
            "MicroTime" => Some(Type::MicroTime),
            "FieldsV1" | "RawExtension" | "JSON" => Some(Type::Json),
            "JSONSchemaPropsOrArray" => Some(Type::SchemaOrArray),
            "JSONSchemaPropsOrBool" => Some(Type::SchemaOrBool),
            "JSONSchemaPropsOrStringArray" => Some(Type::SchemaOrStrings),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_reads_whole() {
        assert!(messages().windows(2).all(|pair| pair[0].name < pair[1].name));
        for one in messages() {
            let layout = one.layout();
            let written = if one.text.is_empty() { 0 } else { one.text.split(' ').count() };
            assert_eq!(layout.fields.len(), written, "{}", one.name);
            assert!(layout.fields.windows(2).all(|pair| pair[0].number < pair[1].number), "{}", one.name);
        }
    }

    #[test]
    fn every_kind_of_the_schema_has_a_message() {
        for one in crate::schema::definitions() {
            let is_kind = one.text.contains("x-kubernetes-group-version-kind");
            assert!(!is_kind || message(one.name).is_some(), "{}", one.name);
        }
    }

    #[test]
    fn objects_name_their_messages() {
        for (api_version, kind, expected) in [
            ("v1", "Pod", "io.k8s.api.core.v1.Pod"),
            ("v1", "Status", "io.k8s.apimachinery.pkg.apis.meta.v1.Status"),
            ("rbac.authorization.k8s.io/v1", "RoleList", "io.k8s.api.rbac.v1.RoleList"),
            ("events.k8s.io/v1", "Event", "io.k8s.api.events.v1.Event"),
            (
                "apiextensions.k8s.io/v1",
                "CustomResourceDefinition",
                "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
            ),
            (
                "meta.k8s.io/v1beta1",
                "PartialObjectMetadataList",
                "io.k8s.apimachinery.pkg.apis.meta.v1beta1.PartialObjectMetadataList",
            ),
            (
                "meta.k8s.io/v1beta1",
                "PartialObjectMetadata",
                "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata",
            ),
        ] {
            assert_eq!(message_of(api_version, kind).map(|one| one.name), Some(expected));
        }
        for (api_version, kind) in [("meta.k8s.io/v1", "Table"), ("apps.example.com/v1", "Deployment"), ("v2", "Pod")] {
            assert!(message_of(api_version, kind).is_none(), "{api_version} {kind}");
        }
    }
}
