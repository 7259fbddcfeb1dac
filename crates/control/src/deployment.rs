//! Deployment → ReplicaSets.
//!
//! Phases: adopt → find the ReplicaSet of the template (or make it) → scale, or roll out by strategy → clean up → status. Replica counts
//! are decided first, as numbers; then each changed ReplicaSet is written once.
//!
//! Rollback by template: a template that equals an earlier ReplicaSet's takes that one, with a new revision number.
//! Upstream: pkg/controller/deployment.

mod rollout;
mod sets;
mod status;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};
use stead_api::{Key, LabelSelector, Object};
use stead_store::Event;

use crate::facts;
use crate::names::{DEPLOYMENT, POD, REPLICA_SET};
use crate::plan::{Action, Controller, Note, Plan, Settles, View, Watch};
use crate::statefulset::Fnv32;
use sets::{DESIRED, Desired, MAX, REVISION, Set, Sets};

const HASH_LABEL: &str = "pod-template-hash";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Annotations that belong to the Deployment itself and are not copied to its ReplicaSets.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

pub const CONTROLLER: Controller = Controller {
    name: "deployment-controller",
    settles: Settles::AfterStatus,
    watches: &[
        Watch { kind: DEPLOYMENT, keys: |_, event| vec![event.key().clone()] },
        Watch { kind: REPLICA_SET, keys: deployments_of_set },
        Watch { kind: POD, keys: deployments_of_pod },
    ],
    reconcile,
};

fn deployments_of_set(view: &View, event: &Event) -> Vec<Key> {
    let set = &event.object;
    match set.meta.controller() {
        Some(owner) if owner.kind == "Deployment" => vec![Key::new(DEPLOYMENT, &set.key.namespace, &owner.name)],
        Some(_) => Vec::new(),
        None if event.deleted => Vec::new(),
        None => {
            let all = view.snapshot.list(DEPLOYMENT, &set.key.namespace);
            all.filter(|d| selector(d).matches(&set.meta.labels)).map(|d| d.key.clone()).collect()
        }
    }
}

/// Recreate waits for the last old pod to be gone.
fn deployments_of_pod(view: &View, event: &Event) -> Vec<Key> {
    let pod = &event.object;
    let finished = |pod: &Arc<Object>| facts::is_finished(&pod.view::<k8s_openapi::api::core::v1::Pod>());
    if !event.deleted && !finished(pod) {
        return Vec::new();
    }
    let owner = pod.meta.controller().filter(|owner| owner.kind == "ReplicaSet");
    let set = owner.and_then(|owner| view.get(REPLICA_SET, &pod.key.namespace, &owner.name));
    let deployment = set.and_then(|set| set.meta.controller()).filter(|owner| owner.kind == "Deployment");
    deployment.map(|owner| Key::new(DEPLOYMENT, &pod.key.namespace, &owner.name)).into_iter().collect()
}

fn selector(deployment: &Object) -> LabelSelector {
    let typed = deployment.view::<Deployment>();
    LabelSelector::from_typed(typed.spec.as_ref().map(|s| &s.selector)).unwrap_or(LabelSelector::Nothing)
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let Some(object) = view.snapshot.get(key) else { return Plan::none() };
    let typed = object.view::<Deployment>();
    let mut plan = Plan::none();
    let selector = selector(object);
    if typed.spec.is_none() || selector.is_everything() || selector == LabelSelector::Nothing {
        return plan;
    }
    let desired = Desired { view: *view, object, typed, value: object.value() };
    if adopt(&desired, &selector, &mut plan) {
        return plan;
    }
    let mut sets = find(&desired);
    if object.meta.is_deleting() {
        status::write(&desired, &sets, None, &mut plan);
        return plan;
    }
    if !desired.is_paused() && number_new(&desired, &sets, &mut plan) {
        return plan;
    }
    let made = rollout::decide(&desired, &mut sets);
    write_sets(&desired, &sets, &mut plan);
    let made = made.map(|replicas| create(&desired, &sets, replicas, &mut plan));
    let is_settled = sets.all().all(|set| set.replicas == set.before()) && made.is_none();
    if is_settled && (desired.is_paused() || status::is_complete(&desired, &status::counts(&desired, &sets))) {
        clean_up(&desired, &sets, &mut plan);
    }
    status::write(&desired, &sets, made.as_ref(), &mut plan);
    plan
}

fn adopt(desired: &Desired, selector: &LabelSelector, plan: &mut Plan) -> bool {
    let object = desired.object;
    let uid = &object.meta.uid;
    for set in facts::controlled(&desired.view, REPLICA_SET, uid) {
        if !selector.matches(&set.meta.labels) && !set.meta.is_deleting() {
            plan.update(REPLICA_SET, facts::released(set, uid));
        }
    }
    if !object.meta.is_deleting() {
        for set in facts::select(&desired.view, REPLICA_SET, &object.key.namespace, selector) {
            if set.meta.controller().is_none() && !set.meta.is_deleting() {
                let reference = facts::controller_reference("apps/v1", "Deployment", object);
                plan.update(REPLICA_SET, facts::adopted(set, reference));
            }
        }
    }
    !plan.actions.is_empty()
}

/// Sorts the Deployment's ReplicaSets: the oldest with the Deployment's template is the new one.
fn find<'a>(desired: &Desired<'a>) -> Sets<'a> {
    let mut all: Vec<Set> =
        facts::controlled(&desired.view, REPLICA_SET, &desired.object.meta.uid).into_iter().map(Set::of).collect();
    all.sort_by(|a, b| {
        let age = |s: &Set| (s.object.meta.creation_timestamp, s.object.key.name.clone());
        age(a).cmp(&age(b))
    });
    let template = &desired.value["spec"]["template"];
    let new = all.iter().position(|set| is_same_template(&set.object.value()["spec"]["template"], template));
    let new = new.map(|index| all.remove(index));
    Sets { new, old: all }
}

/// Equal but for the hash label that the ReplicaSet's template carries.
fn is_same_template(of_set: &Value, of_deployment: &Value) -> bool {
    let mut template = of_set.clone();
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.shift_remove(HASH_LABEL);
    }
    template == *of_deployment
}

/// Raises the new ReplicaSet to the newest revision, and tells the Deployment. True when something is to be written first.
fn number_new(desired: &Desired, sets: &Sets, plan: &mut Plan) -> bool {
    let Some(new) = &sets.new else { return false };
    let newest = sets.old.iter().map(Set::revision).max().unwrap_or(0) + 1;
    let mut value = new.object.value();
    let before = value.clone();
    copy_annotations(desired, &mut value);
    if new.revision() < newest {
        if new.revision() > 0 {
            let history = new.object.meta.annotation(REVISION_HISTORY).filter(|h| !h.is_empty());
            let all = history.map_or_else(|| new.revision().to_string(), |h| format!("{h},{}", new.revision()));
            value["metadata"]["annotations"][REVISION_HISTORY] = json!(all);
        }
        value["metadata"]["annotations"][REVISION] = json!(newest.to_string());
    }
    if desired.spec().min_ready_seconds.unwrap_or(0) != value["spec"]["minReadySeconds"].as_i64().unwrap_or(0) as i32 {
        value["spec"]["minReadySeconds"] = json!(desired.spec().min_ready_seconds.unwrap_or(0));
    }
    if value != before {
        plan.update(REPLICA_SET, value);
        return true;
    }
    let revision = new.revision().to_string();
    if desired.object.meta.annotation(REVISION) != Some(&revision) {
        let mut value = desired.value.clone();
        value["metadata"]["annotations"][REVISION] = json!(revision);
        plan.update(DEPLOYMENT, value);
        return true;
    }
    false
}

fn copy_annotations(desired: &Desired, set: &mut Value) {
    for (name, text) in desired.object.meta.annotations.iter().filter(|(n, _)| !NOT_COPIED.contains(&n.as_str())) {
        if set["metadata"]["annotations"][name] != **text {
            set["metadata"]["annotations"][name] = json!(text);
        }
    }
}

fn sizes(desired: &Desired) -> (Value, Value) {
    (json!(desired.replicas().to_string()), json!((desired.replicas() + desired.limits().0).to_string()))
}

/// Writes every ReplicaSet whose count or size annotations change.
fn write_sets(desired: &Desired, sets: &Sets, plan: &mut Plan) {
    let (wanted, max) = sizes(desired);
    for set in sets.all() {
        let (before, after) = (set.before(), set.replicas);
        let is_active =
            after > 0 || before > 0 || sets.new.as_ref().is_some_and(|new| new.object.key == set.object.key);
        let mut value = set.object.value();
        let annotations = &value["metadata"]["annotations"];
        let same = before == after && (!is_active || (annotations[DESIRED] == wanted && annotations[MAX] == max));
        if same {
            continue;
        }
        value["spec"]["replicas"] = json!(after);
        value["metadata"]["annotations"][DESIRED] = wanted.clone();
        value["metadata"]["annotations"][MAX] = max.clone();
        let name = &set.object.key.name;
        let how = if after > before { "up" } else { "down" };
        let message = format!("Scaled {how} replica set {name} from {before} to {after}");
        let note = Note::normal(&desired.object.key, "ScalingReplicaSet", message);
        plan.actions.push(Action::Update {
            kind: REPLICA_SET,
            value,
            on_success: Some(note).filter(|_| before != after),
            on_failure: None,
        });
    }
}

/// A ReplicaSet that is made.
pub struct Made {
    pub name: String,
    /// How many names were taken by others before this one was free; status remembers it.
    pub collisions: i32,
}

/// Makes the ReplicaSet of the template.
fn create(desired: &Desired, sets: &Sets, replicas: i64, plan: &mut Plan) -> Made {
    let mut template = desired.value["spec"]["template"].clone();
    let mut collisions = desired.typed.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0);
    let (name, hash) = loop {
        let mut hash = Fnv32::default();
        hash.write(template.to_string().as_bytes());
        hash.write(collisions.to_string().as_bytes());
        let hash = hash.safe();
        let name = format!("{}-{hash}", desired.name());
        if desired.view.get(REPLICA_SET, &desired.object.key.namespace, &name).is_none() {
            break (name, hash);
        }
        collisions += 1;
    };
    template["metadata"]["labels"][HASH_LABEL] = json!(hash);
    let mut selector = desired.value["spec"]["selector"].clone();
    selector["matchLabels"][HASH_LABEL] = json!(hash);
    let (wanted, max) = sizes(desired);
    let revision = sets.old.iter().map(Set::revision).max().unwrap_or(0) + 1;
    let mut value = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": name, "namespace": &*desired.object.key.namespace,
            "labels": template["metadata"]["labels"],
            "annotations": {REVISION: revision.to_string(), DESIRED: wanted, MAX: max},
            "ownerReferences": [facts::controller_reference("apps/v1", "Deployment", desired.object)]},
        "spec": {"replicas": replicas, "selector": selector, "template": template}});
    copy_annotations(desired, &mut value);
    if let Some(seconds) = desired.spec().min_ready_seconds.filter(|s| *s > 0) {
        value["spec"]["minReadySeconds"] = json!(seconds);
    }
    let message = format!("Scaled up replica set {name} from 0 to {replicas}");
    plan.actions.push(Action::Create {
        kind: REPLICA_SET,
        value,
        on_success: Some(Note::normal(&desired.object.key, "ScalingReplicaSet", message)).filter(|_| replicas > 0),
        on_failure: Some(Note::warning(
            &desired.object.key,
            "ReplicaSetCreateError",
            format!("Failed to create new replica set \"{name}\": {{error}}"),
        )),
    });
    Made { name, collisions }
}

/// Forgets old ReplicaSets without pods, oldest revision first, down to the history limit.
fn clean_up(desired: &Desired, sets: &Sets, plan: &mut Plan) {
    let Ok(limit) = usize::try_from(desired.spec().revision_history_limit.unwrap_or(10)) else { return };
    let mut old: Vec<&Set> = sets.old.iter().filter(|set| !set.object.meta.is_deleting()).collect();
    let surplus = old.len().saturating_sub(limit);
    old.sort_by_key(|set| set.revision());
    for set in old.into_iter().take(surplus) {
        let pods = set.typed.status.as_ref().map_or(0, |s| s.replicas);
        let observed = set.typed.status.as_ref().and_then(|s| s.observed_generation).unwrap_or(0);
        if pods == 0 && set.replicas == 0 && observed >= set.object.meta.generation {
            plan.delete(set.object);
        }
    }
}

#[cfg(test)]
mod tests;
