//! What goes wrong: crashes of the server, of agents, of machines, cut cables, slow ones, a full disk; and how it is repaired in the end.

use jiff::SignedDuration;

use crate::checks::Verdict;
use crate::world::{Message, World, after};

impl World {
    /// One fault, and when the next one strikes.
    pub fn strike(&mut self) -> Verdict {
        if !self.faults {
            return Ok(());
        }
        let wait = self.chance.millis(200, 15_000);
        self.send_in(wait, Message::Fault);
        let node = self.chance.below(self.nodes.len() as u64) as usize;
        match self.chance.below(13) {
            0..3 if self.server.plane.is_some() => self.crash_server(true),
            3..6 if self.nodes[node].agent.is_some() => self.crash_agent(node, false),
            6 => self.crash_agent(node, true),
            7..9 if !self.nodes[node].is_cut_off => {
                let most = if self.chance.percent(25) { 100_000 } else { 8000 };
                let span = self.chance.millis(100, most);
                self.cut_off(node, span);
                Ok(())
            }
            9 => {
                self.say(&format!("the way to node {node} is slow"));
                let span = self.chance.millis(1000, 60_000);
                self.nodes[node].slow_until = Some(after(self.now, span));
                Ok(())
            }
            10 => {
                let span = self.chance.millis(100, 15_000);
                self.server.full_until = Some(after(self.now, span));
                Ok(())
            }
            11 => {
                self.set_clock_forward();
                Ok(())
            }
            12 => self.set_clock_back(),
            _ => Ok(()),
        }
    }

    /// Everything that is down comes up soon, and every way is open.
    pub fn repair(&mut self) {
        if self.server.plane.is_none() {
            let life = self.server.life;
            self.send_in(SignedDuration::from_millis(50), Message::ServerStart(life));
        }
        self.server.full_until = None;
        self.tidy_up();
        for node in 0..self.nodes.len() {
            self.nodes[node].slow_until = None;
            let (life, cuts) = (self.nodes[node].life, self.nodes[node].cuts);
            self.send_in(SignedDuration::from_millis(60), Message::AgentStart(node, life));
            self.send_in(SignedDuration::from_millis(100), Message::Reconnect(node, cuts));
        }
    }
}
