//! The files of one container's log: `0.log` and what was rotated away from it, `0.log.1` or `0.log.20260102-150405`.
//!
//! Contract: files are known by device and inode, not by name, because a rotation renames them under the reader;
//! they are opened before they are read, so a deleted one is still read to its end. Of numbered files the higher is
//! older, of dated ones the earlier; compressed and temporary files are left out.

use super::log_line::LogLine;
use std::cmp::Reverse;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// How often the files are listed anew when they change while being opened; a rotation takes microseconds.
const OPEN_ATTEMPTS_MAX: usize = 16;
/// Bytes read at once when looking for the last lines from the end.
const TAIL_BLOCK_BYTES: u64 = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId(u64, u64);

pub(crate) struct LogFile {
    pub id: FileId,
    pub file: File,
    /// Where to read on.
    pub offset: u64,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<LogFile> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        Ok(LogFile { id: FileId(metadata.dev(), metadata.ino()), file, offset: 0 })
    }
}

/// The log file of a container's run number `attempt` (its restart count).
pub fn log_file(container_directory: &Path, attempt: u32) -> PathBuf {
    container_directory.join(format!("{attempt}.log"))
}

/// The runs of a container whose logs exist, oldest first: the last is the current one, the one before `--previous`.
pub fn attempts(container_directory: &Path) -> io::Result<Vec<u32>> {
    let mut attempts = Vec::new();
    for entry in fs::read_dir(container_directory)? {
        let name = entry?.file_name();
        attempts.extend(name.to_str().and_then(|n| n.strip_suffix(".log")?.parse::<u32>().ok()));
    }
    attempts.sort_unstable();
    Ok(attempts)
}

/// The id of the file that has the log's own name now.
pub(crate) fn current_id(path: &Path) -> Option<FileId> {
    let metadata = fs::metadata(path).ok()?;
    Some(FileId(metadata.dev(), metadata.ino()))
}

/// All files of the log, open, oldest first. The log's own file must exist, unless a rotation is just under way.
pub(crate) fn open_all(path: &Path) -> io::Result<Vec<LogFile>> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let before = names(path)?;
        let opened: io::Result<Vec<LogFile>> = before.iter().map(|name| LogFile::open(name)).collect();
        let ids = |files: &[LogFile]| files.iter().map(|f| f.id).collect::<Vec<_>>();
        match opened {
            Ok(files) => {
                let after: Vec<FileId> = names(path)?.iter().filter_map(|name| current_id(name)).collect();
                if ids(&files) == after || attempt == OPEN_ATTEMPTS_MAX {
                    return Ok(files);
                }
            }
            Err(error) if attempt == OPEN_ATTEMPTS_MAX || error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
    }
}

/// Oldest first; the log's own name is the last.
fn names(path: &Path) -> io::Result<Vec<PathBuf>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let (directory, own) = (path.parent().ok_or_else(invalid)?, path.file_name().ok_or_else(invalid)?);
    let mut rotated = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        rotated.extend(rotation(own, &name).map(|age| (age, directory.join(&name))));
    }
    rotated.sort();
    Ok(rotated.into_iter().map(|(_, path)| path).chain([path.to_owned()]).collect())
}

/// Sorts oldest first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Rotation {
    Dated(String),
    Numbered(Reverse<u16>),
}

fn rotation(own: &OsStr, name: &OsStr) -> Option<Rotation> {
    let suffix = name.to_str()?.strip_prefix(own.to_str()?)?.strip_prefix('.')?;
    if let Ok(number) = suffix.parse() {
        return Some(Rotation::Numbered(Reverse(number)));
    }
    let is_date = suffix.bytes().all(|byte| byte.is_ascii_digit() || b"-T:Z".contains(&byte));
    is_date.then(|| Rotation::Dated(suffix.to_owned()))
}

/// Drops the files and moves the offset so that the last `lines` lines remain; one that has no end yet is a line, too.
pub(crate) fn skip_to_tail(files: &mut Vec<LogFile>, lines: u64) -> io::Result<()> {
    let mut wanted = lines;
    let newest = files.len().saturating_sub(1);
    for index in (0..files.len()).rev() {
        let Some(file) = files.get_mut(index) else { continue };
        if let Some(offset) = tail_offset(&file.file, &mut wanted, index == newest)? {
            file.offset = offset;
            files.drain(..index);
            return Ok(());
        }
    }
    Ok(())
}

/// Where the last `wanted` lines of a file begin, read backwards; `None` when it has no more than those. `is_last`: whether the file's
/// last line is the log's.
fn tail_offset(file: &File, wanted: &mut u64, mut is_last: bool) -> io::Result<Option<u64>> {
    let mut end = file.metadata()?.len();
    let mut tail: Vec<u8> = Vec::new();
    if *wanted == 0 && end > 0 {
        return Ok(Some(end));
    }
    // `tail` holds the file's bytes from `end` up to the first line not yet judged.
    while end > 0 {
        let start = end.saturating_sub(TAIL_BLOCK_BYTES);
        let mut block = vec![0; (end - start) as usize];
        file.read_exact_at(&mut block, start)?;
        block.append(&mut tail);
        end = start;
        // Lines that end in this block, last first; the first one may begin in an earlier block.
        let mut line_end = block.len();
        while let Some(newline) =
            block.get(..line_end.saturating_sub(1)).and_then(|b| b.iter().rposition(|c| *c == b'\n'))
        {
            if std::mem::take(&mut is_last) | is_full(&block[newline + 1..line_end]) {
                if *wanted == 0 {
                    return Ok(Some(start + line_end as u64));
                }
                *wanted -= 1;
            }
            line_end = newline + 1;
        }
        block.truncate(line_end);
        tail = block;
    }
    if std::mem::take(&mut is_last) | is_full(&tail) {
        if *wanted == 0 {
            return Ok(Some(tail.len() as u64));
        }
        *wanted -= 1;
    }
    Ok(None)
}

fn is_full(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    LogLine::parse(line).is_some_and(|line| line.is_full)
}
