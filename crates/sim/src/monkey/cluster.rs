//! What people do to nodes, namespaces, claims, custom resources and the rest.

use std::sync::Arc;

use serde_json::{Value, json};
use stead_api::request::PatchType;
use stead_api::{Object, Verb};
use stead_control::names::{CLAIM, CONFIG_MAP, CUSTOM_RESOURCE, NAMESPACE, NODE, POD};

use super::workloads::owner_reference;
use super::{core, path_of};
use crate::manifests::{self, DATABASES, HOLD, NAMESPACES};
use crate::world::World;

impl World {
    /// Cordons or uncordons; a cordoned node is drained at once, all pods together.
    pub fn cordon(&mut self) {
        let Some(node) = self.some(NODE) else { return };
        let cordons = self.chance.percent(50);
        let body = json!({"spec": {"unschedulable": if cordons { json!(true) } else { Value::Null }}});
        self.patch(PatchType::Merge, &path_of(&node), body);
        if !cordons {
            return;
        }
        let snapshot = self.server.head.store.snapshot.clone();
        for pod in snapshot.list(POD, "").filter(|pod| pod.field("spec.nodeName") == Some(&node.key.name)) {
            self.evict(pod);
        }
    }

    /// Deletes a node, or says that it is out of service.
    pub fn give_node_up(&mut self) {
        let Some(node) = self.some(NODE) else { return };
        if self.chance.percent(30) {
            let taint =
                json!({"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"});
            return self.patch(PatchType::Strategic, &path_of(&node), json!({"spec": {"taints": [taint]}}));
        }
        self.delete(&node, json!({}));
    }

    pub fn delete_claim(&mut self) {
        if let Some(claim) = self.some(CLAIM) {
            self.delete(&claim, json!({}));
        }
    }

    /// Ends the second namespace with all that is in it.
    pub fn end_namespace(&mut self) {
        let found = self.server.head.store.snapshot.find(NAMESPACE, "", NAMESPACES[1]).cloned();
        if let Some(namespace) = found {
            self.delete(&namespace, json!({}));
        }
    }

    /// A custom kind, its objects, and ConfigMaps that those own.
    pub fn use_databases(&mut self) {
        let namespace = self.namespace();
        let databases = format!("/apis/example.com/v1/namespaces/{namespace}/databases");
        let name = format!("db{}", self.chance.below(3));
        if self.server.head.store.snapshot.find(CUSTOM_RESOURCE, "", DATABASES).is_none() {
            let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
            return self.ask_as_user(Verb::Create, path, manifests::databases());
        }
        match self.chance.below(20) {
            0..7 => {
                let body = manifests::database(&name, self.chance.below(9));
                self.ask_as_user(Verb::Create, &databases, body);
            }
            7..13 => self.own_config(),
            13..15 => {
                let body = json!({"spec": {"size": self.chance.below(9)}});
                self.patch(PatchType::Merge, &format!("{databases}/{name}"), body);
            }
            15..19 => {
                if let Some(database) = self.some(DATABASES) {
                    self.delete_somehow(&database);
                }
            }
            _ => {
                if let Some(definition) = self.some(CUSTOM_RESOURCE) {
                    self.delete(&definition, json!({}));
                }
            }
        }
    }

    /// A ConfigMap with one owner or two.
    fn own_config(&mut self) {
        let Some(owner) = self.some(DATABASES) else { return };
        let namespace = owner.key.namespace.to_string();
        let mut owners = vec![owner_reference(&owner, self.chance.percent(50))];
        let others: Vec<Arc<Object>> = self.server.head.store.snapshot.list(DATABASES, &namespace).cloned().collect();
        if let Some(other) = self.chance.pick(&others).filter(|other| other.key != owner.key) {
            owners.push(owner_reference(other, false));
        }
        let mut body = manifests::config(&format!("owned{}", self.chance.below(4)), self.chance.word());
        body["metadata"]["ownerReferences"] = json!(owners);
        self.ask_as_user(Verb::Create, &format!("{}/configmaps", core(&namespace)), body);
    }

    /// ConfigMaps come, change and go, some with a finalizer.
    pub fn churn(&mut self) {
        let namespace = self.namespace();
        let (name, value) = (format!("c{}", self.chance.below(3)), self.chance.word());
        let path = format!("{}/configmaps", core(namespace));
        let mut body = manifests::config(&name, value);
        let found = self.server.head.store.snapshot.find(CONFIG_MAP, namespace, &name).cloned();
        match found {
            Some(config) if self.users && self.chance.percent(20) => self.delete(&config, json!({})),
            Some(_) => self.patch(PatchType::Merge, &format!("{path}/{name}"), body),
            None => {
                if self.users && self.chance.percent(20) {
                    body["metadata"]["finalizers"] = json!([HOLD]);
                }
                self.ask_as_user(Verb::Create, &path, body);
            }
        }
    }

    /// Takes a finalizer away.
    pub fn let_go(&mut self) {
        let is_held = |object: &&Arc<Object>| object.meta.finalizers.iter().any(|finalizer| finalizer == HOLD);
        let held: Vec<Arc<Object>> =
            self.server.head.store.snapshot.list(CONFIG_MAP, "").filter(is_held).cloned().collect();
        if let Some(object) = self.chance.pick(&held).cloned() {
            self.patch(PatchType::Merge, &path_of(&object), json!({"metadata": {"finalizers": null}}));
        }
    }
}
