//! Checks of `metadata`, the same for every kind.
//!
//! Works on the JSON value, so that custom resources are checked by the same lines. Texts and limits as Kubernetes has them.

use std::collections::BTreeSet;

use serde_json::Value;
use stead_api::names::{label_value, qualified_name};
use stead_api::status::FieldErrorKind;
use stead_api::{Errors, Object};

use crate::names::path_segment;
use crate::path::Path;
use crate::{Kind, SchemaRef};

/// The bytes of all annotation keys and values together.
pub const ANNOTATION_BYTES_MAX: usize = 256 << 10;

/// Told of a finalizer without a domain.
pub const NOT_A_FINALIZER: &str = "name is neither a standard finalizer name nor is it fully qualified";

/// Checks `metadata` of a new object, or of a new version of `old`.
pub fn validate(kind: &Kind, new: &Value, old: Option<&Object>, errors: &mut Errors) {
    let at = Path::root("metadata");
    let meta = &new["metadata"];
    validate_names(kind, meta, &at, errors);
    validate_labels(pairs(&meta["labels"]), at.child("labels"), errors);
    validate_annotations(pairs(&meta["annotations"]), &at.child("annotations"), errors);
    validate_owners(&meta["ownerReferences"], &at.child("ownerReferences"), errors);
    let is_lenient = kind.schema == SchemaRef::Custom || LENIENT_GROUPS.contains(&kind.group);
    validate_finalizers(is_lenient, &meta["finalizers"], &at.child("finalizers"), errors);
    if let Some(old) = old {
        validate_update(meta, old, &at, errors);
    }
}

/// Checks `metadata` of an object of any kind, of which little has to be there.
pub(crate) fn validate_any(meta: &Value, at: &Path, errors: &mut Errors) {
    for field in ["generateName", "name"].into_iter().filter(|field| !text(meta, field).is_empty()) {
        for message in path_segment(text(meta, field)) {
            at.child(field).invalid(errors, text(meta, field), message);
        }
    }
    let namespace = text(meta, "namespace");
    if !namespace.is_empty() {
        for message in stead_api::names::dns1123_label(namespace) {
            at.child("namespace").invalid(errors, namespace, message);
        }
    }
    validate_labels(pairs(&meta["labels"]), at.child("labels"), errors);
    validate_annotations(pairs(&meta["annotations"]), &at.child("annotations"), errors);
    validate_owners(&meta["ownerReferences"], &at.child("ownerReferences"), errors);
    validate_finalizers(true, &meta["finalizers"], &at.child("finalizers"), errors);
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or("")
}

fn validate_names(kind: &Kind, meta: &Value, at: &Path, errors: &mut Errors) {
    let generate = text(meta, "generateName");
    if !generate.is_empty() {
        // A prefix may end in a dash: something follows it.
        let masked = generate.strip_suffix('-').map_or(generate.to_owned(), |stem| format!("{stem}a"));
        for message in (kind.name_rule)(&masked) {
            at.child("generateName").invalid(errors, generate, message);
        }
    }
    let name = text(meta, "name");
    if name.is_empty() {
        if kind.verbs != crate::Verbs::CreateOnly {
            at.child("name").required(errors, "name or generateName is required");
        }
    } else {
        for message in (kind.name_rule)(name) {
            at.child("name").invalid(errors, name, message);
        }
    }
    let namespace = text(meta, "namespace");
    if kind.namespaced {
        if namespace.is_empty() {
            at.child("namespace").required(errors, "");
        } else {
            for message in stead_api::names::dns1123_label(namespace) {
                at.child("namespace").invalid(errors, namespace, message);
            }
        }
    } else if !namespace.is_empty() {
        at.child("namespace").forbidden(errors, "not allowed on this type");
    }
}

/// The texts of a map; what is not a text is left to the decoder.
fn pairs(map: &Value) -> impl Iterator<Item = (&str, &str)> {
    map.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str().unwrap_or("")))
}

fn validate_labels<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>, at: Path, errors: &mut Errors) {
    for (key, value) in labels {
        for message in qualified_name(key) {
            at.invalid(errors, key, message);
        }
        for message in label_value(value) {
            at.invalid(errors, value, message);
        }
    }
}

/// Keys of annotations, and the bytes of them all.
pub fn validate_annotations<'a>(annotations: impl Iterator<Item = (&'a str, &'a str)>, at: &Path, errors: &mut Errors) {
    let mut bytes = 0;
    for (key, value) in annotations {
        for message in qualified_name(&key.to_lowercase()) {
            at.invalid(errors, key, message);
        }
        bytes += key.len() + value.len();
    }
    if bytes > ANNOTATION_BYTES_MAX {
        at.too_long(errors, ANNOTATION_BYTES_MAX);
    }
}

fn validate_owners(owners: &Value, at: &Path, errors: &mut Errors) {
    let mut controller: Option<&str> = None;
    for (index, owner) in owners.as_array().into_iter().flatten().enumerate() {
        let at_owner = at.index(index);
        let (version, kind) = (text(owner, "apiVersion"), text(owner, "kind"));
        if version.is_empty() {
            at_owner.child("apiVersion").invalid(errors, version, "version must not be empty");
        }
        if (version, kind) == ("v1", "Event") {
            at_owner.invalid(errors, owner.clone(), "/v1, Kind=Event is disallowed from being an owner");
        }
        for (field, message) in
            [("kind", "must not be empty"), ("name", "must not be empty"), ("uid", "must not be empty")]
        {
            if text(owner, field).is_empty() {
                at_owner.child(field).invalid(errors, "", message);
            }
        }
        if owner["controller"] == true {
            if let Some(first) = controller {
                let message = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {}",
                    text(owner, "name")
                );
                at.invalid(errors, owners.clone(), message);
            }
            controller = controller.or(Some(text(owner, "name")));
        }
    }
}

/// Finalizers without a domain that have a meaning of their own.
const STANDARD_FINALIZERS: &[&str] = &["kubernetes", "orphan", "foregroundDeletion"];
/// Groups whose kinds take finalizers without a domain, as custom resources do.
const LENIENT_GROUPS: &[&str] = &["admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io"];

fn validate_finalizers(is_lenient: bool, finalizers: &Value, at: &Path, errors: &mut Errors) {
    let names: Vec<&str> = finalizers.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for name in &names {
        for message in qualified_name(name) {
            at.invalid(errors, *name, message);
        }
    }
    for (index, name) in names.iter().enumerate().filter(|_| !is_lenient) {
        if !name.contains('/') && !STANDARD_FINALIZERS.contains(name) {
            at.index(index).invalid(errors, *name, NOT_A_FINALIZER);
        }
    }
    if names.contains(&"orphan") && names.contains(&"foregroundDeletion") {
        let message = "finalizer orphan and foregroundDeletion cannot be both set";
        at.invalid(errors, finalizers.clone(), message);
    }
}

/// What a custom resource's client is told of finalizers that it adds without a domain.
pub fn finalizer_warnings(new: &Value, old: &Value) -> Vec<String> {
    let names = |value: &Value| -> BTreeSet<String> {
        let names = value["metadata"]["finalizers"].as_array().into_iter().flatten();
        names.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let added = &names(new) - &names(old);
    let is_plain = |name: &&String| !name.contains('/') && !STANDARD_FINALIZERS.contains(&name.as_str());
    let advice = "prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other \
                  finalizer writers";
    added.iter().filter(is_plain).map(|name| format!("metadata.finalizers: {name:?}: {advice}")).collect()
}

/// What may not change once an object exists.
fn validate_update(meta: &Value, old: &Object, at: &Path, errors: &mut Errors) {
    const IMMUTABLE: &str = "field is immutable";
    for (field, before) in
        [("name", &*old.key.name), ("namespace", &*old.key.namespace), ("uid", old.meta.uid.as_str())]
    {
        if text(meta, field) != before {
            at.child(field).invalid(errors, text(meta, field), IMMUTABLE);
        }
    }
    if old.meta.is_deleting() {
        let added: Vec<&str> = meta["finalizers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .filter(|name| !old.meta.finalizers.iter().any(|kept| kept == name))
            .collect();
        if !added.is_empty() {
            let list = added.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
            let message = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}"
            );
            at.child("finalizers").push(errors, FieldErrorKind::Forbidden, Value::Null, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CONFIGMAP;
    use crate::namespace::NAMESPACE;
    use serde_json::json;

    fn check(kind: &Kind, metadata: Value) -> Vec<String> {
        let mut errors = Errors::default();
        validate(kind, &json!({"metadata": metadata}), None, &mut errors);
        errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn good_metadata_passes() {
        let good = json!({"name": "a", "namespace": "b", "labels": {"app.k8s.io/x": "y", "e": ""},
            "annotations": {"Example.com/Any": "{\"a\": 1}"}, "finalizers": ["example.com/keep", "orphan"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}]});
        assert_eq!(check(&CONFIGMAP, good), Vec::<String>::new());
        assert_eq!(check(&NAMESPACE, json!({"name": "n", "generateName": "n-"})), Vec::<String>::new());
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let bad = json!({"name": "A", "labels": {"-": "x y"}, "annotations": {"k": "v".repeat(256 << 10)},
            "finalizers": ["a/b/c"], "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "", "uid": "u"}]});
        let fields: Vec<String> =
            check(&CONFIGMAP, bad).iter().map(|text| text.split(": ").take(2).collect::<Vec<_>>().join(": ")).collect();
        assert_eq!(
            fields,
            [
                "metadata.name: Invalid value",
                "metadata.namespace: Required value",
                "metadata.labels: Invalid value",
                "metadata.labels: Invalid value",
                "metadata.annotations: Too long",
                "metadata.ownerReferences[0].name: Invalid value",
                "metadata.finalizers: Invalid value",
            ]
        );
        assert_eq!(
            check(&NAMESPACE, json!({"name": "n", "namespace": "x"})),
            ["metadata.namespace: Forbidden: not allowed on this type"]
        );
    }
}
