//! The last step of an answer: from objects, lists and JSON documents to the bytes of the form that was asked for.
//!
//! Contract: called by the shell on its own threads, after the control plane has let the reply go, so that no encoding holds up a
//! write. What is plain JSON already passes as it is.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use stead_api::document::{print_lines, print_yaml};
use stead_api::form::{Form, Format, Shape};
use stead_api::{Options, Status, protobuf};

use crate::reply::Body;
use crate::{LongList, Reply, encode};

const JSON: &str = "application/json";

/// Lists of more objects than this take a while in any form but the stored one.
const SHORT_LIST: usize = 500;

/// Whether `present` will take so long that other requests should not wait for it.
pub fn takes_long(reply: &Reply, form: Form) -> bool {
    let is_stored = form == Form::default();
    matches!(reply, Reply::List { listed, .. } if !is_stored && listed.is_longer_than(SHORT_LIST))
}

/// A reply whose body, if it has one, is encoded as `options.form` says.
pub fn present(reply: Reply, options: &Options, now: Timestamp) -> Reply {
    shown(reply, options, now).unwrap_or_else(Reply::failure)
}

fn shown(reply: Reply, options: &Options, now: Timestamp) -> Result<Reply, Status> {
    let form = options.form;
    let (code, pieces, warnings) = match reply {
        Reply::Object { code, kind, object, warnings } => (code, encode::one(&kind, &object, options, now)?, warnings),
        Reply::List { listed, warnings } if is_plain(form) => {
            return Ok(Reply::LongList { list: Box::new(LongList::of(*listed)), warnings });
        }
        Reply::List { listed, warnings } => (200, encode::list(*listed, options, now)?, warnings),
        Reply::Body(body) if body.content_type.starts_with(JSON) => return recoded(body, form).map(Reply::Body),
        other => return Ok(other),
    };
    let body = Body { pieces, warnings, ..Body::json(code, Bytes::new()) };
    if form.format == Format::Protobuf {
        return Ok(Reply::Body(Body { content_type: protobuf::MEDIA_TYPE.into(), ..body }));
    }
    recoded(body, form).map(Reply::Body)
}

/// Whole objects in JSON as they are stored.
fn is_plain(form: Form) -> bool {
    form.format == Format::Json && form.shape == Shape::Object && !form.pretty
}

/// A JSON document in another encoding.
fn recoded(body: Body, form: Form) -> Result<Body, Status> {
    if form.format == Format::Json && !form.pretty {
        return Ok(body);
    }
    let content_type = body.content_type.replacen(JSON, form.format.media_type(), 1);
    Ok(Body { pieces: vec![recode(&body.pieces.concat(), form)?], content_type: content_type.into(), ..body })
}

/// What a JSON object says of itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Named {
    api_version: String,
    kind: String,
}

fn recode(json: &[u8], form: Form) -> Result<Bytes, Status> {
    let failed = |error: &dyn std::fmt::Display| Status::internal(error.to_string());
    Ok(match form.format {
        Format::Json => print_lines(json).into(),
        Format::Yaml => {
            let mut value: Value = serde_json::from_slice(json).map_err(|error| failed(&error))?;
            value.sort_all_objects();
            print_yaml(&value).into()
        }
        Format::Protobuf => {
            let named: Named = serde_json::from_slice(json).map_err(|error| failed(&error))?;
            // `/api` says of itself only that it is APIVersions.
            let version = if named.api_version.is_empty() { "v1" } else { &named.api_version };
            let of = protobuf::message_of(version, &named.kind)
                .ok_or_else(|| Status::unknown_form(&[JSON, Format::Yaml.media_type()]))?;
            let message = protobuf::encode_json(of, json).map_err(|error| failed(&error))?;
            protobuf::Envelope::seal(&named.api_version, &named.kind, &message).into()
        }
    })
}

/// An error's media type and bytes.
pub fn present_failure(status: &Status, form: Form) -> (&'static str, Bytes) {
    let json = Bytes::from(status.to_json().to_string());
    match form.format {
        Format::Json if !form.pretty => (JSON, json),
        format => recode(&json, form).map_or((JSON, json), |bytes| (format.media_type(), bytes)),
    }
}
