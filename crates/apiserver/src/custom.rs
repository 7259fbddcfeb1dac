//! CustomResourceDefinitions: the registry of a snapshot with the kinds they bring.
//!
//! Contract: an established definition is served from the write that established it. What a definition's kinds are is said by
//! `Kind::of_crd`.

pub(crate) mod definition;

use std::sync::Arc;

use serde_json::Value;
use stead_api::schema::KindSchema;
use stead_api::status::FieldErrorKind;
use stead_api::{Errors, FieldPath, Object};
use stead_kinds::{Kind, Registry, SchemaRef, Subresource};
use stead_store::Snapshot;

use crate::{Context, scale};

pub(crate) const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

/// The registry of a snapshot: built-in kinds and those of its CustomResourceDefinitions.
pub fn registry_of(snapshot: &Snapshot) -> Arc<Registry> {
    renewed(&Registry::default(), snapshot)
}

fn renewed(before: &Registry, snapshot: &Snapshot) -> Arc<Registry> {
    let mut registry = before.renewed(served(snapshot));
    for definition in snapshot.list(DEFINITIONS, "") {
        registry.note_definition(before, &definition.key.name, definition.revision());
    }
    Arc::new(registry)
}

/// The kinds of established definitions.
fn served(snapshot: &Snapshot) -> impl Iterator<Item = (Kind, Arc<Value>)> {
    let definitions = snapshot.list(DEFINITIONS, "").map(|object| object.value());
    definitions.filter(is_established).flat_map(|definition| Kind::of_crd(&definition))
}

/// Checks a custom resource by its schema, then by the schema's rules if they can be evaluated.
pub(crate) fn validate(
    registry: &Registry,
    kind: &Kind,
    schema: &KindSchema,
    (new, old): (&Value, &Value),
    errors: &mut Errors,
    warnings: &mut Vec<String>,
) {
    warnings.extend(stead_kinds::meta::finalizer_warnings(new, old));
    let old = (!old.is_null()).then_some(old);
    let root = FieldPath::default();
    schema.validate_change(new, old, &root, errors);
    validate_scale(kind, new, errors);
    stead_kinds::custom::embedded::validate_inside(schema, new, errors);
    // Lists that repeat themselves already may go on.
    let mut before = Errors::default();
    old.into_iter().for_each(|old| schema.validate_lists(old, &root, &mut before));
    if before.is_empty() {
        schema.validate_lists(new, &root, errors);
    }
    let Some(rules) = registry.rules(kind) else { return };
    let blocks = |kind| {
        use FieldErrorKind::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
        matches!(kind, NotSupported | Required | TooLong | TooMany | TypeInvalid)
    };
    if errors.0.iter().any(|error| blocks(error.kind)) {
        let why = "some validation rules were not checked because the object was invalid; correct the existing errors to \
                   complete validation";
        return errors.invalid(&FieldPath::new("<nil>"), Value::Null, why);
    }
    rules.check(schema, new, old, errors, warnings);
}

/// What autoscalers read must fit a Scale.
fn validate_scale(kind: &Kind, new: &Value, errors: &mut Errors) {
    let Some(Subresource::Scale { spec, status, .. }) = kind.subresource("scale") else { return };
    for path in [spec, status] {
        let place = FieldPath::new(&format!(".{path}"));
        match scale::at(new, path) {
            Value::Null => {}
            Value::Number(number) if number.as_i64().is_some_and(|found| found > i64::from(i32::MAX)) => {
                errors.invalid(&place, number.clone(), format!("should be less than or equal to {}", i32::MAX));
            }
            Value::Number(number) if number.as_i64().is_some_and(|found| found < 0) => {
                errors.invalid(&place, number.clone(), "should be a non-negative integer");
            }
            Value::Number(number) if number.is_i64() => {}
            other => {
                let why = format!("{place} accessor error: {other} is of the type {}, expected int64", go_type(other));
                errors.invalid(&place, 0, why);
            }
        }
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Serves what a written definition says.
pub(crate) fn after_write(ctx: &mut Context, object: &Object) {
    if object.key.kind == DEFINITIONS {
        *ctx.registry = renewed(ctx.registry, ctx.store.snapshot());
    }
}

/// Whether the definition of a custom kind is going away: nothing is created then.
pub(crate) fn is_ending(snapshot: &Snapshot, kind: &Kind) -> bool {
    kind.schema == SchemaRef::Custom
        && snapshot.find(DEFINITIONS, "", kind.storage).is_some_and(|object| object.meta.is_deleting())
}

fn is_established(definition: &Value) -> bool {
    let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|one| one["type"] == "Established" && one["status"] == "True")
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
