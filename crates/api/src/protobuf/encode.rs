//! JSON to messages.
//!
//! Zeros that are not pointers are left out: readers take what is missing for zero.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::table::{Field, Layout, Many, Type};
use super::wire::Writer;
use super::{EncodeError, MAGIC, Message, message as named};

const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

pub(super) fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    // The type, the lengths and the two empty strings that Go writes.
    let around = MAGIC.len() + api_version.len() + kind.len() + 32;
    let mut writer = Writer { bytes: Vec::with_capacity(raw.len() + around) };
    writer.bytes.extend_from_slice(&MAGIC);
    let done: Result<(), EncodeError> = writer.nested(1, |writer| {
        writer.slice(1, api_version.as_bytes());
        writer.slice(2, kind.as_bytes());
        Ok(())
    });
    debug_assert!(done.is_ok(), "nothing in an envelope fails");
    writer.slice(2, raw);
    writer.slice(3, b"");
    writer.slice(4, b"");
    writer.bytes
}

pub(super) fn message(of: &'static Message, value: &Value) -> Result<Vec<u8>, EncodeError> {
    let Value::Object(map) = value else { return Err(misfit(of.name, value)) };
    let mut writer = Writer::default();
    fields(&mut writer, of.layout(), map)?;
    Ok(writer.bytes)
}

fn fields(writer: &mut Writer, layout: &Layout, map: &Map<String, Value>) -> Result<(), EncodeError> {
    for field in &layout.fields {
        if let (true, Type::Message(inner)) = (field.name.is_empty(), field.of) {
            writer.nested(field.number, |writer| fields(writer, inner.layout(), map))?;
            continue;
        }
        match (field.many, map.get(field.name)) {
            (_, None | Some(Value::Null)) => {}
            (Many::One, Some(value)) => one(writer, field, field.number, value, !field.is_pointer)?,
            (Many::List, Some(value)) => list(writer, field, value)?,
            (Many::Map, Some(value)) => {
                let Value::Object(entries) = value else { return Err(misfit(field.name, value)) };
                for (key, value) in entries {
                    writer.nested(field.number, |writer| {
                        writer.slice(1, key.as_bytes());
                        one(writer, field, 2, value, false)
                    })?;
                }
            }
        }
    }
    Ok(())
}

fn list(writer: &mut Writer, field: &Field, value: &Value) -> Result<(), EncodeError> {
    let Value::Array(list) = value else { return Err(misfit(field.name, value)) };
    list.iter().try_for_each(|element| one(writer, field, field.number, element, false))
}

/// One value as the field `number`; a zero may be left out.
fn one(writer: &mut Writer, field: &Field, number: u32, value: &Value, skips_zero: bool) -> Result<(), EncodeError> {
    let wrong = || misfit(field.name, value);
    let text = || value.as_str().ok_or_else(wrong);
    match field.of {
        Type::String => match text()? {
            "" if skips_zero => {}
            text => writer.slice(number, text.as_bytes()),
        },
        Type::Bytes => {
            let clean: String = text()?.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
            writer.slice(number, &STANDARD.decode(clean).map_err(|_| wrong())?);
        }
        Type::Bool => match value.as_bool().ok_or_else(wrong)? {
            false if skips_zero => {}
            given => writer.number(number, u64::from(given)),
        },
        Type::Int32 | Type::Int64 => match value.as_i64().ok_or_else(wrong)? {
            0 if skips_zero => {}
            given => writer.number(number, given as u64),
        },
        Type::Double => writer.double(number, value.as_f64().ok_or_else(wrong)?),
        Type::Message(inner) => writer.nested(number, |writer| match (value, &inner.layout().fields[..]) {
            (value, [items]) if inner.layout().is_list => list(writer, items, value),
            (Value::Object(map), _) => fields(writer, inner.layout(), map),
            _ => Err(wrong()),
        })?,
        Type::Quantity => {
            let shown = if let Value::String(text) = value { text.clone() } else { value.to_string() };
            writer.nested(number, |writer| {
                writer.slice(1, shown.as_bytes());
                Ok(())
            })?;
        }
        Type::IntOrString => int_or_string(writer, field, number, value)?,
        Type::Time => time(writer, number, text()?, 1_000_000_000).ok_or_else(wrong)?,
        Type::MicroTime => time(writer, number, text()?, 1_000).ok_or_else(wrong)?,
        Type::Json => writer.nested(number, |writer| {
            writer.slice(1, value.to_string().as_bytes());
            Ok(())
        })?,
        Type::SchemaOrArray | Type::SchemaOrBool | Type::SchemaOrStrings => schema_or(writer, field, number, value)?,
    }
    Ok(())
}

fn int_or_string(writer: &mut Writer, field: &Field, number: u32, value: &Value) -> Result<(), EncodeError> {
    writer.nested(number, |writer| {
        match (value, value.as_i64()) {
            (Value::String(text), _) => {
                writer.number(1, 1);
                writer.slice(3, text.as_bytes());
            }
            (_, Some(int)) => writer.number(2, int as u64),
            _ => return Err(misfit(field.name, value)),
        }
        Ok(())
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
    let done: Result<(), EncodeError> = writer.nested(number, |writer| {
        writer.number(1, seconds as u64);
        writer.number(2, (nanos - nanos % unit) as u64);
        Ok(())
    });
    done.ok()
}

fn schema_or(writer: &mut Writer, field: &Field, number: u32, value: &Value) -> Result<(), EncodeError> {
    let Some(schema) = named(SCHEMA).map(Message::layout) else { return Err(misfit(field.name, value)) };
    writer.nested(number, |writer| match (value, field.of) {
        (Value::Bool(allows), Type::SchemaOrBool) => {
            writer.number(1, u64::from(*allows));
            Ok(())
        }
        (Value::Object(map), Type::SchemaOrBool) => {
            writer.number(1, 1);
            writer.nested(2, |writer| fields(writer, schema, map))
        }
        (Value::Object(map), _) => writer.nested(1, |writer| fields(writer, schema, map)),
        (Value::Array(list), Type::SchemaOrArray | Type::SchemaOrStrings) => {
            list.iter().try_for_each(|one| match one {
                Value::Object(map) => writer.nested(2, |writer| fields(writer, schema, map)),
                Value::String(text) => {
                    writer.slice(2, text.as_bytes());
                    Ok(())
                }
                other => Err(misfit(field.name, other)),
            })
        }
        _ => Err(misfit(field.name, value)),
    })
}

fn misfit(field: &str, value: &Value) -> EncodeError {
    EncodeError { field: field.to_owned(), value: value.to_string() }
}
