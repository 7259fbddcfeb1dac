//! What happened: the last messages as text, and a hash over all of them, by which two runs of a seed are compared.

use std::collections::VecDeque;

use jiff::Timestamp;

/// How many messages a failure shows.
pub const LAST_MAX: usize = 40;

pub struct Trace {
    start: Timestamp,
    last: VecDeque<String>,
    hash: u64,
    pub count: u64,
    /// Print everything as it happens.
    pub is_loud: bool,
}

impl Trace {
    pub fn starting_at(start: Timestamp) -> Trace {
        Trace { start, last: VecDeque::new(), hash: 0xcbf2_9ce4_8422_2325, count: 0, is_loud: false }
    }

    pub fn say(&mut self, now: Timestamp, text: &str) {
        let line = format!("{:>12.6}s  {text}", now.duration_since(self.start).as_secs_f64());
        for byte in line.as_bytes() {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.count += 1;
        if self.is_loud {
            println!("{line}");
        }
        if self.last.len() == LAST_MAX {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn last(&self) -> String {
        self.last.iter().map(|line| format!("  {line}\n")).collect()
    }
}
