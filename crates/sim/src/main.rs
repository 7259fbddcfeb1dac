//! `stead-sim`: runs seeds.
//!
//! `stead-sim [--seeds N] [--seed FIRST] [--jobs N] [--trace]`, and `stead-sim meta [--seeds N] [--seed FIRST]`, which runs each seed
//! twice and compares. Seeds are spread over threads; a history is on one.

use std::sync::atomic::{AtomicU64, Ordering};

use stead_sim::{Failure, Options, Outcome, run};

const HELP: &str = "usage: stead-sim [meta] [--seeds N] [--seed FIRST] [--jobs N] [--trace]";

struct Arguments {
    seeds: u64,
    first: u64,
    jobs: u64,
    is_loud: bool,
    is_meta: bool,
}

fn arguments() -> Result<Arguments, String> {
    let mut given = Arguments { seeds: 0, first: 0, jobs: 2, is_loud: false, is_meta: false };
    let mut is_one = false;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let text = words.next().ok_or(format!("{word} wants a number\n{HELP}"))?;
            text.parse::<u64>().map_err(|_| format!("{text} is no number\n{HELP}"))
        };
        match word.as_str() {
            "meta" => given.is_meta = true,
            "--trace" => given.is_loud = true,
            "--seeds" => given.seeds = number()?,
            "--jobs" => given.jobs = number()?.max(1),
            "--seed" => (given.first, is_one) = (number()?, true),
            _ => return Err(HELP.into()),
        }
    }
    if given.seeds == 0 {
        given.seeds = if is_one { 1 } else { 100 };
    }
    Ok(given)
}

/// Runs one seed; for `meta` twice.
fn check(seed: u64, given: &Arguments) -> Result<Outcome, String> {
    let options = Options { is_loud: given.is_loud, ..Options::default() };
    let text = |failure: Failure| failure.to_string();
    let outcome = run(seed, &options).map_err(text)?;
    if given.is_meta && run(seed, &options).map_err(text)? != outcome {
        return Err(format!("seed {seed} went two ways"));
    }
    Ok(outcome)
}

/// Failures are texts of several lines, so they are printed and not returned.
fn main() -> Result<(), &'static str> {
    let given = arguments().map_err(|text| {
        eprintln!("{text}");
        "wrong arguments"
    })?;
    std::panic::set_hook(Box::new(|info| eprintln!("{info}")));
    let (next, messages, crashes, failed) =
        (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let worker = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= given.seeds {
                return;
            }
            match check(given.first + number, &given) {
                Ok(outcome) => {
                    messages.fetch_add(outcome.messages, Ordering::Relaxed);
                    crashes.fetch_add(outcome.crashes, Ordering::Relaxed);
                    if given.seeds == 1 {
                        println!("{outcome:?}");
                    }
                }
                Err(text) => {
                    failed.fetch_add(1, Ordering::Relaxed);
                    eprintln!("{text}\n");
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..given.jobs.min(given.seeds) {
            scope.spawn(worker);
        }
    });
    let (messages, crashes, failed) = (messages.into_inner(), crashes.into_inner(), failed.into_inner());
    println!("{} seeds, {messages} messages, {crashes} crashes, {failed} failed", given.seeds);
    if failed > 0 { Err("not every seed held") } else { Ok(()) }
}
