//! People: at random they make, change, scale, roll out, evict and delete, with and without force.
//!
//! They see the published state, which may be old, and name what they delete by its uid, so that what was forced is known exactly.

use std::sync::Arc;

use serde_json::{Value, json};
use stead_api::request::{PatchType, target};
use stead_api::{Object, Request, Target, Verb};
use stead_control::names::{CLAIM, DEPLOYMENT, NODE, POD, REPLICA_SET, STATEFUL_SET};

use crate::Sabotage;
use crate::manifests::{self, DEPLOYMENTS, SETS};
use crate::server::{From, Sender, admin};
use crate::world::{Message, World};

/// What people remember.
#[derive(Default)]
pub struct Monkey {
    acts: u64,
}

const CORE: &str = "/api/v1/namespaces/default";
const APPS: &str = "/apis/apps/v1/namespaces/default";

impl World {
    pub fn user_acts(&mut self) {
        if !self.users && self.sabotage != Sabotage::Flutter {
            return;
        }
        let wait = if self.chance.percent(30) { self.chance.millis(1, 200) } else { self.chance.millis(200, 5000) };
        self.send_in(wait, Message::User);
        self.monkey.acts += 1;
        if self.monkey.acts <= SETS.len() as u64 {
            let set = SETS[self.monkey.acts as usize - 1];
            return self.make_set(set);
        }
        if !self.users {
            return self.churn();
        }
        self.break_rules();
        match self.chance.below(100) {
            0..8 => self.make_something(),
            8..36 => self.change_set(),
            36..41 => self.delete_set(),
            41..47 => self.change_deployment(),
            47..67 => self.delete_pod(),
            67..73 => self.evict_pod(),
            73..79 => self.cordon(),
            79..82 => self.give_node_up(),
            82..87 => self.label_pod(),
            87..91 => self.delete_claim(),
            _ => self.churn(),
        }
    }

    fn ask_as_user(&mut self, verb: Verb, path: &str, body: Value) {
        let Target::Resource(resource) = target(path) else { return };
        let mut request = Request::of(admin(), verb, resource, body);
        request.user_agent = "kubectl/1.36".into();
        let wait = self.chance.micros(100, 5000);
        let sender = Sender { from: From::User, loses_reply: false };
        self.send_in(wait, Message::Request(sender, Box::new(request)));
    }

    /// Some object of a kind, as a person sees it.
    fn some(&mut self, kind: &'static str) -> Option<Arc<Object>> {
        let all: Vec<Arc<Object>> = self.server.head.store.snapshot.list(kind, "").cloned().collect();
        self.chance.pick(&all).cloned()
    }

    fn make_set(&mut self, name: &str) {
        let body = manifests::stateful_set(name, &mut self.chance);
        self.ask_as_user(Verb::Create, &format!("{APPS}/statefulsets"), body);
        self.ask_as_user(Verb::Create, &format!("{CORE}/services"), manifests::service(name, name, true));
    }

    fn make_something(&mut self) {
        let set = *self.chance.pick(SETS).unwrap_or(&"a");
        match self.chance.below(5) {
            0 | 1 => self.make_set(set),
            2 => {
                let body = manifests::deployment(DEPLOYMENTS[0], &mut self.chance);
                self.ask_as_user(Verb::Create, &format!("{APPS}/deployments"), body);
            }
            3 => {
                let name = format!("s{}", self.chance.below(6));
                self.ask_as_user(Verb::Create, &format!("{CORE}/services"), manifests::service(&name, set, false));
            }
            _ => {
                let least = self.chance.below(3);
                let path = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
                self.ask_as_user(Verb::Create, path, manifests::budget(set, least));
            }
        }
    }

    fn change_set(&mut self) {
        let Some(set) = self.some(STATEFUL_SET) else { return self.make_set(SETS[0]) };
        let path = format!("{APPS}/statefulsets/{}", set.key.name);
        let scales = self.chance.percent(25);
        if scales {
            let body = json!({"spec": {"replicas": self.chance.below(5)}});
            return self.ask_as_user(Verb::Patch(PatchType::Merge), &format!("{path}/scale"), body);
        }
        let mut body = manifests::change(&mut self.chance);
        if body["spec"]["template"].is_object() {
            // A new image for the container, as `kubectl set image` says it.
            let image = body["spec"]["template"]["metadata"]["annotations"]["image"].take();
            body = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}});
            return self.ask_as_user(Verb::Patch(PatchType::Strategic), &path, body);
        }
        self.ask_as_user(Verb::Patch(PatchType::Merge), &path, body);
    }

    fn delete_set(&mut self) {
        let Some(set) = self.some(STATEFUL_SET) else { return };
        let how = *self.chance.pick(&["Background", "Foreground", "Orphan"]).unwrap_or(&"Background");
        self.delete(&format!("{APPS}/statefulsets/{}", set.key.name), &set, json!({"propagationPolicy": how}));
    }

    fn change_deployment(&mut self) {
        let Some(deployment) = self.some(DEPLOYMENT) else { return self.make_something() };
        let path = format!("{APPS}/deployments/{}", deployment.key.name);
        match self.chance.below(4) {
            0 => self.delete(&path, &deployment, json!({"propagationPolicy": "Background"})),
            1 => {
                let body = json!({"spec": {"replicas": self.chance.below(4)}});
                self.ask_as_user(Verb::Patch(PatchType::Merge), &path, body);
            }
            _ => {
                let image = *self.chance.pick(manifests::IMAGES).unwrap_or(&"i:1");
                let body = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}});
                self.ask_as_user(Verb::Patch(PatchType::Strategic), &path, body);
            }
        }
    }

    fn delete_pod(&mut self) {
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
        self.delete(&format!("{CORE}/pods/{}", pod.key.name), &pod, options);
    }

    fn delete(&mut self, path: &str, object: &Object, mut options: Value) {
        options["apiVersion"] = json!("v1");
        options["kind"] = json!("DeleteOptions");
        options["preconditions"] = json!({"uid": object.meta.uid});
        self.ledger.touched.insert(object.meta.uid.clone());
        self.ask_as_user(Verb::Delete, path, options);
    }

    fn evict_pod(&mut self) {
        let Some(pod) = self.some(POD) else { return };
        let name = &*pod.key.name;
        let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"},
            "deleteOptions": {"preconditions": {"uid": pod.meta.uid}}});
        self.ask_as_user(Verb::Create, &format!("{CORE}/pods/{name}/eviction"), body);
    }

    /// Cordons or uncordons; a cordoned node is drained at once, all pods together.
    fn cordon(&mut self) {
        let Some(node) = self.some(NODE) else { return };
        let cordons = self.chance.percent(50);
        let body = json!({"spec": {"unschedulable": if cordons { json!(true) } else { Value::Null }}});
        self.ask_as_user(Verb::Patch(PatchType::Merge), &format!("/api/v1/nodes/{}", node.key.name), body);
        if !cordons {
            return;
        }
        let snapshot = self.server.head.store.snapshot.clone();
        for pod in snapshot.list(POD, "").filter(|pod| pod.field("spec.nodeName") == Some(&node.key.name)) {
            let body = json!({"apiVersion": "policy/v1", "kind": "Eviction",
                "metadata": {"name": &*pod.key.name, "namespace": "default"}});
            self.ask_as_user(Verb::Create, &format!("{CORE}/pods/{}/eviction", pod.key.name), body);
        }
    }

    /// Deletes a node, or says that it is out of service.
    fn give_node_up(&mut self) {
        let Some(node) = self.some(NODE) else { return };
        if self.chance.percent(30) {
            let taint =
                json!({"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"});
            let path = format!("/api/v1/nodes/{}", node.key.name);
            return self.ask_as_user(Verb::Patch(PatchType::Strategic), &path, json!({"spec": {"taints": [taint]}}));
        }
        self.delete(&format!("/api/v1/nodes/{}", node.key.name), &node, json!({}));
    }

    fn label_pod(&mut self) {
        let Some(pod) = self.some(POD) else { return };
        let color = *self.chance.pick(&["red", "blue"]).unwrap_or(&"red");
        let mut labels = json!({"color": color});
        // Out of its ReplicaSet's sight; a StatefulSet's pod would block its own name.
        if pod.meta.controller().is_some_and(|owner| owner.kind == "ReplicaSet") && self.chance.percent(20) {
            labels["app"] = json!("adrift");
        }
        let body = json!({"metadata": {"labels": labels}});
        self.ask_as_user(Verb::Patch(PatchType::Merge), &format!("{CORE}/pods/{}", pod.key.name), body);
    }

    fn delete_claim(&mut self) {
        let Some(claim) = self.some(CLAIM) else { return };
        self.delete(&format!("{CORE}/persistentvolumeclaims/{}", claim.key.name), &claim, json!({}));
    }

    fn churn(&mut self) {
        let (name, value) = (format!("c{}", self.chance.below(3)), self.chance.word());
        let path = format!("{CORE}/configmaps");
        let known = self.server.head.store.snapshot.find("configmaps", "default", &name).is_some();
        match known {
            true => self.ask_as_user(
                Verb::Patch(PatchType::Merge),
                &format!("{path}/{name}"),
                manifests::config(&name, value),
            ),
            false => self.ask_as_user(Verb::Create, &path, manifests::config(&name, value)),
        }
    }

    /// In the end people make the nodes usable again.
    pub fn uncordon(&mut self) {
        for node in 0..self.nodes.len() {
            let path = format!("/api/v1/nodes/{}", self.nodes[node].name);
            for seconds in [10, 20, 30] {
                let Target::Resource(resource) = target(&path) else { continue };
                let body = json!({"spec": {"unschedulable": null, "taints": null}});
                let request = Request::of(admin(), Verb::Patch(PatchType::Merge), resource, body);
                let sender = Sender { from: From::User, loses_reply: false };
                let span = jiff::SignedDuration::from_secs(seconds);
                self.send_in(span, Message::Request(sender, Box::new(request)));
            }
        }
    }

    /// Somebody wipes every status; what controllers say of the world they can say again.
    pub fn wipe_statuses(&mut self) {
        let snapshot = self.server.head.store.snapshot.clone();
        for (kind, plural) in
            [(STATEFUL_SET, "statefulsets"), (DEPLOYMENT, "deployments"), (REPLICA_SET, "replicasets")]
        {
            for object in snapshot.list(kind, "") {
                let path = format!("{APPS}/{plural}/{}/status", object.key.name);
                self.ask_as_user(Verb::Patch(PatchType::Merge), &path, json!({"status": null}));
            }
        }
    }

    /// What the broken parts of tests do.
    fn break_rules(&mut self) {
        match self.sabotage {
            Sabotage::StealClaims => {
                let Some(claim) = self.some(CLAIM) else { return };
                self.ask_as_user(
                    Verb::Delete,
                    &format!("{CORE}/persistentvolumeclaims/{}", claim.key.name),
                    Value::Null,
                );
            }
            Sabotage::MakePodsEarly => self.make_pod_early(),
            _ => {}
        }
    }

    fn make_pod_early(&mut self) {
        let Some(pod) = self.some(POD).filter(|pod| pod.meta.controller().is_some_and(|o| o.kind == "StatefulSet"))
        else {
            return;
        };
        let mut value = pod.value();
        let set = pod.key.name.rsplit_once('-').map_or("", |(set, _)| set).to_owned();
        let name = format!("{set}-7");
        let mut metadata = json!({"name": name, "namespace": "default", "labels": value["metadata"]["labels"],
            "ownerReferences": value["metadata"]["ownerReferences"]});
        metadata["labels"]["statefulset.kubernetes.io/pod-name"] = json!(name);
        value["metadata"] = metadata;
        value["status"] = Value::Null;
        value["spec"]["nodeName"] = Value::Null;
        self.ask_as_user(Verb::Create, &format!("{CORE}/pods"), value);
    }
}
