//! The end: what must be reached once faults and users stop.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use stead_api::Object;
use stead_control::names::{
    CLAIM, CUSTOM_RESOURCE, DEPLOYMENT, ENDPOINT_SLICE, NODE, POD, REPLICA_SET, SERVICE, STATEFUL_SET, VOLUME,
};
use stead_node::machine::FakeMachine;
use stead_store::Snapshot;

use super::is_ready;
use crate::manifests::DATABASES;

/// The pods and claims in a few words each, for a failure.
pub fn summary(snapshot: &Snapshot) -> String {
    let pods = snapshot.list(POD, "").map(|object| {
        let pod = object.view::<Pod>();
        let node = object.field("spec.nodeName").unwrap_or_default();
        let deleting = if object.meta.is_deleting() { " deleting" } else { "" };
        let ready = if is_ready(&pod) { " ready" } else { "" };
        format!("{} {} on {node:?}{ready}{deleting} {}", object.key, object.meta.uid, object.value()["status"])
    });
    let claims = snapshot
        .list(CLAIM, "")
        .map(|o| format!("{} {} {}", o.key, o.meta.is_deleting(), o.value()["status"]["phase"]));
    pods.chain(claims).collect::<Vec<_>>().join("\n  ")
}

/// Whether the desired state is reached; if not, what is missing.
pub fn is_desired(snapshot: &Snapshot, machines: &[&FakeMachine]) -> Result<(), String> {
    let uids: BTreeSet<&str> = snapshot.all().map(|object| object.meta.uid.as_str()).collect();
    let is_database_served = snapshot.find(CUSTOM_RESOURCE, "", DATABASES).is_some();
    for object in snapshot.all() {
        let is_protected = matches!(object.key.kind, CLAIM | VOLUME);
        // A claim that a user deleted stays as long as a pod uses it.
        if object.meta.is_deleting() && !is_protected {
            return Err(format!("{} is still being deleted", object.key));
        }
        workload_is_desired(object)?;
        let owners = &object.meta.owner_references;
        // Nothing is concluded from an owner whose kind is not served.
        let is_known = is_database_served || !owners.iter().any(|owner| owner.kind == "Database");
        if !owners.is_empty() && is_known && !owners.iter().any(|owner| uids.contains(owner.uid.as_str())) {
            return Err(format!("{} has outlived its owners", object.key));
        }
    }
    for set in snapshot.list(STATEFUL_SET, "") {
        claims_follow_policy(snapshot, set)?;
    }
    for service in snapshot.list(SERVICE, "") {
        is_reachable(snapshot, service)?;
    }
    for object in snapshot.list(POD, "") {
        let has_node = snapshot.find(NODE, "", object.field("spec.nodeName").unwrap_or_default()).is_some();
        if !has_node && !lacks_claim(snapshot, object) {
            return Err(format!("{} has no node: {}", object.key, object.value()["status"]));
        }
    }
    for object in snapshot.list(CLAIM, "") {
        let claim = object.view::<PersistentVolumeClaim>();
        let is_bound = claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
        let is_used = snapshot.list(POD, &object.key.namespace).any(|pod| {
            let needs = pod.json.windows(object.key.name.len()).any(|part| part == object.key.name.as_bytes());
            needs && !lacks_claim(snapshot, pod)
        });
        if !is_bound && is_used {
            return Err(format!("{} is not bound", object.key));
        }
    }
    let known: BTreeSet<&str> = snapshot.list(POD, "").map(|o| o.meta.uid.as_str()).collect();
    for machine in machines {
        if let Some(left) = machine.sandboxes.keys().find(|uid| !known.contains(uid.as_str())) {
            return Err(format!("pod {left} is left on a machine"));
        }
    }
    Ok(())
}

/// Whether it is an orphan one of whose claims a person took away: nobody makes it again.
fn lacks_claim(snapshot: &Snapshot, pod: &Object) -> bool {
    let view = pod.view::<Pod>();
    let mut claims = view
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten())
        .filter_map(|volume| volume.persistent_volume_claim.as_ref().map(|source| source.claim_name.as_str()));
    pod.meta.controller().is_none() && claims.any(|name| snapshot.find(CLAIM, &pod.key.namespace, name).is_none())
}

fn workload_is_desired(object: &Object) -> Result<(), String> {
    let value = match object.key.kind {
        STATEFUL_SET | DEPLOYMENT | REPLICA_SET => object.value(),
        _ => return Ok(()),
    };
    let (spec, status) = (&value["spec"], &value["status"]);
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    let is_fine = number("replicas") == wanted
        && (object.key.kind != DEPLOYMENT || number("updatedReplicas") == wanted)
        && number("readyReplicas") == wanted
        && number("availableReplicas") == wanted
        && number("observedGeneration") == object.meta.generation;
    if !is_fine {
        return Err(format!("{} wants {wanted}: {value}", object.key));
    }
    let strategy = &spec["updateStrategy"];
    let is_whole =
        strategy["type"] == "RollingUpdate" && strategy["rollingUpdate"]["partition"].as_i64().unwrap_or(0) == 0;
    if object.key.kind == STATEFUL_SET && is_whole && status["currentRevision"] != status["updateRevision"] {
        return Err(format!("{} has not rolled out: {status}", object.key));
    }
    Ok(())
}

/// B-30 … B-33: with whenDeleted: Delete the set owns the claims of its pods, else nobody does.
fn claims_follow_policy(snapshot: &Snapshot, object: &Object) -> Result<(), String> {
    let set = object.view::<StatefulSet>();
    let Some(spec) = &set.spec else { return Ok(()) };
    let policy = spec.persistent_volume_claim_retention_policy.as_ref();
    let is_owned = policy.and_then(|policy| policy.when_deleted.as_deref()) == Some("Delete");
    let first = super::first_ordinal(&set);
    for template in spec.volume_claim_templates.iter().flatten() {
        let template = template.metadata.name.as_deref().unwrap_or_default();
        for ordinal in first..first + super::replicas(&set) {
            let name = format!("{template}-{}-{ordinal}", object.key.name);
            let claim = snapshot.find(CLAIM, &object.key.namespace, &name);
            let Some(claim) = claim.filter(|claim| !claim.meta.is_deleting()) else { continue };
            let owners: Vec<&str> = claim.meta.owner_references.iter().map(|owner| owner.uid.as_str()).collect();
            let wanted = if is_owned { vec![object.meta.uid.as_str()] } else { Vec::new() };
            if owners != wanted {
                return Err(format!("{} is owned by {owners:?}, and its set says {wanted:?}", claim.key));
            }
        }
    }
    Ok(())
}

/// A Service's slices have the addresses of its ready pods and no others.
fn is_reachable(snapshot: &Snapshot, object: &Object) -> Result<(), String> {
    let service = object.view::<Service>();
    let Some(selector) = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else { return Ok(()) };
    let namespace = &object.key.namespace;
    let is_picked = |pod: &Object| selector.iter().all(|(key, value)| pod.meta.label(key) == Some(value));
    let mut wanted = BTreeSet::new();
    for object in snapshot.list(POD, namespace).filter(|pod| is_picked(pod)) {
        let pod = object.view::<Pod>();
        if is_ready(&pod) {
            wanted.extend(pod.status.as_ref().and_then(|status| status.pod_ip.clone()));
        }
    }
    let is_its_slice = |slice: &Object| slice.meta.label("kubernetes.io/service-name") == Some(&object.key.name);
    let mut told = BTreeSet::new();
    for slice in snapshot.list(ENDPOINT_SLICE, namespace).filter(|slice| is_its_slice(slice)) {
        let slice = slice.value();
        let endpoints = slice["endpoints"].as_array().into_iter().flatten();
        let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
        told.extend(ready.filter_map(|endpoint| endpoint["addresses"][0].as_str().map(str::to_owned)));
    }
    if told != wanted { Err(format!("{} leads to {told:?}, and ready are {wanted:?}", object.key)) } else { Ok(()) }
}
