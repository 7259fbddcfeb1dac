//! A container's log as `kubectl logs` shows it: an asynchronous sequence of chunks of bytes.
//!
//! Contract: whole lines in the order of the files, over rotations; the last lines are found from the end; a follower
//! sleeps on inotify, never on a timer, and ends after everything that was written before it is told that the
//! container has ended. Files are read on the blocking pool, a chunk at a time, so a slow client costs one chunk.
//! Rule: behaviour row K-06; the options are those of `PodLogOptions`.

use crate::descriptor::pollable;
use crate::log_files::{FileId, LogFile, current_id, open_all, skip_to_tail};
use crate::log_line::LogLine;
use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::inotify;
use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

pub use crate::log_files::{attempts, log_file};
pub use crate::log_line::LogStream;

/// Bytes read from a file at once; a chunk of output is about as long.
const READ_BYTES: usize = 64 * 1024;
/// A longer line is not a log's; it is passed over.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// What `kubectl logs` asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogOptions {
    pub follow: bool,
    pub timestamps: bool,
    /// Only the last so many lines, and what follows.
    pub tail_lines: Option<u64>,
    /// Only lines at or after this time.
    pub since: Option<Timestamp>,
    /// Stop after so many bytes, in the middle of a line if need be.
    pub limit_bytes: Option<u64>,
    pub stream: LogStream,
}

impl LogOptions {
    /// The later of `sinceTime` and `sinceSeconds` before now.
    pub fn since(now: Timestamp, since_seconds: Option<i64>, since_time: Option<Timestamp>) -> Option<Timestamp> {
        let seconds_ago = since_seconds.map(|seconds| {
            let at = now.as_second().saturating_sub(seconds);
            Timestamp::new(at, now.subsec_nanosecond()).unwrap_or(Timestamp::MIN)
        });
        seconds_ago.max(since_time)
    }
}

/// A log being read.
pub struct LogFollow {
    /// Away while the blocking pool reads with it.
    reader: Option<Reader>,
    changes: Option<AsyncFd<OwnedFd>>,
    ended: watch::Receiver<bool>,
}

impl LogFollow {
    /// Opens the log file of a container's run. `ended` turns true, or its sender goes, when the container has ended and
    /// all it wrote is in the log; it matters only to a follower.
    pub async fn open(path: &Path, options: LogOptions, ended: watch::Receiver<bool>) -> io::Result<LogFollow> {
        // The watch stands before the first look, so no change is missed.
        let changes = if options.follow { Some(pollable(watch_directory(path)?)?) } else { None };
        let path = path.to_owned();
        let reader = blocking(move || Reader::open(path, options)).await?;
        Ok(LogFollow { reader: Some(reader), changes, ended })
    }

    /// The next chunk; `None` at the end of the log. Dropping the future before it is ready ends the log.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            let has_ended = *self.ended.borrow() || self.ended.has_changed().is_err();
            let mut reader = self.reader.take()?;
            let read = blocking(move || {
                let chunk = reader.chunk()?;
                Ok((reader, chunk))
            });
            let (reader, chunk) = match read.await {
                Ok(read) => read,
                Err(error) => return Some(Err(error)),
            };
            if !chunk.is_empty() {
                self.reader = Some(reader);
                return Some(Ok(chunk.into()));
            }
            if reader.is_done() || has_ended {
                return None;
            }
            self.reader = Some(reader);
            if let Err(error) = self.change().await {
                return Some(Err(error));
            }
        }
    }

    /// Waits until something has happened in the log's directory, or the container has ended.
    async fn change(&mut self) -> io::Result<()> {
        let Some(changes) = &self.changes else { return Ok(()) };
        tokio::select! {
            // Any outcome means: look again, and at whether the container has ended.
            _ = self.ended.wait_for(|ended| *ended) => {}
            ready = changes.readable() => {
                let mut ready = ready?;
                let mut events = [MaybeUninit::uninit(); 4096];
                let mut reader = inotify::Reader::new(changes.get_ref(), &mut events);
                while reader.next().is_ok() {}
                ready.clear_ready();
            }
        }
        Ok(())
    }
}

fn watch_directory(path: &Path) -> io::Result<OwnedFd> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&watch, directory, flags)?;
    Ok(watch)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(io::Error::other("reading the log panicked")))
}

/// The part that reads files, without any waiting.
struct Reader {
    path: PathBuf,
    options: LogOptions,
    /// The files still to be read, oldest first; the first is being read.
    files: VecDeque<LogFile>,
    /// Read, but not yet a whole line.
    rest: Vec<u8>,
    /// The rest is the tail of a line that was too long.
    skipping: bool,
    /// The last text shown was the beginning of a line.
    in_line: bool,
    left: u64,
}

impl Reader {
    fn open(path: PathBuf, options: LogOptions) -> io::Result<Reader> {
        let mut files = open_all(&path)?;
        if let Some(lines) = options.tail_lines {
            skip_to_tail(&mut files, lines)?;
        }
        Ok(Reader {
            path,
            left: options.limit_bytes.unwrap_or(u64::MAX),
            options,
            files: files.into(),
            rest: Vec::new(),
            skipping: false,
            in_line: false,
        })
    }

    /// Nothing will follow, whatever is written.
    fn is_done(&self) -> bool {
        self.left == 0 || !self.options.follow
    }

    /// The text of the next lines; empty when there is nothing more now.
    fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        while out.is_empty() && self.left > 0 {
            if self.fill()? {
                self.lines(&mut out);
            } else if !self.next_file()? {
                if !self.options.follow {
                    let torn = std::mem::take(&mut self.rest);
                    self.line(&torn, false, &mut out);
                }
                break;
            }
        }
        Ok(out)
    }

    /// Reads on in the current file; false at its end.
    fn fill(&mut self) -> io::Result<bool> {
        let Some(file) = self.files.front_mut() else { return Ok(false) };
        let old = self.rest.len();
        self.rest.resize(old + READ_BYTES, 0);
        let count = file.file.read_at(&mut self.rest[old..], file.offset)?;
        self.rest.truncate(old + count);
        file.offset += count as u64;
        Ok(count > 0)
    }

    /// Goes to the file after the one that was read to its end; false if there is none.
    fn next_file(&mut self) -> io::Result<bool> {
        let Some(read) = self.files.front() else { return Ok(false) };
        if self.files.len() == 1 {
            if !self.options.follow || current_id(&self.path).is_none_or(|id| id == read.id) {
                return Ok(false);
            }
            let newer = newer_than(open_all(&self.path)?, read.id);
            self.files.extend(newer);
            if self.files.len() == 1 {
                return Ok(false);
            }
            // It may have grown between its end and its rotation: look once more, now that it cannot any longer.
            return Ok(true);
        }
        self.files.pop_front();
        self.rest.clear();
        self.skipping = false;
        Ok(true)
    }

    fn lines(&mut self, out: &mut Vec<u8>) {
        let rest = std::mem::take(&mut self.rest);
        let mut lines = rest.split_inclusive(|byte| *byte == b'\n');
        for line in &mut lines {
            match line.strip_suffix(b"\n") {
                Some(_) if std::mem::take(&mut self.skipping) => {}
                Some(line) => self.line(line, true, out),
                None => self.rest = line.to_vec(),
            }
        }
        if self.rest.len() > LINE_BYTES_MAX {
            self.skipping = true;
        }
        if self.skipping {
            self.rest.clear();
        }
    }

    fn line(&mut self, raw: &[u8], is_whole: bool, out: &mut Vec<u8>) {
        let Some(line) = LogLine::parse(raw) else { return };
        let wanted = self.options.stream == LogStream::All || self.options.stream == line.stream;
        let recent = self.options.since.is_none_or(|since| line.time().is_some_and(|time| time >= since));
        if !wanted || !recent || self.left == 0 {
            return;
        }
        let start = out.len();
        if self.options.timestamps && !self.in_line {
            line.push_time(out);
        }
        out.extend_from_slice(line.text);
        self.in_line = !line.is_full;
        if line.is_full && is_whole {
            out.push(b'\n');
        }
        let length = (out.len() - start) as u64;
        if length > self.left {
            out.truncate(start + self.left as usize);
        }
        self.left = self.left.saturating_sub(length);
    }
}

/// If the file that was read is gone, all that are left are newer.
fn newer_than(files: Vec<LogFile>, read: FileId) -> impl Iterator<Item = LogFile> {
    let known = files.iter().position(|file| file.id == read).map_or(0, |at| at + 1);
    files.into_iter().skip(known)
}

#[cfg(test)]
mod tests;
