//! PersistentVolume (V-04, V-11, V-24).

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeSpec};
use serde_json::{Value, json};
use stead_api::names::dns1123_subdomain;
use stead_api::{Errors, Object};

use crate::check::{list, name, one_of, quantity, semantically_equal, text};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN, wide};
use crate::fill::{object, object_or_new, put, quantities, set, set_text};
use crate::names::names;
use crate::path::Path;
use crate::persistentvolumeclaim::{
    CLASS_ANNOTATION, access_modes_text, add_finalizer, phase, unset, validate_access_modes,
};
use crate::template::sources::{self, Owner};
use crate::template::{affinity, volumes};
use crate::{Behavior, Column, Hooks, Kind, Subresource};

pub const PERSISTENTVOLUME: Kind = Kind {
    short: &["pv"],
    namespaced: false,
    subresources: &[Subresource::Status],
    columns: COLUMNS,
    hooks: Hooks::of::<PersistentVolume>(),
    ..Kind::plain(
        "persistentvolumes",
        "",
        "v1",
        names!("PersistentVolume", "persistentvolume", "persistentvolumes"),
        "io.k8s.api.core.v1.PersistentVolume",
    )
};

/// Keeps a volume while a claim is bound to it (V-13).
pub const PROTECTION: &str = "kubernetes.io/pv-protection";

/// Fields of the spec that are not a source of storage.
const NOT_SOURCES: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

impl Behavior for PersistentVolume {
    fn default(new: &mut Value) {
        if let Some(spec) = object_or_new(new, "spec") {
            set_text(spec, "persistentVolumeReclaimPolicy", "Retain");
            set_text(spec, "volumeMode", "Filesystem");
            quantities(spec, "capacity");
            sources::default(spec);
            if let Some(path) = object(spec, "hostPath") {
                set(path, "type", "");
            }
        }
        if let Some(status) = object_or_new(new, "status") {
            set_text(status, "phase", "Pending");
        }
    }

    fn prepare(new: &mut Value, old: Option<&Value>) {
        if old.is_none() {
            put(new, "status", Some(json!({"phase": "Pending"})));
            add_finalizer(new, PROTECTION);
        }
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let at = Path::root("spec");
        let empty = PersistentVolumeSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&empty);
        let old = old.and_then(|old| old.spec.as_ref());
        if old == Some(spec) {
            return;
        }
        validate_spec(at, text(&self.metadata.name), spec, errors);
        if let Some(old) = old {
            validate_update(at, spec, old, errors);
        }
    }

    fn warn(&self, _old: Option<&Self>) -> Vec<String> {
        let Some(spec) = &self.spec else { return Vec::new() };
        if text(&spec.persistent_volume_reclaim_policy) != "Recycle" {
            return Vec::new();
        }
        let message = "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning";
        vec![format!("spec.persistentVolumeReclaimPolicy: {message}")]
    }
}

/// The sources of storage that a spec names.
fn sources(spec: &PersistentVolumeSpec) -> serde_json::Map<String, Value> {
    let Value::Object(mut fields) = json!(spec) else { return Default::default() };
    fields.retain(|field, _| !NOT_SOURCES.contains(&field.as_str()));
    fields
}

fn validate_spec(at: Path, volume: &str, spec: &PersistentVolumeSpec, errors: &mut Errors) {
    if list(&spec.access_modes).is_empty() {
        at.child("accessModes").required(errors, "");
    }
    validate_access_modes(at.child("accessModes"), list(&spec.access_modes), errors);
    validate_capacity(at.child("capacity"), spec, errors);
    let sources = Value::Object(sources(spec));
    sources::validate(at, &sources, Owner::Persistent(volume), errors);
    let policy = text(&spec.persistent_volume_reclaim_policy);
    one_of(at.child("persistentVolumeReclaimPolicy"), policy, &["Delete", "Recycle", "Retain"], true, errors);
    if let Some(path) = &spec.host_path {
        volumes::validate_host_path(at.child("hostPath"), &path.path, text(&path.type_), errors);
        if path.path == "/" && policy == "Recycle" {
            let detail = "may not be 'recycle' for a hostPath mount of '/'";
            at.child("persistentVolumeReclaimPolicy").forbidden(errors, detail);
        }
    }
    if let Some(nfs) = &spec.nfs {
        volumes::validate_nfs(at.child("nfs"), &nfs.server, &nfs.path, errors);
    }
    if let Some(local) = &spec.local {
        let at = at.child("local");
        if local.path.is_empty() {
            at.child("path").required(errors, "");
        }
        crate::check::no_backsteps(at.child("path"), &local.path, errors);
    }
    match spec.node_affinity.as_ref().map(|affinity| affinity.required.as_ref()) {
        Some(Some(required)) => {
            let at = at.child("nodeAffinity");
            let at = at.child("required");
            affinity::validate_terms(at.child("nodeSelectorTerms"), &required.node_selector_terms, errors);
        }
        Some(None) => {
            at.child("nodeAffinity").child("required").required(errors, "must specify required node constraints")
        }
        None if spec.local.is_some() => {
            at.child("nodeAffinity").required(errors, "Local volume requires node affinity");
        }
        None => {}
    }
    name(at.child("storageClassName"), text(&spec.storage_class_name), dns1123_subdomain, errors);
    one_of(at.child("volumeMode"), text(&spec.volume_mode), &["Block", "Filesystem"], true, errors);
}

fn validate_capacity(at: Path, spec: &PersistentVolumeSpec, errors: &mut Errors) {
    let empty = Default::default();
    let capacity = spec.capacity.as_ref().unwrap_or(&empty);
    if capacity.is_empty() {
        at.required(errors, "");
    }
    if capacity.len() != 1 || !capacity.contains_key("storage") {
        at.not_supported(errors, json!(capacity), &["storage"]);
    }
    for (name, amount) in capacity {
        if let Some(found) = quantity(at.key(name), amount, errors)
            && found.sign() <= 0
        {
            at.key(name).invalid(errors, amount.0.as_str(), "must be greater than zero");
        }
    }
}

fn validate_update(at: Path, new: &PersistentVolumeSpec, old: &PersistentVolumeSpec, errors: &mut Errors) {
    let (mut now, before) = (Value::Object(sources(new)), Value::Object(sources(old)));
    // How a driver grows the volume may be said later.
    if before["csi"]["controllerExpandSecretRef"].is_null()
        && let Some(csi) = object(&mut now, "csi")
    {
        put(csi, "controllerExpandSecretRef", None);
    }
    if !semantically_equal(&now, &before) {
        let detail = "spec.persistentvolumesource is immutable after creation";
        at.child("persistentvolumesource").forbidden(errors, detail);
    }
    if new.volume_mode != old.volume_mode {
        at.child("volumeMode").invalid(errors, text(&new.volume_mode), crate::check::FIELD_IS_IMMUTABLE);
    }
    if old.node_affinity.is_some() && new.node_affinity != old.node_affinity {
        let detail = "field is immutable, except for updating from beta label to GA";
        at.child("nodeAffinity").invalid(errors, json!(new.node_affinity), detail);
    }
}

const COLUMNS: &[Column] = &[
    NAME_COLUMN,
    columns::text("Capacity", capacity, "The volume's size."),
    columns::text(
        "Access Modes",
        |object, _| of(object, |spec| access_modes_text(list(&spec.access_modes))),
        "How many nodes or pods may use it.",
    ),
    columns::path("Reclaim Policy", "spec.persistentVolumeReclaimPolicy", "What happens when its claim is gone."),
    columns::text("Status", |object, _| phase(object).into(), "Whether a claim has it."),
    columns::text("Claim", |object, _| of(object, claim), "The claim that has it."),
    columns::text("StorageClass", class, "The class it belongs to."),
    columns::text(
        "VolumeAttributesClass",
        |object, _| unset(of(object, |spec| text(&spec.volume_attributes_class_name).to_owned())),
        "The class of its changeable attributes.",
    ),
    columns::text(
        "Reason",
        |object, _| object.value()["status"]["reason"].as_str().unwrap_or("").into(),
        "Why it failed.",
    ),
    AGE_COLUMN,
    wide(columns::text(
        "VolumeMode",
        |object, _| unset(of(object, |spec| text(&spec.volume_mode).to_owned())),
        "Whether it is a file system or a raw device.",
    )),
];

fn of(object: &Object, print: fn(&PersistentVolumeSpec) -> String) -> Value {
    let volume = object.view::<PersistentVolume>();
    volume.spec.as_ref().map_or(String::new(), print).into()
}

fn capacity(object: &Object, _now: jiff::Timestamp) -> Value {
    of(object, |spec| spec.capacity.as_ref().and_then(|c| c.get("storage")).map_or(String::new(), |a| a.0.clone()))
}

fn claim(spec: &PersistentVolumeSpec) -> String {
    let claim = spec.claim_ref.as_ref();
    claim.map_or(String::new(), |claim| format!("{}/{}", text(&claim.namespace), text(&claim.name)))
}

fn class(object: &Object, _now: jiff::Timestamp) -> Value {
    match object.meta.annotation(CLASS_ANNOTATION) {
        Some(class) => class.into(),
        None => of(object, |spec| text(&spec.storage_class_name).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stead_api::Key;

    fn volume(spec: Value) -> (Value, Vec<String>) {
        let mut value = json!({"metadata": {"name": "pv1", "resourceVersion": "1"}, "spec": spec});
        (PERSISTENTVOLUME.hooks.default)(&mut value);
        let errors = PERSISTENTVOLUME.check(&value, None).expect("decodes").errors;
        (value, errors.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_host_path_volume_is_kept_by_default() {
        let (value, errors) = volume(json!({"capacity": {"storage": "1024Mi"}, "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": "/srv"}}));
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(
            value["spec"],
            json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                "hostPath": {"path": "/srv", "type": ""}, "persistentVolumeReclaimPolicy": "Retain",
                "volumeMode": "Filesystem"})
        );
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(
            volume(json!({"local": {"path": "/x"}, "hostPath": {"path": "/"}, "capacity": {"storage": "0"},
                "accessModes": ["ReadWriteOncePod", "ReadWriteOnce"]}))
            .1,
            [
                "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
                "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
                "spec.local: Forbidden: may not specify more than 1 volume type",
                "spec.nodeAffinity: Required value: Local volume requires node affinity",
            ]
        );
        assert_eq!(
            volume(json!({})).1,
            [
                "spec.accessModes: Required value",
                "spec.capacity: Required value",
                "spec.capacity: Unsupported value: {}: supported values: \"storage\"",
                "spec: Required value: must specify a volume type"
            ]
        );
    }

    #[test]
    fn the_source_never_changes() {
        let spec =
            json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/srv"}});
        let (old, _) = volume(spec);
        let stored =
            Object::of_value(Key::new("persistentvolumes", "", "pv1"), &old, &PERSISTENTVOLUME.stored_fields())
                .expect("an object");
        let csi = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "csi": {"driver": "d", "volumeHandle": "h"}});
        let (old_csi, _) = volume(csi);
        let mut new_csi = old_csi.clone();
        new_csi["spec"]["csi"]["controllerExpandSecretRef"] = json!({"name": "s", "namespace": "n"});
        let key = Key::new("persistentvolumes", "", "pv1");
        let stored_csi = Object::of_value(key, &old_csi, &PERSISTENTVOLUME.stored_fields()).expect("an object");
        assert!(PERSISTENTVOLUME.check(&new_csi, Some(&stored_csi)).expect("decodes").errors.is_empty());
        let mut new = old.clone();
        new["spec"]["hostPath"]["path"] = "/other".into();
        let errors = PERSISTENTVOLUME.check(&new, Some(&stored)).expect("decodes").errors;
        assert_eq!(
            errors.0[0].to_string(),
            "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"
        );
    }
}
