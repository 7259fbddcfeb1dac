//! The audit log's file and the thread that writes it.
//!
//! Files are turned over as upstream does it (lumberjack): `audit.log` becomes `audit-2026-01-31T12-00-00.000.log`.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::say::say;

/// Lines that wait for the disk; more are dropped.
const LINES_MAX: usize = 10_000;
/// What is written at once.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Megabytes of a file, unless a flag says otherwise.
const SIZE_DEFAULT: u64 = 100;

pub struct Sink {
    /// None while it is being dropped.
    sender: Option<SyncSender<Vec<u8>>>,
    dropped: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Sink {
    pub fn open(path: &Path, options: &Options) -> Result<Sink> {
        let mut log = Log::open(path, options)?;
        let (sender, lines) = sync_channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        let thread = std::thread::Builder::new().name("audit".into()).spawn(move || run(&mut log, &lines, &counter))?;
        Ok(Sink { sender: Some(sender), dropped, thread: Some(thread) })
    }

    pub fn write(&self, line: Vec<u8>) {
        if self.sender.as_ref().is_none_or(|sender| sender.try_send(line).is_err()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes what comes, as much at once as there is.
fn run(log: &mut Log, lines: &Receiver<Vec<u8>>, dropped: &AtomicU64) {
    let mut is_failing = false;
    while let Ok(mut batch) = lines.recv() {
        while batch.len() < BATCH_BYTES_MAX {
            let Ok(line) = lines.try_recv() else { break };
            batch.extend_from_slice(&line);
        }
        let written = log.write(&batch);
        if let Err(error) = &written
            && !is_failing
        {
            say(format_args!("the audit log {} cannot be written: {error}", log.path.display()));
        }
        is_failing = written.is_err();
        match dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            count => say(format_args!("{count} audit events were dropped: the disk did not keep up")),
        }
    }
}

struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    size_max: u64,
    backups_max: usize,
    days_max: u64,
}

impl Log {
    fn open(path: &Path, options: &Options) -> Result<Log> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        let file = append(path).with_context(|| format!("open {}", path.display()))?;
        let size = file.metadata()?.len();
        let size_max = options.max_size.unwrap_or(SIZE_DEFAULT) << 20;
        let (backups_max, days_max) = (options.max_backup, options.max_age);
        Ok(Log { path: path.to_owned(), file, size, size_max, backups_max, days_max })
    }

    fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        let is_full = self.size_max > 0 && self.size > 0 && self.size + lines.len() as u64 > self.size_max;
        if is_full {
            self.turn_over(Timestamp::now())?;
        }
        self.file.write_all(lines)?;
        self.size += lines.len() as u64;
        Ok(())
    }

    fn turn_over(&mut self, now: Timestamp) -> std::io::Result<()> {
        let time = now.strftime("%Y-%m-%dT%H-%M-%S%.3f");
        let (stem, extension) = self.name();
        fs::rename(&self.path, self.path.with_file_name(format!("{stem}-{time}{extension}")))?;
        self.file = append(&self.path)?;
        self.size = 0;
        self.forget(now)
    }

    /// `audit` and `.log`
    fn name(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| part.map(|p| p.to_string_lossy().into_owned());
        let extension = text(self.path.extension()).map_or(String::new(), |extension| format!(".{extension}"));
        (text(self.path.file_stem()).unwrap_or_default(), extension)
    }

    /// Removes earlier files that are too many or too old.
    fn forget(&self, now: Timestamp) -> std::io::Result<()> {
        let (stem, extension) = self.name();
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let is_backup = |name: &str| {
            let time = name.strip_prefix(&format!("{stem}-")).and_then(|rest| rest.strip_suffix(&extension));
            time.is_some_and(|time| time.len() == "2026-01-31T12-00-00.000".len() && time.as_bytes()[10] == b'T')
        };
        let entries = fs::read_dir(dir)?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut backups: Vec<String> = entries.filter(|name| is_backup(name)).collect();
        backups.sort();
        backups.reverse();
        let oldest = now - jiff::SignedDuration::from_hours(24 * self.days_max.min(100_000) as i64);
        let oldest = format!("{stem}-{}", oldest.strftime("%Y-%m-%dT%H-%M-%S%.3f"));
        for (index, name) in backups.iter().enumerate() {
            let is_too_many = self.backups_max > 0 && index >= self.backups_max;
            let is_too_old = self.days_max > 0 && name.as_str() < oldest.as_str();
            if is_too_many || is_too_old {
                fs::remove_file(dir.join(name))?;
            }
        }
        Ok(())
    }
}

fn append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// The flags of the audit log.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub policy: Option<PathBuf>,
    pub path: Option<PathBuf>,
    /// A file's size, in megabytes, at which the next is begun.
    pub max_size: Option<u64>,
    /// How many earlier files are kept, and for how many days; 0: all, for ever.
    pub max_backup: usize,
    pub max_age: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_turned_over_and_few_are_kept() {
        let dir = std::env::temp_dir().join(format!("stead-audit-{}", std::process::id()));
        let options = Options { max_size: Some(1), max_backup: 2, max_age: 30, ..Options::default() };
        let path = dir.join("audit.log");
        let mut log = Log::open(&path, &options).unwrap();
        fs::write(dir.join("audit-2001-01-01T00-00-00.000.log"), "old").unwrap();
        fs::write(dir.join("audit-other.log"), "not ours").unwrap();
        let line = vec![b'x'; 600 << 10];
        log.write(&line).unwrap();
        let mut now = Timestamp::now();
        for _ in 0..4 {
            now += jiff::SignedDuration::from_secs(1);
            log.turn_over(now).unwrap();
            log.write(&line).unwrap();
        }
        let mut names: Vec<String> =
            fs::read_dir(&dir).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names.len(), 4, "two earlier ones, the current one and what is not ours: {names:?}");
        assert!(names.contains(&"audit-other.log".to_owned()) && names.contains(&"audit.log".to_owned()));
        log.write(&line).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), line.len() as u64, "the size limit turns it over as well");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_is_written_is_on_disk_when_the_sink_is_gone() {
        let path = std::env::temp_dir().join(format!("stead-audit-{}.log", std::process::id()));
        let sink = Sink::open(&path, &Options::default()).unwrap();
        (0..100).for_each(|n| sink.write(format!("{n}\n").into_bytes()));
        drop(sink);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 100);
        fs::remove_file(&path).unwrap();
    }
}
