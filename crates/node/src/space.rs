//! What the agent does about room on the disk: looks, tells, removes images, then pods.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::action::{Action, Failure, PodDisk, PodUid, Room};
use crate::agent::NodeAgent;
use crate::event::{Note, Subject};
use crate::evict;
use crate::exchange::Output;
use crate::state::EVICTED;

impl NodeAgent {
    pub(crate) fn look_at_disk(&mut self, now: Timestamp) {
        if self.disk.ask(now) {
            self.outputs.push(Output::Act(Action::LookAtDisk));
        }
    }

    pub(crate) fn disk_seen(&mut self, now: Timestamp, room: &Room) {
        let mut used: BTreeSet<&str> = self.images.keys().map(String::as_str).collect();
        for pod in self.pods.values() {
            used.extend(pod.containers.values().flat_map(|all| all.values()).map(|one| one.image_id.as_str()));
            used.extend(pod.runs.values().filter_map(|run| run.image_found()).map(|image| image.id.as_str()));
        }
        let judged = self.disk.seen(now, room, self.config.disk_pressure, &used);
        if judged.is_turn {
            self.node.look_again();
            let turn = if self.disk.is_under_pressure() { "NodeHasDiskPressure" } else { "NodeHasNoDiskPressure" };
            let text = format!("Node {} status is now: {turn}", self.config.name);
            self.tell_of_node(&Note::normal(turn, text), now);
        }
        for note in &judged.notes {
            self.tell_of_node(note, now);
        }
        let is_one_going = self.pods.values().any(|pod| pod.evicted.is_some() && !pod.is_emptied);
        if judged.must_evict && !is_one_going {
            self.disk_wanted = Some(evict::Shortage::of(self.config.disk_pressure, room));
            let pods: Vec<PodUid> =
                self.pods.values().filter(|pod| evict::may_go(pod, now)).map(|p| p.pod.uid.clone()).collect();
            if !pods.is_empty() {
                self.outputs.push(Output::Act(Action::MeasurePods { pods }));
            }
        }
        self.outputs.extend(judged.remove.into_iter().map(|image| Output::Act(Action::RemoveImage { image })));
    }

    /// Takes away the pod that has most of what is missing; the next look tells whether that was enough.
    pub(crate) fn evict_for_disk(&mut self, now: Timestamp, found: &BTreeMap<PodUid, PodDisk>) {
        let Some(shortage) = self.disk_wanted.take() else { return };
        let measured = found.iter().filter_map(|(uid, disk)| Some((self.pods.get(uid)?, disk)));
        let Some((uid, message)) = evict::choose(measured, &shortage, now) else { return };
        if let Some(state) = self.pods.get_mut(&uid) {
            state.evicted = Some(message.clone());
        }
        self.dirty.insert(uid.clone());
        self.tell(&uid, &Note::warning(EVICTED, message), now);
    }

    pub(crate) fn image_not_removed(&mut self, now: Timestamp, failure: &Failure) {
        if let Some(note) = self.disk.failed(&failure.message) {
            self.tell_of_node(&note, now);
        }
    }

    pub(crate) fn tell_of_node(&mut self, note: &Note, now: Timestamp) {
        let name = self.config.name.clone();
        let subject =
            Subject { kind: "Node", namespace: String::new(), name: name.clone(), uid: name, field_path: None };
        self.tell_of(subject, note, now);
    }
}
