//! Bodies: bytes to a checked value, on the shell's threads, before the control plane sees them.
//!
//! Contract: a body larger than `BODY_BYTES_MAX`, of an unknown media type or of a wrong shape is refused here; unknown and
//! duplicate fields are reported for `fieldValidation` to judge. Patches but apply are only parsed: what they make is checked
//! after merging.

use serde_json::{Value, json};
use stead_api::document::{Document, Duplicates, parse_json, parse_yaml};
use stead_api::protobuf::{self, Envelope};
use stead_api::request::PatchType;
use stead_api::schema::decode::DecodeError;
use stead_api::schema::{self, KindSchema};
use stead_api::{Format, Resource, Status, Verb};
use stead_kinds::{Kind, Registry};

use crate::encode::protobuf::message_of;

/// The largest body accepted, as in Kubernetes.
pub const BODY_BYTES_MAX: usize = 3 << 20;

const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// A decoded body; `strict_problems` go into `Request::strict_problems`.
#[derive(Debug, Default)]
pub struct Decoded {
    pub value: Value,
    pub strict_problems: Vec<String>,
}

/// Decodes and checks a body against the schema of the resource it is sent to.
///
/// # Errors
/// 413 above `BODY_BYTES_MAX`, 415 for an unknown media type, 400 for what does not decode.
pub fn decode_body(
    registry: &Registry,
    resource: &Resource,
    verb: Verb,
    bytes: &[u8],
    content_type: &str,
) -> Result<Decoded, Status> {
    if bytes.len() > BODY_BYTES_MAX {
        return Err(Status::too_large(format!("Request entity too large: limit is {BODY_BYTES_MAX}")));
    }
    let Some(kind) = registry.find(&resource.group, &resource.version, &resource.plural) else {
        return Err(Status::no_such_path());
    };
    if bytes.is_empty() {
        return Ok(Decoded::default());
    }
    let expected = Expected::of(registry, kind, verb, &resource.subresource);
    let document = match media_type(content_type) {
        protobuf::MEDIA_TYPE => expected.open(bytes)?,
        media => parse(bytes, media, &expected, kind)?,
    };
    match verb {
        Verb::Create | Verb::Update | Verb::Patch(PatchType::Apply) => {}
        Verb::Delete | Verb::DeleteCollection => return delete_options(document),
        Verb::Patch(PatchType::Json) => return Ok(json_patch(document)),
        _ => return Ok(Decoded { strict_problems: document.duplicates.problems(), value: document.value }),
    }
    let Document { mut value, duplicates } = document;
    expected.check_type(&mut value)?;
    if let Some(convert) = kind.convert.filter(|_| kind.old.is_some() && expected.kind == kind.kind) {
        // The schema is the current version's.
        (convert.to_stored)(&mut value);
    }
    // What is applied is held to the schema when it is merged: it may not have fields that are unknown.
    let is_configuration = verb == Verb::Patch(PatchType::Apply) && expected.kind == kind.kind;
    let Some(schema) = expected.schema.as_ref().filter(|_| !is_configuration) else {
        return Ok(Decoded { value, strict_problems: duplicates.problems() });
    };
    let strict_problems =
        decode(schema, &mut value, &duplicates).map_err(|error| expected.refuse(&value, &error.to_string()))?;
    Ok(Decoded { value, strict_problems })
}

/// Decodes in place, and says what was given again or is unknown: by the text's order for JSON of built-in kinds, which are decoded
/// as they are read, and else duplicates first and then what is unknown by its name.
fn decode(schema: &KindSchema, value: &mut Value, duplicates: &Duplicates) -> Result<Vec<String>, DecodeError> {
    if let (KindSchema::Builtin(definition), Duplicates::Paths(paths)) = (schema, duplicates) {
        return definition.decode_with_duplicates(value, paths);
    }
    let mut unknown = schema.decode(value)?;
    unknown.sort();
    Ok(duplicates.problems().into_iter().chain(unknown).collect())
}

/// A JSON patch, whose operations have four fields.
fn json_patch(document: Document) -> Decoded {
    let Document { value, duplicates } = document;
    let paths = match duplicates {
        Duplicates::Paths(paths) => paths,
        Duplicates::Lines(_) => Vec::new(),
    };
    let mut strict_problems = Vec::new();
    for (index, operation) in value.as_array().into_iter().flatten().enumerate() {
        let names = operation.as_object().into_iter().flat_map(|map| map.keys());
        let unknown = names.filter(|name| !["op", "from", "path", "value"].contains(&name.as_str()));
        strict_problems.extend(unknown.map(|name| format!("json patch unknown field \"[{index}].{name}\"")));
        let twice = paths.iter().filter(|path| path.starts_with(&format!("[{index}]")));
        strict_problems.extend(twice.map(|path| format!("json patch duplicate field \"{path}\"")));
    }
    Decoded { value, strict_problems }
}

fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn parse(bytes: &[u8], media: &str, expected: &Expected, kind: &Kind) -> Result<Document, Status> {
    let parsed = match media {
        "" | "application/json" => parse_json(bytes),
        "application/yaml" | "application/apply-patch+yaml" => {
            let text = std::str::from_utf8(bytes)
                .map_err(|error| Status::bad_request(format!("error converting YAML to JSON: {error}")))?;
            parse_yaml(text)
        }
        media if media.starts_with("application/") && media.ends_with("patch+json") => parse_json(bytes),
        _ => return Err(expected.unknown_format()),
    };
    parsed.map_err(|error| {
        let name = kind.kind;
        let why = format!("couldn't get version/kind; json parse error: {error}");
        Status::bad_request(format!("the object provided is unrecognized (must be of type {name}): {why}"))
    })
}

fn delete_options(document: Document) -> Result<Decoded, Status> {
    let Document { mut value, duplicates } = document;
    let options = schema::definition(DELETE_OPTIONS).map(KindSchema::Builtin);
    let strict_problems = match options {
        Some(options) => decode(&options, &mut value, &duplicates),
        None => Ok(duplicates.problems()),
    };
    let strict_problems = strict_problems.map_err(|error| Status::bad_request(error.to_string()))?;
    Ok(Decoded { value, strict_problems })
}

/// What a body must be.
struct Expected {
    api_version: String,
    kind: String,
    schema: Option<KindSchema>,
    message: Option<&'static protobuf::Message>,
}

impl Expected {
    fn of(registry: &Registry, kind: &Kind, verb: Verb, subresource: &str) -> Expected {
        let named = |api_version: &str, kind: &str, definition: &str| Expected {
            api_version: api_version.into(),
            kind: kind.into(),
            schema: schema::definition(definition).map(KindSchema::Builtin),
            message: protobuf::message(definition),
        };
        if matches!(verb, Verb::Delete | Verb::DeleteCollection) {
            return named(&kind.api_version(), "DeleteOptions", DELETE_OPTIONS);
        }
        match subresource {
            "scale" => named("autoscaling/v1", "Scale", "io.k8s.api.autoscaling.v1.Scale"),
            "binding" => named("v1", "Binding", "io.k8s.api.core.v1.Binding"),
            "eviction" => named("policy/v1", "Eviction", "io.k8s.api.policy.v1.Eviction"),
            "token" => named("authentication.k8s.io/v1", "TokenRequest", "io.k8s.api.authentication.v1.TokenRequest"),
            _ => Expected {
                api_version: kind.api_version(),
                kind: kind.kind.into(),
                schema: registry.schema(kind),
                message: message_of(kind),
            },
        }
    }

    fn unknown_format(&self) -> Status {
        let known = Format::ALL.iter().filter(|one| **one != Format::Protobuf || self.message.is_some());
        Status::unknown_format(&known.map(|one| one.media_type()).collect::<Vec<_>>())
    }

    /// Decodes a protobuf body.
    fn open(&self, bytes: &[u8]) -> Result<Document, Status> {
        let message = self.message.ok_or_else(|| self.unknown_format())?;
        let unrecognized = |error: protobuf::DecodeError| {
            let name = &self.kind;
            Status::bad_request(format!("the object provided is unrecognized (must be of type {name}): {error}"))
        };
        let Envelope { api_version, kind, raw } = Envelope::open(bytes).map_err(unrecognized)?;
        let mut value = json!({"kind": kind, "apiVersion": api_version});
        // Every group has the options of its verbs.
        if self.kind != "DeleteOptions" || kind != self.kind {
            self.check_type(&mut value)?;
        }
        let members = protobuf::decode(message, raw).map_err(unrecognized)?;
        if let Value::Object(map) = &mut value {
            map.extend(members);
        }
        Ok(Document { value, duplicates: Duplicates::default() })
    }

    /// Fills in a missing type and refuses another one.
    fn check_type(&self, value: &mut Value) -> Result<(), Status> {
        let Some(map) = value.as_object_mut() else {
            let why = "json: cannot unmarshal into Go value of type map[string]interface {}";
            return Err(Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {}): couldn't get version/kind; {why}",
                self.kind
            )));
        };
        let given = |field: &str| map.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (given("apiVersion"), given("kind"));
        if !kind.is_empty() && kind != self.kind {
            let short = version.rsplit('/').next().unwrap_or_default();
            return Err(Status::bad_request(format!(
                "{kind} in version \"{short}\" cannot be handled as a {}: converting ({version}.{kind}) to ({}.{}): unknown conversion",
                self.kind, self.api_version, self.kind
            )));
        }
        if !version.is_empty() && version != self.api_version && !self.takes(&version) {
            return Err(Status::bad_request(format!(
                "the API version in the data ({version}) does not match the expected API version ({})",
                self.api_version
            )));
        }
        map.insert("kind".into(), json!(self.kind));
        map.insert("apiVersion".into(), json!(self.api_version));
        Ok(())
    }

    /// Whether another version will do, which has the same fields.
    fn takes(&self, version: &str) -> bool {
        self.kind == "Eviction" && version == "policy/v1beta1"
    }

    fn refuse(&self, value: &Value, why: &str) -> Status {
        let version = value["apiVersion"].as_str().unwrap_or_default();
        let short = version.rsplit('/').next().unwrap_or_default();
        Status::bad_request(format!("{0} in version \"{short}\" cannot be handled as a {0}: {why}", self.kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(plural: &str, verb: Verb, body: &str, media: &str) -> String {
        let registry = Registry::with([]);
        let group = if plural == "statefulsets" { "apps" } else { "" };
        let resource =
            Resource { group: group.into(), version: "v1".into(), plural: plural.into(), ..Resource::default() };
        match decode_body(&registry, &resource, verb, body.as_bytes(), media) {
            Ok(decoded) => format!("{} {:?}", decoded.value, decoded.strict_problems),
            Err(status) => format!("{} {}", status.code, status.message),
        }
    }

    #[test]
    fn typed_clients_send_protobuf() {
        let registry = Registry::with([]);
        let body = |api_version: &str, kind: &str, message: &str, value: &Value| {
            let message = protobuf::message(message).expect("a message");
            Envelope::seal(api_version, kind, &protobuf::encode(message, value).expect("a message"))
        };
        let decode = |verb, subresource: &str, body: &[u8]| {
            let resource = Resource {
                version: "v1".into(),
                plural: "pods".into(),
                subresource: subresource.into(),
                ..Resource::default()
            };
            match decode_body(&registry, &resource, verb, body, "application/vnd.kubernetes.protobuf") {
                Ok(decoded) => decoded.value.to_string(),
                Err(status) => format!("{} {}", status.code, status.message),
            }
        };
        let pod = body("v1", "Pod", "io.k8s.api.core.v1.Pod", &json!({"metadata": {"name": "a", "labels": {}}}));
        assert_eq!(decode(Verb::Create, "", &pod), r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}}"#);
        let eviction = body("policy/v1", "Eviction", "io.k8s.api.policy.v1.Eviction", &json!({}));
        assert_eq!(decode(Verb::Create, "eviction", &eviction), r#"{"kind":"Eviction","apiVersion":"policy/v1"}"#);
        let old = body("policy/v1beta1", "Eviction", "io.k8s.api.policy.v1.Eviction", &json!({}));
        assert_eq!(decode(Verb::Create, "eviction", &old), r#"{"kind":"Eviction","apiVersion":"policy/v1"}"#);
        let refused = decode(Verb::Create, "", &eviction);
        assert!(refused.starts_with("400 Eviction in version \"v1\" cannot be handled as a Pod"), "{refused}");
        let options = body("apps/v1", "DeleteOptions", DELETE_OPTIONS, &json!({"gracePeriodSeconds": 0}));
        assert_eq!(
            decode(Verb::Delete, "", &options),
            r#"{"kind":"DeleteOptions","apiVersion":"apps/v1","gracePeriodSeconds":0}"#
        );
    }

    #[test]
    fn bodies_are_json_or_yaml_and_of_their_kind() {
        let json = r#"{"metadata":{"name":"a"},"data":{"k":"v"},"extra":1}"#;
        assert_eq!(
            decode("configmaps", Verb::Create, json, "application/json"),
            r#"{"metadata":{"name":"a"},"data":{"k":"v"},"kind":"ConfigMap","apiVersion":"v1"} ["unknown field \"extra\""]"#
        );
        assert_eq!(
            decode("configmaps", Verb::Create, "metadata: {name: a}\n", "application/yaml"),
            r#"{"metadata":{"name":"a"},"kind":"ConfigMap","apiVersion":"v1"} []"#
        );
        for (body, media, expected) in [
            (r#"{"kind":"Secret"}"#, "", "400 Secret in version \"\" cannot be handled as a ConfigMap"),
            (
                r#"{"apiVersion":"v2"}"#,
                "",
                "400 the API version in the data (v2) does not match the expected API version (v1)",
            ),
            ("[]", "", "400 the object provided is unrecognized (must be of type ConfigMap)"),
            ("{", "", "400 the object provided is unrecognized (must be of type ConfigMap)"),
            ("x", "application/cbor", "415 the body of the request was in an unknown format"),
            (
                "x",
                "application/vnd.kubernetes.protobuf",
                "400 the object provided is unrecognized (must be of type ConfigMap): provided data does not appear to be a protobuf message, expected prefix [107 56",
            ),
            (
                r#"{"data":[]}"#,
                "",
                "400 ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal array",
            ),
        ] {
            let told = decode("configmaps", Verb::Create, body, media);
            assert!(told.starts_with(expected), "{told}");
        }
        let huge = " ".repeat(BODY_BYTES_MAX + 1);
        assert_eq!(decode("configmaps", Verb::Create, &huge, ""), "413 Request entity too large: limit is 3145728");
    }
}
