//! The durable seam: commit a batch in one atomic, synced write; read everything back in key order.
//!
//! All objects live in memory, so the disk only has to remember: batches go to a log, and when that has grown longer than what it
//! tells, a base of all objects takes its place, written from a snapshot while the log goes on (disk/base.rs). A log costs a
//! fraction of what a tree on disk does for each batch.
//!
//! Guarantees: after a crash or a power cut the store holds a prefix of the committed batches, each whole. Every value carries a
//! checksum over its key and bytes, every frame and file says what it follows: what is damaged or missing stops the start with its
//! name, it is never guessed. What is encrypted (seal.rs) is so from here on downwards only.
//!
//! Start at [`Disk`]; `format.rs` has the bytes, `replay.rs` what they say together.

mod base;
mod format;
mod log;
mod name;
mod replay;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use stead_api::{Key, Revision};
use stead_store::durable::key_of_bytes;
use stead_store::{Record, Snapshot};

use self::log::Log;
use crate::say::say;
use crate::seal::{self, Seal};

/// A log is not replaced before it is this long, however little it tells.
const LOG_BYTES_MIN: u64 = 16 << 20;
/// How much longer than its base a log becomes: what is written for bases is at most half of what is written for batches.
const LOG_PER_BASE: u64 = 2;

pub struct Disk {
    dir: PathBuf,
    /// What is stored encrypted; None: nothing.
    seal: Option<Arc<Seal>>,
    log: Log,
    /// The length of the logs between the base and this log.
    earlier_bytes: u64,
    base_bytes: u64,
    /// A base that is being written; its length.
    rebase: Option<JoinHandle<Result<u64>>>,
    /// No base is begun before the logs are this long: raised when one failed.
    rebase_at: u64,
}

/// What a store holds.
#[derive(Debug)]
pub struct Restored {
    pub revision: Revision,
    pub records: Vec<Record>,
}

impl Disk {
    /// Opens or makes the store in a directory. What is stored otherwise than it would be written now is written anew.
    ///
    /// # Errors
    /// What is missing, damaged, or cannot be read with these keys.
    pub fn open(dir: &Path, seal: Option<Arc<Seal>>) -> Result<(Disk, Restored)> {
        crate::files::make_dirs(dir, 0o700).with_context(|| format!("make {}", dir.display()))?;
        name::forget_unfinished(dir)?;
        let files = name::list(dir)?;
        // Asked of what was replaced and removed since, too: it is still in the files.
        let mut is_current = true;
        let replayed = replay::replay(dir, &files, &mut |key, stored| {
            is_current &= seal.as_ref().is_none_or(|seal| seal.writes_so(kind_of(key), stored));
        })?;
        let revision = replayed.revision;
        let records = open_values(replayed.values, seal.as_deref())?;
        let log = match replayed.tail {
            Some(tail) => Log::resume(tail)?,
            None => Log::create(dir, revision)?,
        };
        // A base that was finished just before the end left what it replaces behind.
        if let Some(base) = files.bases.last() {
            name::forget_before(dir, *base)?;
        }
        let (base_bytes, earlier_bytes) = (replayed.base_bytes, replayed.earlier_bytes);
        let rebase_at = rebase_at(base_bytes);
        let mut disk = Disk { dir: dir.to_owned(), seal, log, earlier_bytes, base_bytes, rebase: None, rebase_at };
        if !is_current {
            disk.rewrite(revision, &records)?;
        }
        Ok((disk, Restored { revision, records }))
    }

    /// Closes and opens the log: nothing is trusted after an error.
    pub fn reopen(&mut self) -> Result<()> {
        self.log.reopen()
    }

    /// The store's directory.
    pub fn place(&self) -> &Path {
        &self.dir
    }

    /// Makes a batch durable. Returns after the disk has it.
    pub fn commit(&mut self, revision: Revision, writes: &[(Key, Option<Bytes>)]) -> Result<()> {
        if writes.is_empty() && revision == self.log.revision() {
            return Ok(());
        }
        self.log.append(revision, writes, self.seal.as_deref())
    }

    /// Whether the log has grown so long that a base should take its place. Tells, too, how the last one ended.
    pub fn is_long(&mut self) -> bool {
        if let Some(done) = self.rebase.take_if(|rebase| rebase.is_finished()) {
            match done.join() {
                Ok(Ok(bytes)) => self.has_base(bytes),
                Ok(Err(error)) => say(format_args!("shorten the store's log: {error:#}; it grows until that works")),
                Err(_) => say(format_args!("shorten the store's log: a fault in Stead; it grows until that works")),
            }
        }
        self.rebase.is_none() && self.log.length() + self.earlier_bytes >= self.rebase_at
    }

    /// Begins to write a base of what was committed, beside what goes on.
    ///
    /// # Errors
    /// When no new log can be begun; the old one goes on.
    pub fn rebase(&mut self, snapshot: Snapshot) -> Result<()> {
        // Should it fail, it is tried again when as much has come again.
        self.rebase_at = self.log.length() + self.earlier_bytes + rebase_at(self.base_bytes);
        let revision = snapshot.revision();
        self.rotate(revision)?;
        let (dir, seal) = (self.dir.clone(), self.seal.clone());
        let work = move || {
            let objects = snapshot.all().map(|object| (&object.key, &object.json[..]));
            let bytes = base::write(&dir, revision, objects, seal.as_deref())?;
            name::forget_before(&dir, revision)?;
            Ok(bytes)
        };
        self.rebase = Some(std::thread::Builder::new().name("base".into()).spawn(work)?);
        Ok(())
    }

    /// Begins a new log, at whose start a base can stand.
    fn rotate(&mut self, revision: Revision) -> Result<()> {
        if self.log.revision() != revision {
            bail!("revision {revision} is not the last that was committed");
        }
        if self.log.start() != revision {
            let old = std::mem::replace(&mut self.log, Log::create(&self.dir, revision)?);
            self.earlier_bytes += old.length();
        }
        Ok(())
    }

    fn has_base(&mut self, bytes: u64) {
        self.base_bytes = bytes;
        self.earlier_bytes = 0;
        self.rebase_at = rebase_at(bytes);
    }

    /// Writes everything into a new base: what was stored otherwise is nowhere any more.
    fn rewrite(&mut self, revision: Revision, records: &[Record]) -> Result<()> {
        self.rotate(revision)?;
        let objects = records.iter().map(|record| (&record.key, &record.json[..]));
        let bytes = base::write(&self.dir, revision, objects, self.seal.as_deref())?;
        name::forget_before(&self.dir, revision)?;
        self.has_base(bytes);
        Ok(())
    }
}

/// Whoever opens the store next finds nothing half done.
impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(rebase) = self.rebase.take() {
            let _ = rebase.join();
        }
        // Without it the store is as whole; only less is known about its last batch.
        let _ = self.log.end();
    }
}

fn rebase_at(base_bytes: u64) -> u64 {
    LOG_BYTES_MIN.max(base_bytes * LOG_PER_BASE)
}

/// The kind that a stored key begins with.
fn kind_of(key: &[u8]) -> &str {
    key.split(|byte| *byte == 0).next().and_then(|kind| std::str::from_utf8(kind).ok()).unwrap_or_default()
}

/// The values as they are in memory.
fn open_values(values: BTreeMap<Vec<u8>, Bytes>, seal: Option<&Seal>) -> Result<Vec<Record>> {
    let open = |(key, stored): (Vec<u8>, Bytes)| {
        let named = key_of_bytes(&key)?;
        let json = seal::open(seal, named.kind, &key, &stored).with_context(|| format!("stored object {named}"))?;
        Ok(Record { key: named, json: json.into() })
    };
    values.into_iter().map(open).collect()
}
