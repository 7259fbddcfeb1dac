//! What the compiler does not check: the layers of the crates, module docs, file lengths, where `unsafe` may stand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cargo;

/// The layer of each crate: a crate may import crates of lower layers only. Tests are free.
const LAYERS: &[(&str, u8)] = &[
    ("stead-api", 0),
    ("stead-cel", 1),
    ("stead-store", 1),
    ("stead-kinds", 2),
    ("stead-apiserver", 3),
    ("stead-net", 3),
    ("stead-control", 4),
    ("stead-node", 4),
    ("stead-host", 5),
    ("stead-stream", 5),
    ("stead-demo", 5),
    ("stead-serve", 6),
    ("stead-cli", 6),
    ("stead-sim", 6),
    ("stead", 7),
];

/// Crates that decide: nothing in them may read a clock, use chance or do I/O.
const PURE: &[&str] = &["api", "cel", "kinds", "store", "apiserver", "control", "node", "net", "sim"];
const IMPURE_WORDS: &[&str] = &[
    "Timestamp::now",
    "SystemTime",
    "Instant::now",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::process",
    "thread::spawn",
    "HashMap",
    "HashSet",
];

/// The longest a file may be, with its tests.
const LINES_MAX: usize = 600;
/// The only file with unsafe code.
const UNSAFE_FILE: &str = "crates/host/src/sys.rs";

pub fn run() -> Result<()> {
    let mut faults = layers()?;
    for file in sources(Path::new("crates"))?.into_iter().chain(sources(Path::new("xtask"))?) {
        faults.extend(file_faults(&file)?);
    }
    if !faults.is_empty() {
        bail!("{} faults:\n{}", faults.len(), faults.join("\n"));
    }
    Ok(())
}

fn layers() -> Result<Vec<String>> {
    let output = cargo(&["metadata", "--format-version", "1", "--no-deps"]).output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let layer: BTreeMap<&str, u8> = LAYERS.iter().copied().collect();
    let mut faults = Vec::new();
    for package in metadata["packages"].as_array().context("cargo lists no packages")? {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(own) = layer.get(name) else { continue };
        for dependency in package["dependencies"].as_array().into_iter().flatten().filter(|d| d["kind"].is_null()) {
            let other = dependency["name"].as_str().unwrap_or_default();
            if layer.get(other).is_some_and(|theirs| theirs >= own) {
                faults.push(format!("{name} imports {other}, which is not below it"));
            }
        }
    }
    Ok(faults)
}

fn sources(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn file_faults(file: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file)?;
    let shown = file.display().to_string();
    let mut faults = Vec::new();
    if !text.starts_with("//!") && !shown.ends_with("tests.rs") {
        faults.push(format!("{shown} does not say what it is: begin with //!"));
    }
    let lines = text.lines().count();
    let is_test = shown.contains("/tests") || shown.contains("/benches") || shown.ends_with("fixture.rs");
    if lines > LINES_MAX {
        faults.push(format!("{shown} has {lines} lines, more than {LINES_MAX}: one idea a file"));
    }
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    if shown != UNSAFE_FILE
        && shown.starts_with("crates/")
        && code.lines().any(|line| line.contains("unsafe {") || line.contains("unsafe fn"))
    {
        faults.push(format!("{shown} has unsafe code, which belongs into {UNSAFE_FILE}"));
    }
    let is_pure = PURE.iter().any(|name| shown.starts_with(&format!("crates/{name}/src")));
    if is_pure && !is_test {
        for word in IMPURE_WORDS {
            let used = code.lines().any(|line| line.contains(word) && !line.trim_start().starts_with("//"));
            if used && !shown.ends_with("main.rs") {
                faults.push(format!("{shown} uses {word}: a deciding crate gets time, chance and I/O as values"));
            }
        }
    }
    Ok(faults)
}
