//! The same forms in protobuf.
//!
//! Contract: the message of a stored object is made when it is first asked for and shared from then on by gets, lists and watches. A
//! custom resource has no message but that of its metadata. Metadata alone is cut out of the message where there is one, and
//! else made of the JSON without making the message of the whole, which nobody may ever ask for.

use bytes::Bytes;
use stead_api::form::{Form, Shape};
use stead_api::protobuf::{self, EncodeError, Message, Writer};
use stead_api::{Object, Status};
use stead_kinds::{Kind, SchemaRef};
use stead_store::history::Change;

use super::json::value_of;
use super::pieces::Pieces;
use crate::listed::Listed;

/// A number that every kind gives its metadata, and PartialObjectMetadata too.
const METADATA: u32 = 1;

fn internal(error: EncodeError) -> Status {
    Status::internal(error.to_string())
}

/// Nothing was promised that cannot be made: negotiation comes first.
fn unknown() -> Status {
    Status::unknown_form(&["application/json", "application/yaml"])
}

/// The message of a kind's objects. Custom kinds have none; neither have the versions of old manifests, which typed clients of
/// today do not know.
pub(crate) fn message_of(kind: &Kind) -> Option<&'static Message> {
    match kind.schema {
        SchemaRef::Definition(name) if kind.old.is_none() => protobuf::message(name),
        SchemaRef::Definition(_) | SchemaRef::Custom => None,
    }
}

/// What the objects of a kind become in a shape: looked up once, however many there are.
#[derive(Clone, Copy)]
struct Maker<'a> {
    kind: &'a Kind,
    shape: Shape,
    of: &'static Message,
}

impl<'a> Maker<'a> {
    fn of(kind: &'a Kind, form: Form) -> Result<Maker<'a>, Status> {
        let of = match form.shape {
            Shape::Object => message_of(kind),
            Shape::Metadata => protobuf::message_of("meta.k8s.io/v1", "PartialObjectMetadata"),
            Shape::Table => None,
        };
        Ok(Maker { kind, shape: form.shape, of: of.ok_or_else(unknown)? })
    }

    /// The message of an object, without its envelope.
    fn message(self, object: &Object) -> Result<Bytes, Status> {
        let Maker { kind, of, .. } = self;
        let made = match (self.shape, kind.schema, kind.convert) {
            (Shape::Metadata, SchemaRef::Custom, _) => object.protobuf(of),
            (Shape::Metadata, ..) => metadata(of, object),
            (_, _, None) => object.protobuf(of),
            (_, _, Some(_)) => protobuf::encode(of, &value_of(kind, object)).map(Bytes::from),
        };
        made.map_err(internal)
    }
}

/// The message of an object's PartialObjectMetadata.
fn metadata(of: &'static Message, object: &Object) -> Result<Bytes, EncodeError> {
    match object.known_protobuf().and_then(|whole| protobuf::field_of(of, whole, "metadata")) {
        Some(metadata) => {
            let mut writer = Writer { bytes: Vec::with_capacity(metadata.len() + 8) };
            writer.slice(METADATA, &metadata);
            Ok(writer.bytes.into())
        }
        None => protobuf::encode_json(of, &object.json).map(Bytes::from),
    }
}

/// The version and the kind that an object's envelope names.
fn named(kind: &Kind, form: Form) -> (String, &'static str) {
    match form.shape {
        Shape::Object | Shape::Table => (kind.api_version(), kind.kind),
        Shape::Metadata => (form.meta_version().to_owned(), "PartialObjectMetadata"),
    }
}

pub(super) fn one(kind: &Kind, object: &Object, form: Form) -> Result<Vec<Bytes>, Status> {
    let message = Maker::of(kind, form)?.message(object)?;
    let (api_version, name) = named(kind, form);
    Ok(protobuf::sealed(&api_version, name, [message]))
}

/// A frame of a watch.
pub(crate) fn frame(change: Change, kind: &Kind, object: &Object, form: Form) -> Result<Bytes, Status> {
    let message = Maker::of(kind, form)?.message(object)?;
    let (api_version, name) = named(kind, form);
    Ok(protobuf::watch_frame(change.name(), &api_version, name, &message))
}

pub(super) fn list(listed: &Listed, form: Form) -> Result<Vec<Bytes>, Status> {
    let Listed { kind, objects, meta } = listed;
    let (api_version, name) = match form.shape {
        Shape::Object | Shape::Table => (kind.api_version(), kind.list_kind),
        Shape::Metadata => (form.meta_version().to_owned(), "PartialObjectMetadataList"),
    };
    let of = protobuf::message_of(&api_version, name).ok_or_else(unknown)?;
    let number = of.number("items").ok_or_else(unknown)?;
    let maker = Maker::of(kind, form)?;
    let mut pieces = Pieces::default();
    let head = protobuf::encode(of, &serde_json::json!({"metadata": meta.to_json()})).map_err(internal)?;
    pieces.copy(&head);
    let mut before = Writer::default();
    for object in objects.iter(kind) {
        let message = maker.message(object)?;
        before.bytes.clear();
        before.head(number, message.len());
        pieces.copy(&before.bytes);
        pieces.push(message);
    }
    Ok(protobuf::sealed(&api_version, name, pieces.finish()))
}
