//! The names of the store's files: `log-REVISION` and `base-REVISION`, twenty digits, so that they sort as they are to be read.
//!
//! A file is written under its name and `.new` and takes the name when it is whole and on disk.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use stead_api::Revision;

use super::format::{Header, Sort};

const UNFINISHED: &str = ".new";

/// The files of a store, by revision, rising.
#[derive(Default)]
pub struct Files {
    pub bases: Vec<Revision>,
    pub logs: Vec<Revision>,
}

pub fn path(dir: &Path, sort: Sort, revision: Revision) -> PathBuf {
    dir.join(format!("{}-{revision:020}", word(sort)))
}

fn word(sort: Sort) -> &'static str {
    match sort {
        Sort::Log => "log",
        Sort::Base => "base",
    }
}

fn revision_of(sort: Sort, name: &str) -> Option<Revision> {
    name.strip_prefix(word(sort))?.strip_prefix('-')?.parse().ok()
}

/// What has its name; what is being written is not looked at.
pub fn list(dir: &Path) -> Result<Files> {
    let mut files = Files::default();
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        files.logs.extend(revision_of(Sort::Log, &name));
        files.bases.extend(revision_of(Sort::Base, &name));
    }
    files.bases.sort_unstable();
    files.logs.sort_unstable();
    Ok(files)
}

/// Removes what was never finished. Only while nothing is being written.
pub fn forget_unfinished(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(UNFINISHED) {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Removes what a base at this revision makes superfluous.
pub fn forget_before(dir: &Path, revision: Revision) -> Result<()> {
    let files = list(dir)?;
    for (sort, revisions) in [(Sort::Base, files.bases), (Sort::Log, files.logs)] {
        for old in revisions.into_iter().filter(|old| *old < revision) {
            let path = path(dir, sort, old);
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// A file that has no name yet, with its header.
pub struct Unfinished {
    pub file: File,
    pub header: Header,
    path: PathBuf,
    name: PathBuf,
}

impl Unfinished {
    pub fn create(dir: &Path, sort: Sort, revision: Revision) -> Result<Unfinished> {
        let name = path(dir, sort, revision);
        let path = name.with_file_name(format!("{}-{revision:020}{UNFINISHED}", word(sort)));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&path).with_context(|| format!("make {}", path.display()))?;
        let header = Header { salt: crate::chance::number()?, revision };
        file.write_all(&header.bytes(sort)).with_context(|| format!("write {}", path.display()))?;
        Ok(Unfinished { file, header, path, name })
    }

    /// Gives it its name, for good.
    pub fn finish(self) -> Result<(File, PathBuf)> {
        self.file.sync_all().with_context(|| format!("sync {}", self.path.display()))?;
        crate::files::rename(&self.path, &self.name)?;
        Ok((self.file, self.name))
    }
}
