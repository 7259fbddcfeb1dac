//! Values while an expression is evaluated. Objects and lists of the API stay as they are and are looked into on demand.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::rc::Rc;

use jiff::Timestamp;
use serde_json::{Map, Value as Json};
use stead_api::quantity::Quantity;
use stead_api::schema::{List, Schema, Shape};

use crate::address::{Cidr, Url};
use crate::duration::{parse_duration, print_duration};
use crate::error::Error;
use crate::names::unescape;
use crate::version::Version;

/// Text that belongs to an object, or was made.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    Borrowed(&'a str),
    Made(Rc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Made(text) => text,
        }
    }
}

/// What is asked outside of the values: the authorizer, and variables that are made on demand.
pub trait Asked<'a> {
    /// Calls a function of this value; None when it has no such function.
    fn call(&self, _function: &str, _args: &[Value<'a>]) -> Option<Result<Value<'a>, Error>> {
        None
    }

    /// A member that is made when it is asked for; None when there is no such member.
    fn field(&self, _name: &str) -> Option<Result<Value<'a>, Error>> {
        None
    }
}

#[derive(Clone)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Rc<[u8]>),
    /// Nanoseconds.
    Duration(i128),
    Timestamp(Timestamp),
    /// Part of an object, with what is known of its shape.
    Object(&'a Map<String, Json>, Option<&'a Schema>),
    Array(&'a [Json], Option<&'a Schema>),
    List(Rc<Vec<Value<'a>>>),
    Map(Rc<BTreeMap<Key<'a>, Value<'a>>>),
    /// A typed literal: its type's name and the fields that were set.
    Struct(Rc<(String, BTreeMap<String, Value<'a>>)>),
    Optional(Option<Rc<Value<'a>>>),
    Type(Rc<str>),
    Quantity(Quantity),
    Url(Rc<Url>),
    Ip(IpAddr),
    Cidr(Cidr),
    Version(Rc<Version>),
    /// The name of a format that text can be checked against.
    Format(&'static str),
    Asked(Rc<dyn Asked<'a> + 'a>),
}

/// A key of a map.
#[derive(Clone, Debug)]
pub enum Key<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Text<'a>),
}

impl Key<'_> {
    fn rank(&self) -> (u8, i128, &str) {
        match self {
            Key::Bool(value) => (0, i128::from(*value), ""),
            Key::Int(value) => (1, i128::from(*value), ""),
            Key::Uint(value) => (1, i128::from(*value), ""),
            Key::String(text) => (2, 0, text),
        }
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Key<'_> {}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl<'a> Key<'a> {
    pub fn value(&self) -> Value<'a> {
        match self {
            Key::Bool(value) => Value::Bool(*value),
            Key::Int(value) => Value::Int(*value),
            Key::Uint(value) => Value::Uint(*value),
            Key::String(text) => Value::String(text.clone()),
        }
    }

    pub fn of(value: &Value<'a>) -> Result<Key<'a>, Error> {
        match value {
            Value::Bool(value) => Ok(Key::Bool(*value)),
            Value::Int(value) => Ok(Key::Int(*value)),
            Value::Uint(value) => Ok(Key::Uint(*value)),
            Value::Double(value) if value.fract() == 0.0 && value.abs() < 9e15 => Ok(Key::Int(*value as i64)),
            Value::String(text) => Ok(Key::String(text.clone())),
            other => Err(Error::failed(format!("unsupported key type: {}", other.type_name()))),
        }
    }
}

impl<'a> From<String> for Value<'a> {
    fn from(text: String) -> Value<'a> {
        Value::String(Text::Made(text.into()))
    }
}

impl<'a> From<bool> for Value<'a> {
    fn from(value: bool) -> Value<'a> {
        Value::Bool(value)
    }
}

impl<'a> From<i64> for Value<'a> {
    fn from(value: i64) -> Value<'a> {
        Value::Int(value)
    }
}

impl<'a> From<Vec<Value<'a>>> for Value<'a> {
    fn from(list: Vec<Value<'a>>) -> Value<'a> {
        Value::List(Rc::new(list))
    }
}

impl<'a> Value<'a> {
    /// A part of an object, read as its schema says: text of the format `date-time` is a time, and so on.
    pub fn of(json: &'a Json, schema: Option<&'a Schema>) -> Value<'a> {
        let schema = schema.map(Schema::resolved);
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match (number.as_i64(), schema.map(|schema| &schema.shape)) {
                (Some(value), Some(Shape::Number)) => Value::Double(value as f64),
                (Some(value), _) => Value::Int(value),
                (None, Some(Shape::Int32 | Shape::Int64)) => Value::Int(number.as_f64().unwrap_or(0.0) as i64),
                (None, _) => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::of_text(text, schema),
            Json::Array(list) => Value::Array(list, schema),
            Json::Object(map) => Value::Object(map, schema),
        }
    }

    fn of_text(text: &'a str, schema: Option<&Schema>) -> Value<'a> {
        let format = schema.and_then(|schema| schema.rules.as_ref()).map_or("", |rules| rules.format.as_str());
        let special = match format {
            "date-time" => text.parse().ok().map(Value::Timestamp),
            "date" => format!("{text}T00:00:00Z").parse().ok().map(Value::Timestamp),
            "duration" => parse_duration(text).map(Value::Duration),
            "byte" => {
                use base64::Engine;
                let decoded = base64::engine::general_purpose::STANDARD.decode(text);
                decoded.ok().map(|bytes| Value::Bytes(bytes.into()))
            }
            _ => None,
        };
        special.unwrap_or(Value::String(Text::Borrowed(text)))
    }

    pub fn text(text: &'a str) -> Value<'a> {
        Value::String(Text::Borrowed(text))
    }

    pub fn some(value: Value<'a>) -> Value<'a> {
        Value::Optional(Some(Rc::new(value)))
    }

    /// As `type()` and messages name it.
    pub fn type_name(&self) -> String {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::Object(..) | Value::Map(_) => "map",
            Value::Array(..) | Value::List(_) => "list",
            Value::Struct(inner) => return inner.0.clone(),
            Value::Optional(_) => "optional_type",
            Value::Type(_) => "type",
            Value::Quantity(_) => "kubernetes.Quantity",
            Value::Url(_) => "kubernetes.URL",
            Value::Ip(_) => "net.IP",
            Value::Cidr(_) => "net.CIDR",
            Value::Version(_) => "kubernetes.Semver",
            Value::Format(_) => "kubernetes.NamedFormat",
            Value::Asked(_) => "kubernetes.authorization.Authorizer",
        }
        .to_owned()
    }

    /// Elements or entries, characters or bytes; None for what has no size.
    pub fn size(&self) -> Option<usize> {
        match self {
            Value::String(text) => Some(text.chars().count()),
            Value::Bytes(bytes) => Some(bytes.len()),
            Value::Object(map, _) => Some(map.len()),
            Value::Array(list, _) => Some(list.len()),
            Value::List(list) => Some(list.len()),
            Value::Map(map) => Some(map.len()),
            _ => None,
        }
    }

    /// The elements of a list.
    pub fn elements(&self) -> Option<Vec<Value<'a>>> {
        match self {
            Value::Array(list, schema) => {
                let items = schema.and_then(Schema::items);
                Some(list.iter().map(|one| Value::of(one, items)).collect())
            }
            Value::List(list) => Some(list.to_vec()),
            _ => None,
        }
    }

    /// The entries of a map, in the order of their keys.
    pub fn entries(&self) -> Option<Vec<(Key<'a>, Value<'a>)>> {
        match self {
            Value::Object(map, schema) => Some(
                map.iter()
                    .map(|(key, value)| {
                        let known = schema.and_then(|schema| schema.field(key));
                        (Key::String(Text::Borrowed(key)), Value::of(value, known))
                    })
                    .collect(),
            ),
            Value::Map(map) => Some(map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()),
            _ => None,
        }
    }

    /// The member of that name. Null members of typed objects count as absent, those of maps if they may not be null.
    pub fn field(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Value::Object(map, schema) => {
                let found = map.get_key_value(name).or_else(|| {
                    let plain = unescape(name)?;
                    map.get_key_value(plain.as_str())
                });
                let (key, value) = found?;
                let known = schema.and_then(|schema| schema.field(key));
                let is_named = schema.and_then(|schema| schema.fields()).is_some_and(|fields| !fields.named.is_empty());
                if value.is_null() && known.is_some_and(|known| is_named || !known.nullable) {
                    return None;
                }
                Some(Value::of(value, known))
            }
            Value::Map(map) => map.get(&Key::String(Text::Made(name.into()))).cloned(),
            Value::Struct(inner) => inner.1.get(name).cloned(),
            _ => None,
        }
    }

    /// The element or entry under a key.
    pub fn index(&self, key: &Value<'a>) -> Result<Option<Value<'a>>, Error> {
        match self {
            Value::Object(..) => match key {
                Value::String(name) => Ok(self.field(name)),
                _ => Ok(None),
            },
            Value::Map(map) => Ok(map.get(&Key::of(key)?).cloned()),
            Value::Array(..) | Value::List(_) => {
                let position = match key {
                    Value::Int(value) => usize::try_from(*value).ok(),
                    Value::Uint(value) => usize::try_from(*value).ok(),
                    Value::Double(value) if value.fract() == 0.0 && *value >= 0.0 => Some(*value as usize),
                    _ => return Err(Error::failed(format!("unsupported index type '{}' in list", key.type_name()))),
                };
                Ok(position.and_then(|position| match self {
                    Value::Array(list, schema) => {
                        list.get(position).map(|one| Value::of(one, schema.and_then(Schema::items)))
                    }
                    Value::List(list) => list.get(position).cloned(),
                    _ => None,
                }))
            }
            _ => Err(Error::no_overload()),
        }
    }

    /// Less, equal or greater, for values that have an order; numbers of all kinds compare with one another.
    pub fn compare(&self, other: &Value<'a>) -> Option<Ordering> {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::String(a), Value::String(b)) => Some((**a).cmp(&**b)),
            (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
            (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
            (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
            (Value::Uint(a), Value::Uint(b)) => Some(a.cmp(b)),
            (Value::Int(a), Value::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (Value::Uint(a), Value::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
            (Value::Double(a), Value::Int(b)) => a.partial_cmp(&(*b as f64)),
            (Value::Int(a), Value::Double(b)) => (*a as f64).partial_cmp(b),
            (Value::Double(a), Value::Uint(b)) => a.partial_cmp(&(*b as f64)),
            (Value::Uint(a), Value::Double(b)) => (*a as f64).partial_cmp(b),
            (Value::Quantity(a), Value::Quantity(b)) => Some(a.cmp(b)),
            (Value::Version(a), Value::Version(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// Equality as `==` has it: sets and lists of maps by key ignore their order.
    pub fn equals(&self, other: &Value<'a>) -> bool {
        if let Some(order) = self.compare(other) {
            return order == Ordering::Equal;
        }
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Type(a), Value::Type(b)) => a == b,
            (Value::Url(a), Value::Url(b)) => a.text == b.text,
            (Value::Ip(a), Value::Ip(b)) => a == b,
            (Value::Cidr(a), Value::Cidr(b)) => a == b,
            (Value::Format(a), Value::Format(b)) => a == b,
            (Value::Optional(a), Value::Optional(b)) => match (a, b) {
                (None, None) => true,
                (Some(a), Some(b)) => a.equals(b),
                _ => false,
            },
            (Value::Struct(a), Value::Struct(b)) => {
                a.0 == b.0
                    && a.1.len() == b.1.len()
                    && a.1.iter().all(|(name, value)| b.1.get(name).is_some_and(|other| value.equals(other)))
            }
            _ => self.same_elements(other) || self.same_entries(other),
        }
    }

    fn same_elements(&self, other: &Value<'a>) -> bool {
        let (Some(a), Some(b)) = (self.elements(), other.elements()) else { return false };
        if a.len() != b.len() {
            return false;
        }
        match self.list_type() {
            List::Atomic => a.iter().zip(&b).all(|(a, b)| a.equals(b)),
            List::Set => a.iter().all(|a| b.iter().any(|b| a.equals(b))),
            List::Map(keys) => a.iter().all(|a| b.iter().any(|b| a.has_keys_of(b, keys) && a.equals(b))),
        }
    }

    fn same_entries(&self, other: &Value<'a>) -> bool {
        let (Some(a), Some(b)) = (self.entries(), other.entries()) else { return false };
        let has = |key: &Key<'a>, value: &Value<'a>| {
            other.index(&key.value()).ok().flatten().is_some_and(|found| value.equals(&found))
        };
        a.len() == b.len() && a.iter().all(|(key, value)| has(key, value))
    }

    /// How a list's elements are told apart.
    pub fn list_type(&self) -> &List {
        match self {
            Value::Array(_, Some(schema)) => &schema.list,
            _ => &List::Atomic,
        }
    }

    pub(crate) fn has_keys_of(&self, other: &Value<'a>, keys: &[String]) -> bool {
        keys.iter().all(|key| match (self.field(key), other.field(key)) {
            (Some(a), Some(b)) => a.equals(&b),
            (None, None) => true,
            _ => false,
        })
    }

    /// As JSON, for what mutations make; None for what JSON cannot hold.
    pub fn to_json(&self) -> Option<Json> {
        Some(match self {
            Value::Null => Json::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::Uint(value) => (*value).into(),
            Value::Double(value) => (*value).into(),
            Value::String(text) => (&**text).into(),
            Value::Bytes(bytes) => {
                use base64::Engine;
                base64::engine::general_purpose::STANDARD.encode(bytes).into()
            }
            Value::Duration(nanos) => print_duration(*nanos).into(),
            Value::Timestamp(time) => time.to_string().into(),
            Value::Object(map, _) => Json::Object((*map).clone()),
            Value::Array(list, _) => Json::Array(list.to_vec()),
            Value::List(list) => Json::Array(list.iter().map(Value::to_json).collect::<Option<_>>()?),
            Value::Map(map) => {
                let entry = |(key, value): (&Key<'a>, &Value<'a>)| match key {
                    Key::String(key) => Some((key.to_string(), value.to_json()?)),
                    _ => None,
                };
                Json::Object(map.iter().map(entry).collect::<Option<_>>()?)
            }
            Value::Struct(inner) => {
                let fields = inner.1.iter().map(|(name, value)| Some((name.clone(), value.to_json()?)));
                Json::Object(fields.collect::<Option<_>>()?)
            }
            Value::Quantity(quantity) => quantity.to_string().into(),
            Value::Ip(ip) => ip.to_string().into(),
            Value::Cidr(cidr) => cidr.to_string().into(),
            Value::Optional(_) | Value::Type(_) | Value::Url(_) | Value::Version(_) => return None,
            Value::Format(_) | Value::Asked(_) => return None,
        })
    }

    /// Whether this is what a missing field would be.
    pub fn is_zero(&self) -> bool {
        match self {
            Value::Null => true,
            Value::Bool(value) => !value,
            Value::Int(value) => *value == 0,
            Value::Uint(value) => *value == 0,
            Value::Double(value) => *value == 0.0,
            Value::Duration(value) => *value == 0,
            Value::Optional(inner) => inner.is_none(),
            Value::Struct(inner) => inner.1.is_empty(),
            other => other.size() == Some(0),
        }
    }
}

impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.to_json(), self) {
            (Some(json), _) => write!(f, "{}({json})", self.type_name()),
            (None, Value::Optional(None)) => f.write_str("optional.none()"),
            (None, Value::Optional(Some(inner))) => write!(f, "optional.of({inner:?})"),
            (None, Value::Type(name)) => write!(f, "type({name})"),
            (None, _) => f.write_str(&self.type_name()),
        }
    }
}
