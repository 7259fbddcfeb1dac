//! Which resizes of its pods a node grants, beside all that it runs.

use jiff::Timestamp;
use stead_kinds::pod::amounts::{self, Amounts};

use crate::agent::NodeAgent;
use crate::resize::{refusal, requests};
use crate::state::PodState;

impl NodeAgent {
    /// Grants what a pod asks for, if the node has it.
    pub(crate) fn grant_resize(&mut self, uid: &str, now: Timestamp) {
        let Some(asked) = self.pods.get(uid).and_then(|pod| pod.resize.as_ref()) else { return };
        let holds = |pod: &&PodState| {
            let typed = pod.spec.as_ref().filter(|_| pod.object.is_some() && pod.pod.uid != uid);
            typed.is_some_and(|typed| crate::pod::outcome(pod, typed, now).is_none())
        };
        let mut others = Amounts::new();
        for pod in self.pods.values().filter(holds).filter_map(|pod| pod.spec.as_ref()) {
            amounts::add(&mut others, &requests(pod));
        }
        let refusal = refusal(&asked.pod, &others, &self.config);
        let Some(state) = self.pods.get_mut(uid) else { return };
        match refusal {
            None => state.grant(),
            Some(why) => state.refuse(why),
        }
    }

    /// Something was freed: those that wait for it are looked at again.
    pub(crate) fn look_at_resizes(&mut self) {
        let waiting = self.pods.values().filter(|pod| pod.resize.is_some());
        self.dirty.extend(waiting.map(|pod| pod.pod.uid.clone()));
    }
}
