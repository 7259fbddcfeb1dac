//! The forms of an object on the wire: a served version, PartialObjectMetadata, and lists spliced from encoded objects.
//!
//! Contract: the stored version's bytes are shared, never encoded again; other forms are derived from those bytes alone. The
//! forms of one object are in `encode/json.rs` and `encode/protobuf.rs`.

pub(crate) mod json;
pub(crate) mod pieces;
pub(crate) mod protobuf;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;
use stead_api::form::{Format, Shape};
use stead_api::{Object, Options, Status};
use stead_kinds::Kind;

use crate::listed::{ListMeta, Listed};
use crate::long_list::LongList;
use crate::table;
use json::{metadata_bytes, object_bytes};
use pieces::Pieces;

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
