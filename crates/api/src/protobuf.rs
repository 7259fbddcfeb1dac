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
mod error;
mod frame;
mod table;
#[cfg(test)]
mod tests;
mod wire;

pub use error::{DecodeError, EncodeError};
pub use frame::{Envelope, MAGIC, field_of, sealed, watch_frame};
pub use table::{Message, message, message_of};
pub use wire::{Open, Reader, Wire, Writer};

/// The media type of one object or list.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// The media type of a watch: frames of four bytes of length and a WatchEvent.
pub const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// How deep lists and objects may nest: the JSON parser, which reads stored objects, gives up at 128.
const DEPTH_MAX: usize = 120;

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
