//! NodeRestriction: a node writes itself and the pods bound to it, and says nothing of itself that others rely on.
//!
//! Contract: looked at only for users that are nodes; texts as upstream's plugin/pkg/admission/noderestriction.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde_json::Value;
use stead_api::{Object, Request, Resource, Status};
use stead_kinds::Kind;
use stead_kinds::pod::references;
use stead_store::Snapshot;

use super::certificates;
use crate::Context;
use crate::draft::{Draft, Part};
use crate::node_authorizer::node_of;

const LEASES: &str = "kube-node-lease";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Labels of the kubernetes.io domains that a node may say of itself, and the domains in which it may say everything.
const OWN_LABELS: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
const OWN_DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];

/// A write of a node.
pub(super) fn restrict(ctx: &Context, request: &Request, draft: &Draft) -> Result<(), Status> {
    let Some(node) = node_of(&request.user) else { return Ok(()) };
    let refused = match (draft.kind.storage, draft.part) {
        ("pods", Part::Whole) if draft.is_creation() => mirror_pod(ctx, node, draft)?,
        ("pods", Part::Whole) => {
            Some(format!("unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"))
        }
        ("pods", Part::Status) => pod_status(node, draft),
        ("nodes", _) => own_node(node, draft),
        ("persistentvolumeclaims", Part::Status) => claim_status(node, draft),
        ("persistentvolumeclaims", _) => Some("may only update PVC status".into()),
        ("leases.coordination.k8s.io", _) if &*draft.key.namespace != LEASES => {
            Some(format!("can only access leases in the {LEASES:?} system namespace"))
        }
        ("leases.coordination.k8s.io", _) if draft.name() != node => {
            Some("can only access node lease with the same name as the requesting node".into())
        }
        ("csinodes.storage.k8s.io", _) if draft.name() != node => {
            Some("can only access CSINode with the same name as the requesting node".into())
        }
        (certificates::REQUESTS, Part::Whole) if draft.is_creation() => certificate(node, draft),
        _ => None,
    };
    match refused {
        Some(why) => Err(draft.forbidden(&why)),
        None => Ok(()),
    }
}

/// A deletion or an eviction by a node.
pub(crate) fn restrict_removal(request: &Request, kind: &Kind, object: &Object, verb: &str) -> Result<(), Status> {
    let Some(node) = node_of(&request.user) else { return Ok(()) };
    if kind.storage == "pods" && node_name(&object.value()) != node {
        let why = format!("node {node:?} can only {verb} pods with spec.nodeName set to itself");
        return Err(Status::forbidden(kind.group, kind.plural, &object.key.name, &why));
    }
    Ok(())
}

/// A token that a node asks for is bound to a pod of its own.
pub(crate) fn restrict_token(snapshot: &Snapshot, request: &Request, resource: &Resource) -> Result<(), Status> {
    let Some(node) = node_of(&request.user) else { return Ok(()) };
    let refused = |why: &str| Err(Status::forbidden("", "serviceaccounts", &resource.name, why));
    let spec = &request.body["spec"];
    let reference = &spec["boundObjectRef"];
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    if text("apiVersion") != "v1" || text("kind") != "Pod" || text("name").is_empty() {
        return refused("node requested token not bound to a pod");
    }
    let (name, uid) = (text("name"), text("uid"));
    if uid.is_empty() {
        return refused("node requested token with a pod binding without a uid");
    }
    let pod = snapshot.find("pods", &resource.namespace, name).ok_or_else(|| Status::not_found("", "pods", name))?;
    if pod.meta.uid != uid {
        return refused(&format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        ));
    }
    let typed = pod.view::<Pod>();
    if typed.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) != Some(node) {
        return refused("node requested token bound to a pod scheduled on a different node");
    }
    let audiences = spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str);
    match audiences.into_iter().find(|audience| !audience.is_empty() && !wants_audience(&typed, audience)) {
        Some(audience) => refused(&format!(
            "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
            request.user.name
        )),
        None => Ok(()),
    }
}

/// Whether a volume of the pod asks for a token for this audience; the API server's own needs no asking.
fn wants_audience(pod: &Pod, audience: &str) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let sources = volumes.flat_map(|v| v.projected.iter().flat_map(|p| p.sources.iter().flatten()));
    let mut asked = sources.filter_map(|source| source.service_account_token.as_ref()?.audience.as_deref());
    audience == crate::DEFAULT_AUDIENCE || asked.any(|one| one == audience)
}

fn node_name(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().unwrap_or_default()
}

/// A pod that shows one which the node runs on its own account; it may lead to nothing else in the cluster.
fn mirror_pod(ctx: &Context, node: &str, draft: &Draft) -> Result<Option<String>, Status> {
    let pod = &draft.new;
    if pod["metadata"]["annotations"][MIRROR].is_null() {
        return Ok(Some(format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods")));
    }
    if node_name(pod) != node {
        return Ok(Some(format!("node {node:?} can only create pods with spec.nodeName set to itself")));
    }
    let owners = pod["metadata"]["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
    let [owner] = owners else {
        return Ok(Some(match owners {
            [] => format!("node {node:?} can only create pods with an owner reference set to itself"),
            _ => format!("node {node:?} can only create pods with a single owner reference set to itself"),
        }));
    };
    if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != node {
        return Ok(Some(format!("node {node:?} can only create pods with an owner reference set to itself")));
    }
    if owner["controller"] != true {
        return Ok(Some(format!("node {node:?} can only create pods with a controller owner reference set to itself")));
    }
    if owner["blockOwnerDeletion"] == true {
        return Ok(Some(format!("node {node:?} must not set blockOwnerDeletion on an owner reference")));
    }
    let own = ctx.store.snapshot().find("nodes", "", node).ok_or_else(|| Status::not_found("", "nodes", node))?;
    let uid = owner["uid"].as_str().unwrap_or_default();
    if uid != own.meta.uid {
        return Ok(Some(format!("node {node} UID mismatch: expected {} got {uid}", own.meta.uid)));
    }
    let refers = |what: &str| Ok(Some(format!("node {node:?} can not create pods that reference {what}")));
    let account = |field: &str| pod["spec"][field].as_str().is_some_and(|name| !name.is_empty());
    if account("serviceAccountName") || account("serviceAccount") {
        return refers("a service account");
    }
    let typed = Pod::deserialize(pod).map_err(|error| Status::bad_request(error.to_string()))?;
    Ok(references(&typed).first().map(|(kind, _)| format!("node {node:?} can not create pods that reference {kind}")))
}

fn pod_status(node: &str, draft: &Draft) -> Option<String> {
    if node_name(&draft.old_value) != node {
        return Some(format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"));
    }
    let labels = |value: &Value| value["metadata"]["labels"].clone();
    let differs = labels(&draft.new) != labels(&draft.old_value);
    differs.then(|| format!("node {node:?} cannot update labels through pod status"))
}

fn claim_status(node: &str, draft: &Draft) -> Option<String> {
    const OWN: &[&str] = &[
        "capacity",
        "conditions",
        "allocatedResources",
        "allocatedResourceStatuses",
        "currentVolumeAttributesClassName",
    ];
    let others = |value: &Value| {
        let mut status = value["status"].clone();
        if let Some(status) = status.as_object_mut() {
            status.retain(|field, _| !OWN.contains(&field.as_str()));
        }
        status
    };
    let differs = others(&draft.new) != others(&draft.old_value) || draft.new["spec"] != draft.old_value["spec"];
    differs.then(|| {
        format!("node {node:?} is not allowed to update fields other than status.capacity and status.conditions")
    })
}

fn own_node(node: &str, draft: &Draft) -> Option<String> {
    if draft.is_creation() {
        let forbidden = forbidden_labels(&draft.new, &Value::Null);
        if !forbidden.is_empty() {
            return Some(format!("node {node:?} is not allowed to set the following labels: {}", forbidden.join(", ")));
        }
    }
    if draft.name() != node {
        return Some(format!("node {node:?} is not allowed to modify node {:?}", draft.name()));
    }
    if draft.is_creation() {
        return None;
    }
    let taints = |value: &Value| value["spec"]["taints"].as_array().cloned().unwrap_or_default();
    if taints(&draft.new) != taints(&draft.old_value) {
        return Some(format!("node {node:?} is not allowed to modify taints"));
    }
    let owners = |value: &Value| value["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    if owners(&draft.new) != owners(&draft.old_value) {
        return Some(format!("node {node:?} is not allowed to modify ownerReferences"));
    }
    let forbidden = forbidden_labels(&draft.new, &draft.old_value);
    let is_refused = !forbidden.is_empty();
    is_refused.then(|| format!("node {node:?} is not allowed to modify labels: {}", forbidden.join(", ")))
}

/// The labels that are changed and that are not a node's to change.
fn forbidden_labels(new: &Value, old: &Value) -> Vec<String> {
    let labels = |value: &'_ Value| value["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    let (new, old) = (labels(new), labels(old));
    let names: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    let changed = names.into_iter().filter(|name| new.get(*name) != old.get(*name));
    changed.filter(|name| is_forbidden(name)).cloned().collect()
}

fn is_forbidden(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let is_in = |wanted: &str| domain == wanted || domain.strip_suffix(wanted).is_some_and(|rest| rest.ends_with('.'));
    if is_in("node-restriction.kubernetes.io") {
        return true;
    }
    let is_own = OWN_LABELS.contains(&label) || OWN_DOMAINS.iter().any(|own| is_in(own));
    (is_in("kubernetes.io") || is_in("k8s.io")) && !is_own
}

fn certificate(node: &str, draft: &Draft) -> Option<String> {
    let spec = &draft.new["spec"];
    let signer = spec["signerName"].as_str().unwrap_or_default();
    if !matches!(signer, "kubernetes.io/kube-apiserver-client-kubelet" | "kubernetes.io/kubelet-serving") {
        return None;
    }
    let request = certificates::parsed(&spec["request"])?;
    let name = format!("system:node:{node}");
    (request.common_name != name).then(|| format!("can only create a node CSR with CN={name}"))
}
