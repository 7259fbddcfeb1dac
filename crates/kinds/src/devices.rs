//! resource.k8s.io: DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice.

use std::collections::BTreeSet;

use k8s_openapi::api::resource::v1::{
    DeviceClaim, DeviceClass, DeviceRequest, DeviceSelector, OpaqueDeviceConfiguration, ResourceClaim,
    ResourceClaimSpec, ResourceClaimTemplate, ResourceSlice,
};
use serde_json::{Value, json};
use stead_api::names::{dns1123_label, dns1123_subdomain};
use stead_api::object::Fields;
use stead_api::status::FieldErrorKind;
use stead_api::{Errors, Object};

use crate::check::{FIELD_IS_IMMUTABLE, list, name, one_of, required_name, text};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN};
use crate::fill::{each, object, object_or_new, set, set_text};
use crate::names::names;
use crate::path::Path;
use crate::{Behavior, Hooks, Kind, METADATA, Names, Subresource};

const GROUP: &str = "resource.k8s.io";
const REQUESTS_MAX: usize = 32;
const SELECTORS_MAX: usize = 32;
const DEVICES_MAX: usize = 128;

const fn device(storage: &'static str, names: Names, definition: &'static str) -> Kind {
    Kind { has_generation: true, ..Kind::plain(storage, GROUP, "v1", names, definition) }
}

pub const DEVICECLASS: Kind = Kind {
    namespaced: false,
    hooks: Hooks::of::<DeviceClass>(),
    ..device(
        "deviceclasses.resource.k8s.io",
        names!("DeviceClass", "deviceclass", "deviceclasses"),
        "io.k8s.api.resource.v1.DeviceClass",
    )
};

pub const RESOURCECLAIM: Kind = Kind {
    has_generation: false,
    immutable: &["spec"],
    subresources: &[Subresource::Status],
    status_keeps: METADATA,
    columns: &[NAME_COLUMN, columns::text("State", state, "What became of it."), AGE_COLUMN],
    hooks: Hooks::of::<ResourceClaim>(),
    ..device(
        "resourceclaims.resource.k8s.io",
        names!("ResourceClaim", "resourceclaim", "resourceclaims"),
        "io.k8s.api.resource.v1.ResourceClaim",
    )
};

pub const RESOURCECLAIMTEMPLATE: Kind = Kind {
    has_generation: false,
    immutable: &["spec"],
    hooks: Hooks::of::<ResourceClaimTemplate>(),
    ..device(
        "resourceclaimtemplates.resource.k8s.io",
        names!("ResourceClaimTemplate", "resourceclaimtemplate", "resourceclaimtemplates"),
        "io.k8s.api.resource.v1.ResourceClaimTemplate",
    )
};

pub const RESOURCESLICE: Kind = Kind {
    namespaced: false,
    fields: Fields {
        selectable: &["spec.driver", "spec.nodeName"],
        indexed: &[],
        labels_indexed: false,
        ..Fields::NONE
    },
    columns: &[
        NAME_COLUMN,
        columns::text(
            "Node",
            |o, _| o.value()["spec"]["nodeName"].as_str().unwrap_or("").into(),
            "Where the devices are.",
        ),
        columns::path("Driver", "spec.driver", "Who looks after them."),
        columns::path("Pool", "spec.pool.name", "The pool that they are of."),
        AGE_COLUMN,
    ],
    hooks: Hooks::of::<ResourceSlice>(),
    ..device(
        "resourceslices.resource.k8s.io",
        names!("ResourceSlice", "resourceslice", "resourceslices"),
        "io.k8s.api.resource.v1.ResourceSlice",
    )
};

/// `pending`, `allocated,reserved`, `deleted,…`.
fn state(object: &Object, _now: jiff::Timestamp) -> Value {
    let value = object.value();
    let status = &value["status"];
    let mut words = Vec::new();
    if object.meta.is_deleting() {
        words.push("deleted");
    }
    if !status["allocation"].is_null() {
        words.push("allocated");
    }
    if status["reservedFor"].as_array().is_some_and(|list| !list.is_empty()) {
        words.push("reserved");
    }
    if words.is_empty() { "pending".into() } else { words.join(",").into() }
}

fn default_claim(spec: &mut Value) {
    let Some(devices) = object(spec, "devices") else { return };
    for request in each(devices, "requests") {
        if let Some(exactly) = object(request, "exactly") {
            default_request(exactly);
        }
        each(request, "firstAvailable").for_each(default_request);
    }
}

fn default_request(request: &mut Value) {
    set_text(request, "allocationMode", "ExactCount");
    if request["allocationMode"] == "ExactCount" {
        set(request, "count", 1);
    }
    for toleration in each(request, "tolerations") {
        set_text(toleration, "operator", "Equal");
    }
}

fn too_many(at: Path, count: usize, limit: usize, errors: &mut Errors) {
    if count > limit {
        at.push(errors, FieldErrorKind::TooMany, count, format!("must have at most {limit} items"));
    }
}

fn validate_selectors(at: Path, selectors: &[DeviceSelector], errors: &mut Errors) {
    too_many(at, selectors.len(), SELECTORS_MAX, errors);
    for (index, selector) in selectors.iter().enumerate() {
        let at = at.index(index);
        match &selector.cel {
            None => at.child("cel").required(errors, ""),
            Some(cel) if cel.expression.is_empty() => at.child("cel").child("expression").required(errors, ""),
            Some(_) => {}
        }
    }
}

fn validate_opaque(at: Path, opaque: Option<&OpaqueDeviceConfiguration>, errors: &mut Errors) {
    let Some(opaque) = opaque else { return at.child("opaque").required(errors, "") };
    let at = at.child("opaque");
    required_name(at.child("driver"), &opaque.driver, dns1123_subdomain, errors);
    match &opaque.parameters.0 {
        Value::Null => at.child("parameters").required(errors, ""),
        Value::Object(_) => {}
        other => at.child("parameters").invalid(errors, other.clone(), "must be a valid JSON object"),
    }
}

fn validate_claim(at: Path, spec: &ResourceClaimSpec, errors: &mut Errors) {
    let at = at.child("devices");
    let empty = DeviceClaim::default();
    let claim = spec.devices.as_ref().unwrap_or(&empty);
    let requests = list(&claim.requests);
    too_many(at.child("requests"), requests.len(), REQUESTS_MAX, errors);
    let mut seen = BTreeSet::new();
    for (index, request) in requests.iter().enumerate() {
        let all = at.child("requests");
        let at = all.index(index);
        validate_request(at, request, errors);
        if !request.name.is_empty() && !seen.insert(request.name.as_str()) {
            at.duplicate(errors, request.name.as_str());
        }
    }
    let named = |at: Path, names: &[String], errors: &mut Errors| {
        for (index, one) in names.iter().enumerate() {
            let base = one.split('/').next().unwrap_or("");
            if !seen.contains(base) {
                at.index(index).invalid(errors, one.as_str(), "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'");
            }
        }
    };
    for (index, constraint) in list(&claim.constraints).iter().enumerate() {
        let all = at.child("constraints");
        let at = all.index(index);
        named(at.child("requests"), list(&constraint.requests), errors);
        if text(&constraint.match_attribute).is_empty() && text(&constraint.distinct_attribute).is_empty() {
            at.required(errors, "exactly one of `matchAttribute` or `distinctAttribute` is required");
        }
    }
    for (index, config) in list(&claim.config).iter().enumerate() {
        let all = at.child("config");
        let at = all.index(index);
        named(at.child("requests"), list(&config.requests), errors);
        validate_opaque(at, config.opaque.as_ref(), errors);
    }
}

fn validate_request(at: Path, request: &DeviceRequest, errors: &mut Errors) {
    required_name(at.child("name"), &request.name, dns1123_label, errors);
    let subs = list(&request.first_available);
    match (&request.exactly, subs.is_empty()) {
        (None, true) => at.required(errors, "exactly one of `exactly` or `firstAvailable` is required"),
        (Some(_), false) => at.invalid(
            errors,
            json!(request),
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        ),
        _ => {}
    }
    if let Some(exactly) = &request.exactly {
        let at = at.child("exactly");
        let mode = text(&exactly.allocation_mode);
        validate_exact(at, &exactly.device_class_name, mode, exactly.count, list(&exactly.selectors), errors);
    }
    for (index, sub) in subs.iter().enumerate() {
        let all = at.child("firstAvailable");
        let at = all.index(index);
        required_name(at.child("name"), &sub.name, dns1123_label, errors);
        validate_exact(at, &sub.device_class_name, text(&sub.allocation_mode), sub.count, list(&sub.selectors), errors);
    }
}

fn validate_exact(
    at: Path,
    class: &str,
    mode: &str,
    count: Option<i64>,
    selectors: &[DeviceSelector],
    errors: &mut Errors,
) {
    required_name(at.child("deviceClassName"), class, dns1123_subdomain, errors);
    validate_selectors(at.child("selectors"), selectors, errors);
    match (mode, count.unwrap_or(0)) {
        ("All", 0) => {}
        ("All", count) => {
            at.child("count").invalid(errors, count, "must not be specified when allocationMode is 'All'")
        }
        ("ExactCount", count) if count <= 0 => at.child("count").invalid(errors, count, "must be greater than zero"),
        ("ExactCount", _) => {}
        (other, _) => one_of(at.child("allocationMode"), other, &["All", "ExactCount"], false, errors),
    }
}

impl Behavior for DeviceClass {
    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        let at = Path::root("spec");
        validate_selectors(at.child("selectors"), list(&self.spec.selectors), errors);
        for (index, config) in list(&self.spec.config).iter().enumerate() {
            let all = at.child("config");
            validate_opaque(all.index(index), config.opaque.as_ref(), errors);
        }
    }
}

impl Behavior for ResourceClaim {
    fn default(new: &mut Value) {
        if let Some(spec) = object_or_new(new, "spec") {
            default_claim(spec);
        }
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        if old.is_none() {
            validate_claim(Path::root("spec"), &self.spec, errors);
        }
    }
}

impl Behavior for ResourceClaimTemplate {
    fn default(new: &mut Value) {
        if let Some(template) = object_or_new(new, "spec")
            && let Some(spec) = object_or_new(template, "spec")
        {
            default_claim(spec);
        }
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        if old.is_none() {
            let at = Path::root("spec");
            validate_claim(at.child("spec"), &self.spec.spec, errors);
        }
    }
}

impl Behavior for ResourceSlice {
    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let (at, spec) = (Path::root("spec"), &self.spec);
        required_name(at.child("driver"), &spec.driver, dns1123_subdomain, errors);
        let pool = at.child("pool");
        required_name(
            pool.child("name"),
            &spec.pool.name,
            |name| name.split('/').flat_map(dns1123_subdomain).collect(),
            errors,
        );
        if spec.pool.resource_slice_count <= 0 {
            pool.child("resourceSliceCount").invalid(
                errors,
                spec.pool.resource_slice_count,
                "must be greater than zero",
            );
        }
        crate::check::not_negative(pool.child("generation"), Some(spec.pool.generation), errors);
        let node = text(&spec.node_name);
        name(at.child("nodeName"), node, dns1123_subdomain, errors);
        let places = [
            !node.is_empty(),
            spec.node_selector.is_some(),
            spec.all_nodes == Some(true),
            spec.per_device_node_selection == Some(true),
        ];
        let given = places.iter().filter(|is_set| **is_set).count();
        let detail = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
        match given {
            0 => at.required(errors, detail),
            1 => {}
            _ => at.invalid(errors, given, format!("{detail}, but multiple fields are set")),
        }
        let devices = list(&spec.devices);
        too_many(at.child("devices"), devices.len(), DEVICES_MAX, errors);
        let mut seen = BTreeSet::new();
        for (index, device) in devices.iter().enumerate() {
            let all = at.child("devices");
            let at = all.index(index);
            required_name(at.child("name"), &device.name, dns1123_label, errors);
            if !seen.insert(&device.name) {
                at.child("name").duplicate(errors, device.name.as_str());
            }
        }
        let Some(old) = old else { return };
        for (field, new, before) in
            [("nodeName", node, text(&old.spec.node_name)), ("driver", &spec.driver, &old.spec.driver)]
        {
            if new != before {
                at.child(field).invalid(errors, new, FIELD_IS_IMMUTABLE);
            }
        }
        if spec.pool.name != old.spec.pool.name {
            pool.child("name").invalid(errors, spec.pool.name.as_str(), FIELD_IS_IMMUTABLE);
        }
    }
}
