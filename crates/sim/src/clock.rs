//! The machines' clock: what the parts are told as the time. It may be set while everything runs, as after a sleep or by somebody.
//!
//! Forward it jumps at any moment. Back it goes only while everything is down, for a living process takes care that its time never
//! goes back (`serve/clock.rs`). Messages go by true time.

use jiff::{SignedDuration, Timestamp};

use crate::checks::Verdict;
use crate::world::{World, after};

impl World {
    /// What the clock shows.
    pub fn clock(&self) -> Timestamp {
        after(self.now, self.clock_is_ahead)
    }

    /// When the clock will show a time, if nobody sets it; not before the next moment.
    pub fn when(&self, at: Timestamp) -> Timestamp {
        let at = after(at, -self.clock_is_ahead);
        at.max(after(self.now, SignedDuration::from_micros(10)))
    }

    pub fn set_clock_forward(&mut self) {
        let span = self.clock_change();
        self.say(&format!("the clock jumps {} s forward", span.as_secs()));
        self.clock_is_ahead += span;
    }

    /// Everything dies, and when it comes back it is earlier than before.
    pub fn set_clock_back(&mut self) -> Verdict {
        if self.server.plane.is_some() {
            self.crash_server(true)?;
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node].agent.is_some() {
                self.crash_agent(node, false)?;
            }
        }
        let span = self.clock_change();
        self.say(&format!("the clock is set {} s back", span.as_secs()));
        self.clock_is_ahead -= span;
        Ok(())
    }

    fn clock_change(&mut self) -> SignedDuration {
        let most = if self.chance.percent(20) { 6 * 3_600_000 } else { 120_000 };
        self.chance.millis(500, most)
    }
}
