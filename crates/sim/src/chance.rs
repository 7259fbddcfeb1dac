//! Chance: the only source of it in a history, made of the history's seed.

use jiff::SignedDuration;
use stead_apiserver::Ids;

pub struct Chance(Ids);

impl Chance {
    pub fn of(seed: u64) -> Chance {
        Chance(Ids::seeded(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x5354_4541_4453_494d))
    }

    pub fn word(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `n`; 0 when there is none.
    pub fn below(&mut self, n: u64) -> u64 {
        self.word() % n.max(1)
    }

    /// True `n` times of a hundred.
    pub fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }

    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let place = self.below(all.len() as u64) as usize;
        all.get(place)
    }

    /// A time between two numbers of microseconds.
    pub fn micros(&mut self, from: u64, to: u64) -> SignedDuration {
        SignedDuration::from_micros((from + self.below(to.saturating_sub(from) + 1)) as i64)
    }

    pub fn millis(&mut self, from: u64, to: u64) -> SignedDuration {
        self.micros(from * 1000, to * 1000)
    }
}
