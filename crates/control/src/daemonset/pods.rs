//! Makes and removes the pods of a DaemonSet.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{PodSpec, Toleration};
use serde_json::{Value, json};
use stead_api::Object;

use super::revision;
use super::seat::Member;
use crate::facts;
use crate::names::POD;
use crate::plan::{Action, Note, Plan};

pub fn remove(set: &Arc<Object>, member: &Member, plan: &mut Plan) {
    let name = &member.object.key.name;
    plan.delete_noted(
        member.object,
        Some(Note::normal(&set.key, "SuccessfulDelete", format!("Deleted pod: {name}"))),
        Some(Note::warning(&set.key, "FailedDelete", "Error deleting: {error}")),
    );
}

pub fn create(set: &Arc<Object>, hash: &str, node: &Object, plan: &mut Plan) {
    let value = set.value();
    let template = &value["spec"]["template"];
    let mut metadata = json!({"generateName": format!("{}-", set.key.name), "namespace": &*set.key.namespace,
        "ownerReferences": [facts::controller_reference("apps/v1", "DaemonSet", set)]});
    for field in ["labels", "annotations", "finalizers"] {
        if !template["metadata"][field].is_null() {
            metadata[field] = template["metadata"][field].clone();
        }
    }
    metadata["labels"][revision::LABEL] = json!(hash);
    let mut spec = template["spec"].clone();
    let term = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [&*node.key.name]}]});
    spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
        json!({"nodeSelectorTerms": [term]});
    let typed = set.view::<DaemonSet>();
    let pod = typed.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    spec["tolerations"] = pod.map_or(Value::Null, |pod| json!(tolerations(pod)));
    plan.actions.push(Action::Create {
        kind: POD,
        value: json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}),
        on_success: Some(Note::normal(&set.key, "SuccessfulCreate", "Created pod: {name}")),
        on_failure: Some(Note::warning(&set.key, "FailedCreate", "Error creating: {error}")),
    });
}

/// Pods of daemons stay on nodes that are in trouble: key and effect of what they tolerate.
const TOLERATED: &[(&str, &str)] = &[
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

const TOLERATED_ON_HOST_NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

pub fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let host = spec.host_network == Some(true);
    let own = spec.tolerations.iter().flatten().cloned();
    let more = TOLERATED.iter().chain(host.then_some(&TOLERATED_ON_HOST_NETWORK)).map(|(key, effect)| Toleration {
        key: Some((*key).to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some((*effect).to_owned()),
        ..Toleration::default()
    });
    own.chain(more).collect()
}
