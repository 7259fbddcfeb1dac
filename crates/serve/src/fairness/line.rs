//! Those who wait for a seat, and how one that is given back comes to them.
//!
//! Guarantees: nobody overtakes those of the same level who wait, nor anybody who waits for a seat of the pool; a seat that is free
//! and may be had is never left while somebody waits for it; who goes away, or has waited too long, holds nothing.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stead_apiserver::fairness::{Level as Configured, Limits, Queues, Refused, Shape, Ticket, least_served};
use tokio::sync::oneshot;

use super::seats::{Full, Grant, Level, Pool};

#[derive(Default)]
pub struct Line {
    /// Requests that wait, of all levels.
    waiting: AtomicU32,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    levels: Vec<LevelLine>,
    last: Ticket,
    ends: BTreeMap<Ticket, oneshot::Sender<Grant>>,
}

struct LevelLine {
    level: Arc<Level>,
    queues: Queues,
    /// Whether new ones may wait.
    is_queuing: bool,
}

/// The shape of queues in which nobody waits.
const NO_QUEUES: Shape = Shape { queues: 1, hand: 1, length: 0 };

/// What became of a request that found no seat.
pub enum Entered<'a> {
    Granted(Grant),
    Waits(Place<'a>),
    Refused(Refused),
}

/// A seat on its way to somebody who waited.
type Handed = (oneshot::Sender<Grant>, Arc<Level>, Grant);

impl Line {
    /// A seat without waiting, unless others wait for it.
    pub fn at_once(&self, pool: &Pool, level: &Level, width: u32) -> Option<Grant> {
        if level.waiting.load(SeqCst) > 0 {
            return None;
        }
        if let Some(grant) = level.take_own(width) {
            return Some(grant);
        }
        if self.waiting.load(SeqCst) > 0 {
            return None;
        }
        level.take_pooled(pool, width).ok()
    }

    /// Waits in the level's queues, if it has any.
    pub fn enter<'a>(&'a self, pool: &'a Pool, level: &'a Arc<Level>, flow: u64, width: u32) -> Entered<'a> {
        let mut places = self.lock();
        let Some(at) = places.find(level) else {
            // It was taken away just now, and holds nobody back.
            return level.take_own(width).map_or(Entered::Refused(Refused::ConcurrencyLimit), Entered::Granted);
        };
        if !places.levels[at].is_queuing {
            let granted = self.at_once(pool, level, width);
            return granted.map_or(Entered::Refused(Refused::ConcurrencyLimit), Entered::Granted);
        }
        places.last += 1;
        let ticket = places.last;
        if !places.levels[at].queues.enter(flow, width, ticket) {
            return Entered::Refused(Refused::QueueFull);
        }
        let (end, receiver) = oneshot::channel();
        places.ends.insert(ticket, end);
        level.waiting.fetch_add(1, SeqCst);
        self.waiting.fetch_add(1, SeqCst);
        drop(places);
        // Seats may have been given back before they could see that somebody waits.
        self.pass_on(pool);
        Entered::Waits(Place { line: self, pool, level, ticket, receiver })
    }

    pub fn give_back(&self, pool: &Pool, level: &Level, grant: Grant) {
        level.give_back(pool, grant);
        let waiting = match grant {
            Grant::Own(_) => &level.waiting,
            Grant::Pooled(_) => &self.waiting,
        };
        if waiting.load(SeqCst) > 0 {
            self.pass_on(pool);
        }
    }

    /// Goes on with these levels, and tells their counters in the same order.
    pub fn configure(&self, pool: &Pool, configured: &[Configured]) -> Vec<Arc<Level>> {
        let mut places = self.lock();
        let mut old = std::mem::take(&mut places.levels);
        for one in configured {
            let known = old.iter().position(|line| line.level.name == one.name).map(|at| old.swap_remove(at));
            let mut line = known.unwrap_or_else(|| LevelLine::of(&one.name));
            line.level.limit(one.limits);
            line.is_queuing = one.queuing.is_some();
            if let Some(shape) = one.queuing {
                line.queues.reshape(shape);
            }
            places.levels.push(line);
        }
        let levels = places.levels.iter().map(|line| Arc::clone(&line.level)).collect();
        // Levels that are gone hold nobody back: all who wait there have their seats now.
        for line in old {
            line.level.limit(Limits::EXEMPT);
            places.levels.push(line);
        }
        let handed = self.hand_out(&mut places, pool);
        places.levels.truncate(configured.len());
        drop(places);
        self.deliver(pool, handed);
        levels
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass_on(&self, pool: &Pool) {
        let handed = self.hand_out(&mut self.lock(), pool);
        self.deliver(pool, handed);
    }

    /// Seats whose takers went away meanwhile are handed out again.
    fn deliver(&self, pool: &Pool, mut handed: Vec<Handed>) {
        while !handed.is_empty() {
            let mut is_any_left = false;
            for (end, level, grant) in handed {
                if let Err(grant) = end.send(grant) {
                    level.give_back(pool, grant);
                    is_any_left = true;
                }
            }
            handed = if is_any_left { self.hand_out(&mut self.lock(), pool) } else { Vec::new() };
        }
    }

    fn hand_out(&self, places: &mut Places, pool: &Pool) -> Vec<Handed> {
        let mut handed = Vec::new();
        for at in 0..places.levels.len() {
            while let Some((_, width)) = places.levels[at].queues.first()
                && let Some(grant) = places.levels[at].level.take_own(width)
            {
                handed.extend(self.take_next(places, at, grant));
            }
        }
        let mut full = Vec::new();
        while let Some((at, width)) = places.owed_most(&full) {
            match places.levels[at].level.take_pooled(pool, width) {
                Ok(grant) => handed.extend(self.take_next(places, at, grant)),
                Err(Full::Level) => full.push(at),
                // Not even for a narrower one, or wide ones would never have their turn.
                Err(Full::Pool) => break,
            }
        }
        handed
    }

    /// Takes a level's next one out of its queue, for the seat that was taken for it.
    fn take_next(&self, places: &mut Places, at: usize, grant: Grant) -> Option<Handed> {
        let line = &mut places.levels[at];
        let taken = line.queues.take().and_then(|ticket| places.ends.remove(&ticket));
        let level = Arc::clone(&line.level);
        level.waiting.fetch_sub(1, SeqCst);
        self.waiting.fetch_sub(1, SeqCst);
        Some((taken?, level, grant))
    }
}

impl LevelLine {
    fn of(name: &str) -> LevelLine {
        LevelLine { level: Arc::new(Level::of(name)), queues: Queues::of(NO_QUEUES), is_queuing: false }
    }
}

impl Places {
    fn find(&self, level: &Arc<Level>) -> Option<usize> {
        self.levels.iter().position(|line| Arc::ptr_eq(&line.level, level))
    }

    /// The level whose request is to have the pool's next seat, and how many it needs.
    fn owed_most(&self, but: &[usize]) -> Option<(usize, u32)> {
        let waiting = self.levels.iter().enumerate().filter(|(at, line)| !line.queues.is_empty() && !but.contains(at));
        let at = least_served(waiting.map(|(at, line)| (at, line.level.standing())))?;
        self.levels[at].queues.first().map(|(_, width)| (at, width))
    }
}

/// A place in the line; who drops it leaves the line.
pub struct Place<'a> {
    line: &'a Line,
    pool: &'a Pool,
    level: &'a Arc<Level>,
    ticket: Ticket,
    receiver: oneshot::Receiver<Grant>,
}

impl Place<'_> {
    /// # Errors
    /// When there was no seat in time.
    pub async fn wait(mut self, patience: Duration) -> Result<Grant, Refused> {
        let waited = tokio::time::timeout(patience, &mut self.receiver).await;
        // Dropped after this, the place finds that its seat was taken.
        waited.ok().and_then(Result::ok).ok_or(Refused::TimeOut)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut places = self.line.lock();
        if places.ends.remove(&self.ticket).is_some() {
            if let Some(at) = places.find(self.level) {
                places.levels[at].queues.leave(self.ticket);
            }
            self.level.waiting.fetch_sub(1, SeqCst);
            self.line.waiting.fetch_sub(1, SeqCst);
            drop(places);
            // Behind a wide one there may be one that fits.
            return self.line.pass_on(self.pool);
        }
        drop(places);
        // A seat that came too late.
        self.receiver.close();
        if let Ok(grant) = self.receiver.try_recv() {
            self.line.give_back(self.pool, self.level, grant);
        }
    }
}

#[cfg(test)]
mod tests;
