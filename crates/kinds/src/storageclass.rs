//! StorageClass (V-03, V-04).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::TopologySelectorTerm;
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::Value;
use stead_api::names::qualified_name;
use stead_api::{Errors, Object};

use crate::check::{FIELD_IS_IMMUTABLE, list, one_of, required_name, text};
use crate::columns::{self, AGE_COLUMN};
use crate::fill::set_text;
use crate::names::names;
use crate::path::Path;
use crate::{Behavior, Column, Hooks, Kind};

pub const STORAGECLASS: Kind = Kind {
    short: &["sc"],
    namespaced: false,
    columns: COLUMNS,
    hooks: Hooks::of::<StorageClass>(),
    ..Kind::plain(
        "storageclasses.storage.k8s.io",
        "storage.k8s.io",
        "v1",
        names!("StorageClass", "storageclass", "storageclasses"),
        "io.k8s.api.storage.v1.StorageClass",
    )
};

/// Marks the class of claims that name none.
pub const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

const COLUMNS: &[Column] = &[
    Column { format: "name", ..columns::text("Name", name, "Its name, and whether it is the default.") },
    columns::path("Provisioner", "provisioner", "Who makes its volumes."),
    columns::path("ReclaimPolicy", "reclaimPolicy", "What happens to a volume when its claim is gone."),
    columns::path("VolumeBindingMode", "volumeBindingMode", "When claims are bound."),
    columns::text(
        "AllowVolumeExpansion",
        |object, _| (object.value()["allowVolumeExpansion"] == true).into(),
        "Whether claims may grow.",
    ),
    AGE_COLUMN,
];

fn name(object: &Object, _now: jiff::Timestamp) -> Value {
    let is_default = object.meta.annotation(DEFAULT_CLASS) == Some("true");
    if is_default { format!("{} (default)", object.key.name).into() } else { (*object.key.name).into() }
}

impl Behavior for StorageClass {
    fn default(new: &mut Value) {
        set_text(new, "reclaimPolicy", "Delete");
        set_text(new, "volumeBindingMode", "Immediate");
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let lower = |text: &str| qualified_name(&text.to_lowercase());
        required_name(Path::root("provisioner"), &self.provisioner, lower, errors);
        validate_parameters(self.parameters.as_ref(), errors);
        validate_topologies(list(&self.allowed_topologies), errors);
        one_of(Path::root("reclaimPolicy"), text(&self.reclaim_policy), &["Delete", "Retain"], true, errors);
        let modes = ["Immediate", "WaitForFirstConsumer"];
        one_of(Path::root("volumeBindingMode"), text(&self.volume_binding_mode), &modes, false, errors);
        let Some(old) = old else { return };
        for (field, changed) in [
            ("parameters", old.parameters != self.parameters),
            ("provisioner", old.provisioner != self.provisioner),
            ("reclaimPolicy", old.reclaim_policy != self.reclaim_policy),
        ] {
            if changed {
                Path::root(field).forbidden(errors, format!("updates to {field} are forbidden."));
            }
        }
        if old.volume_binding_mode != self.volume_binding_mode {
            Path::root("volumeBindingMode").invalid(errors, text(&self.volume_binding_mode), FIELD_IS_IMMUTABLE);
        }
    }
}

fn validate_parameters(parameters: Option<&BTreeMap<String, String>>, errors: &mut Errors) {
    const COUNT_MAX: usize = 512;
    const BYTES_MAX: usize = 256 * 1024;
    let (at, Some(parameters)) = (Path::root("parameters"), parameters) else { return };
    if parameters.len() > COUNT_MAX {
        return at.too_long(errors, COUNT_MAX);
    }
    if parameters.contains_key("") {
        at.invalid(errors, "", "field can not be empty.");
    }
    if parameters.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > BYTES_MAX {
        at.too_long(errors, BYTES_MAX);
    }
}

/// Each key once in a term, each value once for a key, and no term twice.
fn validate_topologies(terms: &[TopologySelectorTerm], errors: &mut Errors) {
    let mut seen: Vec<BTreeMap<&str, BTreeSet<&str>>> = vec![BTreeMap::new(); terms.len()];
    for (index, term) in terms.iter().enumerate() {
        let all = Path::root("allowedTopologies");
        let term_at = all.index(index);
        let at = term_at.child("matchLabelExpressions");
        let mut keys = BTreeMap::new();
        for (index, requirement) in list(&term.match_label_expressions).iter().enumerate() {
            let at = at.index(index);
            if requirement.values.is_empty() {
                at.child("values").required(errors, "");
            }
            let mut values = BTreeSet::new();
            for (index, value) in requirement.values.iter().enumerate() {
                if !values.insert(value.as_str()) {
                    at.child("values").index(index).duplicate(errors, value.as_str());
                }
            }
            for message in qualified_name(&requirement.key) {
                at.child("key").invalid(errors, requirement.key.as_str(), message);
            }
            if keys.insert(requirement.key.as_str(), values).is_some() {
                at.child("key").duplicate(errors, requirement.key.as_str());
            }
        }
        for _ in seen.iter().filter(|before| **before == keys) {
            at.duplicate(errors, "");
        }
        seen.push(keys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use stead_api::Key;

    #[test]
    fn a_topology_says_everything_once() {
        let value = json!({"metadata": {"name": "a"}, "provisioner": "p", "volumeBindingMode": "Immediate",
            "allowedTopologies": [
                {"matchLabelExpressions": [{"key": "k", "values": ["a", "a"]}, {"key": "k", "values": []}]},
                {"matchLabelExpressions": [{"key": "z", "values": ["b"]}]},
                {"matchLabelExpressions": [{"key": "z", "values": ["b"]}]}]});
        let errors = STORAGECLASS.check(&value, None).expect("decodes").errors;
        let at = "allowedTopologies[0].matchLabelExpressions";
        assert_eq!(
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                format!("{at}[0].values[1]: Duplicate value: \"a\""),
                format!("{at}[1].values: Required value"),
                format!("{at}[1].key: Duplicate value: \"k\""),
                "allowedTopologies[2].matchLabelExpressions: Duplicate value: \"\"".into(),
            ]
        );
    }

    #[test]
    fn a_class_is_filled_in_and_stays() {
        let mut value = json!({"metadata": {"name": "standard", "resourceVersion": "1",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "stead.io/directory"});
        (STORAGECLASS.hooks.default)(&mut value);
        assert_eq!((&value["reclaimPolicy"], &value["volumeBindingMode"]), (&json!("Delete"), &json!("Immediate")));
        let object = Object::of_value(
            Key::new("storageclasses.storage.k8s.io", "", "standard"),
            &value,
            &STORAGECLASS.stored_fields(),
        );
        let object = object.expect("an object");
        assert_eq!(name(&object, jiff::Timestamp::UNIX_EPOCH), "standard (default)");
        value["reclaimPolicy"] = "Retain".into();
        value["volumeBindingMode"] = "WaitForFirstConsumer".into();
        let errors = STORAGECLASS.check(&value, Some(&object)).expect("decodes").errors;
        assert_eq!(
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden.",
                "volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable",
            ]
        );
    }
}
