//! Deleting the directories of provisioned volumes.
//!
//! Guarantees: a directory goes only when its volume's object is being deleted, nothing else protects it, its reclaim policy is
//! Delete and it lies on this node (Kept); the finalizer is cleared only after the machine said that the directory is gone. With
//! policy Retain the finalizer is cleared and the directory stays.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolume;
use serde_json::json;
use stead_api::request::{PatchType, Resource, Verb};
use stead_api::{Key, Object};

use crate::action::{Action, Failure};
use crate::agent::NodeAgent;
use crate::event::{Note, Subject};
use crate::exchange::{Output, Pending};
use crate::reclaim_steps::fail;
use crate::volume::{DIRECTORY_FINALIZER, directory, is_provisioned};

/// Other finalizers that protect a volume; ours is served last.
const PROTECTION: &str = "kubernetes.io/pv-protection";

impl NodeAgent {
    pub(crate) fn reclaim_volumes(&mut self, now: Timestamp) {
        let Some(snapshot) = self.snapshot.clone() else { return };
        let mut keys = std::mem::take(&mut self.reclaim.dirty);
        if std::mem::take(&mut self.reclaim.is_all) {
            keys.extend(snapshot.list("persistentvolumes", "").map(|o| o.key.clone()));
        }
        for (key, step) in &mut self.reclaim.steps {
            if step.retry_at.is_some_and(|at| at <= now) {
                step.retry_at = None;
                keys.insert(key.clone());
            }
        }
        for key in keys {
            match snapshot.get(&key) {
                Some(object) => self.reclaim_one(&key, object),
                None => {
                    self.reclaim.steps.remove(&key);
                }
            }
        }
    }

    fn reclaim_one(&mut self, key: &Key, object: &Object) {
        let finalizers = &object.meta.finalizers;
        let is_ours = finalizers.iter().any(|f| f == DIRECTORY_FINALIZER);
        let is_protected = finalizers.iter().any(|f| f == PROTECTION);
        if !object.meta.is_deleting() || !is_ours || is_protected {
            return;
        }
        let volume = object.view::<PersistentVolume>();
        if !is_provisioned(&volume) || !is_on(&volume, &self.config.name) {
            return;
        }
        let policy = volume.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref());
        let step = self.reclaim.steps.entry(key.clone()).or_default();
        if step.is_busy || step.retry_at.is_some() {
            return;
        }
        step.is_busy = true;
        match directory(&volume).filter(|_| policy == Some("Delete") && !step.is_deleted) {
            Some(path) => self.outputs.push(Output::Act(Action::DeleteDirectory { path: path.into() })),
            None => self.clear_finalizer(key, object),
        }
    }

    fn clear_finalizer(&mut self, key: &Key, object: &Object) {
        let meta = &object.meta;
        let rest: Vec<&String> = meta.finalizers.iter().filter(|f| *f != DIRECTORY_FINALIZER).collect();
        let body = json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version.to_string(),
            "finalizers": rest}});
        let resource = Resource {
            version: "v1".into(),
            plural: "persistentvolumes".into(),
            name: key.name.to_string(),
            ..Resource::default()
        };
        self.request(Pending::Reclaim(key.clone()), Verb::Patch(PatchType::Merge), resource, body);
    }

    /// The volume whose directory this is.
    fn volume_at(&self, path: &Path) -> Option<Key> {
        let snapshot = self.snapshot.as_ref()?;
        let at = |key: &Key| {
            let volume = snapshot.get(key)?.view::<PersistentVolume>();
            Some(directory(&volume).map(PathBuf::from)? == path)
        };
        self.reclaim.steps.keys().find(|key| at(key) == Some(true)).cloned()
    }

    pub(crate) fn directory_deleted(&mut self, path: &Path) {
        let Some(key) = self.volume_at(path) else { return };
        if let Some(step) = self.reclaim.steps.get_mut(&key) {
            step.is_busy = false;
            step.is_deleted = true;
        }
        self.reclaim.look_at(key);
    }

    pub(crate) fn directory_not_deleted(&mut self, now: Timestamp, path: &Path, failure: Failure) {
        let Some(key) = self.volume_at(path) else { return };
        if let Some(step) = self.reclaim.steps.get_mut(&key) {
            fail(step, now);
        }
        let uid = self.snapshot.as_ref().and_then(|s| s.get(&key)).map(|o| o.meta.uid.clone()).unwrap_or_default();
        let name = key.name.to_string();
        let subject = Subject { kind: "PersistentVolume", namespace: String::new(), name, uid, field_path: None };
        self.tell_of(subject, &Note::warning("VolumeFailedDelete", failure.message), now);
    }
}

/// Whether the volume's node affinity names this node; a volume without one is on every node.
fn is_on(volume: &PersistentVolume, node: &str) -> bool {
    let affinity = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref()).and_then(|a| a.required.as_ref());
    let Some(required) = affinity else { return true };
    required.node_selector_terms.iter().any(|term| {
        let names = |e: &k8s_openapi::api::core::v1::NodeSelectorRequirement| {
            e.key == "kubernetes.io/hostname" && e.values.iter().flatten().any(|v| v == node)
        };
        term.match_expressions.iter().flatten().any(names)
    })
}
