//! RuntimeClass.

use k8s_openapi::api::node::v1::RuntimeClass;
use serde_json::{Value, json};
use stead_api::Errors;
use stead_api::names::dns1123_label;

use crate::check::{NOT_NEGATIVE, label_map, list, quantity, required_name};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN};
use crate::fill::{object, quantities};
use crate::names::names;
use crate::path::Path;
use crate::template::affinity::validate_toleration;
use crate::{Behavior, Hooks, Kind};

pub const RUNTIMECLASS: Kind = Kind {
    namespaced: false,
    create_on_update: true,
    unconditional_update: false,
    immutable: &["handler"],
    columns: &[NAME_COLUMN, columns::path("Handler", "handler", "The runtime's configuration."), AGE_COLUMN],
    hooks: Hooks::of::<RuntimeClass>(),
    ..Kind::plain(
        "runtimeclasses.node.k8s.io",
        "node.k8s.io",
        "v1",
        names!("RuntimeClass", "runtimeclass", "runtimeclasses"),
        "io.k8s.api.node.v1.RuntimeClass",
    )
};

/// Told until nodes know other runtimes than their own.
const ONE_RUNTIME: &str =
    "nodes have one runtime: pods of this class get its overhead and scheduling, and run under that one";

impl Behavior for RuntimeClass {
    fn warn(&self, old: Option<&Self>) -> Vec<String> {
        if old.is_none() { vec![ONE_RUNTIME.to_owned()] } else { Vec::new() }
    }

    fn default(new: &mut Value) {
        if let Some(overhead) = object(new, "overhead") {
            quantities(overhead, "podFixed");
        }
    }

    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        required_name(Path::root("handler"), &self.handler, dns1123_label, errors);
        let at = Path::root("overhead");
        let at = at.child("podFixed");
        let fixed = self.overhead.iter().filter_map(|overhead| overhead.pod_fixed.as_ref()).flatten();
        for (name, amount) in fixed {
            if !name.contains('/') && !matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
                at.key(name).invalid(errors, name.as_str(), "must be a standard resource type or fully qualified");
            }
            if quantity(at.key(name), amount, errors).is_some_and(|found| found.sign() < 0) {
                at.key(name).invalid(errors, amount.0.as_str(), NOT_NEGATIVE);
            }
        }
        if let Some(scheduling) = &self.scheduling {
            let at = Path::root("scheduling");
            label_map(at.child("nodeSelector"), scheduling.node_selector.as_ref(), errors);
            let (at, tolerations) = (at.child("tolerations"), list(&scheduling.tolerations));
            for (index, toleration) in tolerations.iter().enumerate() {
                validate_toleration(at.child("tolerations").index(index), toleration, errors);
                if tolerations[..index].contains(toleration) {
                    at.index(index).duplicate(errors, json!(toleration));
                }
            }
        }
    }
}
