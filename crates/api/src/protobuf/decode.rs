//! Messages to JSON, as Go would print the struct they fill.
//!
//! Go writes every field that is not a pointer, zero or not, and `omitempty` leaves its zero out of the JSON; structs
//! stay as `{}`, pointers stay whatever they point to. A zero time is null in JSON, and so is left out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Number, Value};

use super::error::DecodeError;
use super::table::{Field, Many, Message, Type, message as named};
use super::wire::{Reader, Wire};

const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// Fills `map` with the fields of a message, over what it holds already.
pub(super) fn message(
    of: &'static Message,
    bytes: &[u8],
    map: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), DecodeError> {
    let depth = depth.checked_sub(1).ok_or(DecodeError::Depth)?;
    let layout = of.layout();
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        let Some(field) = layout.field(number) else { continue };
        match (field.many, field.of) {
            (Many::One, Type::Message(inner)) if field.name.is_empty() => {
                message(inner, blob(field.name, wire)?, map, depth)?;
            }
            (Many::One, _) => {
                // The same message twice is one message.
                let before = map.remove(field.name).unwrap_or_default();
                let value = one(field, wire, before, depth)?;
                if !value.is_null() && (field.is_pointer || field.keeps_zero || !is_zero(field.of, &value)) {
                    map.insert(field.name.to_owned(), value);
                }
            }
            (Many::List, _) => {
                let depth = depth.checked_sub(1).ok_or(DecodeError::Depth)?;
                let list = map.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(list) = list {
                    element(field, wire, list, depth)?;
                }
            }
            (Many::Map, _) => {
                let depth = depth.checked_sub(1).ok_or(DecodeError::Depth)?;
                let (key, value) = entry(field, blob(field.name, wire)?, depth)?;
                let inner = map.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(inner) = inner {
                    inner.insert(key, value);
                }
            }
        }
    }
    Ok(())
}

/// One or, packed, several elements of a list.
fn element(field: &Field, wire: Wire, list: &mut Vec<Value>, depth: usize) -> Result<(), DecodeError> {
    match (field.of, wire) {
        (Type::Bool | Type::Int32 | Type::Int64, Wire::Bytes(packed)) => {
            let mut reader = Reader::new(packed);
            while !reader.rest.is_empty() {
                let number = Wire::Varint(reader.varint()?);
                list.push(one(field, number, Value::Null, depth)?);
            }
        }
        _ => list.push(one(field, wire, Value::Null, depth)?),
    }
    Ok(())
}

fn entry(field: &Field, bytes: &[u8], depth: usize) -> Result<(String, Value), DecodeError> {
    let mut key = String::new();
    let mut value = None;
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        match number {
            1 => key = string(field.name, wire)?.to_owned(),
            2 => value = Some(one(field, wire, Value::Null, depth)?),
            _ => {}
        }
    }
    let value = match value {
        Some(value) => value,
        None => one(field, zero_wire(field.of), Value::Null, depth)?,
    };
    Ok((key, value))
}

fn zero_wire(of: Type) -> Wire<'static> {
    match of {
        Type::Bool | Type::Int32 | Type::Int64 => Wire::Varint(0),
        Type::Double => Wire::Fixed64(0),
        _ => Wire::Bytes(&[]),
    }
}

/// One value; `before` is what the same field held already.
fn one(field: &Field, wire: Wire, before: Value, depth: usize) -> Result<Value, DecodeError> {
    let name = field.name;
    let wrong = |wire: Wire| Err(DecodeError::WireType(name.to_owned(), wire.kind()));
    Ok(match (field.of, wire) {
        (Type::Bool, Wire::Varint(number)) => Value::Bool(number != 0),
        // Go cuts what is too wide.
        (Type::Int32, Wire::Varint(number)) => Value::from(number as i32),
        (Type::Int64, Wire::Varint(number)) => Value::from(number as i64),
        (Type::Double, Wire::Fixed64(bits)) => double(name, f64::from_bits(bits))?,
        (Type::Bool | Type::Int32 | Type::Int64 | Type::Double, wire) => return wrong(wire),
        (Type::String, wire) => Value::from(string(name, wire)?),
        (Type::Bytes, wire) => Value::from(STANDARD.encode(blob(name, wire)?)),
        (Type::Message(inner), wire) => nested(inner, blob(name, wire)?, before, depth)?,
        (Type::Quantity, wire) => quantity(name, blob(name, wire)?)?,
        (Type::IntOrString, wire) => int_or_string(name, blob(name, wire)?)?,
        (Type::Time, wire) => time(name, blob(name, wire)?, "%Y-%m-%dT%H:%M:%SZ")?,
        (Type::MicroTime, wire) => time(name, blob(name, wire)?, "%Y-%m-%dT%H:%M:%S.%6fZ")?,
        (Type::Json, wire) => json(name, blob(name, wire)?, depth)?,
        (Type::SchemaOrArray | Type::SchemaOrBool | Type::SchemaOrStrings, wire) => {
            schema_or(field.of, name, blob(name, wire)?, depth)?
        }
    })
}

fn nested(of: &'static Message, bytes: &[u8], before: Value, depth: usize) -> Result<Value, DecodeError> {
    let mut map = match before {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    message(of, bytes, &mut map, depth)?;
    if of.layout().is_list {
        return Ok(map.remove("").unwrap_or_else(|| Value::Array(Vec::new())));
    }
    Ok(Value::Object(map))
}

/// What `omitempty` leaves out; a struct is never empty to it.
fn is_zero(of: Type, value: &Value) -> bool {
    match of {
        Type::String | Type::Bytes => value.as_str() == Some(""),
        Type::Bool => value == &Value::Bool(false),
        Type::Int32 | Type::Int64 => value.as_i64() == Some(0),
        Type::Double => value.as_f64() == Some(0.0),
        Type::Message(inner) => inner.layout().is_list && value.as_array().is_some_and(Vec::is_empty),
        _ => false,
    }
}

fn blob<'a>(field: &str, wire: Wire<'a>) -> Result<&'a [u8], DecodeError> {
    match wire {
        Wire::Bytes(bytes) => Ok(bytes),
        other => Err(DecodeError::WireType(field.to_owned(), other.kind())),
    }
}

pub(super) fn string<'a>(field: &str, wire: Wire<'a>) -> Result<&'a str, DecodeError> {
    std::str::from_utf8(blob(field, wire)?).map_err(|_| invalid(field, "UTF-8"))
}

fn invalid(field: &str, what: &'static str) -> DecodeError {
    DecodeError::Value { field: field.to_owned(), what }
}

/// Go prints a whole number without a point.
fn double(field: &str, value: f64) -> Result<Value, DecodeError> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT_MAX {
        return Ok(Value::from(value as i64));
    }
    Number::from_f64(value).map(Value::Number).ok_or_else(|| invalid(field, "number"))
}

fn quantity(field: &str, bytes: &[u8]) -> Result<Value, DecodeError> {
    let mut text = "";
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        if number == 1 {
            text = string(field, wire)?;
        }
    }
    Ok(Value::from(if text.is_empty() { "0" } else { text }))
}

fn int_or_string(field: &str, bytes: &[u8]) -> Result<Value, DecodeError> {
    let (mut is_string, mut int, mut text) = (false, 0, "");
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        match (number, wire) {
            (1, Wire::Varint(kind)) => is_string = kind != 0,
            (2, Wire::Varint(number)) => int = number as i32,
            (3, wire) => text = string(field, wire)?,
            (1 | 2, wire) => return Err(DecodeError::WireType(field.to_owned(), wire.kind())),
            _ => {}
        }
    }
    Ok(if is_string { Value::from(text) } else { Value::from(int) })
}

fn time(field: &str, bytes: &[u8], form: &str) -> Result<Value, DecodeError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        match (number, wire) {
            (1, Wire::Varint(number)) => seconds = number as i64,
            (2, Wire::Varint(number)) => nanos = number as i32,
            (1 | 2, wire) => return Err(DecodeError::WireType(field.to_owned(), wire.kind())),
            _ => {}
        }
    }
    let is_nanos = (0..1_000_000_000).contains(&nanos);
    let moment = Timestamp::new(seconds, nanos).ok().filter(|_| is_nanos).ok_or_else(|| invalid(field, "time"))?;
    Ok(Value::from(moment.strftime(form).to_string()))
}

/// The bytes of field 1, as JSON.
fn json(field: &str, bytes: &[u8], depth: usize) -> Result<Value, DecodeError> {
    let mut raw: &[u8] = &[];
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        if number == 1 {
            raw = blob(field, wire)?;
        }
    }
    if raw.is_empty() {
        return Ok(Value::Null);
    }
    let value: Value = serde_json::from_slice(raw).map_err(|_| invalid(field, "JSON"))?;
    if !fits(&value, depth) {
        return Err(DecodeError::Depth);
    }
    Ok(value)
}

fn fits(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(list) => depth > 0 && list.iter().all(|one| fits(one, depth - 1)),
        Value::Object(map) => depth > 0 && map.values().all(|one| fits(one, depth - 1)),
        _ => true,
    }
}

/// A schema, or what else may stand in its place: a list of schemas, a bool, a list of strings.
fn schema_or(of: Type, field: &str, bytes: &[u8], depth: usize) -> Result<Value, DecodeError> {
    let of_schema = named(SCHEMA).ok_or_else(|| invalid(field, "schema"))?;
    let depth = depth.checked_sub(1).ok_or(DecodeError::Depth)?;
    let mut schema = None;
    let mut list = Vec::new();
    let mut allows = false;
    let schema_number = if matches!(of, Type::SchemaOrBool) { 2 } else { 1 };
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        match (of, wire) {
            (_, wire) if number == schema_number => {
                schema = Some(nested(of_schema, blob(field, wire)?, schema.unwrap_or_default(), depth)?);
            }
            (Type::SchemaOrBool, Wire::Varint(given)) if number == 1 => allows = given != 0,
            (Type::SchemaOrArray, wire) if number == 2 => {
                list.push(nested(of_schema, blob(field, wire)?, Value::Null, depth)?);
            }
            (Type::SchemaOrStrings, wire) if number == 2 => list.push(Value::from(string(field, wire)?)),
            _ => {}
        }
    }
    Ok(match (schema, of) {
        _ if !list.is_empty() => Value::Array(list),
        (Some(schema), _) => schema,
        (None, Type::SchemaOrBool) => Value::Bool(allows),
        (None, _) => Value::Null,
    })
}
