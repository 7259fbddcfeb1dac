//! ControllerRevisions: which template is current, which is the newest, which may be forgotten.
//!
//! Rows CR-01 … CR-05, B-22 (an earlier template is renumbered, not made again), B-23 (a template that means the same is no new
//! revision), B-28 (orphans are adopted), ST-06, ST-08.
//! Upstream: pkg/controller/history and stateful_set_control.go, `getStatefulSetRevisions`, `truncateHistory`.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::{Map, Value, json};
use stead_api::Object;

use super::set::{Member, Set};
use crate::facts;
use crate::names::CONTROLLER_REVISION;
use crate::plan::Plan;

/// On revisions: the hash alone (CR-03).
const HASH_LABEL: &str = "controller.kubernetes.io/hash";
const PREFIX_MAX: usize = 223;

/// The revisions that matter for one plan.
pub struct Revisions {
    /// Name of the revision that pods were at before the present rollout.
    pub current: String,
    /// Name of the newest template's revision.
    pub update: String,
    pub collision_count: i32,
    /// The template of `current`, when it is another than the set's own.
    current_template: Option<Value>,
    update_template: Value,
}

impl Revisions {
    /// Every pod is at the newest revision: it is the current one now.
    pub fn complete(&mut self) {
        self.current.clone_from(&self.update);
        self.current_template = None;
    }

    /// Which revision and template a pod that is made now gets (B-15).
    pub fn for_ordinal(&self, set: &Set, ordinal: i64) -> (String, Value) {
        match (&self.current_template, needs_current(set, ordinal)) {
            (Some(template), true) => (self.current.clone(), template.clone()),
            _ => (self.update.clone(), self.update_template.clone()),
        }
    }
}

/// RollingUpdate: below the partition, or among the first currentReplicas when there is no partition (B-15). OnDelete: never.
fn needs_current(set: &Set, ordinal: i64) -> bool {
    if set.is_on_delete() {
        return false;
    }
    let strategy = set.spec().and_then(|s| s.update_strategy.as_ref());
    let current = match strategy.and_then(|s| s.rolling_update.as_ref()).and_then(|r| r.partition) {
        Some(partition) => partition,
        None => set.typed.status.as_ref().and_then(|s| s.current_replicas).unwrap_or(0),
    };
    ordinal < set.start() + i64::from(current)
}

/// Finds or makes the revisions of a set. None when the plan must be applied before anything else can be decided.
pub fn revisions(set: &Set, plan: &mut Plan) -> Option<Revisions> {
    if set.object.meta.is_deleting() {
        // Only status is written any more (B-27), and what the collector lets go of must stay let go of.
        return Some(recorded(set));
    }
    if adopt(set, plan) {
        return None;
    }
    let all = sorted(set);
    let mut collision_count = set.typed.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0);
    let template = set.value["spec"]["template"].clone();
    let data = data_text(&template);
    let newest = all.last();
    let next_number = newest.map_or(1, |r| number(r) + 1);
    let equal: Vec<&&Arc<Object>> = all.iter().filter(|r| data_of(r) == data).collect();
    let update = match (newest, equal.last()) {
        (Some(newest), Some(equal)) if newest.key == equal.key => newest.key.name.to_string(),
        (Some(newest), _) if means_the_same(set, newest, &template) => newest.key.name.to_string(),
        (_, Some(equal)) => {
            // A rollback: the earlier revision becomes the newest (B-22).
            let mut value = equal.value();
            value["revision"] = json!(next_number);
            plan.update(CONTROLLER_REVISION, value);
            equal.key.name.to_string()
        }
        _ => create(set, &template, &data, next_number, &mut collision_count, plan),
    };
    let recorded = set.typed.status.as_ref().and_then(|s| s.current_revision.as_deref()).unwrap_or_default();
    let current = all.iter().find(|r| &*r.key.name == recorded);
    let current_template = current.filter(|r| *r.key.name != *update).map(|r| self::template(r));
    Some(Revisions {
        current: current.map_or_else(|| update.clone(), |r| r.key.name.to_string()),
        update,
        collision_count,
        current_template,
        update_template: template,
    })
}

/// The revisions as status has them.
fn recorded(set: &Set) -> Revisions {
    let status = set.typed.status.clone().unwrap_or_default();
    Revisions {
        current: status.current_revision.unwrap_or_default(),
        update: status.update_revision.unwrap_or_default(),
        collision_count: status.collision_count.unwrap_or(0),
        current_template: None,
        update_template: Value::Null,
    }
}

fn adopt(set: &Set, plan: &mut Plan) -> bool {
    let before = plan.actions.len();
    for revision in facts::select(&set.view, CONTROLLER_REVISION, set.namespace(), &set.selector) {
        if revision.meta.controller().is_none() && !revision.meta.is_deleting() {
            plan.update(CONTROLLER_REVISION, facts::adopted(revision, set.owner_reference()));
        }
    }
    plan.actions.len() > before
}

/// The set's revisions, oldest first: by number, creation, name (CR-04).
fn sorted<'a>(set: &Set<'a>) -> Vec<&'a Arc<Object>> {
    let mut all = facts::controlled(&set.view, CONTROLLER_REVISION, &set.object.meta.uid);
    all.sort_by(|a, b| {
        let rank = |r: &Arc<Object>| (number(r), r.meta.creation_timestamp);
        rank(a).cmp(&rank(b)).then_with(|| a.key.name.cmp(&b.key.name))
    });
    all
}

pub fn number(revision: &Object) -> i64 {
    revision.view::<ControllerRevision>().revision
}

/// The pod template that a revision holds.
pub fn template(revision: &Object) -> Value {
    let mut template = revision.value()["data"]["spec"]["template"].take();
    if let Some(fields) = template.as_object_mut() {
        fields.shift_remove("$patch");
    }
    template
}

/// CR-02: a strategic merge patch that puts the template in the place of another, with its keys sorted.
pub fn data_text(template: &Value) -> String {
    let mut template = template.clone();
    template["$patch"] = json!("replace");
    sort(&json!({"spec": {"template": template}})).to_string()
}

pub fn data_of(revision: &Object) -> String {
    match &revision.view::<ControllerRevision>().data {
        Some(data) => sort(&data.0).to_string(),
        None => String::new(),
    }
}

fn sort(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort();
            Value::Object(keys.into_iter().map(|k| (k.clone(), sort(&fields[k]))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(sort).collect()),
        other => other.clone(),
    }
}

/// B-23: whether the set with that revision's template, defaulted, is the set as it is.
fn means_the_same(set: &Set, revision: &Object, template: &Value) -> bool {
    let Some(kind) = set.view.registry.stored(set.object.key.kind) else { return false };
    let mut with_revision = set.value.clone();
    with_revision["spec"]["template"] = self::template(revision);
    (kind.hooks.default)(&mut with_revision);
    sort(&with_revision["spec"]["template"]) == sort(template)
}

fn create(set: &Set, template: &Value, data: &str, number: i64, collision_count: &mut i32, plan: &mut Plan) -> String {
    loop {
        let hash = hash(data, *collision_count);
        let prefix: String = set.name().chars().take(PREFIX_MAX).collect();
        let name = format!("{prefix}-{hash}");
        if set.view.get(CONTROLLER_REVISION, set.namespace(), &name).is_some() {
            // Another template has the same hash (ST-08).
            *collision_count += 1;
            continue;
        }
        let mut labels = template["metadata"]["labels"].as_object().cloned().unwrap_or_default();
        labels.insert(HASH_LABEL.into(), json!(hash));
        let mut metadata = json!({"name": name, "namespace": set.namespace(), "labels": labels,
            "ownerReferences": [set.owner_reference()]});
        if set.value["metadata"]["annotations"].is_object() {
            metadata["annotations"] = set.value["metadata"]["annotations"].clone();
        }
        let data: Value = serde_json::from_str(data).unwrap_or_default();
        plan.create(
            CONTROLLER_REVISION,
            json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": metadata, "data": data,
                "revision": number}),
        );
        return name;
    }
}

/// CR-01: FNV-1 of the data and the collision count, in an alphabet without vowels.
pub fn hash(data: &str, collision_count: i32) -> String {
    let mut hash = Fnv32::default();
    hash.write(data.as_bytes());
    hash.write(collision_count.to_string().as_bytes());
    hash.safe()
}

/// FNV-1, 32 bits, printed as Kubernetes prints hashes in names.
pub struct Fnv32(u32);

impl Default for Fnv32 {
    fn default() -> Fnv32 {
        Fnv32(0x811c_9dc5)
    }
}

impl Fnv32 {
    pub fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(0x0100_0193) ^ u32::from(*byte);
        }
    }

    pub fn safe(&self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        self.0.to_string().bytes().map(|b| ALPHABET[b as usize % ALPHABET.len()] as char).collect()
    }
}

/// CR-05: forgets the oldest revisions that nothing names, down to the limit. A negative limit keeps all (S-10).
pub fn trim(set: &Set, members: &[Member], revisions: &Revisions, plan: &mut Plan) {
    let limit = set.spec().and_then(|s| s.revision_history_limit).unwrap_or(10);
    if set.object.meta.is_deleting() {
        return;
    }
    let Ok(limit) = usize::try_from(limit) else { return };
    let all = sorted(set);
    if all.len() <= limit {
        return;
    }
    let is_live = |name: &str| {
        name == revisions.current || name == revisions.update || members.iter().any(|m| m.revision() == name)
    };
    let dead: Vec<_> = all.into_iter().filter(|r| !is_live(&r.key.name) && !r.meta.is_deleting()).collect();
    for revision in dead.iter().take(dead.len().saturating_sub(limit)) {
        plan.delete(revision);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_kubernetes_own() {
        let mut fnv = Fnv32::default();
        assert_eq!(fnv.safe(), "65bb57b6b5", "2166136261, the offset basis, in letters");
        fnv.write(b"a");
        assert_eq!(fnv.0, 0x050c_5d7e, "FNV-1 of \"a\"");
    }
}
