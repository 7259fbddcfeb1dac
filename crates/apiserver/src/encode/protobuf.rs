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

use super::{Pieces, value_of};
use crate::reply::Listed;

/// A number that every kind gives its metadata, and PartialObjectMetadata too.
const METADATA: u32 = 1;

fn internal(error: EncodeError) -> Status {
    Status::internal(error.to_string())
}

/// Nothing was promised that cannot be made: negotiation comes first.
fn unknown() -> Status {
    Status::unknown_form(&["application/json", "application/yaml"])
}

fn partial() -> Result<&'static Message, Status> {
    protobuf::message_of("meta.k8s.io/v1", "PartialObjectMetadata").ok_or_else(unknown)
}

/// The message of a kind's objects. Custom kinds have none; neither have the versions of old manifests, which typed clients of
/// today do not know.
pub(crate) fn message_of(kind: &Kind) -> Option<&'static Message> {
    match kind.schema {
        SchemaRef::Definition(name) if kind.old.is_none() => protobuf::message(name),
        SchemaRef::Definition(_) | SchemaRef::Custom => None,
    }
}

/// The message of an object, without its envelope.
fn object_message(kind: &Kind, object: &Object) -> Result<Bytes, Status> {
    let of = message_of(kind).ok_or_else(unknown)?;
    match kind.convert {
        None => object.protobuf(of).map_err(internal),
        Some(_) => protobuf::encode(of, &value_of(kind, object)).map(Bytes::from).map_err(internal),
    }
}

/// The message of an object's PartialObjectMetadata.
fn metadata_message(kind: &Kind, object: &Object) -> Result<Bytes, Status> {
    let of = partial()?;
    if kind.schema == SchemaRef::Custom {
        return object.protobuf(of).map_err(internal);
    }
    match object.known_protobuf().and_then(|whole| protobuf::field_of(of, whole, "metadata")) {
        Some(metadata) => {
            let mut writer = Writer { bytes: Vec::with_capacity(metadata.len() + 8) };
            writer.slice(METADATA, &metadata);
            Ok(writer.bytes.into())
        }
        None => protobuf::encode_json(of, &object.json).map(Bytes::from).map_err(internal),
    }
}

/// The message of an object in a shape, and the version and the kind that its envelope names.
pub(crate) fn shaped(kind: &Kind, object: &Object, form: Form) -> Result<(String, &'static str, Bytes), Status> {
    match form.shape {
        Shape::Object => Ok((kind.api_version(), kind.kind, object_message(kind, object)?)),
        Shape::Metadata => {
            Ok((form.meta_version().to_owned(), "PartialObjectMetadata", metadata_message(kind, object)?))
        }
        Shape::Table => Err(unknown()),
    }
}

pub(super) fn one(kind: &Kind, object: &Object, form: Form) -> Result<Vec<Bytes>, Status> {
    let (api_version, name, message) = shaped(kind, object, form)?;
    Ok(protobuf::sealed(&api_version, name, [message]))
}

pub(super) fn list(listed: &Listed, form: Form) -> Result<Vec<Bytes>, Status> {
    let Listed { kind, objects, meta } = listed;
    let (api_version, name) = match form.shape {
        Shape::Object => (kind.api_version(), kind.list_kind),
        Shape::Metadata => (form.meta_version().to_owned(), "PartialObjectMetadataList"),
        Shape::Table => return Err(unknown()),
    };
    let of = protobuf::message_of(&api_version, name).ok_or_else(unknown)?;
    let number = of.number("items").ok_or_else(unknown)?;
    let mut pieces = Pieces::default();
    let head = protobuf::encode(of, &serde_json::json!({"metadata": meta.to_json()})).map_err(internal)?;
    pieces.copy(&head);
    for object in objects.iter(kind) {
        let (_, _, message) = shaped(kind, object, form)?;
        pieces.copy(&protobuf::item_head(number, message.len()));
        pieces.push(message);
    }
    Ok(protobuf::sealed(&api_version, name, pieces.finish()))
}
