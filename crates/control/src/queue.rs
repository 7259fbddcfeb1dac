//! Which keys are to be reconciled, in which order and when.
//!
//! Guarantees: the order is a function of what was woken: rounds, and in a round by (controller, key), so that no controller starves
//! another; a key is queued once; a key has one timer; a key that fails is tried again after 5 ms, 10 ms, … 1000 s (upstream's
//! exponential limiter) or as soon as something it watches changes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use stead_api::Key;

const BACKOFF_FIRST_MS: i64 = 5;
const BACKOFF_MAX_MS: i64 = 1_000_000;

/// A controller's place in `ALL` and a key of it.
pub type Item = (usize, Key);

/// What was counted of a controller's keys since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub adds: u64,
    pub retries: u64,
    /// Keys that are queued now.
    pub depth: u64,
}

#[derive(Debug, Default)]
pub struct Queue {
    round: BTreeSet<Item>,
    next_round: BTreeSet<Item>,
    timers: BTreeSet<(Timestamp, Item)>,
    timer_of: BTreeMap<Item, Timestamp>,
    failures: BTreeMap<Item, u32>,
    /// By controller.
    tallies: Vec<Tally>,
}

impl Queue {
    pub fn wake(&mut self, item: Item) {
        let controller = item.0;
        if !self.round.contains(&item) && self.next_round.insert(item) {
            let tally = self.tally(controller);
            tally.adds += 1;
            tally.depth += 1;
        }
    }

    fn tally(&mut self, controller: usize) -> &mut Tally {
        if self.tallies.len() <= controller {
            self.tallies.resize(controller + 1, Tally::default());
        }
        &mut self.tallies[controller]
    }

    /// By controller; those at the end that never had a key are left out.
    pub fn tallies(&self) -> &[Tally] {
        &self.tallies
    }

    pub fn is_idle(&self) -> bool {
        self.round.is_empty() && self.next_round.is_empty()
    }

    /// Moves what is due into the next round.
    pub fn wake_due(&mut self, now: Timestamp) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now
        {
            let (_, item) = self.timers.pop_first().expect("looked at just now");
            self.timer_of.remove(&item);
            self.wake(item);
        }
    }

    /// The next key; its timer is gone, for the reconcile sets a new one.
    pub fn pop(&mut self) -> Option<Item> {
        if self.round.is_empty() {
            std::mem::swap(&mut self.round, &mut self.next_round);
        }
        let item = self.round.pop_first()?;
        self.tally(item.0).depth -= 1;
        if let Some(at) = self.timer_of.remove(&item) {
            self.timers.remove(&(at, item.clone()));
        }
        Some(item)
    }

    pub fn wake_later(&mut self, item: Item, at: Timestamp) {
        let at = match self.timer_of.get(&item) {
            Some(earlier) if *earlier <= at => return,
            Some(later) => {
                self.timers.remove(&(*later, item.clone()));
                at
            }
            None => at,
        };
        self.timer_of.insert(item.clone(), at);
        self.timers.insert((at, item));
    }

    /// Was it refused the last time?
    pub fn is_failing(&self, item: &Item) -> bool {
        self.failures.contains_key(item)
    }

    pub fn succeeded(&mut self, item: &Item) {
        self.failures.remove(item);
    }

    pub fn failed(&mut self, item: Item, now: Timestamp) {
        self.tally(item.0).retries += 1;
        let failures = self.failures.entry(item.clone()).or_insert(0);
        let delay = BACKOFF_FIRST_MS.saturating_mul(1 << (*failures).min(32)).min(BACKOFF_MAX_MS);
        *failures = failures.saturating_add(1);
        let at = now.checked_add(SignedDuration::from_millis(delay)).unwrap_or(Timestamp::MAX);
        self.wake_later(item, at);
    }

    /// The earliest timer.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(controller: usize, name: &str) -> Item {
        (controller, Key::new("pods", "default", name))
    }

    #[test]
    fn a_key_woken_in_its_round_waits_for_the_next() {
        let mut queue = Queue::default();
        queue.wake(item(1, "a"));
        queue.wake(item(0, "b"));
        queue.wake(item(0, "b"));
        assert_eq!(queue.pop(), Some(item(0, "b")));
        queue.wake(item(0, "b"));
        assert_eq!(queue.pop(), Some(item(1, "a")), "no controller starves another");
        assert_eq!(queue.pop(), Some(item(0, "b")));
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn keys_are_counted_by_controller() {
        let mut queue = Queue::default();
        let now = Timestamp::UNIX_EPOCH;
        queue.wake(item(2, "a"));
        queue.wake(item(2, "a"));
        queue.wake(item(0, "b"));
        queue.failed(item(0, "c"), now);
        assert_eq!(queue.pop(), Some(item(0, "b")));
        let of = |adds, retries, depth| Tally { adds, retries, depth };
        assert_eq!(queue.tallies(), [of(1, 1, 0), of(0, 0, 0), of(1, 0, 1)]);
    }

    #[test]
    fn failures_back_off_exponentially_up_to_a_thousand_seconds() {
        let mut queue = Queue::default();
        let mut now = Timestamp::UNIX_EPOCH;
        let mut delays = Vec::new();
        for _ in 0..20 {
            queue.failed(item(0, "a"), now);
            let at = queue.wake_at().expect("a timer");
            delays.push(at.duration_since(now).as_millis());
            now = at;
            queue.wake_due(now);
            assert_eq!(queue.pop(), Some(item(0, "a")));
        }
        assert_eq!(delays[..4], [5, 10, 20, 40]);
        assert_eq!(delays[19], 1_000_000);
        queue.succeeded(&item(0, "a"));
        queue.failed(item(0, "a"), now);
        assert_eq!(queue.wake_at().expect("a timer").duration_since(now).as_millis(), 5);
    }

    #[test]
    fn a_key_has_one_timer_the_earliest() {
        let mut queue = Queue::default();
        let at = |s| Timestamp::from_second(s).expect("a time");
        queue.wake_later(item(0, "a"), at(9));
        queue.wake_later(item(0, "a"), at(5));
        queue.wake_later(item(0, "a"), at(7));
        assert_eq!(queue.wake_at(), Some(at(5)));
        queue.wake_due(at(5));
        assert_eq!(queue.wake_at(), None);
        assert_eq!(queue.pop(), Some(item(0, "a")));
        assert!(queue.is_idle());
    }
}
