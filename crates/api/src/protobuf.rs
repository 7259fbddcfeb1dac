//! Objects as protobuf: the form in which Kubernetes' typed clients send their bodies.
//!
//! A body is four magic bytes and an [`Envelope`] that names the type and holds the message. Which JSON name stands
//! under which number is a table of facts (`table.rs`); [`decode`] makes the JSON that a JSON client would have sent, [`encode`]
//! the message of an object's JSON. Fields that the table does not know are skipped.
//!
//! Guarantees: damaged bytes are errors, never panics; what decodes nests no deeper than the JSON parser allows.
//! Rule's source: the `generated.proto` files of the API and `k8s.io/apimachinery/pkg/runtime/serializer/protobuf`.

use serde_json::{Map, Value};

mod decode;
mod encode;
mod frame;
mod table;
#[cfg(test)]
mod tests;
mod wire;

pub use frame::{field_of, sealed, watch_frame};
pub use table::{Message, message, message_of};
pub use wire::{Open, Reader, Wire, Writer};

/// The media type of one object or list.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// The media type of a watch: frames of four bytes of length and a WatchEvent.
pub const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";
/// What every body begins with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// How deep lists and objects may nest: the JSON parser, which reads stored objects, gives up at 128.
const DEPTH_MAX: usize = 120;

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Prefix,
    #[error("unexpected EOF")]
    End,
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: illegal tag {0} (wire type {1})")]
    Tag(u64, u8),
    #[error("proto: wrong wireType = {1} for field {0}")]
    WireType(String, u8),
    #[error("proto: invalid {what} in field {field}")]
    Value { field: String, what: &'static str },
    #[error("proto: exceeded max nesting depth")]
    Depth,
}

/// A value that its field cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EncodeError(String);

/// What a body says of itself, and the message within.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub api_version: String,
    pub kind: String,
    pub raw: &'a [u8],
}

/// The members of an object, from its message. `apiVersion` and `kind` are the envelope's.
pub fn decode(of: &'static Message, bytes: &[u8]) -> Result<Map<String, Value>, DecodeError> {
    let mut map = Map::new();
    decode::message(of, bytes, &mut map, DEPTH_MAX)?;
    Ok(map)
}

/// The message of an object. `apiVersion` and `kind` are the envelope's; what the table does not know is left out.
pub fn encode(of: &'static Message, value: &Value) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer::default();
    encode::message(of, value, &mut writer).map_err(|error| EncodeError(error.to_string()))?;
    Ok(writer.bytes)
}

/// The message of an object's JSON text, without a tree between the two.
pub fn encode_json(of: &'static Message, json: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer { bytes: Vec::with_capacity(json.len() / 2) };
    let mut text = serde_json::Deserializer::from_slice(json);
    encode::message(of, &mut text, &mut writer).map_err(|error| EncodeError(error.to_string()))?;
    Ok(writer.bytes)
}
