//! Strict decoding: what an object holds becomes what its schema allows.
//!
//! One pass over the JSON drops unknown fields (and says which), nulls and empty optional lists and maps, brings
//! quantities and times to their canonical text, and refuses a value of a wrong type in the words of Go's JSON
//! decoder. In a custom resource only `metadata` is typed here; the rest is checked by `validate.rs`.

use serde_json::{Map, Value};

use super::{Definition, Fields, KindSchema, Rest, Schema, Shape};
use crate::quantity;

/// A body that cannot be decoded: the text after `cannot be handled as a StatefulSet: `.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct DecodeError {
    pub text: String,
    /// What Kubernetes says instead of what a strategic patch has made: it decodes that from a map, not from text.
    pub of_map: Option<String>,
}

impl DecodeError {
    fn new(text: impl Into<String>) -> DecodeError {
        DecodeError { text: text.into(), of_map: None }
    }
}

/// Mistakes in one body beyond this many are not told, as Kubernetes does.
const PROBLEMS_MAX: usize = 100;

/// The way to a value, kept on the stack and printed only for a mistake.
struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    /// A key of a map.
    Key(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    const ROOT: Place<'static> = Place { parent: None, step: Step::Root };

    fn then(&'a self, step: Step<'a>) -> Place<'a> {
        Place { parent: Some(self), step }
    }

    /// `spec.containers[0].name`; without indices and map keys for Go's type errors, which have only field names.
    fn print(&self, with_indices: bool) -> String {
        let mut text = self.parent.map(|parent| parent.print(with_indices)).unwrap_or_default();
        match self.step {
            Step::Root => {}
            Step::Key(_) if !with_indices => {}
            Step::Field(name) | Step::Key(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(name);
            }
            Step::Index(index) if with_indices => text.push_str(&format!("[{index}]")),
            Step::Index(_) => {}
        }
        text
    }
}

/// Where in the built-in types the decoder is; `None` inside a custom resource's own part.
type Owner = Option<&'static Definition>;

/// The lifetime is that of the duplicates.
struct Decoder<'d> {
    /// Where keys were given again: told where the schema knows them.
    duplicates: &'d [String],
    problems: Vec<String>,
}

impl Schema {
    /// Decodes in place. Returns one `unknown field "a.b"` text for each field that was dropped for being unknown.
    pub fn decode(&self, value: &mut Value) -> Result<Vec<String>, DecodeError> {
        let mut decoder = Decoder { duplicates: &[], problems: Vec::new() };
        decoder.value(self, value, None, &Place::ROOT)?;
        Ok(decoder.problems)
    }
}

impl KindSchema {
    /// Decodes a whole object in place; see [`Schema::decode`] and [`Definition::decode`].
    pub fn decode(&self, value: &mut Value) -> Result<Vec<String>, DecodeError> {
        match self {
            KindSchema::Builtin(definition) => definition.decode(value),
            KindSchema::Custom(schema) => schema.decode(value),
        }
    }
}

impl Definition {
    /// As [`Schema::decode`], for a built-in kind: every field is typed.
    pub fn decode(&'static self, value: &mut Value) -> Result<Vec<String>, DecodeError> {
        self.decode_with_duplicates(value, &[])
    }

    /// Tells of duplicate keys, too, in the order of the text: but of those that are unknown only that.
    pub fn decode_with_duplicates(
        &'static self,
        value: &mut Value,
        duplicates: &[String],
    ) -> Result<Vec<String>, DecodeError> {
        let mut decoder = Decoder { duplicates, problems: Vec::new() };
        decoder.value(self.schema(), value, Some(self), &Place::ROOT)?;
        Ok(decoder.problems)
    }
}

impl Decoder<'_> {
    fn tell(&mut self, what: &str, place: &Place) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(format!("{what} field {:?}", place.print(true)));
        }
    }

    fn value(&mut self, schema: &Schema, value: &mut Value, owner: Owner, place: &Place) -> Result<(), DecodeError> {
        let fits = match (&schema.shape, &mut *value) {
            (Shape::Any, _) => true,
            (Shape::Ref(definition), value) => return self.reference(definition, value, owner, place),
            (Shape::Object(fields), Value::Object(map)) => return self.object(schema, fields, map, owner, place),
            (Shape::Array(items), Value::Array(list)) => return self.array(items, list, owner, place),
            _ if owner.is_none() => true,
            (Shape::String, Value::String(_)) | (Shape::Boolean, Value::Bool(_)) => true,
            (Shape::Number, Value::Number(_)) => true,
            (Shape::Int32, Value::Number(number)) => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            (Shape::Int64, Value::Number(number)) => number.as_i64().is_some(),
            (Shape::IntOrString, Value::String(_)) => true,
            (Shape::IntOrString, Value::Number(number)) => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            (Shape::Bytes, Value::String(text)) => return check_base64(text),
            (Shape::Time, Value::String(_)) => return canonical_time(value, TimeForm::Seconds),
            (Shape::MicroTime, Value::String(_)) => return canonical_time(value, TimeForm::Micros),
            (Shape::Quantity, Value::String(_) | Value::Number(_)) => return canonical_quantity(value),
            _ => false,
        };
        if fits { Ok(()) } else { Err(wrong_type(schema, value, owner, place)) }
    }

    fn reference(
        &mut self,
        target: &'static Definition,
        value: &mut Value,
        owner: Owner,
        place: &Place,
    ) -> Result<(), DecodeError> {
        match (&target.schema().shape, &*value) {
            (Shape::Object(_), Value::Object(_)) => self.value(target.schema(), value, Some(target), place),
            // Go reports the struct that holds the field, so a mismatch is told with the owner, not the target.
            (Shape::Object(_), _) => Err(wrong_type(&Schema::of(Shape::Ref(target)), value, owner, place)),
            _ => self.value(target.schema(), value, owner.or(Some(target)), place),
        }
    }

    fn object(
        &mut self,
        schema: &Schema,
        fields: &Fields,
        map: &mut Map<String, Value>,
        owner: Owner,
        place: &Place,
    ) -> Result<(), DecodeError> {
        let mut result = Ok(());
        let is_map = fields.named.is_empty() && matches!(fields.rest, Rest::Map(_));
        map.retain(|name, value| {
            if result.is_err() {
                return true;
            }
            let inner = place.then(if is_map { Step::Key(name) } else { Step::Field(name) });
            let Some(field) = fields.get(name) else {
                let keep = matches!(fields.rest, Rest::Keep);
                if !keep {
                    self.tell("unknown", &inner);
                }
                return keep;
            };
            if !self.duplicates.is_empty() && self.duplicates.contains(&inner.print(true)) {
                self.tell("duplicate", &inner);
            }
            let typed = owner.is_some() || matches!(field.shape, Shape::Ref(_));
            if value.is_null() && typed {
                if is_map {
                    *value = zero(field);
                }
                return is_map;
            }
            result = self.value(field, value, owner, &inner);
            if result.is_err() && owner.is_none() && schema.embedded && name == "metadata" && place.parent.is_some() {
                result = embedded_metadata(value, &inner);
            }
            !(typed && is_dropped_when_empty(schema, name, field, value))
        });
        result
    }

    fn array(&mut self, items: &Schema, list: &mut [Value], owner: Owner, place: &Place) -> Result<(), DecodeError> {
        for (index, item) in list.iter_mut().enumerate() {
            if item.is_null() && owner.is_some() {
                *item = zero(items);
            }
            self.value(items, item, owner, &place.then(Step::Index(index)))?;
        }
        Ok(())
    }
}

/// Go leaves out empty lists and maps (`omitempty`), but keeps empty structs such as `emptyDir: {}`.
fn is_dropped_when_empty(object: &Schema, name: &str, field: &Schema, value: &Value) -> bool {
    let is_empty = match (&field.shape, value) {
        (Shape::Array(_), Value::Array(list)) => list.is_empty(),
        (Shape::Object(fields), Value::Object(map)) => map.is_empty() && fields.named.is_empty(),
        _ => false,
    };
    is_empty && !object.required.iter().any(|required| required == name)
}

/// What Go leaves where a list element or a map value is null.
fn zero(schema: &Schema) -> Value {
    match &schema.resolved().shape {
        Shape::String | Shape::Bytes => Value::from(""),
        Shape::Quantity => Value::from("0"),
        Shape::Int32 | Shape::Int64 | Shape::Number | Shape::IntOrString => Value::from(0),
        Shape::Boolean => Value::from(false),
        Shape::Object(_) => Value::Object(Map::new()),
        Shape::Array(_) => Value::Array(Vec::new()),
        Shape::Any | Shape::Time | Shape::MicroTime | Shape::Ref(_) => Value::Null,
    }
}

/// `json: cannot unmarshal string into Go struct field StatefulSetSpec.spec.replicas of type int32`
/// An object inside of a custom resource is told of by its place.
fn embedded_metadata(value: &Value, place: &Place) -> Result<(), DecodeError> {
    let Some(metadata) = super::definition(super::OBJECT_META) else { return Ok(()) };
    let Err(why) = metadata.decode(&mut value.clone()) else { return Ok(()) };
    Err(DecodeError::new(format!("{}: Invalid value: {value}: {why}", place.print(true))))
}

fn wrong_type(schema: &Schema, value: &Value, owner: Owner, place: &Place) -> DecodeError {
    let found = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) if wants_number(schema) => format!("number {number}"),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    };
    let wanted = go_type(schema);
    let path = place.print(false);
    let text = match owner {
        Some(owner) if !path.is_empty() => {
            format!("json: cannot unmarshal {found} into Go struct field {}.{path} of type {wanted}", owner.type_name())
        }
        _ => format!("json: cannot unmarshal {found} into Go value of type {wanted}"),
    };
    DecodeError { text, of_map: wrong_type_of_map(schema, value) }
}

/// `cannot restore slice from string`
fn wrong_type_of_map(schema: &Schema, value: &Value) -> Option<String> {
    let found = match value {
        Value::Null => return None,
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    };
    let resolved = schema.resolved();
    let wanted = go_type(resolved);
    Some(match &resolved.shape {
        Shape::String if found == "int64" => format!("cannot convert {found} to {wanted}"),
        Shape::Int32 | Shape::Int64 if found == "float64" => format!("cannot convert {found} to {wanted}"),
        Shape::Int32 | Shape::Int64 | Shape::Number if found == "int64" => return None,
        Shape::String | Shape::Int32 | Shape::Int64 | Shape::Number | Shape::Boolean => {
            format!("unrecognized type: {wanted}")
        }
        Shape::Bytes | Shape::Array(_) => format!("cannot restore slice from {found}"),
        Shape::Object(fields) if fields.named.is_empty() => format!("cannot restore map from {found}"),
        Shape::Object(_) => format!("cannot restore struct from: {found}"),
        _ => return None,
    })
}

fn wants_number(schema: &Schema) -> bool {
    matches!(schema.resolved().shape, Shape::Int32 | Shape::Int64)
}

fn go_type(schema: &Schema) -> String {
    match &schema.shape {
        Shape::Any => "interface {}".into(),
        Shape::String | Shape::Quantity | Shape::Time | Shape::MicroTime => "string".into(),
        Shape::Bytes => "[]uint8".into(),
        Shape::IntOrString => "intstr.IntOrString".into(),
        Shape::Int32 => "int32".into(),
        Shape::Int64 => "int64".into(),
        Shape::Number => "float64".into(),
        Shape::Boolean => "bool".into(),
        Shape::Array(items) => format!("[]{}", go_type(items)),
        Shape::Object(fields) => match &fields.rest {
            Rest::Map(values) => format!("map[string]{}", go_type(values)),
            Rest::Closed | Rest::Keep => "map[string]interface {}".into(),
        },
        Shape::Ref(definition) => {
            let mut parts = definition.name.rsplit('.');
            let name = parts.next().unwrap_or_default();
            format!("{}.{name}", parts.next().unwrap_or_default())
        }
    }
}

fn canonical_quantity(value: &mut Value) -> Result<(), DecodeError> {
    let text = match &*value {
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    };
    let canonical = quantity::canonical(&text).map_err(|error| DecodeError::new(error.to_string()))?;
    if value.as_str() != Some(&canonical) {
        *value = Value::String(canonical);
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum TimeForm {
    Seconds,
    Micros,
}

/// RFC 3339 in UTC: whole seconds for Time, six digits for MicroTime.
fn canonical_time(value: &mut Value, form: TimeForm) -> Result<(), DecodeError> {
    let Value::String(text) = value else {
        return Ok(());
    };
    let refused = || {
        let (layout, first) = match form {
            TimeForm::Seconds => ("2006-01-02T15:04:05Z07:00", "2006"),
            TimeForm::Micros => ("2006-01-02T15:04:05.000000Z07:00", "2006"),
        };
        DecodeError::new(format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as {first:?}"))
    };
    let is_rfc3339 = text.len() >= 20 && text.as_bytes()[10] == b'T';
    let parsed: jiff::Timestamp = text.parse().ok().filter(|_| is_rfc3339).ok_or_else(refused)?;
    let canonical = match form {
        TimeForm::Seconds => parsed.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        TimeForm::Micros => parsed.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
    };
    if *text != canonical {
        *text = canonical;
    }
    Ok(())
}

/// Standard base64 with padding, as Go's decoder wants it; line breaks are allowed.
fn check_base64(text: &str) -> Result<(), DecodeError> {
    let mut count = 0usize;
    let mut padding = 0usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\r' | b'\n' => continue,
            b'=' => padding += 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => {}
            _ => return Err(DecodeError::new(format!("illegal base64 data at input byte {at}"))),
        }
        count += 1;
    }
    if count.is_multiple_of(4) && padding <= 2 {
        return Ok(());
    }
    Err(DecodeError::new(format!("illegal base64 data at input byte {}", text.len() - text.len() % 4)))
}

#[cfg(test)]
mod tests {
    use super::super::definition;
    use super::*;
    use serde_json::json;

    fn decode(kind: &str, mut value: Value) -> (Value, Result<Vec<String>, String>) {
        let result = definition(kind).expect(kind).decode(&mut value).map_err(|error| error.text);
        (value, result)
    }

    const SET: &str = "io.k8s.api.apps.v1.StatefulSet";
    const POD: &str = "io.k8s.api.core.v1.Pod";

    #[test]
    fn unknown_fields_are_dropped_and_named() {
        let body = json!({"metadata": {"name": "web"}, "spec": {"foo": 1, "template": {"spec": {"containers": [
            {"name": "a", "imagee": "x"}]}}}, "extra": {}});
        let (value, result) = decode(SET, body);
        let unknown = ["spec.foo", "spec.template.spec.containers[0].imagee", "extra"];
        assert_eq!(result, Ok(unknown.map(|path| format!("unknown field {path:?}")).to_vec()));
        assert_eq!(value["spec"], json!({"template": {"spec": {"containers": [{"name": "a"}]}}}));
        let mut body = json!({"spec": {"foo": {"a": 1}, "replicas": 1}, "metadata": {"labels": {"a": "b"}}});
        let twice = ["spec.replicas", "metadata.labels.a", "spec.foo", "spec.foo.a"].map(str::to_owned);
        let told = definition(SET).expect(SET).decode_with_duplicates(&mut body, &twice);
        let order = [
            "unknown field \"spec.foo\"",
            "duplicate field \"spec.replicas\"",
            "duplicate field \"metadata.labels.a\"",
        ];
        assert_eq!(told, Ok(order.map(str::to_owned).to_vec()), "in the text's order, and what is unknown only once");
    }

    #[test]
    fn values_become_canonical_and_nulls_go() {
        let body = json!({"metadata": {"labels": {"a": null}, "annotations": null, "finalizers": [],
            "creationTimestamp": "2024-01-02T03:04:05+01:00"},
            "spec": {"nodeSelector": {}, "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "c", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}]}});
        let (value, result) = decode(POD, body);
        assert_eq!(result, Ok(vec![]));
        let expected = json!({"metadata": {"labels": {"a": ""}, "creationTimestamp": "2024-01-02T02:04:05Z"},
            "spec": {"volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "c", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}]}});
        assert_eq!(value, expected);
    }

    #[test]
    fn wrong_types_are_told_as_go_tells_them() {
        for (kind, body, expected) in [
            (
                SET,
                json!({"spec": {"replicas": "3"}}),
                "json: cannot unmarshal string into Go struct field StatefulSetSpec.spec.replicas of type int32",
            ),
            (
                SET,
                json!({"spec": {"replicas": 3000000000u32}}),
                "json: cannot unmarshal number 3000000000 into Go struct field StatefulSetSpec.spec.replicas of type int32",
            ),
            (
                SET,
                json!({"metadata": {"labels": "x"}}),
                "json: cannot unmarshal string into Go struct field ObjectMeta.metadata.labels of type map[string]string",
            ),
            (
                SET,
                json!({"metadata": {"labels": {"a": 1}}}),
                "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
            ),
            (
                POD,
                json!({"spec": {"containers": [{"env": [{"value": true}]}]}}),
                "json: cannot unmarshal bool into Go struct field EnvVar.spec.containers.env.value of type string",
            ),
            (
                POD,
                json!({"spec": {"containers": {}}}),
                "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
            ),
            (POD, json!({"spec": []}), "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec"),
            (
                POD,
                json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "1x"}}}]}}),
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
            ("io.k8s.api.core.v1.Secret", json!({"data": {"a": "?"}}), "illegal base64 data at input byte 0"),
            (POD, json!(3), "json: cannot unmarshal number into Go value of type map[string]interface {}"),
        ] {
            assert_eq!(decode(kind, body).1, Err(expected.into()));
        }
    }

    #[test]
    fn what_a_strategic_patch_made_is_told_of_in_other_words() {
        for (body, expected) in [
            (json!({"metadata": {"labels": {"a": ["b"]}}}), "unrecognized type: string"),
            (json!({"metadata": {"labels": {"a": 1}}}), "cannot convert int64 to string"),
            (json!({"metadata": {"labels": "x"}}), "cannot restore map from string"),
            (json!({"spec": {"replicas": "3"}}), "unrecognized type: int32"),
            (json!({"spec": {"template": []}}), "cannot restore struct from: slice"),
            (json!({"spec": {"volumeClaimTemplates": {}}}), "cannot restore slice from map"),
        ] {
            let error = definition(SET).expect(SET).decode(&mut body.clone()).expect_err("it decodes");
            assert_eq!(error.of_map.as_deref(), Some(expected), "{body}");
        }
    }

    #[test]
    fn a_custom_resource_keeps_what_its_schema_keeps() {
        let open_api = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "n": {"type": "integer"}, "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "string"}}}}}}}});
        let schema = Schema::from_crd(&open_api, false).expect("a schema");
        let mut value = json!({"apiVersion": "x/v1", "kind": "X", "metadata": {"name": "a", "bad": 1},
            "spec": {"n": "wrong", "gone": 1, "free": {"any": 1}, "map": {"k": {"a": "1", "b": "2"}}}});
        let unknown = schema.decode(&mut value).expect("decodes");
        assert_eq!(
            unknown,
            ["unknown field \"metadata.bad\"", "unknown field \"spec.gone\"", "unknown field \"spec.map.k.b\""]
        );
        assert_eq!(value["spec"], json!({"n": "wrong", "free": {"any": 1}, "map": {"k": {"a": "1"}}}));
        assert!(schema.decode(&mut json!({"metadata": {"labels": 1}})).is_err());
    }
}
