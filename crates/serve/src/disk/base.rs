//! Bases: all objects at one revision in a file of their own, so that the log before it can go.
//!
//! A base is made of a snapshot, which nobody changes, so it is written beside everything else.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use stead_api::{Key, Revision};

use super::format::{HEADER_BYTES, Sort, Writer};
use super::log::put;
use super::name::Unfinished;
use crate::seal::Seal;

/// Small enough that a reader holds little of it at once.
const FRAME_BYTES_MIN: u64 = 256 << 10;
/// So much is left to the kernel at once: more would make the log's next sync wait for it.
const UNSYNCED_BYTES_MAX: u64 = 4 << 20;

/// Writes a base; its length when it has its name.
pub fn write<'a>(
    dir: &Path,
    revision: Revision,
    objects: impl Iterator<Item = (&'a Key, &'a [u8])>,
    seal: Option<&Seal>,
) -> Result<u64> {
    let mut unfinished = Unfinished::create(dir, Sort::Base, revision)?;
    let salt = unfinished.header.salt;
    let mut objects = objects.peekable();
    let mut buffer = Vec::new();
    let (mut count, mut length, mut unsynced) = (0, HEADER_BYTES as u64, 0);
    loop {
        buffer.clear();
        let mut frame = Writer::new(&mut buffer, salt, revision, count);
        while frame.bytes() < FRAME_BYTES_MIN
            && let Some((key, json)) = objects.next()
        {
            put(&mut frame, key, Some(json), seal)?;
        }
        let frame = frame.finish();
        unfinished.file.write_all(&buffer).with_context(|| format!("write a base in {}", dir.display()))?;
        length += buffer.len() as u64;
        count += u64::from(frame.records);
        if frame.records == 0 {
            break;
        }
        unsynced += buffer.len() as u64;
        if unsynced >= UNSYNCED_BYTES_MAX {
            unfinished.file.sync_data()?;
            unsynced = 0;
        }
    }
    unfinished.finish()?;
    Ok(length)
}
