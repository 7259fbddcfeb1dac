//! Writes of controllers that wait for webhooks: the questions go out with the batch, and the key plans again when they are answered.
//!
//! Guarantees: an answer is used for the write that it was asked about, once, and forgotten with it. A plan that is made again is
//! made for the moment of the first one and gives the same names and uids, so that it asks the same questions; what it no longer
//! wants is not written. A key waits for a bounded time; a crash forgets who waits, and every key plans anew.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use stead_api::call::{Answer, Question, Replay};
use stead_api::{Request, Target, Verb};
use stead_apiserver::CallPlan;

use crate::queue::Item;

/// How long a question may be open: longer than any webhook is given.
const OPEN_MAX: SignedDuration = SignedDuration::from_secs(45);
/// How many Events may wait; more are dropped, as Events are.
const NOTES_MAX: usize = 256;

/// Names a question of a batch to whoever answers it.
pub type CallId = u64;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Waiter {
    Key(Item),
    /// An Event, which nobody plans again.
    Note(CallId),
}

#[derive(Debug)]
enum Parked {
    Waiting { plan: Box<CallPlan>, answers: Vec<Option<Answer>>, until: Timestamp },
    Answered(Box<Request>),
}

#[derive(Debug, Default)]
pub struct Parking {
    parked: BTreeMap<Waiter, Parked>,
    open: BTreeMap<CallId, (Waiter, usize)>,
    /// Not handed out yet.
    calls: Vec<(CallId, Question)>,
    last: CallId,
}

impl Parking {
    /// Lets a key wait; until when at most.
    pub fn park(&mut self, item: &Item, plan: Box<CallPlan>, now: Timestamp) -> Timestamp {
        self.add(Waiter::Key(item.clone()), plan, now)
    }

    /// Lets an Event wait.
    pub fn park_note(&mut self, plan: Box<CallPlan>, now: Timestamp) {
        let notes = self.parked.keys().filter(|waiter| matches!(waiter, Waiter::Note(_))).count();
        if notes < NOTES_MAX {
            let waiter = Waiter::Note(self.last + 1);
            self.add(waiter, plan, now);
        }
    }

    fn add(&mut self, waiter: Waiter, plan: Box<CallPlan>, now: Timestamp) -> Timestamp {
        let until = now.checked_add(OPEN_MAX).unwrap_or(Timestamp::MAX);
        for (index, question) in plan.questions.iter().enumerate() {
            self.last += 1;
            self.open.insert(self.last, (waiter.clone(), index));
            self.calls.push((self.last, question.clone()));
        }
        let answers = vec![None; plan.questions.len()];
        self.parked.insert(waiter, Parked::Waiting { plan, answers, until });
        until
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty() && self.open.is_empty() && self.calls.is_empty()
    }

    /// The questions to ask now.
    pub fn take_calls(&mut self) -> Vec<(CallId, Question)> {
        std::mem::take(&mut self.calls)
    }

    /// Takes an answer; the key that has all of its answers now.
    pub fn answer(&mut self, id: CallId, answer: Answer) -> Option<Item> {
        let (waiter, index) = self.open.remove(&id)?;
        let Some(Parked::Waiting { answers, .. }) = self.parked.get_mut(&waiter) else { return None };
        answers[index] = Some(answer);
        if answers.iter().any(Option::is_none) {
            return None;
        }
        let Some(Parked::Waiting { plan, answers, .. }) = self.parked.remove(&waiter) else { return None };
        let request = plan.answered(answers.into_iter().flatten().collect());
        self.parked.insert(waiter.clone(), Parked::Answered(Box::new(request)));
        match waiter {
            Waiter::Key(item) => Some(item),
            Waiter::Note(_) => None,
        }
    }

    /// Until when a key waits for an answer, if it does.
    pub fn waits_until(&self, item: &Item) -> Option<Timestamp> {
        match self.parked.get(&Waiter::Key(item.clone()))? {
            Parked::Waiting { until, .. } => Some(*until),
            Parked::Answered(_) => None,
        }
    }

    fn answered(&self, item: &Item) -> Option<&Request> {
        match self.parked.get(&Waiter::Key(item.clone()))? {
            Parked::Answered(request) => Some(request),
            Parked::Waiting { .. } => None,
        }
    }

    /// The moment for which a key that was answered plans again.
    pub fn began(&self, item: &Item) -> Option<Timestamp> {
        self.answered(item)?.replay.as_ref().map(|replay| replay.began)
    }

    /// What is known about a write of this key.
    pub fn replay(&self, item: &Item, verb: Verb, target: &Target) -> Option<Box<Replay>> {
        let request = self.answered(item).filter(|request| request.verb == verb && request.target == *target)?;
        request.replay.clone()
    }

    /// Forgets what is known of a key.
    pub fn forget(&mut self, item: &Item) {
        self.parked.remove(&Waiter::Key(item.clone()));
    }

    /// Gives up what has waited too long, and takes the Events that were answered.
    pub fn due_notes(&mut self, now: Timestamp) -> Vec<Request> {
        if self.parked.is_empty() {
            return Vec::new();
        }
        self.parked.retain(|_, parked| !matches!(parked, Parked::Waiting { until, .. } if *until <= now));
        let parked = &self.parked;
        self.open.retain(|_, (waiter, _)| parked.contains_key(waiter));
        let is_due = |one: &(&Waiter, &Parked)| matches!(one, (Waiter::Note(_), Parked::Answered(_)));
        let due: Vec<Waiter> = self.parked.iter().filter(is_due).map(|(waiter, _)| waiter.clone()).collect();
        let requests = due.iter().filter_map(|waiter| match self.parked.remove(waiter) {
            Some(Parked::Answered(request)) => Some(*request),
            _ => None,
        });
        requests.collect()
    }

    /// Whether an Event can be written now.
    pub fn has_due_notes(&self) -> bool {
        self.parked.iter().any(|one| matches!(one, (Waiter::Note(_), Parked::Answered(_))))
    }
}
