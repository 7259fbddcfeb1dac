//! Protobuf bodies as JSON values (`application/vnd.kubernetes.protobuf`).
//!
//! kubectl sends what it creates through typed clients in this form. The envelope names the type; the schema says what each field
//! is and `schema/protobuf.txt` (made by `cargo xtask protobuf`) which number it has. The wire form carries zero values that Go's
//! JSON leaves out, and cannot tell them from pointers to zero: [`POINTERS`] are the fields where a zero is meant.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{Document, ParseError};
use crate::schema::{Definition, Fields, Rest, Schema, Shape, definition, definitions};

/// Field numbers, as lines of `name<TAB>1=metadata 2=spec …`, sorted by name.
static NUMBERS: &str = include_str!("../../../../schema/protobuf.txt");

/// What every body starts with.
const MAGIC: &[u8] = b"k8s\0";
const DEPTH_MAX: usize = 100;

/// Scalar fields that are pointers in Go, so that a zero on the wire was set on purpose.
const POINTERS: &[&str] = &[
    "activeDeadlineSeconds",
    "allocateLoadBalancerNodePorts",
    "allowPrivilegeEscalation",
    "automountServiceAccountToken",
    "backoffLimit",
    "blockOwnerDeletion",
    "completions",
    "controller",
    "deletionGracePeriodSeconds",
    "enableServiceLinks",
    "expirationSeconds",
    "failedJobsHistoryLimit",
    "fsGroup",
    "gracePeriodSeconds",
    "hostUsers",
    "immutable",
    "ingressClassName",
    "leaseDurationSeconds",
    "leaseTransitions",
    "optional",
    "orphanDependents",
    "parallelism",
    "partition",
    "priority",
    "privileged",
    "progressDeadlineSeconds",
    "readOnlyRootFilesystem",
    "replicas",
    "revisionHistoryLimit",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "storageClassName",
    "successfulJobsHistoryLimit",
    "suspend",
    "terminationGracePeriodSeconds",
    "tolerationSeconds",
    "ttlSecondsAfterFinished",
];

/// Decodes a body with its envelope.
pub fn parse_protobuf(body: &[u8]) -> Result<Document, ParseError> {
    let envelope =
        body.strip_prefix(MAGIC).ok_or_else(|| wrong("provided data does not appear to be a protobuf message"))?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Reader(envelope) {
        match field? {
            (1, Wire::Bytes(meta)) => {
                for field in Reader(meta) {
                    match field? {
                        (1, Wire::Bytes(text)) => api_version = utf8(text)?,
                        (2, Wire::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let found = of_kind(&api_version, &kind);
    let found = found.ok_or_else(|| wrong(&format!("no kind {kind:?} is registered for version {api_version:?}")))?;
    let mut object = Map::new();
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    if let Shape::Object(fields) = &found.schema().shape {
        read_message(found.name, found.schema(), fields, raw, &mut object, 0)?;
    }
    Ok(Document { value: Value::Object(object), duplicates: Vec::new() })
}

fn wrong(what: &str) -> ParseError {
    ParseError(what.to_owned())
}

/// The definition of a kind by its group, version and kind.
fn of_kind(api_version: &str, kind: &str) -> Option<&'static Definition> {
    static KINDS: OnceLock<BTreeMap<String, &'static Definition>> = OnceLock::new();
    let kinds = KINDS.get_or_init(|| {
        let mut kinds = BTreeMap::new();
        for one in definitions().iter().filter(|one| one.text.contains("x-kubernetes-group-version-kind")) {
            let facts: Value = serde_json::from_str(one.text).unwrap_or_default();
            for gvk in facts["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
                let text = |key: &str| gvk[key].as_str().unwrap_or_default();
                kinds.insert(format!("{}/{}/{}", text("group"), text("version"), text("kind")), one);
            }
        }
        kinds
    });
    let slash = if api_version.contains('/') { "" } else { "/" };
    kinds.get(&format!("{slash}{api_version}/{kind}")).copied()
}

/// The JSON name of field `number` of the message called `name`; `/` when it is inlined.
fn field_name(name: &str, number: u64) -> Option<&'static str> {
    static INDEX: OnceLock<BTreeMap<&'static str, &'static str>> = OnceLock::new();
    let index = INDEX.get_or_init(|| NUMBERS.lines().filter_map(|line| line.split_once('\t')).collect());
    let pairs = index.get(name)?.split(' ').filter_map(|pair| pair.split_once('='));
    pairs.filter_map(|(n, name)| Some((n.parse::<u64>().ok()?, name))).find(|(n, _)| *n == number).map(|(_, name)| name)
}

enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, one by one.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(count).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = self.varint()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed64(u64::from(u32::from_le_bytes(self.take(4)?.try_into().ok()?))),
            _ => return None,
        };
        Some((tag >> 3, wire))
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<(u64, Wire<'a>), ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or_else(|| wrong("unexpected EOF")))
    }
}

fn utf8(bytes: &[u8]) -> Result<String, ParseError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| wrong("a string is not UTF-8"))
}

/// Reads the fields of a message into `out`. `entry` names its numbers, `fields` what it may hold.
fn read_message(
    entry: &str,
    schema: &Schema,
    fields: &Fields,
    bytes: &[u8],
    out: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), ParseError> {
    if depth > DEPTH_MAX {
        return Err(wrong("the message is nested too deeply"));
    }
    for field in Reader(bytes) {
        let (number, wire) = field?;
        match (field_name(entry, number), &wire) {
            (Some("/"), Wire::Bytes(inner)) => {
                read_message(&format!("{entry}/{number}"), schema, fields, inner, out, depth + 1)?;
            }
            (Some(name), _) => {
                if let Some(member) = fields.get(name) {
                    read_member(name, member, wire, out, depth)?;
                    let is_required = schema.required.iter().any(|required| required == name);
                    if !is_required && out.get(name).is_some_and(|value| is_unset(name, member, value)) {
                        out.shift_remove(name);
                    }
                }
            }
            // A field that this version does not know.
            (None, _) => {}
        }
    }
    Ok(())
}

/// Whether Go's JSON would leave the value out.
fn is_unset(name: &str, schema: &Schema, value: &Value) -> bool {
    match (&schema.resolved().shape, value) {
        (_, Value::Null) => true,
        (Shape::IntOrString, value) => name == "targetPort" && *value == 0,
        (_, Value::String(text)) => text.is_empty() && !POINTERS.contains(&name),
        (_, Value::Bool(false)) => !POINTERS.contains(&name),
        (_, Value::Number(number)) => number.as_f64() == Some(0.0) && !POINTERS.contains(&name),
        _ => false,
    }
}

/// Reads one occurrence of a member: lists and maps take one element each time.
fn read_member(
    name: &str,
    schema: &Schema,
    wire: Wire,
    out: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), ParseError> {
    match &schema.shape {
        Shape::Array(items) => {
            let Value::Array(list) = out.entry(name).or_insert_with(|| Value::Array(Vec::new())) else { return Ok(()) };
            match (&items.resolved().shape, wire) {
                (Shape::Int32 | Shape::Int64, Wire::Bytes(packed)) => {
                    let mut reader = Reader(packed);
                    while let Some(one) = reader.varint() {
                        list.push((one as i64).into());
                    }
                }
                (_, wire) => list.push(read_value(items, wire, depth)?),
            }
        }
        Shape::Object(Fields { named, rest: Rest::Map(values) }) if named.is_empty() => {
            let Value::Object(map) = out.entry(name).or_insert_with(|| Value::Object(Map::new())) else {
                return Ok(());
            };
            let Wire::Bytes(entry) = wire else { return Err(mismatch(name)) };
            let (mut key, mut value) = (String::new(), None);
            for field in Reader(entry) {
                match field? {
                    (1, Wire::Bytes(text)) => key = utf8(text)?,
                    (2, wire) => value = Some(read_value(values, wire, depth)?),
                    _ => {}
                }
            }
            let value = value.unwrap_or_else(|| Value::String(String::new()));
            map.insert(key, value);
        }
        _ => {
            let value = read_value(schema, wire, depth)?;
            out.insert(name.to_owned(), value);
        }
    }
    Ok(())
}

fn mismatch(name: &str) -> ParseError {
    wrong(&format!("proto: wrong wireType for field {name}"))
}

fn read_value(schema: &Schema, wire: Wire, depth: usize) -> Result<Value, ParseError> {
    let entry = match &schema.shape {
        Shape::Ref(target) => target.name,
        _ => "",
    };
    let resolved = schema.resolved();
    Ok(match (&resolved.shape, wire) {
        (Shape::Boolean, Wire::Varint(number)) => (number != 0).into(),
        (Shape::Int32 | Shape::Int64, Wire::Varint(number)) => (number as i64).into(),
        (Shape::Number, Wire::Fixed64(bits)) => f64::from_bits(bits).into(),
        (Shape::String, Wire::Bytes(text)) => utf8(text)?.into(),
        (Shape::Bytes, Wire::Bytes(bytes)) => STANDARD.encode(bytes).into(),
        (Shape::Time, Wire::Bytes(bytes)) => time(bytes, "%Y-%m-%dT%H:%M:%SZ")?,
        (Shape::MicroTime, Wire::Bytes(bytes)) => time(bytes, "%Y-%m-%dT%H:%M:%S.%6fZ")?,
        (Shape::Quantity, Wire::Bytes(bytes)) => match scalars(bytes)?.text {
            text if text.is_empty() => "0".into(),
            text => text.into(),
        },
        (Shape::IntOrString, Wire::Bytes(bytes)) => {
            let Scalars { first, second, text } = scalars(bytes)?;
            if first == 0 { (second as i64).into() } else { text.into() }
        }
        (Shape::Any, Wire::Bytes(bytes)) => raw_json(bytes, entry, depth)?,
        (Shape::Object(fields), Wire::Bytes(bytes)) => {
            let mut object = Map::new();
            read_message(entry, resolved, fields, bytes, &mut object, depth + 1)?;
            Value::Object(object)
        }
        // A list as a map's value is a message with the items as field 1.
        (Shape::Array(items), Wire::Bytes(bytes)) => {
            let mut list = Vec::new();
            for field in Reader(bytes) {
                if let (1, wire) = field? {
                    list.push(read_value(items, wire, depth + 1)?);
                }
            }
            Value::Array(list)
        }
        _ => return Err(mismatch(entry)),
    })
}

/// The small messages behind Time, Quantity and IntOrString: varints 1 and 2, and a text wherever it stands.
#[derive(Default)]
struct Scalars {
    first: u64,
    second: u64,
    text: String,
}

fn scalars(bytes: &[u8]) -> Result<Scalars, ParseError> {
    let mut found = Scalars::default();
    for field in Reader(bytes) {
        match field? {
            (1, Wire::Varint(number)) => found.first = number,
            (2, Wire::Varint(number)) => found.second = number,
            (_, Wire::Bytes(text)) => found.text = utf8(text)?,
            _ => {}
        }
    }
    Ok(found)
}

/// An empty message is the zero time, which JSON leaves out.
fn time(bytes: &[u8], form: &str) -> Result<Value, ParseError> {
    let Scalars { first, second, .. } = scalars(bytes)?;
    if first == 0 && second == 0 {
        return Ok(Value::Null);
    }
    let nanos = i32::try_from(second).map_err(|_| wrong("a time has too many nanoseconds"))?;
    let at = jiff::Timestamp::new(first as i64, nanos).map_err(|error| wrong(&error.to_string()))?;
    Ok(at.strftime(form).to_string().into())
}

/// Messages that hold JSON as bytes, and the three "this or that" of a CRD's schema.
fn raw_json(bytes: &[u8], entry: &str, depth: usize) -> Result<Value, ParseError> {
    let schema = || {
        let props = definition("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps");
        props.map_or(Schema::of(Shape::Any), |props| Schema::of(Shape::Ref(props)))
    };
    let (mut one, mut many, mut allows) = (None, Vec::new(), false);
    let kind = entry.rsplit('.').next().unwrap_or_default();
    for field in Reader(bytes) {
        match (kind, field?) {
            ("JSONSchemaPropsOrBool", (1, Wire::Varint(flag))) => allows = flag != 0,
            ("JSONSchemaPropsOrBool", (2, wire))
            | ("JSONSchemaPropsOrArray" | "JSONSchemaPropsOrStringArray", (1, wire)) => {
                one = Some(read_value(&schema(), wire, depth + 1)?);
            }
            ("JSONSchemaPropsOrArray", (2, wire)) => many.push(read_value(&schema(), wire, depth + 1)?),
            ("JSONSchemaPropsOrStringArray", (2, Wire::Bytes(text))) => many.push(utf8(text)?.into()),
            (_, (1, Wire::Bytes(json))) if !json.is_empty() => {
                one = Some(serde_json::from_slice(json).map_err(|error| wrong(&error.to_string()))?);
            }
            _ => {}
        }
    }
    Ok(match (one, kind) {
        (Some(one), _) => one,
        (None, "JSONSchemaPropsOrBool") => allows.into(),
        (None, "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrStringArray") => Value::Array(many),
        (None, _) => Value::Null,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn varint(mut number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while number >= 0x80 {
            out.push(number as u8 | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
        out
    }

    fn number(field: u64, value: i64) -> Vec<u8> {
        [varint(field << 3), varint(value as u64)].concat()
    }

    fn bytes(field: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
        [varint(field << 3 | 2), varint(value.as_ref().len() as u64), value.as_ref().to_vec()].concat()
    }

    fn body(api_version: &str, kind: &str, message: &[Vec<u8>]) -> Vec<u8> {
        let meta = [bytes(1, api_version), bytes(2, kind)].concat();
        [MAGIC.to_vec(), bytes(1, meta), bytes(2, message.concat()), bytes(3, ""), bytes(4, "")].concat()
    }

    #[test]
    fn a_config_map_as_kubectl_sends_it() {
        let metadata =
            [bytes(1, "c"), bytes(2, ""), bytes(3, "default"), bytes(6, ""), number(7, 0), bytes(8, "")].concat();
        let entry = [bytes(1, "a"), bytes(2, "b")].concat();
        let sent = body(
            "v1",
            "ConfigMap",
            &[bytes(1, metadata), bytes(2, entry), bytes(3, [bytes(1, "k"), bytes(2, [0xff])].concat())],
        );
        let expected = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"},
            "data": {"a": "b"}, "binaryData": {"k": "/w=="}});
        assert_eq!(parse_protobuf(&sent), Ok(Document { value: expected, duplicates: Vec::new() }));
    }

    #[test]
    fn inlined_and_special_messages() {
        let volume = [bytes(1, "v"), bytes(2, bytes(2, ""))].concat();
        let port = [bytes(1, "http"), number(2, 0), number(3, 80), bytes(4, "TCP"), bytes(5, "")].concat();
        let limits = bytes(1, [bytes(1, "cpu"), bytes(2, bytes(1, "500m"))].concat());
        let probe = bytes(
            1,
            bytes(2, [bytes(1, "/"), bytes(2, [number(1, 1), number(2, 0), bytes(3, "http")].concat())].concat()),
        );
        let container = [bytes(1, "a"), bytes(2, "x"), bytes(6, port), bytes(8, limits), bytes(10, probe)].concat();
        let spec = [bytes(1, volume), bytes(2, container), number(4, 0), number(11, 0)].concat();
        let sent = body("v1", "Pod", &[bytes(1, bytes(8, number(1, 1_700_000_000))), bytes(2, spec)]);
        let expected = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"creationTimestamp": "2023-11-14T22:13:20Z"},
            "spec": {"volumes": [{"name": "v", "emptyDir": {}}], "containers": [{"name": "a", "image": "x",
            "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}], "resources": {"limits": {"cpu": "500m"}},
            "livenessProbe": {"httpGet": {"path": "/", "port": "http"}}}], "terminationGracePeriodSeconds": 0}});
        assert_eq!(parse_protobuf(&sent).map(|one| one.value), Ok(expected));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert_eq!(parse_protobuf(b"{}"), Err(wrong("provided data does not appear to be a protobuf message")));
        assert_eq!(
            parse_protobuf(&body("v1", "Nothing", &[])),
            Err(wrong("no kind \"Nothing\" is registered for version \"v1\""))
        );
        assert_eq!(parse_protobuf(&body("v1", "Pod", &[vec![0x0a, 0x7f]])), Err(wrong("unexpected EOF")));
        assert!(parse_protobuf(&body("v1", "Pod", &[number(1, 1)])).is_err());
        let deep = (0..200).fold(Vec::new(), |inner, _| bytes(10, bytes(2, inner)));
        let crd = body(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            &[bytes(2, bytes(7, bytes(4, bytes(1, deep))))],
        );
        let _ = parse_protobuf(&crd);
    }

    #[test]
    fn every_number_leads_to_a_field() {
        for line in NUMBERS.lines() {
            let (name, pairs) = line.split_once('\t').expect("a line");
            let owner = definition(name.split('/').next().unwrap_or_default()).expect(name);
            for (_, field) in pairs.split(' ').filter_map(|pair| pair.split_once('=')) {
                assert!(field == "/" || owner.schema().field(field).is_some(), "{name}: {field}");
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(noise in prop::collection::vec(any::<u8>(), 0..60), kind in prop::sample::select(vec!["Pod", "Secret", "Node"])) {
            let _ = parse_protobuf(&noise);
            let _ = parse_protobuf(&body("v1", kind, &[noise]));
        }
    }
}
