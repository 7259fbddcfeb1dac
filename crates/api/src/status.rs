//! Errors a client may see: `Status` (metav1.Status) and the field errors of validation.
//!
//! Constructors are named by reason; their texts are Kubernetes' own. `Errors` accumulates: validation never stops at the
//! first mistake.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Value, json};

/// A metav1.Status that reports a failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub code: u16,
    pub reason: Cow<'static, str>,
    pub message: String,
    pub details: Option<Box<Details>>,
    /// Where a list that cannot be gone on with consistently may be gone on with all the same.
    pub continue_token: Option<Box<str>>,
}

/// `status.details`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    pub name: String,
    pub group: String,
    /// The kind, or the resource, as Kubernetes fills it for the reason at hand.
    pub kind: String,
    pub uid: String,
    pub causes: Vec<Cause>,
    pub retry_after_seconds: Option<u32>,
}

/// One of `status.details.causes`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cause {
    pub reason: String,
    pub message: String,
    pub field: String,
}

/// `statefulsets.apps`, `pods`: how messages name a resource.
fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

impl Status {
    pub fn new(code: u16, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Status {
        Status { code, reason: reason.into(), message: message.into(), details: None, continue_token: None }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Status {
        let details = self.details.get_or_insert_default();
        details.group = group.into();
        details.kind = kind.into();
        details.name = name.into();
        self
    }

    pub fn with_causes(mut self, causes: Vec<Cause>) -> Status {
        self.details.get_or_insert_default().causes = causes;
        self
    }

    pub fn retry_after(mut self, seconds: u32) -> Status {
        self.details.get_or_insert_default().retry_after_seconds = Some(seconds);
        self
    }

    pub fn not_found(group: &str, resource: &str, name: &str) -> Status {
        let message = format!("{} \"{name}\" not found", qualified(group, resource));
        Status::new(404, "NotFound", message).about(group, resource, name)
    }

    /// No such path or no such resource type.
    pub fn no_such_path() -> Status {
        Status::new(404, "NotFound", "the server could not find the requested resource")
    }

    pub fn already_exists(group: &str, resource: &str, name: &str) -> Status {
        let message = format!("{} \"{name}\" already exists", qualified(group, resource));
        Status::new(409, "AlreadyExists", message).about(group, resource, name)
    }

    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Status {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", qualified(group, resource));
        Status::new(409, "Conflict", message).about(group, resource, name)
    }

    /// The stored object is newer than the one that was sent.
    pub fn modified(group: &str, resource: &str, name: &str) -> Status {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Status::conflict(group, resource, name, why)
    }

    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Status {
        let message = match (resource, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{} is forbidden: {why}", qualified(group, resource)),
            _ => format!("{} \"{name}\" is forbidden: {why}", qualified(group, resource)),
        };
        Status::new(403, "Forbidden", message).about(group, resource, name)
    }

    pub fn unauthorized() -> Status {
        Status::new(401, "Unauthorized", "Unauthorized")
    }

    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::new(400, "BadRequest", message)
    }

    pub fn method_not_allowed() -> Status {
        Status::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    }

    pub fn not_acceptable(message: impl Into<String>) -> Status {
        Status::new(406, "NotAcceptable", message)
    }

    pub fn unsupported_media_type(message: impl Into<String>) -> Status {
        Status::new(415, "UnsupportedMediaType", message)
    }

    /// 415 for a body of a media type that is not read.
    pub fn unknown_format(accepted: &[&str]) -> Status {
        let known = accepted.join(", ");
        Status::unsupported_media_type(format!(
            "the body of the request was in an unknown format - accepted media types include: {known}"
        ))
    }

    /// 406 for an answer that is wanted in media types that are not written.
    pub fn unknown_form(offered: &[&str]) -> Status {
        Status::not_acceptable(format!("only the following media types are accepted: {}", offered.join(", ")))
    }

    pub fn too_large(message: impl Into<String>) -> Status {
        Status::new(413, "RequestEntityTooLarge", message)
    }

    /// The revision asked for is no longer kept.
    pub fn expired(message: impl Into<String>) -> Status {
        Status::new(410, "Expired", message)
    }

    pub fn with_continue_token(mut self, token: String) -> Status {
        self.continue_token = Some(token.into());
        self
    }

    pub fn timeout(message: impl Into<String>) -> Status {
        Status::new(504, "Timeout", message)
    }

    pub fn too_many_requests(message: impl Into<String>, seconds: u32) -> Status {
        Status::new(429, "TooManyRequests", message).retry_after(seconds)
    }

    pub fn unavailable(message: impl Into<String>) -> Status {
        Status::new(503, "ServiceUnavailable", message)
    }

    pub fn internal(message: impl Into<String>) -> Status {
        Status::new(500, "InternalError", format!("Internal error occurred: {}", message.into()))
    }

    /// 422 with every field error at once. `kind` is the Kind (`StatefulSet`), not the resource.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: Errors) -> Status {
        let list = errors.0;
        let text = match list.as_slice() {
            [one] => one.to_string(),
            many => format!("[{}]", many.iter().map(FieldError::to_string).collect::<Vec<_>>().join(", ")),
        };
        let causes = list
            .into_iter()
            .map(|e| Cause { reason: e.kind.reason().into(), message: e.body(), field: e.field })
            .collect();
        let message = format!("{} \"{name}\" is invalid: {text}", qualified(group, kind));
        Status::new(422, "Invalid", message).about(group, kind, name).with_causes(causes)
    }

    /// The JSON body.
    pub fn to_json(&self) -> Value {
        let mut body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason});
        if self.reason.is_empty() {
            body.as_object_mut().expect("made as an object").remove("reason");
        }
        if let Some(details) = &self.details {
            body["details"] = details.to_json();
        }
        if let Some(token) = &self.continue_token {
            body["metadata"]["continue"] = json!(token);
        }
        body["code"] = json!(self.code);
        body
    }
}

impl Details {
    fn to_json(&self) -> Value {
        let mut out = serde_json::Map::new();
        for (key, text) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)] {
            if !text.is_empty() {
                out.insert(key.into(), text.as_str().into());
            }
        }
        if !self.causes.is_empty() {
            out.insert("causes".into(), self.causes.iter().map(Cause::to_json).collect());
        }
        if let Some(seconds) = self.retry_after_seconds {
            out.insert("retryAfterSeconds".into(), seconds.into());
        }
        Value::Object(out)
    }
}

impl Cause {
    fn to_json(&self) -> Value {
        let mut out = serde_json::Map::new();
        for (key, text) in [("reason", &self.reason), ("message", &self.message), ("field", &self.field)] {
            if !text.is_empty() {
                out.insert(key.into(), text.as_str().into());
            }
        }
        Value::Object(out)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

/// A place in an object: `spec.containers[0].name`, `metadata.annotations[key]`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FieldPath(String);

impl FieldPath {
    pub fn new(root: &str) -> FieldPath {
        FieldPath(root.to_owned())
    }

    pub fn child(&self, name: &str) -> FieldPath {
        if self.0.is_empty() { FieldPath(name.to_owned()) } else { FieldPath(format!("{}.{name}", self.0)) }
    }

    pub fn index(&self, index: usize) -> FieldPath {
        FieldPath(format!("{}[{index}]", self.0))
    }

    pub fn key(&self, key: &str) -> FieldPath {
        FieldPath(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The types of field errors, with Kubernetes' texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
}

impl FieldErrorKind {
    /// The cause's reason in the Status.
    pub fn reason(self) -> &'static str {
        match self {
            FieldErrorKind::NotFound => "FieldValueNotFound",
            FieldErrorKind::Required => "FieldValueRequired",
            FieldErrorKind::Duplicate => "FieldValueDuplicate",
            FieldErrorKind::Invalid => "FieldValueInvalid",
            FieldErrorKind::NotSupported => "FieldValueNotSupported",
            FieldErrorKind::Forbidden => "FieldValueForbidden",
            FieldErrorKind::TooLong => "FieldValueTooLong",
            FieldErrorKind::TooMany => "FieldValueTooMany",
            FieldErrorKind::Internal => "InternalError",
            FieldErrorKind::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn text(self) -> &'static str {
        match self {
            FieldErrorKind::NotFound => "Not found",
            FieldErrorKind::Required => "Required value",
            FieldErrorKind::Duplicate => "Duplicate value",
            FieldErrorKind::Invalid | FieldErrorKind::TypeInvalid => "Invalid value",
            FieldErrorKind::NotSupported => "Unsupported value",
            FieldErrorKind::Forbidden => "Forbidden",
            FieldErrorKind::TooLong => "Too long",
            FieldErrorKind::TooMany => "Too many",
            FieldErrorKind::Internal => "Internal error",
        }
    }
}

/// One mistake at one place.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub kind: FieldErrorKind,
    pub field: String,
    /// The offending value; not shown for Required, Forbidden and TooLong.
    pub value: Value,
    pub detail: String,
    /// Whether the value is not worth showing.
    pub is_value_omitted: bool,
}

impl FieldError {
    /// The text without the field: `Invalid value: -1: must be greater than or equal to 0`.
    pub fn body(&self) -> String {
        let shown = match (self.kind, &self.value) {
            _ if self.is_value_omitted => String::new(),
            (FieldErrorKind::Required | FieldErrorKind::Forbidden | FieldErrorKind::TooLong, _) => String::new(),
            (FieldErrorKind::Internal, _) | (FieldErrorKind::TooMany, Value::Null) => String::new(),
            (_, Value::Null) => ": null".into(),
            (_, value @ (Value::Object(_) | Value::Array(_))) => format!(": {}", as_go_prints(value)),
            (_, value) => format!(": {value}"),
        };
        let detail = if self.detail.is_empty() { String::new() } else { format!(": {}", self.detail) };
        format!("{}{shown}{detail}", self.kind.text())
    }
}

/// Go escapes what HTML gives a meaning.
fn as_go_prints(value: &Value) -> String {
    value.to_string().replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// Field errors, gathered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Errors(pub Vec<FieldError>);

impl Errors {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn push(&mut self, kind: FieldErrorKind, at: &FieldPath, value: impl Into<Value>, detail: impl Into<String>) {
        let (field, value, detail) = (at.to_string(), value.into(), detail.into());
        self.0.push(FieldError { kind, field, value, detail, is_value_omitted: false });
    }

    pub fn required(&mut self, at: &FieldPath, detail: impl Into<String>) {
        self.push(FieldErrorKind::Required, at, Value::Null, detail);
    }

    pub fn invalid(&mut self, at: &FieldPath, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(FieldErrorKind::Invalid, at, value, detail);
    }

    pub fn duplicate(&mut self, at: &FieldPath, value: impl Into<Value>) {
        self.push(FieldErrorKind::Duplicate, at, value, "");
    }

    pub fn not_found(&mut self, at: &FieldPath, value: impl Into<Value>) {
        self.push(FieldErrorKind::NotFound, at, value, "");
    }

    pub fn forbidden(&mut self, at: &FieldPath, detail: impl Into<String>) {
        self.push(FieldErrorKind::Forbidden, at, Value::Null, detail);
    }

    /// `Unsupported value: "x": supported values: "a", "b"`.
    pub fn not_supported(&mut self, at: &FieldPath, value: impl Into<Value>, allowed: &[&str]) {
        let list = allowed.iter().map(|v| format!("\"{v}\"")).collect::<Vec<_>>().join(", ");
        self.push(FieldErrorKind::NotSupported, at, value, format!("supported values: {list}"));
    }

    pub fn too_long(&mut self, at: &FieldPath, limit: usize) {
        self.push(FieldErrorKind::TooLong, at, Value::Null, format!("may not be more than {limit} bytes"));
    }

    pub fn too_many(&mut self, at: &FieldPath, found: usize, limit: usize) {
        let items = if limit == 1 { "item" } else { "items" };
        self.push(FieldErrorKind::TooMany, at, found, format!("must have at most {limit} {items}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_field_errors_are_reported_at_once_in_kubernetes_words() {
        let mut errors = Errors::default();
        let spec = FieldPath::new("spec");
        errors.invalid(&spec.child("replicas"), -1, "must be greater than or equal to 0");
        errors.required(&spec.child("containers").index(0).child("image"), "");
        errors.not_supported(&spec.child("type"), "x", &["a", "b"]);
        let status = Status::invalid("apps", "StatefulSet", "web", errors);
        assert_eq!(
            status.message,
            "StatefulSet.apps \"web\" is invalid: [spec.replicas: Invalid value: -1: must be greater than or equal to 0, \
             spec.containers[0].image: Required value, spec.type: Unsupported value: \"x\": supported values: \"a\", \"b\"]"
        );
        assert_eq!(status.to_json()["details"]["causes"][1]["field"], "spec.containers[0].image");
    }
}
