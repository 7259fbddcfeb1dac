//! JSON documents as messages of gnostic: which member stands under which number.
//!
//! Contract: says what the JSON says; members that the messages have no field for are left out, as those who read it do. A map is a list
//! of names and values, a value of any type is a text of YAML (JSON is YAML), and what may be one of several is a message with a field
//! for each.

use serde_json::Value;
use stead_api::protobuf::Writer;

pub(super) type Fill = fn(&mut Writer, &Value);

/// What a member of an object is.
#[derive(Clone, Copy)]
pub(super) enum Of {
    Text,
    Flag,
    Whole,
    Number,
    Texts,
    Any,
    Anys,
    One(Fill),
    Many(Fill),
}

pub(super) type Member = (&'static str, u32, Of);

/// The members of an object; those that begin with `x-` are all in the field `extension`.
pub(super) fn members(writer: &mut Writer, value: &Value, table: &[Member], extension: u32) {
    for (name, value) in value.as_object().into_iter().flatten() {
        if name.starts_with("x-") {
            writer.nested(extension, |writer| {
                writer.slice(1, name.as_bytes());
                writer.nested(2, |writer| any(writer, value));
            });
        } else if let Some((_, number, of)) = table.iter().find(|(known, ..)| known == name) {
            member(writer, *number, *of, value);
        }
    }
}

fn member(writer: &mut Writer, number: u32, of: Of, value: &Value) {
    let list = value.as_array().into_iter().flatten();
    match (of, value) {
        (Of::Text, Value::String(text)) => writer.slice(number, text.as_bytes()),
        (Of::Flag, Value::Bool(flag)) => writer.number(number, u64::from(*flag)),
        (Of::Whole, value) => value.as_i64().into_iter().for_each(|whole| writer.number(number, whole as u64)),
        (Of::Number, value) => value.as_f64().into_iter().for_each(|given| writer.double(number, given)),
        (Of::Texts, _) => {
            list.filter_map(Value::as_str).for_each(|text| writer.slice(number, text.as_bytes()));
        }
        (Of::Any, value) => writer.nested(number, |writer| any(writer, value)),
        (Of::Anys, _) => list.for_each(|one| writer.nested(number, |writer| any(writer, one))),
        (Of::One(fill), value) => writer.nested(number, |writer| fill(writer, value)),
        (Of::Many(fill), _) => list.for_each(|one| writer.nested(number, |writer| fill(writer, one))),
        (Of::Text | Of::Flag, _) => {}
    }
}

/// A map.
pub(super) fn named(writer: &mut Writer, number: u32, value: &Value, fill: Fill) {
    for (name, value) in value.as_object().into_iter().flatten() {
        writer.nested(number, |writer| {
            writer.slice(1, name.as_bytes());
            writer.nested(2, |writer| fill(writer, value));
        });
    }
}

pub(super) fn any(writer: &mut Writer, value: &Value) {
    writer.slice(2, value.to_string().as_bytes());
}

/// One text or many.
pub(super) fn texts(writer: &mut Writer, value: &Value) {
    match value {
        Value::String(text) => writer.slice(1, text.as_bytes()),
        value => member(writer, 1, Of::Texts, value),
    }
}

/// The bytes at a path of field numbers: the first of each.
#[cfg(test)]
pub(super) fn at<'a>(mut bytes: &'a [u8], path: &[u32]) -> Option<&'a [u8]> {
    use stead_api::protobuf::{Reader, Wire};
    for wanted in path {
        let mut reader = Reader::new(bytes);
        bytes = loop {
            match reader.field().ok()?? {
                (number, Wire::Bytes(found)) if number == *wanted => break found,
                _ => {}
            }
        };
    }
    Some(bytes)
}
