//! `Draft`: one change to one object, on its way through the phases of a write (`pipeline.rs`).

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use stead_api::{Errors, FieldPath, Key, Object, Request, Status};
use stead_kinds::{Kind, METADATA};

use crate::halt::Halt;
use crate::{Context, conversion, scale};

/// Which part of an object a request may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but the status of kinds that have that subresource.
    Whole,
    Status,
    Scale,
    /// A namespace's `spec.finalizers`.
    Finalize,
    /// Whether a certificate is to be signed.
    Approval,
    /// A pod's `spec.ephemeralContainers`.
    EphemeralContainers,
    /// The resources of a pod's containers.
    Resize,
    /// Changes of the server's own: binding, eviction.
    Internal,
}

impl Part {
    pub(crate) fn of(subresource: &str) -> Result<Part, Status> {
        match subresource {
            "" => Ok(Part::Whole),
            "status" => Ok(Part::Status),
            "scale" => Ok(Part::Scale),
            "finalize" => Ok(Part::Finalize),
            "approval" => Ok(Part::Approval),
            "ephemeralcontainers" => Ok(Part::EphemeralContainers),
            "resize" => Ok(Part::Resize),
            _ => Err(Status::method_not_allowed()),
        }
    }

    /// The subresource as managedFields name it.
    pub(crate) fn subresource(self) -> &'static str {
        match self {
            Part::Whole | Part::Internal => "",
            Part::Status => "status",
            Part::Scale => "scale",
            Part::Finalize => "finalize",
            Part::Approval => "approval",
            Part::EphemeralContainers => "ephemeralcontainers",
            Part::Resize => "resize",
        }
    }

    /// Whether it is a part of the spec that gets defaults, like a whole object.
    pub(crate) fn has_defaults(self) -> bool {
        matches!(self, Part::Whole | Part::EphemeralContainers | Part::Resize)
    }
}

pub(crate) struct Draft {
    /// The version that the change is decided in; `new` and `old_value` are of it.
    pub kind: Kind,
    pub part: Part,
    pub key: Key,
    pub old: Option<Arc<Object>>,
    /// Null on creation.
    pub old_value: Value,
    pub new: Value,
    /// Whether managedFields are already right (server-side apply).
    pub is_applied: bool,
    /// Whether the server made up the name.
    pub is_name_generated: bool,
}

/// The object that is changed.
pub(crate) struct Stored {
    pub object: Arc<Object>,
    /// Its value in the stored form, where it has been parsed already.
    pub value: Option<Value>,
}

/// A time as metadata holds it.
pub(crate) fn time_text(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The stored version of a kind, held to the rules of the version that was asked for: they judge the stored form.
/// The version that a change is decided in: the stored one, but custom resources stay what was sent until they are stored, for each
/// version has a schema of its own, and may take a webhook to be converted.
fn decided_kind(ctx: &Context, served: &Kind) -> Kind {
    if served.is_versioned {
        return *served;
    }
    let mut kind = ctx.registry.stored(served.storage).copied().unwrap_or(*served);
    kind.hooks.validate = served.hooks.validate;
    kind
}

/// Turns a value of a served version into one of the stored version.
fn to_stored(served: &Kind, stored: &Kind, value: &mut Value) {
    if let Some(convert) = served.convert {
        (convert.to_stored)(value);
    }
    value["apiVersion"] = json!(stored.api_version());
    value["kind"] = json!(stored.kind);
}

impl Draft {
    pub(crate) fn creation(
        ctx: &Context,
        served: &Kind,
        namespace: &str,
        name: &str,
        mut new: Value,
    ) -> Result<Draft, Status> {
        let kind = decided_kind(ctx, served);
        to_stored(served, &kind, &mut new);
        let key = Key::new(kind.storage, namespace, name);
        Ok(Draft {
            kind,
            part: Part::Whole,
            key,
            old: None,
            old_value: Value::Null,
            new,
            is_applied: false,
            is_name_generated: false,
        })
    }

    /// A change of `old` to what `body` (of the served version) says about one part.
    pub(crate) fn change(
        ctx: &Context,
        request: &Request,
        (served, part): (&Kind, Part),
        old: Stored,
        mut body: Value,
    ) -> Result<Draft, Halt> {
        let kind = decided_kind(ctx, served);
        let mut draft = Draft { part, ..Draft::of_stored(kind, old, Value::Null) };
        let is_older = draft.old.as_ref().is_some_and(|old| ctx.registry.is_older(&kind, old.revision()));
        if kind.is_versioned || is_older {
            draft.old_value = conversion::of_value(ctx.place(), request, &kind, draft.old_value)?;
            // Controllers send an object in the version that it was stored in.
            if part != Part::Scale {
                body = conversion::of_value(ctx.place(), request, &kind, body)?;
            }
        } else if part != Part::Scale {
            to_stored(served, &kind, &mut body);
        }
        let new = draft.merged(body)?;
        Ok(Draft { new, is_applied: false, ..draft })
    }

    /// The old object with what `body` says about the part that is changed.
    pub(crate) fn merged(&self, body: Value) -> Result<Value, Status> {
        Ok(match self.part {
            Part::Whole | Part::Internal => body,
            Part::Status => with_status(&self.kind, &self.old_value, body),
            Part::Scale => with_replicas(&self.kind, &self.old_value, &body)?,
            Part::Finalize => with_finalizers(&self.old_value, &body),
            Part::Approval => with_conditions(&self.old_value, &body),
            Part::EphemeralContainers => with_ephemeral_containers(&self.old_value, &body),
            Part::Resize => with_managed_fields(stead_kinds::pod::resize::merged(&self.old_value, &body), &body),
        })
    }

    /// A change of the server's own: the new value is taken as it is.
    pub(crate) fn internal(kind: Kind, old: Arc<Object>, new: Value) -> Draft {
        Draft::of_stored(kind, Stored { object: old, value: None }, new)
    }

    fn of_stored(kind: Kind, old: Stored, new: Value) -> Draft {
        Draft {
            kind,
            part: Part::Internal,
            key: old.object.key.clone(),
            old_value: old.value.unwrap_or_else(|| old.object.value()),
            old: Some(old.object),
            new,
            is_applied: true,
            is_name_generated: false,
        }
    }

    pub(crate) fn applied(mut self) -> Draft {
        self.is_applied = true;
        self
    }

    pub(crate) fn is_creation(&self) -> bool {
        self.old.is_none()
    }

    pub(crate) fn name(&self) -> &str {
        &self.key.name
    }

    /// 403 about this object.
    pub(crate) fn forbidden(&self, why: &str) -> Status {
        Status::forbidden(self.kind.group, self.kind.plural, self.name(), why)
    }

    /// 422 about this object.
    pub(crate) fn invalid(&self, errors: Errors) -> Status {
        Status::invalid(self.kind.group, self.kind.kind, self.name(), errors)
    }
}

pub(crate) fn restore(map: &mut Map<String, Value>, field: &str, value: &Value) {
    match value {
        Value::Null => {
            map.shift_remove(field);
        }
        value => {
            map.insert(field.into(), value.clone());
        }
    }
}

/// The old object with another status, and with the body's metadata as far as the kind does not keep it; owners stay.
fn with_status(kind: &Kind, old: &Value, mut body: Value) -> Value {
    let mut new = old.clone();
    let Some(map) = new.as_object_mut() else { return body };
    restore(map, "status", &body["status"]);
    if kind.status_keeps == METADATA {
        if let Some(meta) = new["metadata"].as_object_mut() {
            restore(meta, "managedFields", &body["metadata"]["managedFields"]);
        }
        return new;
    }
    let mut metadata = body["metadata"].take();
    if let Some(meta) = metadata.as_object_mut() {
        let kept = kind.status_keeps.iter().filter_map(|path| path.strip_prefix("metadata."));
        for field in kept.chain(["ownerReferences"]) {
            restore(meta, field, &old["metadata"][field]);
        }
        new["metadata"] = metadata;
    }
    new
}

fn with_replicas(kind: &Kind, old: &Value, body: &Value) -> Result<Value, Status> {
    let replicas = body["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 {
        let mut errors = Errors::default();
        let at = FieldPath::new("spec").child("replicas");
        errors.invalid(&at, replicas, "must be greater than or equal to 0");
        let name = old["metadata"]["name"].as_str().unwrap_or_default();
        return Err(Status::invalid("autoscaling", "Scale", name, errors));
    }
    let mut new = old.clone();
    scale::set_replicas(kind, &mut new, replicas);
    Ok(new)
}

/// The old certificate request with the conditions of the body's status.
fn with_conditions(old: &Value, body: &Value) -> Value {
    let mut new = with_metadata(old, body);
    new["status"]["conditions"] = body["status"]["conditions"].clone();
    new
}

/// The old object with the body's metadata, as subresources of built-in kinds take it.
fn with_metadata(old: &Value, body: &Value) -> Value {
    let mut new = old.clone();
    if body["metadata"].is_object() {
        new["metadata"] = body["metadata"].clone();
        if let Some(meta) = new["metadata"].as_object_mut() {
            restore(meta, "ownerReferences", &old["metadata"]["ownerReferences"]);
        }
    }
    new
}

/// The old pod with the ephemeral containers of the body, and nothing else of it.
fn with_ephemeral_containers(old: &Value, body: &Value) -> Value {
    let mut new = old.clone();
    if let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) {
        restore(spec, "ephemeralContainers", &body["spec"]["ephemeralContainers"]);
    }
    with_managed_fields(new, body)
}

/// An applied body says who set which field.
fn with_managed_fields(mut new: Value, body: &Value) -> Value {
    if let Some(meta) = new["metadata"].as_object_mut() {
        restore(meta, "managedFields", &body["metadata"]["managedFields"]);
    }
    new
}

/// The old namespace with the finalizers of the body's spec.
fn with_finalizers(old: &Value, body: &Value) -> Value {
    let mut new = old.clone();
    if let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) {
        restore(spec, "finalizers", &body["spec"]["finalizers"]);
    }
    new
}
