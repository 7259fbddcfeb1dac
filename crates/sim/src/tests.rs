//! Every history holds; and each check finds the broken rule that it is there for.

use crate::checks::{self, Check};
use crate::{Options, Sabotage, run};

#[test]
fn histories_hold_and_repeat() {
    for seed in 0..4 {
        let outcome = run(seed, &Options::default()).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(outcome.revisions > 50, "seed {seed} is too tame: {outcome:?}");
        assert_eq!(run(seed, &Options::default()).ok(), Some(outcome), "seed {seed} went two ways");
    }
}

/// The first failure within some seeds is of one of these checks.
fn is_caught(sabotage: Sabotage, by: &[&'static Check]) {
    let options = Options { sabotage, ..Options::default() };
    let failure = (0..40).find_map(|seed| run(seed, &options).err());
    let Some(failure) = failure else { panic!("nobody noticed {sabotage:?}") };
    assert!(by.contains(&failure.check), "{failure}");
}

#[test]
fn at_most_one_finds_an_agent_that_confirms_early() {
    is_caught(Sabotage::ConfirmEarly, &[&checks::AT_MOST_ONE]);
}

#[test]
fn durable_finds_a_disk_that_loses_acknowledged_batches() {
    is_caught(Sabotage::LoseLastBatch, &[&checks::DURABLE]);
}

#[test]
fn reliable_finds_a_watch_that_drops_frames() {
    is_caught(Sabotage::DropFrame, &[&checks::FOLD, &checks::RELIABLE]);
}

#[test]
fn kept_finds_a_thief_of_claims() {
    is_caught(Sabotage::StealClaims, &[&checks::KEPT]);
}

#[test]
fn order_finds_a_pod_made_early() {
    is_caught(Sabotage::MakePodsEarly, &[&checks::ORDER]);
}

#[test]
fn stable_finds_one_who_writes_forever() {
    is_caught(Sabotage::Flutter, &[&checks::STABLE]);
}
