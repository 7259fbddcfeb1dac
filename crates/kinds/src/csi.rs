//! What storage drivers say: CSIDriver, CSINode, CSIStorageCapacity, VolumeAttachment, VolumeAttributesClass.

use std::collections::BTreeSet;

use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, VolumeAttachment, VolumeAttributesClass};
use serde_json::{Value, json};
use stead_api::names::{dns1123_subdomain, qualified_name};
use stead_api::{Errors, Object};

use crate::check::{
    FIELD_IS_IMMUTABLE, NOT_NEGATIVE, label_selector, list, not_negative, one_of, quantity, required_name, text,
};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN};
use crate::fill::{object_or_new, quantity as canonical, set, set_text};
use crate::names::names;
use crate::path::Path;
use crate::{Behavior, Hooks, Kind, METADATA, Names, Subresource};

const fn storage(storage: &'static str, names: Names, definition: &'static str) -> Kind {
    Kind { namespaced: false, ..Kind::plain(storage, "storage.k8s.io", "v1", names, definition) }
}

pub const CSIDRIVER: Kind = Kind {
    has_generation: true,
    unconditional_update: false,
    immutable: &["spec.attachRequired", "spec.volumeLifecycleModes"],
    columns: &[
        NAME_COLUMN,
        columns::text(
            "AttachRequired",
            |o, _| o.value()["spec"]["attachRequired"].clone(),
            "Whether volumes are attached to nodes.",
        ),
        columns::text(
            "PodInfoOnMount",
            |o, _| o.value()["spec"]["podInfoOnMount"].clone(),
            "Whether it is told of the pod.",
        ),
        columns::text(
            "StorageCapacity",
            |o, _| o.value()["spec"]["storageCapacity"].clone(),
            "Whether it says how much is free.",
        ),
        columns::text("TokenRequests", audiences, "Audiences of the tokens that it gets."),
        columns::text(
            "RequiresRepublish",
            |o, _| (o.value()["spec"]["requiresRepublish"] == true).into(),
            "Whether it is called again and again.",
        ),
        columns::text("Modes", |o, _| joined(&o.value()["spec"]["volumeLifecycleModes"]), "What volumes it has."),
        AGE_COLUMN,
    ],
    hooks: Hooks::of::<CSIDriver>(),
    ..storage(
        "csidrivers.storage.k8s.io",
        names!("CSIDriver", "csidriver", "csidrivers"),
        "io.k8s.api.storage.v1.CSIDriver",
    )
};

pub const CSINODE: Kind = Kind {
    unconditional_update: false,
    columns: &[
        NAME_COLUMN,
        columns::integer(
            "Drivers",
            |o, _| o.value()["spec"]["drivers"].as_array().map_or(0, Vec::len).into(),
            "How many drivers run there.",
        ),
        AGE_COLUMN,
    ],
    hooks: Hooks::of::<CSINode>(),
    ..storage("csinodes.storage.k8s.io", names!("CSINode", "csinode", "csinodes"), "io.k8s.api.storage.v1.CSINode")
};

pub const CSISTORAGECAPACITY: Kind = Kind {
    namespaced: true,
    unconditional_update: false,
    immutable: &["nodeTopology", "storageClassName"],
    columns: &[
        NAME_COLUMN,
        columns::path("StorageClassName", "storageClassName", "Whose capacity it is."),
        columns::path("Capacity", "capacity", "How much is free."),
    ],
    hooks: Hooks::of::<CSIStorageCapacity>(),
    ..storage(
        "csistoragecapacities.storage.k8s.io",
        names!("CSIStorageCapacity", "csistoragecapacity", "csistoragecapacities"),
        "io.k8s.api.storage.v1.CSIStorageCapacity",
    )
};

pub const VOLUMEATTACHMENT: Kind = Kind {
    unconditional_update: false,
    status_keeps: METADATA,
    subresources: &[Subresource::Status],
    columns: &[
        NAME_COLUMN,
        columns::path("Attacher", "spec.attacher", "Who attaches it."),
        columns::text(
            "PV",
            |o, _| o.value()["spec"]["source"]["persistentVolumeName"].as_str().unwrap_or("").into(),
            "The volume.",
        ),
        columns::path("Node", "spec.nodeName", "Where it is attached."),
        columns::text("Attached", |o, _| (o.value()["status"]["attached"] == true).into(), "Whether it is."),
        AGE_COLUMN,
    ],
    hooks: Hooks::of::<VolumeAttachment>(),
    ..storage(
        "volumeattachments.storage.k8s.io",
        names!("VolumeAttachment", "volumeattachment", "volumeattachments"),
        "io.k8s.api.storage.v1.VolumeAttachment",
    )
};

pub const VOLUMEATTRIBUTESCLASS: Kind = Kind {
    short: &["vac"],
    columns: &[NAME_COLUMN, columns::path("DriverName", "driverName", "Whose attributes they are."), AGE_COLUMN],
    hooks: Hooks::of::<VolumeAttributesClass>(),
    ..storage(
        "volumeattributesclasses.storage.k8s.io",
        names!("VolumeAttributesClass", "volumeattributesclass", "volumeattributesclasses"),
        "io.k8s.api.storage.v1.VolumeAttributesClass",
    )
};

fn joined(value: &Value) -> Value {
    let words: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if words.is_empty() { "<none>".into() } else { words.join(",").into() }
}

fn audiences(object: &Object, _now: jiff::Timestamp) -> Value {
    let value = object.value();
    let all =
        value["spec"]["tokenRequests"].as_array().into_iter().flatten().filter_map(|one| one["audience"].as_str());
    let all: Vec<&str> = all.collect();
    if all.is_empty() { "<unset>".into() } else { all.join(",").into() }
}

const DRIVER_NAME_MAX: usize = 63;

pub fn driver_name(at: Path, name: &str, errors: &mut Errors) {
    if name.is_empty() {
        at.required(errors, "");
    }
    if name.len() > DRIVER_NAME_MAX {
        at.too_long(errors, DRIVER_NAME_MAX);
    }
    crate::check::name(at, &name.to_lowercase(), dns1123_subdomain, errors);
}

impl Behavior for CSIDriver {
    fn default(new: &mut Value) {
        let Some(spec) = object_or_new(new, "spec") else { return };
        for (field, value) in [
            ("attachRequired", true),
            ("podInfoOnMount", false),
            ("storageCapacity", false),
            ("requiresRepublish", false),
            ("seLinuxMount", false),
        ] {
            set(spec, field, value);
        }
        set_text(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        set(spec, "volumeLifecycleModes", json!(["Persistent"]));
    }

    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        let at = Path::root("metadata");
        driver_name(at.child("name"), self.metadata.name.as_deref().unwrap_or(""), errors);
        let (at, spec) = (Path::root("spec"), &self.spec);
        let policies = ["File", "None", "ReadWriteOnceWithFSType"];
        one_of(at.child("fsGroupPolicy"), text(&spec.fs_group_policy), &policies, false, errors);
        let at_modes = at.child("volumeLifecycleModes");
        for (index, mode) in list(&spec.volume_lifecycle_modes).iter().enumerate() {
            one_of(at_modes.index(index), mode, &["Ephemeral", "Persistent"], false, errors);
        }
        let mut seen = BTreeSet::new();
        let at_tokens = at.child("tokenRequests");
        for (index, token) in list(&spec.token_requests).iter().enumerate() {
            let at = at_tokens.index(index);
            if !seen.insert(&token.audience) {
                at.child("audience").duplicate(errors, token.audience.as_str());
            }
            const SECONDS_MIN: i64 = 600;
            if token.expiration_seconds.is_some_and(|seconds| seconds < SECONDS_MIN) {
                let seconds = token.expiration_seconds.unwrap_or(0);
                at.child("expirationSeconds").invalid(
                    errors,
                    seconds,
                    "may not specify a duration less than 10 minutes",
                );
            }
        }
    }
}

impl Behavior for CSINode {
    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let at = Path::root("spec");
        let at = at.child("drivers");
        let mut seen = BTreeSet::new();
        for (index, driver) in self.spec.drivers.iter().enumerate() {
            let at = at.index(index);
            driver_name(at.child("name"), &driver.name, errors);
            if !seen.insert(&driver.name) {
                at.child("name").duplicate(errors, driver.name.as_str());
            }
            const NODE_ID_MAX: usize = 256;
            if driver.node_id.is_empty() {
                at.child("nodeID").required(errors, "");
            } else if driver.node_id.len() > NODE_ID_MAX {
                let detail = format!("must be {NODE_ID_MAX} characters or less");
                at.child("nodeID").invalid(errors, driver.node_id.as_str(), detail);
            }
            not_negative(
                at.child("allocatable").child("count"),
                driver.allocatable.as_ref().and_then(|a| a.count),
                errors,
            );
            let keys = list(&driver.topology_keys);
            for (index, key) in keys.iter().enumerate() {
                if key.is_empty() {
                    at.required(errors, "");
                }
                if keys[..index].contains(key) {
                    at.duplicate(errors, key.as_str());
                }
                for message in qualified_name(key) {
                    at.invalid(errors, json!(keys), message);
                }
            }
        }
        // A driver that stays says the same of its node.
        for before in old.iter().flat_map(|old| &old.spec.drivers) {
            if let Some(now) = self.spec.drivers.iter().find(|one| one.name == before.name)
                && (now.node_id != before.node_id || now.topology_keys != before.topology_keys)
            {
                Path::root("CSINodeDriver").invalid(errors, json!(now), FIELD_IS_IMMUTABLE);
            }
        }
    }
}

impl Behavior for CSIStorageCapacity {
    fn default(new: &mut Value) {
        canonical(new, "capacity");
        canonical(new, "maximumVolumeSize");
    }

    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        required_name(Path::root("storageClassName"), &self.storage_class_name, dns1123_subdomain, errors);
        for (field, amount) in [("capacity", &self.capacity), ("maximumVolumeSize", &self.maximum_volume_size)] {
            let at = Path::root(field);
            if let Some(amount) = amount
                && quantity(at, amount, errors).is_some_and(|found| found.sign() < 0)
            {
                at.invalid(errors, amount.0.as_str(), NOT_NEGATIVE);
            }
        }
        if let Some(selector) = &self.node_topology {
            label_selector(Path::root("nodeTopology"), selector, errors);
        }
    }
}

impl Behavior for VolumeAttachment {
    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let (at, spec) = (Path::root("spec"), &self.spec);
        if old.is_some_and(|old| old.spec != *spec) {
            at.invalid(errors, json!(spec), FIELD_IS_IMMUTABLE);
        }
        driver_name(at.child("attacher"), &spec.attacher, errors);
        let source = at.child("source");
        match (&spec.source.persistent_volume_name, &spec.source.inline_volume_spec) {
            (None, None) => {
                source.required(errors, "must specify exactly one of inlineVolumeSpec and persistentVolumeName")
            }
            (Some(_), Some(_)) => {
                source.forbidden(errors, "must specify exactly one of inlineVolumeSpec and persistentVolumeName");
            }
            (Some(volume), None) => {
                required_name(source.child("persistentVolumeName"), volume, dns1123_subdomain, errors)
            }
            (None, Some(_)) => {}
        }
        required_name(at.child("nodeName"), &spec.node_name, dns1123_subdomain, errors);
    }
}

impl Behavior for VolumeAttributesClass {
    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let lower = |text: &str| qualified_name(&text.to_lowercase());
        required_name(Path::root("driverName"), &self.driver_name, lower, errors);
        let at = Path::root("parameters");
        let parameters = self.parameters.as_ref().filter(|map| !map.is_empty());
        match parameters {
            None => at.required(errors, "must contain at least one key/value pair"),
            Some(map) if map.contains_key("") => at.invalid(errors, "", "field can not be empty."),
            Some(_) => {}
        }
        let Some(old) = old else { return };
        if old.driver_name != self.driver_name {
            Path::root("driverName").forbidden(errors, "updates to driverName are forbidden.");
        }
        if old.parameters != self.parameters {
            at.forbidden(errors, "updates to parameters are forbidden.");
        }
    }
}
