//! What this life of the server has seen of a key and no object tells: plain data, kept by the plane between two looks at the key.
//!
//! It ends with the process and with the object. A decision must do no harm without it: whoever finds none begins with what is
//! safe, as Kubernetes' own controllers do after their start (Level).

use std::collections::BTreeMap;

use jiff::Timestamp;
use stead_api::Object;

use crate::queue::Item;

#[derive(Clone, Debug, PartialEq)]
pub enum Memory {
    Node(Heard),
    Scaling(Scaling),
}

/// Of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When its lease was renewed and its status posted, by the node's own clock.
    pub renewed: Option<Timestamp>,
    pub posted: Option<Timestamp>,
    /// When the last of these was seen to be new, by ours.
    pub at: Timestamp,
}

/// Of a HorizontalPodAutoscaler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scaling {
    pub looked_at: Timestamp,
    /// The spec that was looked at.
    pub generation: i64,
    /// How many pods were asked for, before anything smoothed it.
    pub recommendations: Vec<(Timestamp, i32)>,
    /// What was scaled by: more than zero is up.
    pub changes: Vec<(Timestamp, i32)>,
    /// The last change of an earlier life: nobody knows by how much.
    pub forgotten: Option<Timestamp>,
}

/// What is remembered, by the controllers' keys.
#[derive(Debug, Default)]
pub struct Memories(BTreeMap<Item, (String, Memory)>);

impl Memories {
    /// What is remembered of this very object: another of its name is another.
    pub fn of(&self, item: &Item, object: Option<&Object>) -> Option<&Memory> {
        let (uid, memory) = self.0.get(item)?;
        object.is_some_and(|object| object.meta.uid == *uid).then_some(memory)
    }

    /// What a plan wants remembered; nothing is kept of an object that is gone.
    pub fn keep(&mut self, item: &Item, object: Option<&Object>, new: Option<Memory>) {
        match (object, new) {
            (None, _) => drop(self.0.remove(item)),
            (Some(object), Some(memory)) => drop(self.0.insert(item.clone(), (object.meta.uid.clone(), memory))),
            (Some(_), None) => {}
        }
    }
}
