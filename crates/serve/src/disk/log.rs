//! The log that is being written: one frame a batch, synced before anybody hears of it.
//!
//! Guarantees: after an error nothing is written until [`Log::reopen`] has cut the file back to what is known to be on disk; a frame
//! is written only when all before it are synced, so a whole frame proves those before it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bytes::Bytes;
use stead_api::{Key, Revision};
use stead_store::durable::key_bytes;

use super::format::{HEADER_BYTES, Sort, Writer};
use super::name::Unfinished;
use crate::seal::Seal;

/// A buffer that an unusual batch has made larger is not kept.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

/// Where the last log ends.
pub struct Tail {
    pub path: PathBuf,
    pub salt: u64,
    /// The revision after which the log begins.
    pub start: Revision,
    /// The revision of its last frame.
    pub revision: Revision,
    /// Its length up to the end of that frame.
    pub length: u64,
}

pub struct Log {
    tail: Tail,
    /// None: an error has closed it.
    file: Option<File>,
    buffer: Vec<u8>,
}

impl Log {
    /// A new log for what comes after a revision.
    pub fn create(dir: &Path, revision: Revision) -> Result<Log> {
        let unfinished = Unfinished::create(dir, Sort::Log, revision)?;
        let salt = unfinished.header.salt;
        let (file, path) = unfinished.finish()?;
        let tail = Tail { path, salt, start: revision, revision, length: HEADER_BYTES as u64 };
        Ok(Log { tail, file: Some(file), buffer: Vec::new() })
    }

    /// Goes on where a log ends; what lies after its last whole frame was never acknowledged and goes.
    pub fn resume(tail: Tail) -> Result<Log> {
        let mut log = Log { tail, file: None, buffer: Vec::new() };
        log.reopen()?;
        Ok(log)
    }

    pub fn start(&self) -> Revision {
        self.tail.start
    }

    pub fn revision(&self) -> Revision {
        self.tail.revision
    }

    pub fn length(&self) -> u64 {
        self.tail.length
    }

    /// Cuts the file back to what is known to be on disk.
    pub fn reopen(&mut self) -> Result<()> {
        self.file = None;
        let path = &self.tail.path;
        let file = OpenOptions::new().write(true).open(path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        if file.metadata()?.len() != self.tail.length {
            file.set_len(self.tail.length).with_context(|| format!("cut {}", path.display()))?;
        }
        file.sync_all().with_context(|| format!("sync {}", path.display()))?;
        self.file = Some(file);
        Ok(())
    }

    /// Writes a batch; returns when it is on disk.
    pub fn append(&mut self, revision: Revision, writes: &[(Key, Option<Bytes>)], seal: Option<&Seal>) -> Result<()> {
        let file = self.file.take().context("the store is closed")?;
        self.buffer.clear();
        let mut frame = Writer::new(&mut self.buffer, self.tail.salt, revision, self.tail.revision);
        for (key, json) in writes {
            put(&mut frame, key, json.as_deref(), seal)?;
        }
        frame.finish();
        let written = file.write_all_at(&self.buffer, self.tail.length).and_then(|()| file.sync_data());
        written.with_context(|| format!("write {}", self.tail.path.display()))?;
        self.tail.length += self.buffer.len() as u64;
        self.tail.revision = revision;
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        self.file = Some(file);
        Ok(())
    }

    /// Says that the log was closed in order: then the loss of its last batch, too, is seen.
    pub fn end(&mut self) -> Result<()> {
        self.append(self.tail.revision, &[], None)
    }
}

/// Adds one object to a frame, sealed where that is asked for.
pub fn put(frame: &mut Writer<'_>, key: &Key, json: Option<&[u8]>, seal: Option<&Seal>) -> Result<()> {
    let stored_key = key_bytes(key);
    let sealed = match (seal, json) {
        (Some(seal), Some(json)) => seal.seal(key.kind, &stored_key, json)?,
        _ => None,
    };
    Ok(frame.put(&stored_key, sealed.as_deref().or(json))?)
}

#[cfg(test)]
impl Log {
    /// As if the disk had refused after some bytes of a batch.
    pub fn fail_with(&mut self, written: &[u8]) {
        if let Some(file) = self.file.take() {
            file.write_all_at(written, self.tail.length).expect("a test's file is writable");
        }
    }
}
