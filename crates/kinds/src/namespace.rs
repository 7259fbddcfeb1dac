//! Namespace and ServiceAccount.

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use serde_json::{Value, json};
use stead_api::Errors;
use stead_api::object::Fields;

use crate::columns::{self, AGE_COLUMN, NAME_COLUMN};
use crate::fill::{object_or_new, put, set};
use crate::names::{self, names};
use crate::path::Path;
use crate::persistentvolumeclaim::phase;
use crate::{Behavior, Hooks, Kind, Subresource};

pub const NAMESPACE: Kind = Kind {
    short: &["ns"],
    namespaced: false,
    name_rule: names::dns1123_label,
    subresources: &[Subresource::Status, Subresource::Named("finalize")],
    fields: Fields { selectable: &["status.phase"], indexed: &[], labels_indexed: true, ..Fields::NONE },
    columns: &[
        NAME_COLUMN,
        columns::text("Status", |object, _| phase(object).into(), "Whether it is in use or going."),
        AGE_COLUMN,
    ],
    hooks: Hooks::of::<Namespace>(),
    ..Kind::plain(
        "namespaces",
        "",
        "v1",
        names!("Namespace", "namespace", "namespaces"),
        "io.k8s.api.core.v1.Namespace",
    )
};

pub const SERVICEACCOUNT: Kind = Kind {
    short: &["sa"],
    subresources: &[Subresource::Named("token")],
    columns: &[
        NAME_COLUMN,
        columns::integer(
            "Secrets",
            |object, _| object.value()["secrets"].as_array().map_or(0, Vec::len).into(),
            "How many secrets it names.",
        ),
        AGE_COLUMN,
    ],
    hooks: Hooks::of::<ServiceAccount>(),
    ..Kind::plain(
        "serviceaccounts",
        "",
        "v1",
        names!("ServiceAccount", "serviceaccount", "serviceaccounts"),
        "io.k8s.api.core.v1.ServiceAccount",
    )
};

/// The label by which a namespace is selected by its name.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// The finalizer of `spec.finalizers` that lets the content go first.
pub const FINALIZER: &str = "kubernetes";

impl Behavior for Namespace {
    fn default(new: &mut Value) {
        let name = new.get("metadata").and_then(|meta| meta.get("name")).and_then(Value::as_str).map(str::to_owned);
        let Some(name) = name.filter(|name| !name.is_empty()) else { return };
        if let Some(meta) = object_or_new(new, "metadata")
            && let Some(labels) = object_or_new(meta, "labels")
        {
            put(labels, NAME_LABEL, Some(name.into()));
        }
    }

    /// Clients neither set nor remove `spec.finalizers`; the finalize subresource does, which passes no old object.
    fn prepare(new: &mut Value, old: Option<&Value>) {
        match old {
            None => {
                put(new, "spec", Some(json!({"finalizers": [FINALIZER]})));
                put(new, "status", Some(json!({"phase": "Active"})));
            }
            Some(old) => {
                set(new, "spec", json!({}));
                let finalizers = old.get("spec").and_then(|spec| spec.get("finalizers")).cloned();
                if let Some(spec) = object_or_new(new, "spec") {
                    put(spec, "finalizers", finalizers);
                }
            }
        }
    }

    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        let at = Path::root("spec");
        let at = at.child("finalizers");
        let finalizers = self.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
        for (index, finalizer) in finalizers.into_iter().flatten().enumerate() {
            for message in stead_api::names::qualified_name(finalizer) {
                at.index(index).invalid(errors, finalizer.as_str(), message);
            }
            if !finalizer.contains('/') && finalizer != FINALIZER {
                at.index(index).invalid(errors, finalizer.as_str(), crate::meta::NOT_A_FINALIZER);
            }
        }
    }
}

impl Behavior for ServiceAccount {}
