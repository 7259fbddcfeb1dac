//! What the broken parts of tests do: things that no controller may do, in secret, so that a controller seems to have done them.

use serde_json::{Value, json};
use stead_api::Verb;
use stead_api::request::PatchType;
use stead_control::names::{CLAIM, CONFIG_MAP, POD, STATEFUL_SET};

use super::{core, path_of};
use crate::Sabotage;
use crate::world::World;

impl World {
    pub fn break_rules(&mut self) {
        match self.sabotage {
            Sabotage::StealClaims => self.steal(CLAIM),
            Sabotage::StealPods => self.steal(POD),
            Sabotage::StealReplicas => self.steal_replica(),
            Sabotage::StealSets => self.steal(STATEFUL_SET),
            Sabotage::StealConfigs => self.steal(CONFIG_MAP),
            Sabotage::MakePodsEarly => self.make_pod("StatefulSet", |pod| {
                let set = pod.rsplit_once('-').map_or("", |(set, _)| set);
                format!("{set}-7")
            }),
            Sabotage::MakePodsTwice => self.make_pod("ReplicaSet", |pod| format!("{pod}x")),
            Sabotage::EvictAnyway => self.evict_anyway(),
            Sabotage::Panic => panic!("on purpose"),
            _ => {}
        }
    }

    /// Marks a pod as an eviction does, and deletes it.
    fn evict_anyway(&mut self) {
        let Some(pod) = self.some(POD) else { return };
        let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"});
        let path = path_of(&pod);
        self.patch(PatchType::Strategic, &format!("{path}/status"), json!({"status": {"conditions": [condition]}}));
        self.delete(&pod, json!({}));
    }

    fn steal(&mut self, kind: &'static str) {
        if let Some(object) = self.some(kind) {
            self.ask_as_user(Verb::Delete, &path_of(&object), Value::Null);
        }
    }

    fn steal_replica(&mut self) {
        let found = self.some(POD).filter(|pod| pod.meta.controller().is_some_and(|o| o.kind == "ReplicaSet"));
        if let Some(pod) = found {
            self.ask_as_user(Verb::Delete, &path_of(&pod), Value::Null);
        }
    }

    /// A copy of a pod under another name.
    fn make_pod(&mut self, owner: &str, name: impl Fn(&str) -> String) {
        let found = self.some(POD).filter(|pod| pod.meta.controller().is_some_and(|o| o.kind == owner));
        let Some(pod) = found else { return };
        let mut value = pod.value();
        let name = name(&pod.key.name);
        let mut metadata = json!({"name": name, "labels": value["metadata"]["labels"],
            "ownerReferences": value["metadata"]["ownerReferences"]});
        metadata["labels"]["statefulset.kubernetes.io/pod-name"] = json!(name);
        value["metadata"] = metadata;
        value["status"] = Value::Null;
        value["spec"]["nodeName"] = Value::Null;
        self.ask_as_user(Verb::Create, &format!("{}/pods", core(&pod.key.namespace)), value);
    }
}
