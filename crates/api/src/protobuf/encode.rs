//! JSON to messages, in one pass: the text is read once and no tree of it is made.
//!
//! Zeros that are not pointers are left out: readers take what is missing for zero. Fields stand in the order of the
//! JSON, and a message whose fields stand among those of its holder comes once for each of them: readers put the parts
//! together, as the encoding demands of them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::table::{Field, Layout, Many, Message, Place, Type, message as named};
use super::wire::Writer;

const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// Writes the fields of an object.
pub(super) fn message<'de, D: Deserializer<'de>>(
    of: &'static Message,
    value: D,
    writer: &mut Writer,
) -> Result<(), D::Error> {
    Object { name: of.name, layout: of.layout(), writer }.deserialize(value)
}

fn misfit<E: Error>(field: &str, value: impl fmt::Display) -> E {
    E::custom(format_args!("field {field} cannot hold {value}"))
}

/// An object whose members are the fields of a message.
struct Object<'w> {
    name: &'static str,
    layout: &'static Layout,
    writer: &'w mut Writer,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "an object for {}", self.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(place) = members.next_key_seed(Name(self.layout))? {
            let Some(place) = place else {
                members.next_value::<IgnoredAny>()?;
                continue;
            };
            let opened: Vec<_> = place.way.iter().map(|number| self.writer.open(*number)).collect();
            let field = place.field();
            let writer = &mut *self.writer;
            match field.many {
                Many::One => members.next_value_seed(One {
                    field,
                    number: field.number,
                    keeps_zero: field.is_pointer,
                    writer,
                })?,
                Many::List => members.next_value_seed(List { field, writer })?,
                Many::Map => members.next_value_seed(Map { field, writer })?,
            }
            opened.into_iter().rev().for_each(|open| self.writer.close(open));
        }
        Ok(())
    }
}

/// A member's name becomes its place.
struct Name(&'static Layout);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<&'static Place>;

    fn deserialize<D: Deserializer<'de>>(self, name: D) -> Result<Self::Value, D::Error> {
        name.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<&'static Place>;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.place(name))
    }
}

/// A list: the same field for each element.
struct List<'w> {
    field: &'static Field,
    writer: &'w mut Writer,
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "a list for field {}", self.field.name)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let List { field, writer } = self;
        loop {
            let element = One { field, number: field.number, keeps_zero: true, writer: &mut *writer };
            if elements.next_element_seed(element)?.is_none() {
                return Ok(());
            }
        }
    }
}

/// A map: a message of key and value for each entry.
struct Map<'w> {
    field: &'static Field,
    writer: &'w mut Writer,
}

impl<'de> DeserializeSeed<'de> for Map<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Map<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "a map for field {}", self.field.name)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Map { field, writer } = self;
        while let Some(open) = entries.next_key_seed(Key { number: field.number, writer: &mut *writer })? {
            entries.next_value_seed(One { field, number: 2, keeps_zero: true, writer: &mut *writer })?;
            writer.close(open);
        }
        Ok(())
    }
}

/// An entry's key: begins the entry.
struct Key<'w> {
    number: u32,
    writer: &'w mut Writer,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = super::wire::Open;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<Self::Value, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = super::wire::Open;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        let open = self.writer.open(self.number);
        self.writer.slice(1, key.as_bytes());
        Ok(open)
    }
}

/// One value as the field `number`.
struct One<'w> {
    field: &'static Field,
    number: u32,
    /// Pointers, elements and values of entries are there even when they are zero.
    keeps_zero: bool,
    writer: &'w mut Writer,
}

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        if !matches!(self.field.of, Type::Json) {
            return value.deserialize_any(self);
        }
        let raw: Box<RawValue> = serde::Deserialize::deserialize(value)?;
        if self.keeps_zero || raw.get() != "null" {
            self.writer.nested(self.number, |writer| writer.slice(1, raw.get().as_bytes()));
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "a value for field {}", self.field.name)
    }

    /// Nothing; but what is counted (an element, an entry) is there, as its zero.
    fn visit_unit<E>(self) -> Result<(), E> {
        let is_counted = self.field.many != Many::One;
        match self.field.of {
            _ if !is_counted => {}
            Type::Bool | Type::Int32 | Type::Int64 => self.writer.number(self.number, 0),
            Type::Double => self.writer.double(self.number, 0.0),
            _ => self.writer.slice(self.number, b""),
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, given: bool) -> Result<(), E> {
        match self.field.of {
            Type::Bool if given || self.keeps_zero => self.writer.number(self.number, u64::from(given)),
            Type::Bool => {}
            Type::SchemaOrBool => self.writer.nested(self.number, |writer| writer.number(1, u64::from(given))),
            _ => return Err(misfit(self.field.name, given)),
        }
        Ok(())
    }

    fn visit_i64<E: Error>(self, given: i64) -> Result<(), E> {
        match self.field.of {
            Type::Int32 | Type::Int64 if given != 0 || self.keeps_zero => {
                self.writer.number(self.number, given as u64);
            }
            Type::Int32 | Type::Int64 => {}
            Type::Double => self.writer.double(self.number, given as f64),
            Type::IntOrString => self.writer.nested(self.number, |writer| writer.number(2, given as u64)),
            Type::Quantity => return self.visit_str(&given.to_string()),
            _ => return Err(misfit(self.field.name, given)),
        }
        Ok(())
    }

    fn visit_u64<E: Error>(self, given: u64) -> Result<(), E> {
        match (i64::try_from(given), self.field.of) {
            (Ok(given), _) => self.visit_i64(given),
            (_, Type::Double) => self.visit_f64(given as f64),
            (_, Type::Quantity) => self.visit_str(&given.to_string()),
            _ => Err(misfit(self.field.name, given)),
        }
    }

    fn visit_f64<E: Error>(self, given: f64) -> Result<(), E> {
        match self.field.of {
            Type::Double => self.writer.double(self.number, given),
            Type::Quantity => return self.visit_str(&given.to_string()),
            _ => return Err(misfit(self.field.name, given)),
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let One { field, number, keeps_zero, writer } = self;
        let wrong = || misfit(field.name, serde_json::Value::from(text));
        match field.of {
            Type::String if text.is_empty() && !keeps_zero => {}
            Type::String => writer.slice(number, text.as_bytes()),
            Type::Bytes => writer.slice(number, &decoded(text).ok_or_else(wrong)?),
            Type::Quantity => writer.nested(number, |writer| writer.slice(1, text.as_bytes())),
            Type::IntOrString => writer.nested(number, |writer| {
                writer.number(1, 1);
                writer.slice(3, text.as_bytes());
            }),
            Type::Time => time(writer, number, text, 1_000_000_000).ok_or_else(wrong)?,
            Type::MicroTime => time(writer, number, text, 1_000).ok_or_else(wrong)?,
            _ => return Err(wrong()),
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<(), A::Error> {
        let One { field, number, writer, .. } = self;
        let open = writer.open(number);
        match field.of {
            Type::Message(inner) if !inner.layout().is_list => {
                Object { name: inner.name, layout: inner.layout(), writer }.visit_map(members)?;
            }
            Type::SchemaOrArray | Type::SchemaOrStrings => schema(MapAccessDeserializer::new(members), 1, writer)?,
            Type::SchemaOrBool => {
                writer.number(1, 1);
                schema(MapAccessDeserializer::new(members), 2, writer)?;
            }
            _ => return Err(misfit(field.name, "an object")),
        }
        writer.close(open);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let One { field, number, writer, .. } = self;
        let open = writer.open(number);
        match field.of {
            Type::Message(inner) if inner.layout().is_list => {
                let items = inner.layout().fields.first().ok_or_else(|| misfit(field.name, "a list"))?;
                List { field: items, writer }.deserialize(SeqAccessDeserializer::new(elements))?;
            }
            Type::SchemaOrArray => {
                while elements.next_element_seed(Schema { number: 2, writer: &mut *writer })?.is_some() {}
            }
            Type::SchemaOrStrings => {
                while let Some(text) = elements.next_element::<String>()? {
                    writer.slice(2, text.as_bytes());
                }
            }
            _ => return Err(misfit(field.name, "a list")),
        }
        writer.close(open);
        Ok(())
    }
}

/// A schema within a schema, as the field `number`.
struct Schema<'w> {
    number: u32,
    writer: &'w mut Writer,
}

impl<'de> DeserializeSeed<'de> for Schema<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        schema(value, self.number, self.writer)
    }
}

fn schema<'de, D: Deserializer<'de>>(value: D, number: u32, writer: &mut Writer) -> Result<(), D::Error> {
    let of = named(SCHEMA).ok_or_else(|| misfit("schema", "a schema"))?;
    let open = writer.open(number);
    message(of, value, writer)?;
    writer.close(open);
    Ok(())
}

/// Go skips the ends of lines in base64.
fn decoded(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok().or_else(|| {
        let clean: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        STANDARD.decode(clean).ok()
    })
}

/// Seconds and nanoseconds, cut to a multiple of `unit` nanoseconds.
fn time(writer: &mut Writer, number: u32, text: &str, unit: i32) -> Option<()> {
    let moment: Timestamp = text.parse().ok()?;
    // Before 1970 jiff counts both parts down, protobuf only the seconds.
    let (mut seconds, mut nanos) = (moment.as_second(), moment.subsec_nanosecond());
    if nanos < 0 {
        (seconds, nanos) = (seconds - 1, nanos + 1_000_000_000);
    }
    writer.nested(number, |writer| {
        writer.number(1, seconds as u64);
        writer.number(2, (nanos - nanos % unit) as u64);
    });
    Some(())
}
