//! `test` and `ci`: exactly what must pass.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::{build, cargo, packages, run, tidy};

/// Seeds of the simulator in every test run: what takes about a quarter of an hour on two cores.
const SEEDS: &str = "2000";

/// Installs what the tests need and runs them all.
pub fn test() -> Result<()> {
    packages::ensure(packages::BUILD)?;
    packages::ensure(packages::TEST)?;
    if packages::which("npm").is_none() {
        packages::ensure(packages::JAVASCRIPT)?;
    }
    if packages::which("kubectl").is_none() {
        bail!(
            "the tests drive the real kubectl (1.30 or later), which is not on this machine: install it and run again"
        );
    }
    let binary = build::release()?;
    step("tests", || run(cargo(&["test", "--workspace", "--quiet", "--no-fail-fast"]).env("STEAD_BINARY", &binary)))?;
    step("simulator", || {
        run(&mut cargo(&["run", "--release", "--quiet", "--package", "stead-sim", "--", "--seeds", SEEDS]))
    })
}

/// All that continuous integration demands.
pub fn ci() -> Result<()> {
    packages::ensure(packages::BUILD)?;
    step("formatting", || run(&mut cargo(&["fmt", "--all", "--check"])))?;
    step("layers", tidy::run)?;
    step("lints", || run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])))?;
    step("docs", || run(cargo(&["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings")))?;
    step("licences and dependencies", deny)?;
    test()
}

fn deny() -> Result<()> {
    if packages::which("cargo-deny").is_none() {
        run(&mut cargo(&["install", "cargo-deny", "--locked", "--quiet"]))?;
    }
    // Advisories live in a repository that need not be reachable; they are looked at where it is.
    run(Command::new("cargo-deny").args(["--log-level", "error", "check", "bans", "licenses", "sources"]))
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("== {name}");
    let begun = Instant::now();
    work()?;
    println!("== {name}: passed in {} s", begun.elapsed().as_secs());
    Ok(())
}
