//! The Swagger 2.0 document in protobuf: the form in which kubectl asks for `/openapi/v2`.
//!
//! Rule's source: `openapiv2/OpenAPIv2.proto` of gnostic, whose numbers stand here.

use serde_json::Value;
use stead_api::protobuf::Writer;

use super::message::{Member, Of, members, named, texts};

/// The document.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut writer = Writer::default();
    members(&mut writer, document, DOCUMENT, 16);
    writer.bytes
}

const DOCUMENT: &[Member] = &[
    ("swagger", 1, Of::Text),
    ("info", 2, Of::One(|writer, value| members(writer, value, INFO, 7))),
    ("paths", 8, Of::One(|writer, value| named(writer, 2, value, path_item))),
    ("definitions", 9, Of::One(schemas)),
    ("security", 12, Of::Many(|writer, value| named(writer, 1, value, texts))),
    ("securityDefinitions", 13, Of::One(|writer, value| named(writer, 1, value, security))),
];

const INFO: &[Member] = &[("title", 1, Of::Text), ("version", 2, Of::Text), ("description", 3, Of::Text)];

const PATH_ITEM: &[Member] = &[
    ("get", 2, Of::One(operation)),
    ("put", 3, Of::One(operation)),
    ("post", 4, Of::One(operation)),
    ("delete", 5, Of::One(operation)),
    ("options", 6, Of::One(operation)),
    ("head", 7, Of::One(operation)),
    ("patch", 8, Of::One(operation)),
    ("parameters", 9, Of::Many(parameter)),
];

const OPERATION: &[Member] = &[
    ("tags", 1, Of::Texts),
    ("summary", 2, Of::Text),
    ("description", 3, Of::Text),
    ("operationId", 5, Of::Text),
    ("produces", 6, Of::Texts),
    ("consumes", 7, Of::Texts),
    ("parameters", 8, Of::Many(parameter)),
    ("responses", 9, Of::One(|writer, value| named(writer, 1, value, response_value))),
    ("schemes", 10, Of::Texts),
    ("deprecated", 11, Of::Flag),
];

const BODY_PARAMETER: &[Member] = &[
    ("description", 1, Of::Text),
    ("name", 2, Of::Text),
    ("in", 3, Of::Text),
    ("required", 4, Of::Flag),
    ("schema", 5, Of::One(schema)),
];

const QUERY_PARAMETER: &[Member] = &[
    ("required", 1, Of::Flag),
    ("in", 2, Of::Text),
    ("description", 3, Of::Text),
    ("name", 4, Of::Text),
    ("type", 6, Of::Text),
    ("format", 7, Of::Text),
    ("uniqueItems", 20, Of::Flag),
];

/// Of headers and paths.
const OTHER_PARAMETER: &[Member] = &[
    ("required", 1, Of::Flag),
    ("in", 2, Of::Text),
    ("description", 3, Of::Text),
    ("name", 4, Of::Text),
    ("type", 5, Of::Text),
    ("format", 6, Of::Text),
    ("uniqueItems", 19, Of::Flag),
];

const RESPONSE: &[Member] = &[
    ("description", 1, Of::Text),
    // A schema, not a file.
    ("schema", 2, Of::One(|writer, value| writer.nested(1, |writer| schema(writer, value)))),
];

const SCHEMA: &[Member] = &[
    ("$ref", 1, Of::Text),
    ("format", 2, Of::Text),
    ("title", 3, Of::Text),
    ("description", 4, Of::Text),
    ("default", 5, Of::Any),
    ("multipleOf", 6, Of::Number),
    ("maximum", 7, Of::Number),
    ("exclusiveMaximum", 8, Of::Flag),
    ("minimum", 9, Of::Number),
    ("exclusiveMinimum", 10, Of::Flag),
    ("maxLength", 11, Of::Whole),
    ("minLength", 12, Of::Whole),
    ("pattern", 13, Of::Text),
    ("maxItems", 14, Of::Whole),
    ("minItems", 15, Of::Whole),
    ("uniqueItems", 16, Of::Flag),
    ("maxProperties", 17, Of::Whole),
    ("minProperties", 18, Of::Whole),
    ("required", 19, Of::Texts),
    ("enum", 20, Of::Anys),
    ("additionalProperties", 21, Of::One(additional)),
    ("type", 22, Of::One(texts)),
    ("items", 23, Of::One(|writer, value| writer.nested(1, |writer| schema(writer, value)))),
    ("allOf", 24, Of::Many(schema)),
    ("properties", 25, Of::One(schemas)),
    ("discriminator", 26, Of::Text),
    ("readOnly", 27, Of::Flag),
    ("example", 30, Of::Any),
];

const API_KEY: &[Member] =
    &[("type", 1, Of::Text), ("name", 2, Of::Text), ("in", 3, Of::Text), ("description", 4, Of::Text)];

fn path_item(writer: &mut Writer, value: &Value) {
    members(writer, value, PATH_ITEM, 10);
}

fn operation(writer: &mut Writer, value: &Value) {
    members(writer, value, OPERATION, 13);
}

fn parameter(writer: &mut Writer, value: &Value) {
    writer.nested(1, |writer| match value["in"].as_str() {
        Some("body") => writer.nested(1, |writer| members(writer, value, BODY_PARAMETER, 6)),
        Some("query") => {
            writer.nested(2, |writer| writer.nested(3, |writer| members(writer, value, QUERY_PARAMETER, 23)));
        }
        Some(place) => {
            let number = if place == "header" { 1 } else { 4 };
            writer.nested(2, |writer| writer.nested(number, |writer| members(writer, value, OTHER_PARAMETER, 22)));
        }
        None => {}
    });
}

fn response_value(writer: &mut Writer, value: &Value) {
    writer.nested(1, |writer| members(writer, value, RESPONSE, 5));
}

fn schema(writer: &mut Writer, value: &Value) {
    members(writer, value, SCHEMA, 31);
}

fn schemas(writer: &mut Writer, value: &Value) {
    named(writer, 1, value, schema);
}

/// A schema or a bool.
fn additional(writer: &mut Writer, value: &Value) {
    match value {
        Value::Bool(allows) => writer.number(2, u64::from(*allows)),
        value => writer.nested(1, |writer| schema(writer, value)),
    }
}

/// The only kind that is declared: an API key.
fn security(writer: &mut Writer, value: &Value) {
    writer.nested(2, |writer| members(writer, value, API_KEY, 5));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openapi::message::at;
    use serde_json::json;

    #[test]
    fn every_part_stands_under_its_number() {
        let document = json!({"swagger": "2.0", "info": {"title": "T", "version": "1"},
            "paths": {"/a/{name}": {"parameters": [{"name": "name", "in": "path", "type": "string", "required": true}],
                "patch": {"operationId": "patchA", "consumes": ["x/y"], "x-kubernetes-action": "patch",
                    "parameters": [{"in": "body", "name": "body", "schema": {"$ref": "#/definitions/A"}},
                        {"in": "query", "name": "dryRun", "type": "string"}],
                    "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/A"}}}}}},
            "definitions": {"A": {"type": "object", "required": ["k"], "properties": {"k": {"type": "array",
                "items": {"type": "string"}}, "m": {"additionalProperties": {"type": "integer"}}}}},
            "securityDefinitions": {"B": {"type": "apiKey", "in": "header", "name": "authorization"}},
            "security": [{"B": []}]});
        let bytes = encode(&document);
        let text = |path: &[u32]| at(&bytes, path).map(|found| String::from_utf8_lossy(found).into_owned());
        for (path, expected) in [
            (&[1][..], "2.0"),
            (&[2, 1], "T"),
            (&[8, 2, 1], "/a/{name}"),
            (&[8, 2, 2, 9, 1, 2, 4, 4], "name"),
            (&[8, 2, 2, 8, 5], "patchA"),
            (&[8, 2, 2, 8, 7], "x/y"),
            (&[8, 2, 2, 8, 8, 1, 1, 5, 1], "#/definitions/A"),
            (&[8, 2, 2, 8, 9, 1, 1], "200"),
            (&[8, 2, 2, 8, 9, 1, 2, 1, 2, 1, 1], "#/definitions/A"),
            (&[8, 2, 2, 8, 13, 1], "x-kubernetes-action"),
            (&[8, 2, 2, 8, 13, 2, 2], "\"patch\""),
            (&[9, 1, 1], "A"),
            (&[9, 1, 2, 22, 1], "object"),
            (&[9, 1, 2, 19], "k"),
            (&[9, 1, 2, 25, 1, 2, 23, 1, 22, 1], "string"),
            (&[12, 1, 1], "B"),
            (&[13, 1, 2, 2, 2], "authorization"),
        ] {
            assert_eq!(text(path).as_deref(), Some(expected), "{path:?}");
        }
    }
}
