//! What goes wrong: crashes of the server, of agents, of machines, cut cables, slow ones, a full disk; and how it is repaired in the end.

use jiff::SignedDuration;

use crate::checks::Verdict;
use crate::world::{Message, World, after};

/// One fault, and when the next one strikes.
pub fn strike(world: &mut World) -> Verdict {
    if !world.faults {
        return Ok(());
    }
    let wait = world.chance.millis(200, 15_000);
    world.send_in(wait, Message::Fault);
    let node = world.chance.below(world.nodes.len() as u64) as usize;
    match world.chance.below(13) {
        0..3 if world.server.plane.is_some() => world.crash_server(true),
        3..6 if world.nodes[node].agent.is_some() => world.crash_agent(node, false),
        6 => world.crash_agent(node, true),
        7..9 if !world.nodes[node].is_cut_off => {
            let most = if world.chance.percent(25) { 100_000 } else { 8000 };
            let span = world.chance.millis(100, most);
            world.cut_off(node, span);
            Ok(())
        }
        9 => {
            world.say(&format!("the way to node {node} is slow"));
            let span = world.chance.millis(1000, 60_000);
            world.nodes[node].slow_until = Some(after(world.now, span));
            Ok(())
        }
        10 => {
            let span = world.chance.millis(100, 15_000);
            world.server.full_until = Some(after(world.now, span));
            Ok(())
        }
        11 => {
            world.set_clock_forward();
            Ok(())
        }
        12 => world.set_clock_back(),
        _ => Ok(()),
    }
}

impl World {
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
