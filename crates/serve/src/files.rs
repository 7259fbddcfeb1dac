//! Files that survive a power cut: whole or not at all, and with their names.
//!
//! A synced file whose directory was not synced may be gone with its name; so whoever makes a name waits for the directory too.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result};

/// Writes a file that only its owner may read; returns when it is on disk under its name.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let fresh = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .with_context(|| format!("write {}", fresh.display()))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(|| format!("write {}", fresh.display()))?;
    rename(&fresh, path)
}

/// Gives a synced file its name, for good.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to)
        .and_then(|()| sync_parent(to))
        .with_context(|| format!("rename {} to {}", from.display(), to.display()))
}

/// The directory with permissions of its own, and what is missing above it; each with its name on disk.
pub fn make_dirs(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_dirs(parent, 0o755)?;
    }
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made.and_then(|()| sync_parent(path)),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(parent)?.sync_all()
}

/// A configuration file's YAML as a value; a key given twice is a mistake.
pub fn parse_yaml(bytes: &[u8]) -> anyhow::Result<serde_json::Value> {
    let document = stead_api::document::parse_yaml(std::str::from_utf8(bytes)?)?;
    match document.duplicates.problems().first() {
        Some(duplicate) => anyhow::bail!("{duplicate}"),
        None => Ok(document.value),
    }
}
