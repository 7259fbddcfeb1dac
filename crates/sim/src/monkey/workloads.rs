//! What people do to sets, Deployments and pods.

use std::sync::Arc;

use serde_json::{Value, json};
use stead_api::request::PatchType;
use stead_api::{Object, Verb};
use stead_control::names::{DEPLOYMENT, POD, REPLICA_SET, STATEFUL_SET};

use super::{apps, core, path_of};
use crate::manifests::{self, DATABASES, DEPLOYMENTS, IMAGES, REPLICA_SETS, SETS};
use crate::world::World;

impl World {
    pub fn make_set(&mut self, namespace: &str, name: &str) {
        let mut body = manifests::stateful_set(name, &mut self.chance);
        let databases: Vec<Arc<Object>> = self.server.head.store.snapshot.list(DATABASES, namespace).cloned().collect();
        if let Some(owner) = self.chance.pick(&databases).filter(|_| self.monkey.is_hasty).cloned() {
            body["metadata"]["ownerReferences"] = json!([owner_reference(&owner, true)]);
        }
        self.ask_as_user(Verb::Create, &format!("{}/statefulsets", apps(namespace)), body);
        let service = manifests::service(name, name, true);
        self.ask_as_user(Verb::Create, &format!("{}/services", core(namespace)), service);
    }

    pub fn make_something(&mut self) {
        let (namespace, set) = (self.namespace(), SETS[self.chance.below(SETS.len() as u64) as usize]);
        let (core, apps) = (core(namespace), apps(namespace));
        match self.chance.below(8) {
            0..3 => self.make_set(namespace, set),
            3 => {
                let name = DEPLOYMENTS[self.chance.below(2) as usize];
                let body = manifests::deployment(name, &mut self.chance);
                self.ask_as_user(Verb::Create, &format!("{apps}/deployments"), body);
            }
            4 => {
                let body = manifests::replica_set(REPLICA_SETS[0], &mut self.chance);
                self.ask_as_user(Verb::Create, &format!("{apps}/replicasets"), body);
            }
            5 => {
                let name = format!("s{}", self.chance.below(6));
                self.ask_as_user(Verb::Create, &format!("{core}/services"), manifests::service(&name, set, false));
            }
            6 => {
                let path = format!("/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets");
                let body = manifests::budget(set, &mut self.chance);
                self.ask_as_user(Verb::Create, &path, body);
            }
            _ => {
                let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
                self.ask_as_user(Verb::Create, "/api/v1/namespaces", body);
            }
        }
    }

    pub fn change_set(&mut self) {
        let Some(set) = self.some(STATEFUL_SET) else { return self.make_set("default", SETS[0]) };
        let path = path_of(&set);
        if self.chance.percent(25) {
            let body = json!({"spec": {"replicas": self.chance.below(5)}});
            return self.patch(PatchType::Merge, &format!("{path}/scale"), body);
        }
        let body = manifests::change(&mut self.chance);
        self.patch(PatchType::Merge, &path, body);
    }

    /// A new image, as `kubectl set image` says it; sometimes for several sets at once, while pods of theirs go.
    pub fn set_image(&mut self) {
        let many = if self.chance.percent(30) { 3 } else { 1 };
        for _ in 0..many {
            let Some(set) = self.some(STATEFUL_SET) else { return };
            self.give_image(&set);
            if self.chance.percent(40) {
                self.delete_pod_of(&set);
            }
        }
    }

    fn give_image(&mut self, object: &Object) {
        let image = *self.chance.pick(IMAGES).unwrap_or(&"i:1");
        let body = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}});
        self.patch(PatchType::Strategic, &path_of(object), body);
    }

    fn delete_pod_of(&mut self, set: &Object) {
        let snapshot = &self.server.head.store.snapshot;
        let pods: Vec<Arc<Object>> = snapshot.owned(&set.meta.uid).filter(|o| o.key.kind == POD).cloned().collect();
        if let Some(pod) = self.chance.pick(&pods).cloned() {
            self.delete(&pod, json!({}));
        }
    }

    pub fn delete_set(&mut self) {
        if let Some(set) = self.some(STATEFUL_SET) {
            self.delete_somehow(&set);
        }
    }

    pub fn change_deployment(&mut self) {
        let kind = if self.chance.percent(25) { REPLICA_SET } else { DEPLOYMENT };
        let Some(object) = self.some(kind) else { return self.make_something() };
        match self.chance.below(4) {
            0 => self.delete_somehow(&object),
            // A Deployment's own ReplicaSet is the Deployment's to scale and to fill.
            _ if object.meta.controller().is_some() => {}
            1 => {
                let body = json!({"spec": {"replicas": self.chance.below(4)}});
                self.patch(PatchType::Merge, &path_of(&object), body);
            }
            _ => self.give_image(&object),
        }
    }

    pub fn delete_pod(&mut self) {
        let Some(pod) = self.some(POD) else { return };
        let mut options = json!({});
        match self.chance.below(10) {
            0..2 => {
                options["gracePeriodSeconds"] = json!(0);
                self.ledger.forced.insert(pod.meta.uid.clone());
            }
            2..5 => options["gracePeriodSeconds"] = json!(1 + self.chance.below(30)),
            _ => {}
        }
        if self.chance.percent(10) {
            options["propagationPolicy"] = json!("Foreground");
        }
        self.delete(&pod, options);
    }

    /// Impatient people delete again what is already going, with another grace.
    pub fn delete_twice(&mut self) {
        let going = |object: &&Arc<Object>| object.meta.is_deleting();
        let all: Vec<Arc<Object>> = self.server.head.store.snapshot.list(POD, "").filter(going).cloned().collect();
        let Some(pod) = self.chance.pick(&all).cloned() else { return self.delete_pod() };
        let seconds = self.chance.below(60) + 1;
        self.delete(&pod, json!({"gracePeriodSeconds": seconds}));
    }

    pub fn evict_pod(&mut self) {
        if let Some(pod) = self.some(POD) {
            self.evict(&pod);
        }
    }

    pub fn evict(&mut self, pod: &Object) {
        let body = json!({"apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": &*pod.key.name, "namespace": &*pod.key.namespace},
            "deleteOptions": {"preconditions": {"uid": pod.meta.uid}}});
        // A pod that does no work goes without a mark of the eviction.
        self.ledger.touch(pod);
        self.ask_as_user(Verb::Create, &format!("{}/eviction", path_of(pod)), body);
    }

    pub fn label_pod(&mut self) {
        let Some(pod) = self.some(POD) else { return };
        let color = *self.chance.pick(&["red", "blue"]).unwrap_or(&"red");
        let mut labels = json!({"color": color});
        // Out of its ReplicaSet's sight; a StatefulSet's pod would block its own name.
        if pod.meta.controller().is_some_and(|owner| owner.kind == "ReplicaSet") && self.chance.percent(20) {
            labels["app"] = json!("adrift");
        }
        self.patch(PatchType::Merge, &path_of(&pod), json!({"metadata": {"labels": labels}}));
    }
}

pub fn owner_reference(owner: &Object, blocks: bool) -> Value {
    let value = owner.value();
    json!({"apiVersion": value["apiVersion"], "kind": value["kind"], "name": &*owner.key.name, "uid": owner.meta.uid,
        "blockOwnerDeletion": blocks})
}
