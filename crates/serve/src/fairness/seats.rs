//! The counters of seats: what a request takes while it is answered, without a lock.
//!
//! Orders are sequential throughout: who gives a seat back must see who began to wait, or that one must see the seat.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;

use stead_apiserver::fairness::{Limits, Standing};

/// A level's seats that are taken, and how many there are.
pub struct Level {
    pub name: String,
    /// Requests that wait.
    pub waiting: AtomicU32,
    own: Seats,
    pooled: Seats,
    nominal: AtomicU32,
}

/// The seats that levels lend each other.
pub type Pool = Seats;

#[derive(Default)]
pub struct Seats {
    taken: AtomicU32,
    size: AtomicU32,
}

/// Whose seats a request has, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    Own(u32),
    Pooled(u32),
}

/// Where there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Level,
    Pool,
}

impl Seats {
    pub fn resize(&self, size: u32) {
        self.size.store(size, SeqCst);
    }

    fn take(&self, width: u32) -> bool {
        let size = self.size.load(SeqCst);
        let more = |taken: u32| taken.checked_add(width).filter(|taken| *taken <= size);
        self.taken.fetch_update(SeqCst, SeqCst, more).is_ok()
    }

    fn give_back(&self, width: u32) {
        self.taken.fetch_sub(width, SeqCst);
    }
}

impl Level {
    pub fn of(name: &str) -> Level {
        Level {
            name: name.to_owned(),
            waiting: AtomicU32::new(0),
            own: Seats::default(),
            pooled: Seats::default(),
            nominal: AtomicU32::new(0),
        }
    }

    pub fn limit(&self, limits: Limits) {
        self.own.resize(limits.own);
        self.pooled.resize(limits.pooled);
        self.nominal.store(limits.nominal, SeqCst);
    }

    pub fn standing(&self) -> Standing {
        let executing = self.own.taken.load(SeqCst).saturating_add(self.pooled.taken.load(SeqCst));
        Standing { executing, nominal: self.nominal.load(SeqCst) }
    }

    /// No request takes more than there could ever be.
    fn fitting(&self, width: u32) -> u32 {
        width.min(self.own.size.load(SeqCst).max(self.pooled.size.load(SeqCst))).max(1)
    }

    pub fn take_own(&self, width: u32) -> Option<Grant> {
        let width = self.fitting(width);
        self.own.take(width).then_some(Grant::Own(width))
    }

    pub fn take_pooled(&self, pool: &Pool, width: u32) -> Result<Grant, Full> {
        let width = self.fitting(width);
        if !self.pooled.take(width) {
            return Err(Full::Level);
        }
        if !pool.take(width) {
            self.pooled.give_back(width);
            return Err(Full::Pool);
        }
        Ok(Grant::Pooled(width))
    }

    pub fn give_back(&self, pool: &Pool, grant: Grant) {
        match grant {
            Grant::Own(width) => self.own.give_back(width),
            Grant::Pooled(width) => {
                self.pooled.give_back(width);
                pool.give_back(width);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_own_first_then_the_pools() {
        let (level, other, pool) = (Level::of("a"), Level::of("b"), Pool::default());
        pool.resize(3);
        level.limit(Limits { nominal: 2, own: 1, pooled: 2 });
        other.limit(Limits { nominal: 2, own: 0, pooled: 3 });
        assert_eq!((level.take_own(1), level.take_own(1)), (Some(Grant::Own(1)), None));
        assert_eq!(level.take_pooled(&pool, 1), Ok(Grant::Pooled(1)));
        assert_eq!(other.take_pooled(&pool, 2), Ok(Grant::Pooled(2)));
        assert_eq!(level.take_pooled(&pool, 1), Err(Full::Pool));
        other.give_back(&pool, Grant::Pooled(2));
        assert_eq!(level.take_pooled(&pool, 1), Ok(Grant::Pooled(1)));
        assert_eq!(level.take_pooled(&pool, 1), Err(Full::Level));
        assert_eq!(level.standing(), Standing { executing: 3, nominal: 2 });
    }

    #[test]
    fn a_request_takes_no_more_than_there_is() {
        let (level, pool) = (Level::of("a"), Pool::default());
        level.limit(Limits { nominal: 3, own: 3, pooled: 0 });
        assert_eq!(level.take_own(10), Some(Grant::Own(3)));
        level.limit(Limits { nominal: 1, own: 1, pooled: 0 });
        level.give_back(&pool, Grant::Own(3));
        assert_eq!(level.take_own(10), Some(Grant::Own(1)));
    }
}
