//! Kinds with no behaviour or a few lines of it, one constant each.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::Value;
use stead_api::object::Fields;
use stead_api::{Errors, Object};

use crate::check::{not_negative, one_of, text};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN};
use crate::fill::set_text;
use crate::names::names;
use crate::path::Path;
use crate::{Behavior, Hooks, Kind, Verbs};

/// Its data never changes (CR-02, CR-06).
pub const CONTROLLERREVISION: Kind = Kind {
    immutable: &["data"],
    fields: Fields { selectable: &[], indexed: &[], labels_indexed: true, ..Fields::NONE },
    columns: &[
        NAME_COLUMN,
        columns::text("Controller", controller, "The object whose revision it is."),
        columns::path("Revision", "revision", "The number of the revision."),
        AGE_COLUMN,
    ],
    hooks: Hooks::of::<ControllerRevision>(),
    ..Kind::plain(
        "controllerrevisions.apps",
        "apps",
        "v1",
        names!("ControllerRevision", "controllerrevision", "controllerrevisions"),
        "io.k8s.api.apps.v1.ControllerRevision",
    )
};

/// A lock with an end; resourceVersion is the whole safety, so every update names it.
pub const LEASE: Kind = Kind {
    create_on_update: true,
    unconditional_update: false,
    columns: &[NAME_COLUMN, columns::path("Holder", "spec.holderIdentity", "Who has it."), AGE_COLUMN],
    hooks: Hooks::of::<Lease>(),
    ..Kind::plain(
        "leases.coordination.k8s.io",
        "coordination.k8s.io",
        "v1",
        names!("Lease", "lease", "leases"),
        "io.k8s.api.coordination.v1.Lease",
    )
};

/// Health of the control plane's parts, as old clients ask for it; computed, never stored.
pub const COMPONENTSTATUS: Kind = Kind {
    short: &["cs"],
    namespaced: false,
    verbs: Verbs::ReadOnly,
    columns: &[
        NAME_COLUMN,
        columns::text("Status", |object, _| health(object, "status"), "Whether it is healthy."),
        columns::text("Message", |object, _| health(object, "message"), "What it says."),
        columns::text("Error", |object, _| health(object, "error"), "What is wrong."),
    ],
    ..Kind::plain(
        "componentstatuses",
        "",
        "v1",
        names!("ComponentStatus", "componentstatus", "componentstatuses"),
        "io.k8s.api.core.v1.ComponentStatus",
    )
};

/// One field of the condition Healthy; a true condition prints as `Healthy`.
fn health(object: &Object, field: &str) -> Value {
    let value = object.value();
    let found = value["conditions"][0][field].as_str().unwrap_or("");
    match (field, found) {
        ("status", "True") => "Healthy".into(),
        ("status", "False") => "Unhealthy".into(),
        ("status", _) => "Unknown".into(),
        (_, text) => text.into(),
    }
}

/// Puts a pod on a node: the older way, beside the pod's own subresource.
pub const BINDING: Kind = Kind {
    verbs: Verbs::CreateOnly,
    name_rule: crate::names::any,
    ..Kind::plain("bindings", "", "v1", names!("Binding", "binding", "bindings"), "io.k8s.api.core.v1.Binding")
};

pub const PRIORITYCLASS: Kind = Kind {
    short: &["pc"],
    namespaced: false,
    has_generation: true,
    immutable: &["value", "preemptionPolicy"],
    columns: &[
        NAME_COLUMN,
        columns::text("Value", |object, _| object.value()["value"].as_i64().unwrap_or(0).into(), "The priority."),
        columns::text(
            "Global-Default",
            |object, _| (object.value()["globalDefault"] == true).into(),
            "Whether pods get it that name none.",
        ),
        AGE_COLUMN,
        columns::path("PreemptionPolicy", "preemptionPolicy", "Whether its pods push others out."),
    ],
    hooks: Hooks::of::<PriorityClass>(),
    ..Kind::plain(
        "priorityclasses.scheduling.k8s.io",
        "scheduling.k8s.io",
        "v1",
        names!("PriorityClass", "priorityclass", "priorityclasses"),
        "io.k8s.api.scheduling.v1.PriorityClass",
    )
};

/// The highest priority a user may give.
const USER_PRIORITY_MAX: i32 = 1_000_000_000;

/// The classes that every cluster has.
pub const SYSTEM_PRIORITIES: &[(&str, i32)] =
    &[("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// `statefulset.apps/web`.
fn controller(object: &Object, _now: jiff::Timestamp) -> Value {
    let Some(owner) = object.meta.controller() else { return "<none>".into() };
    let kind = owner.kind.to_lowercase();
    match owner.api_version.split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{}", owner.name).into(),
        None => format!("{kind}/{}", owner.name).into(),
    }
}

impl Behavior for ControllerRevision {
    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        not_negative(Path::root("revision"), Some(self.revision), errors);
        if old.is_none() && self.data.is_none() {
            Path::root("data").required(errors, "data is mandatory");
        }
    }
}

impl Behavior for Lease {
    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        let Some(spec) = &self.spec else { return };
        let at = Path::root("spec");
        if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
            at.child("leaseDurationSeconds").invalid(errors, seconds, "must be greater than 0");
        }
        not_negative(at.child("leaseTransitions"), spec.lease_transitions, errors);
    }
}

impl Behavior for PriorityClass {
    fn default(new: &mut Value) {
        set_text(new, "preemptionPolicy", "PreemptLowerPriority");
    }

    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        let name = self.metadata.name.as_deref().unwrap_or("");
        let value = self.value.unwrap_or(0);
        let is_system = SYSTEM_PRIORITIES.contains(&(name, value));
        if name.starts_with("system-") && !is_system {
            let detail = "priority class names with 'system-' prefix are reserved for system use only. error: ";
            let known = SYSTEM_PRIORITIES.iter().any(|(system, _)| *system == name);
            let why = if known {
                "value of a system priority class cannot change"
            } else {
                "not a known system priority class"
            };
            Path::root("metadata").child("name").forbidden(errors, format!("{detail}{why}"));
        } else if value > USER_PRIORITY_MAX && !is_system {
            let detail = format!("maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}");
            Path::root("value").forbidden(errors, detail);
        }
        let policies = ["Never", "PreemptLowerPriority"];
        one_of(Path::root("preemptionPolicy"), text(&self.preemption_policy), &policies, true, errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use stead_api::Key;

    #[test]
    fn a_revision_names_its_controller() {
        let value = json!({"metadata": {"name": "web-1", "namespace": "b", "resourceVersion": "1", "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "u", "controller": true}]},
            "revision": 1, "data": {"spec": {}}});
        let object = Object::of_value(
            Key::new("controllerrevisions.apps", "b", "web-1"),
            &value,
            &CONTROLLERREVISION.stored_fields(),
        );
        let object = object.expect("an object");
        assert_eq!(controller(&object, jiff::Timestamp::UNIX_EPOCH), "statefulset.apps/web");
        let mut changed = value.clone();
        changed["data"] = json!({"spec": {"template": {}}, "x": 1});
        changed["revision"] = json!(2);
        let errors = CONTROLLERREVISION.check(&changed, Some(&object)).expect("decodes").errors;
        assert_eq!(errors.0.len(), 1);
        assert!(errors.0[0].to_string().ends_with("field is immutable"));
    }

    #[test]
    fn system_priorities_are_reserved() {
        let errors = |name: &str, number: i64| {
            let value = json!({"metadata": {"name": name}, "value": number});
            PRIORITYCLASS.check(&value, None).expect("decodes").errors.0.len()
        };
        assert_eq!(errors("system-node-critical", 2_000_001_000), 0);
        assert_eq!(errors("system-mine", 5), 1);
        assert_eq!(errors("mine", 1_000_000_001), 1);
        assert_eq!(errors("mine", -5), 0);
    }
}
