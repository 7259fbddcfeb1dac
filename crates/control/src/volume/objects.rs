//! What claims, volumes and their classes say of themselves, as every part of the volume controller reads it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use stead_api::Object;

use crate::facts;
use crate::names::STORAGE_CLASS;
use crate::plan::View;

/// Keeps a volume while a claim is bound to it (V-13).
pub const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";

pub fn claim_spec(claim: &Object) -> k8s_openapi::api::core::v1::PersistentVolumeClaimSpec {
    claim.view::<PersistentVolumeClaim>().spec.clone().unwrap_or_default()
}

pub fn has_finalizer(object: &Object, name: &str) -> bool {
    object.meta.finalizers.iter().any(|finalizer| finalizer == name)
}

pub fn with_finalizer(object: &Object, name: &str) -> serde_json::Value {
    let mut value = object.value();
    let finalizers = &mut value["metadata"]["finalizers"];
    match finalizers.as_array_mut() {
        Some(list) => list.push(name.into()),
        None => *finalizers = serde_json::json!([name]),
    }
    value
}

pub fn without_finalizer(object: &Object, name: &str) -> serde_json::Value {
    let mut value = object.value();
    if let Some(list) = value["metadata"]["finalizers"].as_array_mut() {
        list.retain(|finalizer| finalizer != name);
    }
    value
}

/// The class that claims without one get: the newest of those marked as default, then by name (V-03).
pub fn default_class<'a>(view: &View<'a>) -> Option<&'a Arc<Object>> {
    let is_default =
        |class: &&Arc<Object>| class.meta.annotation("storageclass.kubernetes.io/is-default-class") == Some("true");
    view.snapshot.list(STORAGE_CLASS, "").filter(is_default).min_by_key(|class| {
        let age = class.meta.creation_timestamp.map(std::cmp::Reverse);
        (age, class.key.name.clone())
    })
}

pub fn class_of<'a>(view: &View<'a>, claim: &Object) -> Option<(&'a Arc<Object>, Arc<StorageClass>)> {
    let name = claim_spec(claim).storage_class_name.unwrap_or_default();
    let class = view.get(STORAGE_CLASS, "", &name)?;
    Some((class, class.view::<StorageClass>()))
}

/// Was such an event recorded about the object? What is said once per state is not said again at every look.
pub fn was_told(view: &View, about: &Object, reason: &str) -> bool {
    let events = facts::with_field(view, crate::names::EVENT, "involvedObject.uid", &about.meta.uid);
    events.iter().any(|event| match event.field("reason") {
        Some(text) => text == reason,
        None => event.value()["reason"] == reason,
    })
}
