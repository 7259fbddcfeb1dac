//! The one static binary: built, installed, tried.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{cargo, packages, run};

/// Builds the static binary; answers where it is.
///
/// Only the last crate is linked statically: the flag needs no rebuild of the others, and the built-in image, which is the
/// binary itself, needs no file beside it.
pub fn release() -> Result<PathBuf> {
    packages::ensure(packages::BUILD)?;
    println!("building stead (a few minutes the first time)");
    run(&mut cargo(&[
        "rustc",
        "--release",
        "--quiet",
        "--package",
        "stead",
        "--bin",
        "stead",
        "--",
        "-C",
        "target-feature=+crt-static",
        // Less to read at every start and to hold while idle: relative relocations in a few bytes, functions that are alike once.
        "-C",
        "link-arg=-Wl,-z,pack-relative-relocs,--icf=all",
    ]))?;
    Ok(target_dir()?.join("release/stead"))
}

/// Builds and starts a cluster with the example.
pub fn try_it(flags: &[&str]) -> Result<()> {
    let binary = release()?;
    run(Command::new(binary).arg("try").args(flags))
}

pub fn install() -> Result<()> {
    let binary = release()?;
    // Replaced by a rename, so that a running server keeps its own file.
    std::fs::copy(&binary, "/usr/local/bin/.stead.new").context("write to /usr/local/bin; are you root?")?;
    std::fs::rename("/usr/local/bin/.stead.new", "/usr/local/bin/stead")?;
    println!("/usr/local/bin/stead is there; try `stead up`");
    Ok(())
}

/// Where cargo puts what it builds.
pub fn target_dir() -> Result<PathBuf> {
    let output =
        cargo(&["metadata", "--format-version", "1", "--no-deps"]).output().context("ask cargo where it builds")?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    Ok(metadata["target_directory"].as_str().context("cargo names no target directory")?.into())
}
