//! The OpenAPI 3 documents in protobuf, for clients that read gnostic's models.
//!
//! Rule's source: `openapiv3/OpenAPIv3.proto` of gnostic, whose numbers stand here.

use serde_json::Value;
use stead_api::protobuf::Writer;

use super::message::{Member, Of, members, named};

/// The document.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut writer = Writer::default();
    members(&mut writer, document, DOCUMENT, 9);
    writer.bytes
}

const DOCUMENT: &[Member] = &[
    ("openapi", 1, Of::Text),
    ("info", 2, Of::One(|writer, value| members(writer, value, INFO, 7))),
    ("paths", 4, Of::One(|writer, value| named(writer, 1, value, |writer, one| members(writer, one, PATH_ITEM, 14)))),
    ("components", 5, Of::One(|writer, value| members(writer, value, COMPONENTS, 10))),
];

const INFO: &[Member] = &[("title", 1, Of::Text), ("description", 2, Of::Text), ("version", 6, Of::Text)];

const COMPONENTS: &[Member] = &[
    ("schemas", 1, Of::One(|writer, value| named(writer, 1, value, schema))),
    ("securitySchemes", 7, Of::One(|writer, value| named(writer, 1, value, security))),
];

const PATH_ITEM: &[Member] = &[
    ("summary", 2, Of::Text),
    ("description", 3, Of::Text),
    ("get", 4, Of::One(operation)),
    ("put", 5, Of::One(operation)),
    ("post", 6, Of::One(operation)),
    ("delete", 7, Of::One(operation)),
    ("options", 8, Of::One(operation)),
    ("head", 9, Of::One(operation)),
    ("patch", 10, Of::One(operation)),
    ("parameters", 13, Of::Many(parameter)),
];

const OPERATION: &[Member] = &[
    ("tags", 1, Of::Texts),
    ("summary", 2, Of::Text),
    ("description", 3, Of::Text),
    ("operationId", 5, Of::Text),
    ("parameters", 6, Of::Many(parameter)),
    ("requestBody", 7, Of::One(|writer, value| writer.nested(1, |writer| members(writer, value, REQUEST_BODY, 4)))),
    ("responses", 8, Of::One(responses)),
    ("deprecated", 10, Of::Flag),
];

const PARAMETER: &[Member] = &[
    ("name", 1, Of::Text),
    ("in", 2, Of::Text),
    ("description", 3, Of::Text),
    ("required", 4, Of::Flag),
    ("schema", 10, Of::One(schema)),
];

const REQUEST_BODY: &[Member] =
    &[("description", 1, Of::Text), ("content", 2, Of::One(content)), ("required", 3, Of::Flag)];

const RESPONSE: &[Member] = &[("description", 1, Of::Text), ("content", 3, Of::One(content))];

const MEDIA_TYPE: &[Member] = &[("schema", 1, Of::One(schema))];

const SCHEMA: &[Member] = &[
    ("nullable", 1, Of::Flag),
    ("readOnly", 3, Of::Flag),
    ("writeOnly", 4, Of::Flag),
    ("example", 7, Of::Any),
    ("deprecated", 8, Of::Flag),
    ("title", 9, Of::Text),
    ("multipleOf", 10, Of::Number),
    ("maximum", 11, Of::Number),
    ("exclusiveMaximum", 12, Of::Flag),
    ("minimum", 13, Of::Number),
    ("exclusiveMinimum", 14, Of::Flag),
    ("maxLength", 15, Of::Whole),
    ("minLength", 16, Of::Whole),
    ("pattern", 17, Of::Text),
    ("maxItems", 18, Of::Whole),
    ("minItems", 19, Of::Whole),
    ("uniqueItems", 20, Of::Flag),
    ("maxProperties", 21, Of::Whole),
    ("minProperties", 22, Of::Whole),
    ("required", 23, Of::Texts),
    ("enum", 24, Of::Anys),
    ("type", 25, Of::Text),
    ("allOf", 26, Of::Many(schema)),
    ("oneOf", 27, Of::Many(schema)),
    ("anyOf", 28, Of::Many(schema)),
    ("not", 29, Of::One(|writer, value| members(writer, value, SCHEMA, 36))),
    ("items", 30, Of::One(|writer, value| writer.nested(1, |writer| schema(writer, value)))),
    ("properties", 31, Of::One(|writer, value| named(writer, 1, value, schema))),
    ("additionalProperties", 32, Of::One(additional)),
    ("default", 33, Of::One(default)),
    ("description", 34, Of::Text),
    ("format", 35, Of::Text),
];

const REFERENCE: &[Member] = &[("$ref", 1, Of::Text), ("description", 3, Of::Text)];

const SECURITY: &[Member] =
    &[("type", 1, Of::Text), ("description", 2, Of::Text), ("name", 3, Of::Text), ("in", 4, Of::Text)];

fn operation(writer: &mut Writer, value: &Value) {
    members(writer, value, OPERATION, 13);
}

fn parameter(writer: &mut Writer, value: &Value) {
    writer.nested(1, |writer| members(writer, value, PARAMETER, 14));
}

fn content(writer: &mut Writer, value: &Value) {
    named(writer, 1, value, |writer, one| members(writer, one, MEDIA_TYPE, 5));
}

fn responses(writer: &mut Writer, value: &Value) {
    named(writer, 2, value, |writer, one| writer.nested(1, |writer| members(writer, one, RESPONSE, 5)));
}

/// A schema, or a reference to one.
fn schema(writer: &mut Writer, value: &Value) {
    match value.get("$ref") {
        Some(_) => writer.nested(2, |writer| members(writer, value, REFERENCE, 4)),
        None => writer.nested(1, |writer| members(writer, value, SCHEMA, 36)),
    }
}

/// A schema or a bool.
fn additional(writer: &mut Writer, value: &Value) {
    match value {
        Value::Bool(allows) => writer.number(2, u64::from(*allows)),
        value => writer.nested(1, |writer| schema(writer, value)),
    }
}

/// Defaults that are objects or lists have no field.
fn default(writer: &mut Writer, value: &Value) {
    match value {
        Value::Number(number) => number.as_f64().into_iter().for_each(|given| writer.double(1, given)),
        Value::Bool(flag) => writer.number(2, u64::from(*flag)),
        Value::String(text) => writer.slice(3, text.as_bytes()),
        _ => {}
    }
}

fn security(writer: &mut Writer, value: &Value) {
    writer.nested(1, |writer| members(writer, value, SECURITY, 9));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openapi::message::at;
    use serde_json::json;

    #[test]
    fn every_part_stands_under_its_number() {
        let media = json!({"application/json": {"schema": {"$ref": "#/components/schemas/A"}}});
        let document = json!({"openapi": "3.0.0", "info": {"title": "T", "version": "1"},
            "paths": {"/a/{name}": {"parameters": [{"name": "name", "in": "path", "required": true, "schema": {"type": "string"}}],
                "patch": {"operationId": "patchA", "x-kubernetes-action": "patch", "requestBody": {"content": media},
                    "parameters": [{"in": "query", "name": "dryRun", "schema": {"type": "string"}}],
                    "responses": {"200": {"description": "OK", "content": media}}}}},
            "components": {"schemas": {"A": {"type": "object", "required": ["k"], "properties": {
                    "k": {"type": "array", "items": {"type": "string"}, "default": "x"}, "m": {"additionalProperties": {"type": "integer"}}}}},
                "securitySchemes": {"B": {"type": "apiKey", "in": "header", "name": "authorization"}}}});
        let bytes = encode(&document);
        let text = |path: &[u32]| at(&bytes, path).map(|found| String::from_utf8_lossy(found).into_owned());
        for (path, expected) in [
            (&[1][..], "3.0.0"),
            (&[2, 1], "T"),
            (&[2, 6], "1"),
            (&[4, 1, 1], "/a/{name}"),
            (&[4, 1, 2, 13, 1, 1], "name"),
            (&[4, 1, 2, 13, 1, 10, 1, 25], "string"),
            (&[4, 1, 2, 10, 5], "patchA"),
            (&[4, 1, 2, 10, 13, 1], "x-kubernetes-action"),
            (&[4, 1, 2, 10, 13, 2, 2], "\"patch\""),
            (&[4, 1, 2, 10, 6, 1, 2], "query"),
            (&[4, 1, 2, 10, 7, 1, 2, 1, 1], "application/json"),
            (&[4, 1, 2, 10, 7, 1, 2, 1, 2, 1, 2, 1], "#/components/schemas/A"),
            (&[4, 1, 2, 10, 8, 2, 1], "200"),
            (&[4, 1, 2, 10, 8, 2, 2, 1, 3, 1, 2, 1, 2, 1], "#/components/schemas/A"),
            (&[5, 1, 1, 1], "A"),
            (&[5, 1, 1, 2, 1, 25], "object"),
            (&[5, 1, 1, 2, 1, 23], "k"),
            (&[5, 1, 1, 2, 1, 31, 1, 2, 1, 30, 1, 1, 25], "string"),
            (&[5, 1, 1, 2, 1, 31, 1, 2, 1, 33, 3], "x"),
            (&[5, 7, 1, 2, 1, 3], "authorization"),
        ] {
            assert_eq!(text(path).as_deref(), Some(expected), "{path:?}");
        }
    }
}
