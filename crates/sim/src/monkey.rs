//! People: at random they make, change, scale, roll out, evict and delete, with and without force.
//!
//! They see the published state, which may be old, and name what they delete by its uid, so that what was forced is known exactly.
//! In every history they like other things: each act has a weight of its own, and some people are in a hurry. `workloads.rs` has what
//! they do to workloads, `cluster.rs` to nodes, namespaces and the rest, `wrong.rs` what the broken parts of tests do.

mod cluster;
mod workloads;
mod wrong;

use std::sync::Arc;

use serde_json::{Value, json};
use stead_api::request::{PatchType, target};
use stead_api::{KindName, Object, Request, Target, Verb};

use crate::Sabotage;
use crate::chance::Chance;
use crate::manifests::{DATABASES, HOLD, NAMESPACES, SETS};
use crate::parts::{From, Monkey, Sender, admin};
use crate::world::{Message, World};

type Act = fn(&mut World);

/// What people do, and how often in a hundred.
const ACTS: &[(u64, Act)] = &[
    (8, World::make_something),
    (14, World::change_set),
    (10, World::set_image),
    (5, World::delete_set),
    (6, World::change_deployment),
    (18, World::delete_pod),
    (3, World::delete_twice),
    (6, World::evict_pod),
    (5, World::cordon),
    (3, World::give_node_up),
    (4, World::label_pod),
    (3, World::delete_claim),
    (1, World::end_namespace),
    (6, World::use_databases),
    (2, World::let_go),
    (6, World::churn),
];

/// The people of one history.
pub fn people(chance: &mut Chance) -> Monkey {
    let weights = ACTS.iter().map(|(weight, _)| weight * [0, 1, 1, 1, 4][chance.below(5) as usize]).collect();
    Monkey { acts: 0, weights, is_hasty: chance.percent(20) }
}

pub fn core(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}")
}

pub fn apps(namespace: &str) -> String {
    format!("/apis/apps/v1/namespaces/{namespace}")
}

/// The path of an object of a kind that people touch.
pub fn path_of(object: &Object) -> String {
    let (namespace, name) = (&*object.key.namespace, &*object.key.name);
    let (plural, group) = object.key.kind.split_once('.').unwrap_or((object.key.kind, ""));
    let scope = if namespace.is_empty() { String::new() } else { format!("namespaces/{namespace}/") };
    match (group, object.key.kind) {
        ("", _) => format!("/api/v1/{scope}{plural}/{name}"),
        (_, DATABASES) => format!("/apis/example.com/v1/{scope}{plural}/{name}"),
        _ => format!("/apis/{group}/v1/{scope}{plural}/{name}"),
    }
}

impl World {
    pub fn user_acts(&mut self) {
        if !self.users && self.sabotage != Sabotage::Flutter {
            return;
        }
        if self.sabotage == Sabotage::Flood {
            self.say("a user does nothing, again and again");
            return self.send(self.now, Message::User);
        }
        let is_quick = self.monkey.is_hasty || self.chance.percent(30);
        let wait = if is_quick { self.chance.millis(1, 300) } else { self.chance.millis(200, 5000) };
        self.send_in(wait, Message::User);
        self.monkey.acts += 1;
        if !self.users {
            return self.churn();
        }
        match self.monkey.acts {
            1 => return self.make_set("default", SETS[0]),
            2 => return self.make_set("default", SETS[1]),
            _ => {}
        }
        self.break_rules();
        let mut place = self.chance.below(self.monkey.weights.iter().sum());
        for (index, (_, act)) in ACTS.iter().enumerate() {
            let weight = self.monkey.weights[index];
            if place < weight {
                return act(self);
            }
            place -= weight;
        }
    }

    /// Sends a request, and sometimes sends it again: the answer was lost, or the way carried it twice.
    pub fn ask_as_user(&mut self, verb: Verb, path: &str, body: Value) {
        let Target::Resource(resource) = target(path) else { return };
        let mut request = Request::of(admin(), verb, resource, body);
        request.user_agent = "kubectl/1.36".into();
        let wait = self.chance.micros(100, 5000);
        if self.faults && self.chance.percent(5) {
            let later = self.chance.millis(1, 8000);
            let sender = Sender { from: From::User, loses_reply: false };
            self.send_in(wait + later, Message::Request(sender, Box::new(request.clone())));
        }
        let sender = Sender { from: From::User, loses_reply: false };
        self.send_in(wait, Message::Request(sender, Box::new(request)));
    }

    pub fn patch(&mut self, patch: PatchType, path: &str, body: Value) {
        self.ask_as_user(Verb::Patch(patch), path, body);
    }

    pub fn namespace(&mut self) -> &'static str {
        NAMESPACES[usize::from(self.chance.percent(25))]
    }

    /// Some object of a kind, as a person sees it.
    pub fn some(&mut self, kind: KindName) -> Option<Arc<Object>> {
        let all: Vec<Arc<Object>> = self.server.head.store.snapshot.list(kind, "").cloned().collect();
        self.chance.pick(&all).cloned()
    }

    /// Deletes an object in one of the three ways.
    pub fn delete_somehow(&mut self, object: &Object) {
        let how = *self.chance.pick(&["Background", "Foreground", "Orphan"]).unwrap_or(&"Background");
        self.delete(object, json!({"propagationPolicy": how}));
    }

    pub fn delete(&mut self, object: &Object, mut options: Value) {
        options["apiVersion"] = json!("v1");
        options["kind"] = json!("DeleteOptions");
        options["preconditions"] = json!({"uid": object.meta.uid});
        self.ledger.touch(object);
        self.ask_as_user(Verb::Delete, &path_of(object), options);
    }

    /// In the end people make the nodes usable again and let go of what they held.
    pub fn tidy_up(&mut self) {
        let mut paths = Vec::new();
        for node in &self.nodes {
            paths.push((
                format!("/api/v1/nodes/{}", node.name),
                json!({"spec": {"unschedulable": null, "taints": null}}),
            ));
        }
        let held = |object: &&Arc<Object>| object.meta.finalizers.iter().any(|finalizer| finalizer == HOLD);
        for object in self.server.head.store.snapshot.all().filter(held) {
            paths.push((path_of(object), json!({"metadata": {"finalizers": null}})));
        }
        for (path, body) in paths {
            for seconds in [10, 20, 30] {
                let Target::Resource(resource) = target(&path) else { continue };
                let request = Request::of(admin(), Verb::Patch(PatchType::Merge), resource, body.clone());
                let sender = Sender { from: From::User, loses_reply: false };
                let span = jiff::SignedDuration::from_secs(seconds);
                self.send_in(span, Message::Request(sender, Box::new(request)));
            }
        }
    }
}
