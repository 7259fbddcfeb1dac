//! What pods use, as it was measured: an input of the plane that is stored nowhere.
//!
//! A plan that needs it asks for it (`Plan::measure`); the shell measures once for all who have asked, and hands what it found to
//! `Plane::measured`. While nobody asks, nobody measures.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::queue::Item;

#[derive(Clone, Debug)]
pub struct Measured {
    pub at: Timestamp,
    /// Or why nothing can be measured.
    pub usage: Result<Usage, String>,
}

#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Over which time the use of processors was taken.
    pub window: SignedDuration,
    /// By the pods' uids.
    pub pods: BTreeMap<String, Vec<ContainerUsage>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerUsage {
    pub name: String,
    pub cpu_nanos: u64,
    pub memory_bytes: u64,
}

/// Who waits to be told, and what was told last.
#[derive(Debug, Default)]
pub struct Meter {
    last: Option<Measured>,
    waiting: BTreeSet<Item>,
    asks: bool,
}

impl Meter {
    pub fn last(&self) -> Option<&Measured> {
        self.last.as_ref()
    }

    /// Those who ask while others wait share the answer; who asks again has waited long enough.
    pub fn ask(&mut self, item: &Item) {
        self.asks |= self.waiting.is_empty() || self.waiting.contains(item);
        self.waiting.insert(item.clone());
    }

    /// Whether the shell is to be asked now.
    pub fn take_ask(&mut self) -> bool {
        std::mem::take(&mut self.asks)
    }

    /// Who has waited for this.
    pub fn told(&mut self, measured: Measured) -> BTreeSet<Item> {
        self.last = Some(measured);
        std::mem::take(&mut self.waiting)
    }
}
