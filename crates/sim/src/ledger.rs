//! `Ledger`: the durable history, folded event by event, with what users asked for beside it.
//!
//! The simulator sees everything, so a commit that a crash kept is written down too, although nobody was told of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use stead_api::{Key, KindName, Object, Revision};
use stead_apiserver::Head;
use stead_control::names::{NAMESPACE, NODE, POD, STATEFUL_SET};
use stead_store::Event;

use crate::checks::{self, Violation, violated};

/// The taint by which a person says that a node will not come back.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

#[derive(Default)]
pub struct Ledger {
    pub revision: Revision,
    objects: BTreeMap<Key, Arc<Object>>,
    keys: BTreeMap<String, Key>,
    /// Uids of pods that a user removed without their node's consent: by force, or with the node.
    pub forced: BTreeSet<String>,
    /// Uids of objects that a user asked to delete or to evict.
    pub touched: BTreeSet<String>,
    /// Uids of objects that were going already, or that had an owner deleted too, when a user asked to delete them, perhaps in another
    /// way.
    pub reconsidered: BTreeSet<String>,
    /// Uids of the pods that the newest commit removed.
    pub just_removed: Vec<String>,
}

impl Ledger {
    pub fn find(&self, kind: KindName, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.objects.get(&Key::new(kind, namespace, name))
    }

    pub fn by_uid(&self, uid: &str) -> Option<&Arc<Object>> {
        self.objects.get(self.keys.get(uid)?)
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values()
    }

    pub fn list(&self, kind: KindName) -> impl Iterator<Item = &Arc<Object>> {
        let from = Key::new(kind, "", "");
        self.objects.range(from..).map(|(_, object)| object).take_while(move |object| object.key.kind == kind)
    }

    /// What names this object as an owner.
    pub fn owned<'a>(&'a self, uid: &'a str) -> impl Iterator<Item = &'a Arc<Object>> {
        self.all().filter(move |object| object.meta.owner_references.iter().any(|owner| owner.uid == uid))
    }

    pub fn is_touched(&self, object: &Object) -> bool {
        self.touched.contains(&object.meta.uid)
    }

    /// Writes down that a user asks to delete an object.
    pub fn touch(&mut self, object: &Object) {
        let is_going = self.by_uid(&object.meta.uid).is_some_and(|known| known.meta.is_deleting());
        let with_owner = object.meta.owner_references.iter().any(|owner| self.touched.contains(&owner.uid));
        if !self.touched.insert(object.meta.uid.clone()) || with_owner || is_going {
            self.reconsidered.insert(object.meta.uid.clone());
        }
    }

    pub fn is_namespace_going(&self, namespace: &str) -> bool {
        self.find(NAMESPACE, "", namespace).is_none_or(|found| found.meta.is_deleting())
    }

    /// Whether an object may go for reasons that lie outside the controller of its kind.
    pub fn is_excused(&self, object: &Object) -> bool {
        let is_expelled = object.key.kind == POD && is_expelled(object);
        is_expelled || self.is_touched(object) || self.is_namespace_going(&object.key.namespace)
    }

    /// What is new of some kinds, in order.
    pub fn news(&self, head: &Head, kinds: &BTreeSet<KindName>) -> Result<Vec<Arc<Event>>, Violation> {
        let mut events: Vec<Arc<Event>> = Vec::new();
        for kind in kinds {
            match head.store.history.since(kind, self.revision) {
                Ok(new) => events.extend(new.cloned()),
                Err(expired) => return violated(&checks::RELIABLE, format!("{kind}: {expired}")),
            }
        }
        events.sort_by_key(|event| event.revision());
        Ok(events)
    }

    pub fn write(&mut self, event: &Event) {
        let object = &event.object;
        let node_of = |pod: &Object| pod.field("spec.nodeName").unwrap_or_default().to_owned();
        if !event.deleted {
            if event.old.is_none() {
                self.keys.insert(object.meta.uid.clone(), object.key.clone());
            }
            self.objects.insert(object.key.clone(), Arc::clone(object));
            return;
        }
        self.objects.remove(&object.key);
        self.keys.remove(&object.meta.uid);
        match object.key.kind {
            // With its Node a person gives up what runs there.
            NODE => {
                let pods = self.list(POD).filter(|pod| node_of(pod) == *object.key.name);
                let pods: Vec<String> = pods.map(|pod| pod.meta.uid.clone()).collect();
                self.forced.extend(pods);
            }
            POD => {
                let node = node_of(object);
                let given_up = match self.find(NODE, "", &node) {
                    Some(node) => node.json.windows(OUT_OF_SERVICE.len()).any(|part| part == OUT_OF_SERVICE.as_bytes()),
                    None => !node.is_empty(),
                };
                if given_up {
                    self.forced.insert(object.meta.uid.clone());
                }
                self.just_removed.push(object.meta.uid.clone());
            }
            _ => {}
        }
    }

    /// The set that controls an object, if it exists, and the object's ordinal.
    pub fn set_of(&self, object: &Object) -> Option<(Arc<StatefulSet>, i32)> {
        let owner = object.meta.controller().filter(|owner| owner.kind == "StatefulSet")?;
        let set = self.find(STATEFUL_SET, &object.key.namespace, &owner.name)?;
        let ordinal = object.key.name.rsplit_once('-')?.1.parse().ok()?;
        (set.meta.uid == owner.uid).then(|| (set.view::<StatefulSet>(), ordinal))
    }
}

/// Whether a pod may have to leave because of its node, its own end or an eviction.
fn is_expelled(object: &Object) -> bool {
    let pod = object.view::<Pod>();
    let mut conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    checks::is_finished(&pod) || conditions.any(|c| c.type_ == "DisruptionTarget")
}
