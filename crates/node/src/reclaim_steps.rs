//! How far the reclaiming of each volume is.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use stead_api::Key;

use crate::exchange::request_retry;

#[derive(Debug, Default)]
pub(crate) struct Step {
    pub is_busy: bool,
    pub is_deleted: bool,
    pub failures: u32,
    pub retry_at: Option<Timestamp>,
}

#[derive(Debug, Default)]
pub(crate) struct Reclaim {
    pub is_all: bool,
    pub dirty: BTreeSet<Key>,
    pub steps: BTreeMap<Key, Step>,
}

impl Reclaim {
    pub fn look_at(&mut self, key: Key) {
        self.dirty.insert(key);
    }

    pub fn look_at_all(&mut self) {
        self.is_all = true;
    }

    pub fn wake_at(&self) -> Option<Timestamp> {
        self.steps.values().filter_map(|s| s.retry_at).min()
    }

    pub fn replied(&mut self, now: Timestamp, key: &Key, is_done: bool) {
        let Some(step) = self.steps.get_mut(key) else { return };
        step.is_busy = false;
        if is_done {
            self.steps.remove(key);
        } else {
            fail(step, now);
        }
    }
}

pub fn fail(step: &mut Step, now: Timestamp) {
    step.is_busy = false;
    step.failures += 1;
    step.retry_at = Some(now + request_retry(step.failures + 2));
}
