//! The forms of an object on the wire: a served version, PartialObjectMetadata, and lists spliced from encoded objects.
//!
//! Contract: the stored version's bytes are shared, never encoded again; other forms are derived from those bytes alone. The
//! protobuf forms are in `encode/protobuf.rs`.

pub(crate) mod protobuf;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use stead_api::form::{Form, Format, Shape};
use stead_api::{Object, Options, Revision, Status};
use stead_kinds::Kind;

use crate::long_list::LongList;
use crate::reply::Listed;
use crate::table;

/// Objects up to this size are copied into the list's buffer; larger ones are shared pieces of their own.
const COPIED_BYTES_MAX: usize = 16 << 10;
/// How large a buffer of copied objects grows before the next one begins.
const BUFFER_BYTES: usize = 256 << 10;

/// The object as a value of the version asked for.
pub(crate) fn value_of(kind: &Kind, object: &Object) -> Value {
    let mut value = object.value();
    as_version(kind, &mut value);
    value
}

/// Turns a value of the stored version into one of the version served.
pub(crate) fn as_version(kind: &Kind, value: &mut Value) {
    if let Some(convert) = kind.convert {
        (convert.from_stored)(value);
        value["apiVersion"] = json!(kind.api_version());
    }
}

/// The object's bytes in the version asked for.
pub(crate) fn object_bytes(kind: &Kind, object: &Object) -> Bytes {
    match kind.convert {
        None => object.json.clone(),
        Some(_) => value_of(kind, object).to_string().into(),
    }
}

#[derive(Deserialize)]
struct OnlyMetadata<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// PartialObjectMetadata of an object.
pub(crate) fn metadata_bytes(object: &Object, form: Form) -> Bytes {
    let metadata = match serde_json::from_slice::<OnlyMetadata>(&object.json) {
        Ok(only) => only.metadata.get(),
        Err(_) => "{}",
    };
    let version = form.meta_version();
    format!("{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"{version}\",\"metadata\":{metadata}}}").into()
}

/// One object in the shape and encoding asked for; YAML is made of the JSON later.
pub(crate) fn one(kind: &Kind, object: &Object, options: &Options, now: Timestamp) -> Result<Vec<Bytes>, Status> {
    if options.form.format == Format::Protobuf {
        return protobuf::one(kind, object, options.form);
    }
    Ok(vec![match options.form.shape {
        Shape::Object => object_bytes(kind, object),
        Shape::Metadata => metadata_bytes(object, options.form),
        Shape::Table => table::of_one(kind, object, options, now, true),
    }])
}

/// A list in the shape and encoding asked for; YAML is made of the JSON later.
pub(crate) fn list(listed: Listed, options: &Options, now: Timestamp) -> Result<Vec<Bytes>, Status> {
    if options.form.format == Format::Protobuf {
        return protobuf::list(&listed, options.form);
    }
    if options.form.shape == Shape::Object {
        return Ok(LongList::of(listed).collect());
    }
    let Listed { kind, objects, meta } = &listed;
    Ok(match options.form.shape {
        Shape::Object | Shape::Metadata => {
            let items = objects.iter(kind).map(|object| metadata_bytes(object, options.form));
            list_pieces("PartialObjectMetadataList", options.form.meta_version(), meta, items)
        }
        Shape::Table => table::of_list(kind, objects.iter(kind), meta, options, now),
    })
}

/// The metadata of a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListMeta {
    pub revision: Revision,
    pub continue_token: String,
    pub remaining: Option<usize>,
}

impl ListMeta {
    pub(crate) fn to_json(&self) -> Value {
        let mut meta = json!({"resourceVersion": self.revision.to_string()});
        if !self.continue_token.is_empty() {
            meta["continue"] = json!(self.continue_token);
        }
        if let Some(count) = self.remaining {
            meta["remainingItemCount"] = json!(count);
        }
        meta
    }
}

/// A list around encoded items.
fn list_pieces(kind: &str, api_version: &str, meta: &ListMeta, items: impl Iterator<Item = Bytes>) -> Vec<Bytes> {
    let mut pieces = Pieces::default();
    let head = format!(
        "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{},\"items\":[",
        json!(kind),
        json!(api_version),
        meta.to_json()
    );
    pieces.copy(head.as_bytes());
    for (index, item) in items.enumerate() {
        if index > 0 {
            pieces.copy(b",");
        }
        pieces.push(item);
    }
    pieces.copy(b"]}");
    pieces.finish()
}

/// Bytes gathered into few pieces.
#[derive(Default)]
pub(crate) struct Pieces {
    done: Vec<Bytes>,
    buffer: BytesMut,
}

impl Pieces {
    pub(crate) fn copy(&mut self, bytes: &[u8]) {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.flush();
        }
        self.buffer.extend_from_slice(bytes);
    }

    pub(crate) fn push(&mut self, bytes: Bytes) {
        if bytes.len() <= COPIED_BYTES_MAX {
            return self.copy(&bytes);
        }
        self.flush();
        self.done.push(bytes);
    }

    fn flush(&mut self) {
        if !self.buffer.is_empty() {
            self.done.push(self.buffer.split().freeze());
        }
    }

    pub(crate) fn finish(mut self) -> Vec<Bytes> {
        self.flush();
        self.done
    }
}
