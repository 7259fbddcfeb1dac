//! PersistentVolumeClaim (V-01, V-02, V-14).

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as QuantityText;
use serde_json::{Value, json};
use stead_api::names::dns1123_subdomain;
use stead_api::{Errors, Object, Quantity};

use crate::check::{NOT_NEGATIVE, label_selector, list, name, one_of, quantity, semantically_equal, text};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN, wide};
use crate::fill::{object, object_or_new, put, quantities, set_text};
use crate::names::names;
use crate::path::Path;
use crate::template::defaults::default_claim_spec;
use crate::{Behavior, Column, Hooks, Kind, Subresource};

pub const PERSISTENTVOLUMECLAIM: Kind = Kind {
    short: &["pvc"],
    subresources: &[Subresource::Status],
    columns: COLUMNS,
    hooks: Hooks::of::<PersistentVolumeClaim>(),
    ..Kind::plain(
        "persistentvolumeclaims",
        "",
        "v1",
        names!("PersistentVolumeClaim", "persistentvolumeclaim", "persistentvolumeclaims"),
        "io.k8s.api.core.v1.PersistentVolumeClaim",
    )
};

/// Keeps a claim while pods use it (V-13).
pub const PROTECTION: &str = "kubernetes.io/pvc-protection";
/// How claims and volumes named their class before there was a field.
pub const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

const ACCESS_MODES: &[(&str, &str)] =
    &[("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOnce", "RWO"), ("ReadWriteOncePod", "RWOP")];

impl Behavior for PersistentVolumeClaim {
    fn default(new: &mut Value) {
        if let Some(spec) = object_or_new(new, "spec") {
            default_claim_spec(spec);
        }
        if let Some(status) = object_or_new(new, "status") {
            set_text(status, "phase", "Pending");
            quantities(status, "capacity");
            quantities(status, "allocatedResources");
        }
    }

    fn prepare(new: &mut Value, old: Option<&Value>) {
        if let Some(spec) = object(new, "spec") {
            mirror_data_source(spec);
        }
        if old.is_none() {
            put(new, "status", Some(json!({"phase": "Pending"})));
            add_finalizer(new, PROTECTION);
        }
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let at = Path::root("spec");
        match (old, &self.spec) {
            (Some(old), _) if old.spec == self.spec => {}
            (Some(old), _) => validate_update(at, self, old, errors),
            (None, spec) => validate_spec(at, spec.as_ref().unwrap_or(&PersistentVolumeClaimSpec::default()), errors),
        }
    }

    fn warn(&self, _old: Option<&Self>) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.metadata.annotations.as_ref().is_some_and(|found| found.contains_key(CLASS_ANNOTATION)) {
            let message = "deprecated since v1.8; use \"storageClassName\" attribute instead";
            warnings.push(format!("metadata.annotations[{CLASS_ANNOTATION}]: {message}"));
        }
        if let Some(spec) = &self.spec {
            warnings.extend(warn_of_fraction(Path::root("spec"), spec));
        }
        warnings
    }
}

/// Warns of storage that is not a whole number of bytes; also in claim templates.
pub fn warn_of_fraction(at: Path, spec: &PersistentVolumeClaimSpec) -> Option<String> {
    let request = storage_request(spec)?;
    let quantity = request.0.parse::<Quantity>().ok()?;
    let field = at.child("resources");
    (quantity != Quantity::from_int(quantity.value())).then(|| {
        let field = field.child("requests").key("storage").field();
        format!("{field}: fractional byte value \"{}\" is invalid, must be an integer", request.0)
    })
}

/// Adds a finalizer once.
pub fn add_finalizer(new: &mut Value, finalizer: &str) {
    let Some(meta) = object_or_new(new, "metadata") else { return };
    crate::fill::set(meta, "finalizers", Vec::<Value>::new());
    if let Some(list) = meta.get_mut("finalizers").and_then(Value::as_array_mut)
        && !list.iter().any(|found| found == finalizer)
    {
        list.push(finalizer.into());
    }
}

/// `dataSource` and `dataSourceRef` say the same when no namespace is given (V-19).
fn mirror_data_source(spec: &mut Value) {
    let source = spec.get("dataSource").filter(|found| found.is_object()).cloned();
    let reference = spec.get("dataSourceRef").filter(|found| found.is_object()).cloned();
    match (source, reference) {
        (Some(source), None) => put(spec, "dataSourceRef", Some(source)),
        (None, Some(reference)) if reference.get("namespace").is_none_or(Value::is_null) => {
            put(spec, "dataSource", Some(reference));
        }
        _ => {}
    }
}

fn storage_request(spec: &PersistentVolumeClaimSpec) -> Option<&QuantityText> {
    spec.resources.as_ref()?.requests.as_ref()?.get("storage")
}

/// Checks a new claim's spec; also of claim templates and ephemeral volumes.
pub fn validate_spec(at: Path, spec: &PersistentVolumeClaimSpec, errors: &mut Errors) {
    validate_access_modes(at.child("accessModes"), list(&spec.access_modes), errors);
    if list(&spec.access_modes).is_empty() {
        at.child("accessModes").required(errors, "at least 1 access mode is required");
    }
    if let Some(selector) = &spec.selector {
        label_selector(at.child("selector"), selector, errors);
    }
    let resources = at.child("resources");
    match storage_request(spec) {
        None => resources.key("storage").required(errors, ""),
        Some(request) => {
            if let Some(found) = quantity(resources.key("storage"), request, errors) {
                if found.sign() < 0 {
                    resources.key("storage").invalid(errors, request.0.as_str(), NOT_NEGATIVE);
                }
                if found.sign() <= 0 {
                    resources.key("storage").invalid(errors, request.0.as_str(), "must be greater than zero");
                }
            }
        }
    }
    name(at.child("storageClassName"), text(&spec.storage_class_name), dns1123_subdomain, errors);
    one_of(at.child("volumeMode"), text(&spec.volume_mode), &["Block", "Filesystem"], true, errors);
    if let Some(source) = &spec.data_source {
        validate_source(at.child("dataSource"), &source.name, &source.kind, text(&source.api_group), errors);
    }
    if let Some(source) = &spec.data_source_ref {
        validate_source(at.child("dataSourceRef"), &source.name, &source.kind, text(&source.api_group), errors);
    }
}

/// Modes that exist, and ReadWriteOncePod alone (V-14); also of volumes.
pub fn validate_access_modes(at: Path, modes: &[String], errors: &mut Errors) {
    let known: Vec<&str> = ACCESS_MODES.iter().map(|(mode, _)| *mode).collect();
    for mode in modes {
        if !known.contains(&mode.as_str()) {
            at.not_supported(errors, mode.as_str(), &known);
        }
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        at.forbidden(errors, "may not use ReadWriteOncePod with other access modes");
    }
}

fn validate_source(at: Path, name: &str, kind: &str, group: &str, errors: &mut Errors) {
    if name.is_empty() {
        at.child("name").required(errors, "");
    }
    if kind.is_empty() {
        at.child("kind").required(errors, "");
    }
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        at.invalid(errors, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
    }
}

/// After creation: a volume may be named once, a class given once, and a bound claim grown (V-02, V-17).
fn validate_update(at: Path, new: &PersistentVolumeClaim, old: &PersistentVolumeClaim, errors: &mut Errors) {
    let (Some(spec), Some(before)) = (&new.spec, &old.spec) else { return };
    let mut same = spec.clone();
    if text(&before.volume_name).is_empty() {
        same.volume_name = before.volume_name.clone();
    }
    if before.storage_class_name.is_none() {
        same.storage_class_name = None;
    }
    let is_bound = old.status.as_ref().is_some_and(|status| text(&status.phase) == "Bound");
    if is_bound {
        same.volume_attributes_class_name = before.volume_attributes_class_name.clone();
        let storage = storage_request(before).cloned();
        if let (Some(requests), Some(storage)) =
            (same.resources.as_mut().and_then(|resources| resources.requests.as_mut()), storage)
        {
            requests.insert("storage".to_owned(), storage);
        }
    }
    if !semantically_equal(&json!(same), &json!(before)) {
        let detail =
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        at.forbidden(errors, detail);
    }
    let size = |text: Option<&QuantityText>| text.and_then(|text| text.0.parse::<Quantity>().ok());
    let (asked, had) = (size(storage_request(spec)), size(storage_request(before)));
    let capacity = old.status.as_ref().and_then(|status| status.capacity.as_ref()?.get("storage"));
    let at = at.child("resources");
    let at = at.child("requests").field().child("storage");
    if asked < had && asked < size(capacity) {
        errors.forbidden(&at, "field can not be less than status.capacity");
    }
}

/// `RWO,ROX`, in the order kubectl prints them.
pub fn access_modes_text(modes: &[String]) -> String {
    let order = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];
    let short = |mode: &str| ACCESS_MODES.iter().find(|(long, _)| *long == mode).map_or("", |(_, short)| *short);
    let found: Vec<&str> =
        order.iter().filter(|mode| modes.iter().any(|m| m == *mode)).map(|mode| short(mode)).collect();
    found.join(",")
}

const COLUMNS: &[Column] = &[
    NAME_COLUMN,
    columns::text("Status", |object, _| phase(object).into(), "Whether the claim has a volume."),
    columns::text("Volume", |object, _| claim_text(object, |spec| &spec.volume_name), "The volume it is bound to."),
    columns::text("Capacity", capacity, "The volume's size."),
    columns::text("Access Modes", modes, "The volume's access modes."),
    columns::text("StorageClass", class, "The class the volume comes from."),
    columns::text("VolumeAttributesClass", attributes, "The class of the volume's changeable attributes."),
    AGE_COLUMN,
    wide(columns::text("VolumeMode", volume_mode, "Whether it is a file system or a raw device.")),
];

/// The phase, or Terminating.
pub fn phase(object: &Object) -> String {
    if object.meta.is_deleting() {
        return "Terminating".to_owned();
    }
    object.value()["status"]["phase"].as_str().unwrap_or("").to_owned()
}

fn claim_text(object: &Object, field: fn(&PersistentVolumeClaimSpec) -> &Option<String>) -> Value {
    let claim = object.view::<PersistentVolumeClaim>();
    claim.spec.as_ref().map_or("", |spec| text(field(spec))).into()
}

fn is_named(claim: &PersistentVolumeClaim) -> bool {
    claim.spec.as_ref().is_some_and(|spec| !text(&spec.volume_name).is_empty())
}

fn capacity(object: &Object, _now: jiff::Timestamp) -> Value {
    let claim = object.view::<PersistentVolumeClaim>();
    let found = claim.status.as_ref().and_then(|status| status.capacity.as_ref()?.get("storage"));
    found.filter(|_| is_named(&claim)).map_or("", |amount| &amount.0).into()
}

fn modes(object: &Object, _now: jiff::Timestamp) -> Value {
    let claim = object.view::<PersistentVolumeClaim>();
    let found = claim.status.as_ref().map_or(&[][..], |status| list(&status.access_modes));
    if is_named(&claim) { access_modes_text(found).into() } else { "".into() }
}

fn class(object: &Object, _now: jiff::Timestamp) -> Value {
    match object.meta.annotation(CLASS_ANNOTATION) {
        Some(class) => class.into(),
        None => claim_text(object, |spec| &spec.storage_class_name),
    }
}

fn attributes(object: &Object, _now: jiff::Timestamp) -> Value {
    unset(claim_text(object, |spec| &spec.volume_attributes_class_name))
}

fn volume_mode(object: &Object, _now: jiff::Timestamp) -> Value {
    unset(claim_text(object, |spec| &spec.volume_mode))
}

/// What kubectl prints for an optional field that is absent.
pub fn unset(value: Value) -> Value {
    if value == "" { "<unset>".into() } else { value }
}
