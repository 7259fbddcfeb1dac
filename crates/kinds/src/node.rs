//! Node.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node, NodeStatus};
use serde_json::{Value, json};
use stead_api::names::{label_value, qualified_name};
use stead_api::object::Fields;
use stead_api::{Errors, Object};

use crate::check::{is_cidr, list, one_of, text};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN, wide};
use crate::fill::{object_or_new, quantities, set};
use crate::names::names;
use crate::path::Path;
use crate::{Behavior, Column, Hooks, Kind, Subresource};

pub const NODE: Kind = Kind {
    short: &["no"],
    namespaced: false,
    subresources: &[Subresource::Status, Subresource::Named("proxy")],
    fields: Fields { selectable: &["spec.unschedulable"], indexed: &[], labels_indexed: false, ..Fields::NONE },
    columns: COLUMNS,
    hooks: Hooks::of::<Node>(),
    ..Kind::plain("nodes", "", "v1", names!("Node", "node", "nodes"), "io.k8s.api.core.v1.Node")
};

impl Behavior for Node {
    fn default(new: &mut Value) {
        object_or_new(new, "spec");
        if let Some(status) = object_or_new(new, "status") {
            quantities(status, "capacity");
            quantities(status, "allocatable");
            let capacity = status.get("capacity").cloned();
            if let Some(capacity) = capacity {
                set(status, "allocatable", capacity);
            }
        }
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let at = Path::root("spec");
        let Some(spec) = &self.spec else { return };
        let mut seen = BTreeSet::new();
        for (index, taint) in list(&spec.taints).iter().enumerate() {
            // Upstream's path, which is not where taints are.
            let all = Path::root("metadata");
            let all = all.child("taints");
            let at = all.index(index);
            for message in qualified_name(&taint.key) {
                at.child("key").invalid(errors, taint.key.as_str(), message);
            }
            for message in label_value(text(&taint.value)) {
                at.child("value").invalid(errors, text(&taint.value), message);
            }
            let effects = ["NoExecute", "NoSchedule", "PreferNoSchedule"];
            one_of(at.child("effect"), &taint.effect, &effects, false, errors);
            if !seen.insert((&taint.key, &taint.effect)) {
                at.duplicate(errors, format!("{}:{}", taint.key, taint.effect));
            }
        }
        validate_networks(at.child("podCIDRs"), list(&spec.pod_cidrs), errors);
        let before = old.and_then(|old| old.spec.as_ref());
        let changed = |new: &Option<String>, old: &Option<String>| !text(old).is_empty() && text(new) != text(old);
        if before.is_some_and(|before| changed(&spec.provider_id, &before.provider_id)) {
            at.child("providerID")
                .forbidden(errors, "node updates may not change providerID except from \"\" to valid");
        }
        if before.is_some_and(|before| changed(&spec.pod_cidr, &before.pod_cidr)) {
            at.child("podCIDRs").forbidden(errors, "node updates may not change podCIDR except from \"\" to valid");
        }
    }
}

/// At most one network of each family.
fn validate_networks(at: Path, networks: &[String], errors: &mut Errors) {
    for (index, _) in networks.iter().enumerate().filter(|(_, network)| !is_cidr(network)) {
        at.index(index).invalid(errors, json!(networks), "must be valid CIDR");
    }
    let is_v6: BTreeSet<bool> = networks.iter().map(|network| network.contains(':')).collect();
    if networks.len() > 1 && (is_v6.len() < 2 || networks.len() > 2) {
        at.invalid(errors, json!(networks), "may specify no more than one CIDR for each IP family");
    }
    for (index, network) in networks.iter().enumerate().filter(|(index, network)| networks[..*index].contains(network))
    {
        at.index(index).duplicate(errors, network.as_str());
    }
}

const COLUMNS: &[Column] = &[
    NAME_COLUMN,
    columns::text("Status", |object, _| status(&object.view()).into(), "Whether it takes pods."),
    columns::text("Roles", roles, "What it is for."),
    AGE_COLUMN,
    columns::path("Version", "status.nodeInfo.kubeletVersion", "The version of its agent."),
    wide(columns::text("Internal-IP", |object, _| address(object, "InternalIP"), "Its address in the cluster.")),
    wide(columns::text("External-IP", |object, _| address(object, "ExternalIP"), "Its address outside.")),
    wide(columns::text("OS-Image", |object, _| info(object, "osImage"), "Its operating system.")),
    wide(columns::text("Kernel-Version", |object, _| info(object, "kernelVersion"), "Its kernel.")),
    wide(columns::text("Container-Runtime", |object, _| info(object, "containerRuntimeVersion"), "Its runtime.")),
];

fn status(node: &Node) -> String {
    let conditions = node.status.as_ref().map_or(&[][..], |status| list(&status.conditions));
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    let mut text = match ready.map(|condition| condition.status.as_str()) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true)) {
        text.push_str(",SchedulingDisabled");
    }
    text
}

fn roles(object: &Object, _now: jiff::Timestamp) -> Value {
    let roles: BTreeSet<&str> = object
        .meta
        .labels
        .iter()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None => (key == "kubernetes.io/role").then_some(value.as_str()),
        })
        .filter(|role| !role.is_empty())
        .collect();
    if roles.is_empty() { "<none>".into() } else { roles.into_iter().collect::<Vec<_>>().join(",").into() }
}

fn address(object: &Object, kind: &str) -> Value {
    let node = object.view::<Node>();
    let empty = NodeStatus::default();
    let status = node.status.as_ref().unwrap_or(&empty);
    let found = list(&status.addresses).iter().find(|address| address.type_ == kind);
    found.map_or("<none>", |address| address.address.as_str()).into()
}

fn info(object: &Object, field: &str) -> Value {
    match object.value()["status"]["nodeInfo"][field].as_str() {
        Some(text) if !text.is_empty() => text.into(),
        _ => "<unknown>".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use stead_api::Key;

    #[test]
    fn a_cordoned_node_says_so() {
        let value = json!({"metadata": {"name": "n1", "resourceVersion": "1", "labels": {
                "node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "b"}},
            "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}});
        let object = Object::of_value(Key::new("nodes", "", "n1"), &value, &NODE.stored_fields()).expect("an object");
        assert_eq!(status(&object.view()), "Ready,SchedulingDisabled");
        assert_eq!(roles(&object, jiff::Timestamp::UNIX_EPOCH), "b,control-plane");
        assert_eq!(address(&object, "InternalIP"), "10.0.0.1");
        assert_eq!(address(&object, "ExternalIP"), "<none>");
    }

    #[test]
    fn taints_are_checked() {
        let value = json!({"metadata": {"name": "n1"}, "spec": {"taints": [{"key": "a b", "effect": "Never"}]}});
        let errors = NODE.check(&value, None).expect("decodes").errors;
        assert_eq!(
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "metadata.taints[0].key: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                "metadata.taints[0].effect: Unsupported value: \"Never\": supported values: \"NoExecute\", \"NoSchedule\", \"PreferNoSchedule\"",
            ]
        );
    }
}
