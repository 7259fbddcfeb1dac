//! APIServices of what the server itself serves: those of custom resources come and go with their definitions, and all of them
//! are available.
//!
//! Those of extension servers are the shell's to judge: only a call tells whether they answer.
//! Upstream: kube-aggregator pkg/controllers/autoregister and status/local, pkg/controlplane/controller/crdregistration.

use serde_json::{Value, json};
use stead_api::Key;
use stead_apiserver::API_SERVICES;

use crate::facts;
use crate::names::CUSTOM_RESOURCE;
use crate::plan::{Controller, Plan, Settles, View, Watch};

const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
/// Priorities of the groups of custom resources, and of their versions.
const GROUP_PRIORITY: i64 = 1000;
const VERSION_PRIORITY: i64 = 100;

pub const CONTROLLER: Controller = Controller {
    name: "apiservice-registration-controller",
    settles: Settles::Never,
    watches: &[
        Watch { kind: API_SERVICES, keys: |_, event| vec![event.key().clone()] },
        Watch {
            kind: CUSTOM_RESOURCE,
            keys: |_, event| {
                // Versions that were taken away are looked at, too.
                let versions = [Some(&event.object), event.old.as_ref()];
                versions.into_iter().flatten().flat_map(|object| names_of(&object.value())).map(key).collect()
            },
        },
    ],
    reconcile,
};

fn key(name: String) -> Key {
    Key::new(API_SERVICES, "", &name)
}

/// `v1.example.org`, one per version of a definition.
fn names_of(definition: &Value) -> Vec<String> {
    let group = definition["spec"]["group"].as_str().unwrap_or_default();
    let versions = facts::list(&definition["spec"]["versions"]).iter();
    versions.filter_map(|version| version["name"].as_str()).map(|version| format!("{version}.{group}")).collect()
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let wanted = is_served(view, &key.name);
    let Some(object) = view.snapshot.get(key) else {
        if wanted {
            plan.create(API_SERVICES, of_custom(&key.name));
        }
        return plan;
    };
    if object.meta.label(MANAGED) == Some("true") && !wanted {
        plan.delete(object);
        return plan;
    }
    let mut value = object.value();
    if !value["spec"]["service"].is_null() {
        return plan;
    }
    let mut conditions = facts::list(&value["status"]["conditions"]).to_vec();
    let available = json!({"type": "Available", "status": "True", "lastTransitionTime": facts::time(view.now),
        "reason": "Local", "message": "Local APIServices are always available"});
    if facts::set_condition(&mut conditions, available) {
        value["status"]["conditions"] = json!(conditions);
        plan.update_status(API_SERVICES, value);
    }
    plan
}

/// Whether some definition serves this version.
fn is_served(view: &View, name: &str) -> bool {
    let Some((version, group)) = name.split_once('.') else { return false };
    let mut kinds = view.registry.all().filter(|kind| kind.group == group && kind.version == version);
    kinds.any(|kind| view.get(CUSTOM_RESOURCE, "", kind.storage).is_some())
}

fn of_custom(name: &str) -> Value {
    let (version, group) = name.split_once('.').unwrap_or((name, ""));
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": name, "labels": {MANAGED: "true"}},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": GROUP_PRIORITY,
            "versionPriority": VERSION_PRIORITY}})
}
