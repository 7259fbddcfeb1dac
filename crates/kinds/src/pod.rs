//! Pod: its declaration, what the server fills in, and what may change.

pub mod amounts;
pub mod columns;
pub mod placement;
pub mod qos;
mod references;
pub mod resize;
mod update;

pub use references::references;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use stead_api::Errors;
use stead_api::object::Fields;

use crate::fill::{object, object_or_new, put};
use crate::names::names;
use crate::path::Path;
use crate::template::{self, default_pod_spec, defaults::default_pod_only, validate_pod_spec};
use crate::{Behavior, Hooks, Kind, Subresource};

pub const POD: Kind = Kind {
    short: &["po"],
    categories: &["all"],
    has_generation: true,
    subresources: &[
        Subresource::Status,
        Subresource::Named("log"),
        Subresource::Named("exec"),
        Subresource::Named("attach"),
        Subresource::Named("portforward"),
        Subresource::Named("proxy"),
        Subresource::Named("binding"),
        Subresource::Named("eviction"),
        Subresource::Named("ephemeralcontainers"),
        Subresource::Named("resize"),
    ],
    fields: Fields {
        selectable: &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        indexed: &["spec.nodeName", "status.nominatedNodeName", "status.phase"],
        labels_indexed: true,
        ..Fields::NONE
    },
    columns: columns::COLUMNS,
    hooks: Hooks::of::<Pod>(),
    ..Kind::plain("pods", "", "v1", names!("Pod", "pod", "pods"), "io.k8s.api.core.v1.Pod")
};

impl Behavior for Pod {
    fn default(new: &mut Value) {
        if let Some(spec) = object_or_new(new, "spec") {
            default_pod_spec(spec);
            default_pod_only(spec);
        }
    }

    /// A new pod is Pending, in the QoS class that its resources make; later only the kubelet changes its status.
    fn prepare(new: &mut Value, old: Option<&Value>) {
        if old.is_some() {
            return;
        }
        let class = object(new, "spec").map_or("BestEffort", |spec| qos::class(spec));
        put(new, "status", Some(json!({"phase": "Pending", "qosClass": class})));
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let at = Path::root("spec");
        let Some(spec) = &self.spec else {
            at.child("containers").required(errors, "");
            return;
        };
        let old_spec = old.and_then(|old| old.spec.as_ref());
        if old_spec == Some(spec) {
            return;
        }
        let annotations = Path::root("metadata");
        let annotations = annotations.child("annotations");
        template::security::validate_annotations(annotations, self.metadata.annotations.as_ref(), spec, errors);
        validate_pod_spec(at, spec, errors);
        match old_spec {
            Some(old_spec) => {
                let before = old.and_then(|old| old.metadata.annotations.as_ref());
                template::security::validate_mirror(annotations, self.metadata.annotations.as_ref(), before, errors);
                update::validate(at, spec, old_spec, errors);
            }
            None if spec.ephemeral_containers.as_ref().is_some_and(|all| !all.is_empty()) => {
                at.child("ephemeralContainers").forbidden(errors, "cannot be set on create");
            }
            None => {}
        }
    }

    fn validate_part(&self, part: &str, old: Option<&Self>, errors: &mut Errors) {
        let at = Path::root("spec");
        let (Some(spec), Some(old_spec)) = (&self.spec, old.and_then(|old| old.spec.as_ref())) else {
            return self.validate(old, errors);
        };
        match part {
            "ephemeralcontainers" => {
                validate_pod_spec(at, spec, errors);
                template::ephemeral::validate_update(at.child("ephemeralContainers"), spec, old_spec, errors);
            }
            "resize" => {
                validate_pod_spec(at, spec, errors);
                resize::validate(at, (self, spec), old_spec, errors);
            }
            _ => self.validate(old, errors),
        }
    }

    fn warn(&self, _old: Option<&Self>) -> Vec<String> {
        template::warnings::of_pod(Path::root("spec"), &self.metadata, self.spec.as_ref())
    }
}

#[cfg(test)]
mod tests;
