//! The simulator: one cluster in one queue of messages, with faults, checked after every step.
//!
//! The plane and the node agents are the real ones; disk, network, machines and people are values in `world.rs`. A seed is a history:
//! the same seed gives the same messages, to the byte. Start at `history.rs` (the loop), then `checks.rs` (what must hold), `monkey.rs`
//! (what people do), `faults.rs` (what goes wrong).

mod chance;
pub mod checks;
mod clock;
mod faults;
mod history;
mod judge;
mod ledger;
mod machine;
mod manifests;
mod monkey;
mod node;
mod pager;
mod parts;
mod server;
mod trace;
mod turns;
mod watcher;
mod webhook;
mod world;

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use checks::{Check, Violation};
use world::World;

/// A broken rule, put in by tests to see that the checks find it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    #[default]
    None,
    /// Nodes say that a pod is gone when they begin to stop it.
    ConfirmEarly,
    /// A crash loses the last batch that was acknowledged.
    LoseLastBatch,
    /// A watch loses frames, tells them twice, or swaps two.
    DropFrame,
    RepeatFrame,
    SwapFrames,
    /// A bookmark promises the future.
    BookmarkEarly,
    /// A second cursor misses a frame.
    ForgetFrame,
    /// A page of a list misses an object.
    ForgetItem,
    /// Somebody deletes claims and says it to nobody.
    StealClaims,
    /// Somebody deletes pods, those of ReplicaSets, sets or ConfigMaps and says it to nobody.
    StealPods,
    StealReplicas,
    StealSets,
    StealConfigs,
    /// Somebody makes pods of a set out of order.
    MakePodsEarly,
    /// Somebody makes more pods than a ReplicaSet wants.
    MakePodsTwice,
    /// Somebody evicts pods and asks no budget.
    EvictAnyway,
    /// Somebody writes forever.
    Flutter,
    /// One message makes another at once, for ever.
    Flood,
    /// A part panics.
    Panic,
    /// After the last restart no controller is at work.
    Idle,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Print every message.
    pub is_loud: bool,
    pub sabotage: Sabotage,
}

/// A history that held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub messages: u64,
    pub crashes: u64,
    pub revisions: u64,
    /// Of the whole trace.
    pub hash: u64,
}

/// A history that did not.
pub struct Failure {
    pub seed: u64,
    pub check: &'static Check,
    pub detail: String,
    pub last: String,
}

/// Runs one seed to its end.
///
/// # Errors
/// The first invariant that did not hold.
pub fn run(seed: u64, options: &Options) -> Result<Outcome, Failure> {
    let mut world = World::new(seed, options);
    let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
    let violation = match ended {
        Ok(Ok(())) => {
            return Ok(Outcome {
                messages: world.trace.count,
                crashes: world.crashes,
                revisions: world.ledger.revision,
                hash: world.trace.hash(),
            });
        }
        Ok(Err(violation)) => violation,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Violation { check: &checks::HEALTHY, detail: format!("panicked: {}", text.unwrap_or_default()) }
        }
    };
    Err(Failure { seed, check: violation.check, detail: violation.detail, last: world.trace.last() })
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Failure { seed, check, detail, last } = self;
        writeln!(
            f,
            "seed {seed}: {} does not hold\n  {}\n  {detail}\nthe last messages:\n{last}",
            check.name, check.statement
        )?;
        write!(f, "again: cargo xtask sim --seed {seed} --trace")
    }
}

impl std::fmt::Debug for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}
