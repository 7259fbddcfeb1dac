//! One ordinal's identity: name, labels, hostname, claims, and who owns the claims.
//!
//! Rows B-01 … B-09 (identity, claims first), B-15 (which revision), B-29 … B-35 (retention and missing claims), B-36 (events).

use serde_json::{Value, json};
use stead_api::Object;

use super::revision::Revisions;
use super::set::{Member, REVISION_LABEL, Set, note};
use crate::facts;
use crate::names::{CLAIM, POD};
use crate::plan::{Action, Note, Plan};

const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// `web-2` → (`web`, 2). Leading zeros and signs are no ordinals.
pub fn parent_and_ordinal(pod: &str) -> Option<(&str, i64)> {
    let (parent, digits) = pod.rsplit_once('-')?;
    let ordinal: u32 = digits.parse().ok()?;
    (ordinal.to_string() == digits && ordinal <= i32::MAX as u32).then_some((parent, i64::from(ordinal)))
}

/// The ordinal of a pod name of this set (B-25).
pub fn ordinal_in(set: &str, pod: &str) -> Option<i64> {
    parent_and_ordinal(pod).filter(|(parent, _)| *parent == set).map(|(_, ordinal)| ordinal)
}

pub fn pod_name(set: &Set, ordinal: i64) -> String {
    format!("{}-{ordinal}", set.name())
}

fn claim_name(set: &Set, template: &str, ordinal: i64) -> String {
    format!("{template}-{}-{ordinal}", set.name())
}

fn templates<'s>(set: &'s Set) -> impl Iterator<Item = (&'s str, &'s Value)> {
    let list = facts::list(&set.value["spec"]["volumeClaimTemplates"]);
    list.iter().map(|t| (t["metadata"]["name"].as_str().unwrap_or_default(), t))
}

fn claim_of<'a>(set: &Set<'a>, template: &str, ordinal: i64) -> Option<&'a std::sync::Arc<Object>> {
    set.view.get(CLAIM, set.namespace(), &claim_name(set, template, ordinal))
}

/// Makes claims, then the pod (B-09). False when the pod must wait for a claim.
pub fn create(set: &Set, ordinal: i64, revisions: &Revisions, plan: &mut Plan) -> bool {
    let pod = pod_name(set, ordinal);
    for (template, _) in templates(set) {
        let Some(claim) = claim_of(set, template, ordinal) else { continue };
        if is_stale(set, claim, &pod) {
            // Its deletion wakes the set (B-34).
            return false;
        }
        if claim.meta.is_deleting() {
            let error = format!("pvc {} is being deleted", claim.key.name);
            plan.note(note(set, false, "FailedCreate", failure("Create", &pod, set).replace("{error}", &error)));
            plan.retry = true;
            return false;
        }
    }
    create_claims(set, ordinal, plan);
    let (name, template) = revisions.for_ordinal(set, ordinal);
    plan.actions.push(Action::Create {
        kind: POD,
        value: new_pod(set, ordinal, &name, &template),
        on_success: Some(success(set, "SuccessfulCreate", "Create", &pod)),
        on_failure: Some(note(set, false, "FailedCreate", failure("Create", &pod, set))),
    });
    for (template, _) in templates(set) {
        if let Some(claim) = claim_of(set, template, ordinal) {
            retain(set, claim, None, false, plan);
        }
    }
    true
}

fn success(set: &Set, reason: &'static str, verb: &str, pod: &str) -> Note {
    note(set, true, reason, format!("{verb} Pod {pod} in StatefulSet {} successful", set.name()))
}

fn failure(verb: &str, pod: &str, set: &Set) -> String {
    format!("{verb} Pod {pod} in StatefulSet {} failed error: {{error}}", set.name())
}

/// The claims of an ordinal that are missing (B-06, B-07, B-35). A claim that is there is used as it is (B-08).
pub fn create_claims(set: &Set, ordinal: i64, plan: &mut Plan) {
    let pod = pod_name(set, ordinal);
    for (template, value) in templates(set) {
        if claim_of(set, template, ordinal).is_some() {
            continue;
        }
        let name = claim_name(set, template, ordinal);
        let what = |middle: &str| format!("Create Claim {name} {middle}Pod {pod} in StatefulSet {}", set.name());
        plan.actions.push(Action::Create {
            kind: CLAIM,
            value: new_claim(set, &name, value),
            on_success: Some(note(set, true, "SuccessfulCreate", format!("{} success", what("")))),
            on_failure: Some(note(set, false, "FailedCreate", format!("{} failed error: {{error}}", what("for ")))),
        });
    }
}

fn new_claim(set: &Set, name: &str, template: &Value) -> Value {
    let mut labels = template["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    for (key, value) in set.value["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten() {
        labels.insert(key.clone(), value.clone());
    }
    let mut metadata = json!({"name": name, "namespace": set.namespace(), "labels": labels});
    if template["metadata"]["annotations"].is_object() {
        metadata["annotations"] = template["metadata"]["annotations"].clone();
    }
    // A new claim is born with the owner that the policy gives it, so no moment is without (B-30).
    if deletes_with_set(set) {
        metadata["ownerReferences"] = json!([set.owner_reference()]);
    }
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": template["spec"].clone()})
}

fn new_pod(set: &Set, ordinal: i64, revision: &str, template: &Value) -> Value {
    let name = pod_name(set, ordinal);
    let mut labels = template["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    labels.insert(POD_NAME_LABEL.into(), json!(name));
    labels.insert(POD_INDEX_LABEL.into(), json!(ordinal.to_string()));
    labels.insert(REVISION_LABEL.into(), json!(revision));
    let mut metadata = json!({"name": name, "generateName": format!("{}-", set.name()), "namespace": set.namespace(),
        "labels": labels, "ownerReferences": [set.owner_reference()]});
    for field in ["annotations", "finalizers"] {
        if !template["metadata"][field].is_null() {
            metadata[field] = template["metadata"][field].clone();
        }
    }
    let mut spec = template["spec"].clone();
    spec["hostname"] = json!(name);
    // The template's own are overwritten, also by nothing (S-03, B-03).
    if let Some(fields) = spec.as_object_mut() {
        fields.shift_remove("subdomain");
    }
    if let Some(service) = set.spec().and_then(|s| s.service_name.as_deref()).filter(|name| !name.is_empty()) {
        spec["subdomain"] = json!(service);
    }
    if let Some(volumes) = volumes(set, ordinal, &spec["volumes"]) {
        spec["volumes"] = volumes;
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

/// The claims' volumes, then the template's own that they do not replace (S-04).
fn volumes(set: &Set, ordinal: i64, own: &Value) -> Option<Value> {
    let mut volumes: Vec<Value> = templates(set)
        .map(|(template, _)| {
            json!({"name": template, "persistentVolumeClaim": {"claimName": claim_name(set, template, ordinal)}})
        })
        .collect();
    if volumes.is_empty() {
        return None;
    }
    let is_replaced = |volume: &&Value| templates(set).any(|(template, _)| volume["name"] == template);
    volumes.extend(facts::list(own).iter().filter(|volume| !is_replaced(volume)).cloned());
    Some(Value::Array(volumes))
}

pub fn delete(set: &Set, member: &Member, plan: &mut Plan) {
    let pod = &*member.object.key.name;
    plan.delete_noted(
        member.object,
        Some(success(set, "SuccessfulDelete", "Delete", pod)),
        Some(note(set, false, "FailedDelete", failure("Delete", pod, set))),
    );
}

/// Keeps a member's labels, volumes and claims' owners as they must be (B-05).
pub fn repair(set: &Set, member: &Member, plan: &mut Plan) {
    let pod = &*member.object.key.name;
    let spec = member.pod.spec.as_ref();
    let has_volume = |template: &str| {
        let claim = claim_name(set, template, member.ordinal);
        spec.and_then(|s| s.volumes.as_ref()).into_iter().flatten().any(|volume| {
            volume.name == template
                && volume.persistent_volume_claim.as_ref().is_some_and(|source| source.claim_name == claim)
        })
    };
    let storage_matches = templates(set).all(|(template, _)| has_volume(template));
    if member.object.meta.label(POD_NAME_LABEL) != Some(pod) || !storage_matches {
        let mut value = member.object.value();
        value["metadata"]["labels"][POD_NAME_LABEL] = json!(pod);
        value["metadata"]["labels"][POD_INDEX_LABEL] = json!(member.ordinal.to_string());
        if !storage_matches {
            create_claims(set, member.ordinal, plan);
            if let Some(volumes) = volumes(set, member.ordinal, &value["spec"]["volumes"]) {
                value["spec"]["volumes"] = volumes;
            }
        }
        plan.actions.push(Action::Update {
            kind: POD,
            value,
            on_success: Some(success(set, "SuccessfulUpdate", "Update", pod)),
            on_failure: Some(note(set, false, "FailedUpdate", failure("Update", pod, set))),
        });
    }
    claim_retention(set, member, false, plan);
}

/// Gives the claims of a member the owners that the retention policy asks for.
pub fn claim_retention(set: &Set, member: &Member, is_condemned: bool, plan: &mut Plan) {
    for (template, _) in templates(set) {
        if let Some(claim) = claim_of(set, template, member.ordinal) {
            retain(set, claim, Some(member.object), is_condemned, plan);
        }
    }
}

fn policy<'s>(set: &'s Set, field: &str) -> &'s str {
    set.value["spec"]["persistentVolumeClaimRetentionPolicy"][field].as_str().unwrap_or("Retain")
}

fn deletes_with_set(set: &Set) -> bool {
    policy(set, "whenDeleted") == "Delete"
}

fn deletes_with_scale(set: &Set) -> bool {
    policy(set, "whenScaled") == "Delete"
}

/// A claim that belongs to an earlier pod of the same name and waits for the garbage collector (B-34).
fn is_stale(set: &Set, claim: &Object, pod: &str) -> bool {
    let of_pod = |owner: &stead_api::OwnerRef| owner.kind == "Pod" && owner.name == pod;
    deletes_with_scale(set) && claim.meta.owner_references.iter().any(of_pod)
}

/// B-30 … B-33: in range the set owns the claim when whenDeleted is Delete; the claim of a condemned pod is owned by the pod when
/// whenScaled is Delete.
fn retain(set: &Set, claim: &Object, pod: Option<&Object>, is_condemned: bool, plan: &mut Plan) {
    let wants_set = deletes_with_set(set) && !(deletes_with_scale(set) && is_condemned);
    let wants_pod = deletes_with_scale(set) && is_condemned && pod.is_some();
    let set_uid = &set.object.meta.uid;
    let is_pod = |owner: &stead_api::OwnerRef| owner.kind == "Pod" && ordinal_in(set.name(), &owner.name).is_some();
    let owners = &claim.meta.owner_references;
    let is_other = |owner: &stead_api::OwnerRef| owner.controller && owner.uid != *set_uid && !is_pod(owner);
    let retains_always = !deletes_with_set(set) && !deletes_with_scale(set);
    if !retains_always && owners.iter().any(is_other) {
        let message = format!(
            "PersistentVolumeClaim {} has a conflicting OwnerReference that acts as a managing controller, the retention policy is ignored for this claim",
            claim.key.name
        );
        plan.note(note(set, false, "ConflictingController", message));
        return;
    }
    let has_set = owners.iter().any(|owner| owner.uid == *set_uid && owner.controller);
    let has_pod = owners.iter().any(|owner| is_pod(owner) && pod.is_none_or(|p| p.meta.uid == owner.uid));
    let has_loose = owners.iter().any(|owner| owner.uid == *set_uid && !owner.controller);
    if has_set == wants_set && has_pod == wants_pod && !has_loose {
        return;
    }
    let mut value = claim.value();
    let mut list = value["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    list.retain(|owner| {
        let of_pod =
            owner["kind"] == "Pod" && owner["name"].as_str().is_some_and(|n| ordinal_in(set.name(), n).is_some());
        owner["uid"] != **set_uid && !of_pod
    });
    if wants_set {
        list.push(set.owner_reference());
    }
    if let Some(pod) = pod.filter(|_| wants_pod) {
        list.push(facts::controller_reference("v1", "Pod", pod));
    }
    value["metadata"]["ownerReferences"] = Value::Array(list);
    plan.update(CLAIM, value);
}
