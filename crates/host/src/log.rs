//! Container logs in CRI format: `<rfc3339nano> stdout F line`.
//!
//! Guarantees: one write per chunk of output; a file is rotated between lines at [`FILE_BYTES_MAX`] and [`FILES_MAX`] are kept;
//! a reader that follows waits on inotify, survives rotation and ends when the container has ended and all was read.
//! Upstream: the CRI logging format; `kubectl logs` options.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;

/// containerLogMaxSize
pub const FILE_BYTES_MAX: u64 = 10 << 20;
/// containerLogMaxFiles
pub const FILES_MAX: u32 = 5;
/// A longer line is cut into parts with tag `P`.
const LINE_BYTES_MAX: usize = 16 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// Writes one container's log.
pub struct Writer {
    path: PathBuf,
    file: File,
    size: u64,
    size_max: u64,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Writer {
    pub fn open(path: &Path) -> io::Result<Writer> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = File::options().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        let path = path.to_path_buf();
        Ok(Writer { path, file, size, size_max: FILE_BYTES_MAX, stdout: Vec::new(), stderr: Vec::new() })
    }

    /// Takes a chunk of output; writes its whole lines. A full disk loses lines, never the container.
    pub fn write(&mut self, now: Timestamp, stream: Stream, mut chunk: &[u8]) {
        let mut out = Vec::with_capacity(chunk.len() * 2 + 128);
        // Printed once: a chunk of short lines has thousands.
        let prefix = prefix(now, stream);
        let rest = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        while !chunk.is_empty() {
            let room = LINE_BYTES_MAX - rest.len();
            match chunk.iter().take(room).position(|b| *b == b'\n') {
                Some(end) => {
                    rest.extend_from_slice(&chunk[..end]);
                    push_line(&mut out, &prefix, 'F', rest);
                    chunk = &chunk[end + 1..];
                }
                None => {
                    let take = room.min(chunk.len());
                    rest.extend_from_slice(&chunk[..take]);
                    chunk = &chunk[take..];
                    if rest.len() == LINE_BYTES_MAX {
                        push_line(&mut out, &prefix, 'P', rest);
                    }
                }
            }
        }
        self.append(&out);
    }

    /// The stream ended: its last line may lack a newline, and is then left without one.
    pub fn finish(&mut self, now: Timestamp, stream: Stream) {
        let rest = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        if !rest.is_empty() {
            let mut out = Vec::new();
            push_line(&mut out, &prefix(now, stream), 'P', rest);
            self.append(&out);
        }
    }

    fn append(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        if self.file.write_all(lines).is_ok() {
            self.size += lines.len() as u64;
        }
        if self.size >= self.size_max {
            let _ = self.rotate();
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..FILES_MAX - 1).rev() {
            let _ = fs::rename(rotated(&self.path, number), rotated(&self.path, number + 1));
        }
        fs::rename(&self.path, rotated(&self.path, 1))?;
        self.file = File::options().create(true).append(true).open(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

fn prefix(now: Timestamp, stream: Stream) -> String {
    // Nine digits always, so that lines sort and cut evenly.
    format!("{now:.9} {} ", stream.name())
}

fn push_line(out: &mut Vec<u8>, prefix: &str, tag: char, line: &mut Vec<u8>) {
    out.extend_from_slice(prefix.as_bytes());
    out.push(tag as u8);
    out.push(b' ');
    out.append(line);
    out.push(b'\n');
}

fn rotated(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// The log's files that exist, oldest first.
pub fn files(path: &Path) -> Vec<PathBuf> {
    let old = (1..FILES_MAX).rev().map(|number| rotated(path, number));
    old.chain([path.to_path_buf()]).filter(|p| p.exists()).collect()
}

/// Removes the log with its rotated files.
pub fn remove(path: &Path) -> io::Result<()> {
    for file in files(path) {
        fs::remove_file(file)?;
    }
    Ok(())
}

/// What `kubectl logs` asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    pub tail_lines: Option<u64>,
    pub since: Option<Timestamp>,
    pub timestamps: bool,
    pub limit_bytes: Option<u64>,
    pub follow: bool,
    /// `None`: both streams.
    pub stdout_only: Option<bool>,
}

/// Reads one container's log, line by line as the user sees it.
pub struct Reader {
    path: PathBuf,
    options: Options,
    /// Whole files still to be read before the current one.
    older: Vec<PathBuf>,
    current: Option<BufReader<File>>,
    /// Of the current file: raw text of a line that is not yet complete.
    partial: Vec<u8>,
    /// Is the last printed part of a line still open (tag `P`)?
    in_line: bool,
    skip_lines: u64,
    left_bytes: Option<u64>,
    watch: Option<OwnedFd>,
    stop: (OwnedFd, Option<OwnedFd>),
}

/// Dropped, it ends a reader that waits in another thread.
pub struct Stopper(#[allow(dead_code, reason = "its drop is the message")] OwnedFd);

impl Reader {
    pub fn open(path: &Path, options: Options) -> io::Result<Reader> {
        let watch = match options.follow {
            true => Some(watch_dir(path)?),
            false => None,
        };
        let mut older = files(path);
        let skip_lines = match options.tail_lines {
            Some(tail) => count_lines(&older, &options)?.saturating_sub(tail),
            None => 0,
        };
        older.reverse();
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        Ok(Reader {
            path: path.to_path_buf(),
            left_bytes: options.limit_bytes,
            options,
            older,
            current: None,
            partial: Vec::new(),
            in_line: false,
            skip_lines,
            watch,
            stop: (read, Some(write)),
        })
    }

    /// At most once: what ends a blocked [`Reader::next`].
    pub fn stopper(&mut self) -> Option<Stopper> {
        self.stop.1.take().map(Stopper)
    }

    /// The next piece of output (a line with its newline, or a part of a long one); `None` at the end. When following it
    /// blocks until there is more, `ended` says that the container has ended, or the stopper is dropped.
    pub fn next(&mut self, ended: &dyn Fn() -> bool) -> io::Result<Option<Vec<u8>>> {
        loop {
            if self.left_bytes == Some(0) {
                return Ok(None);
            }
            if let Some(line) = self.read_line()? {
                if let Some(text) = self.present(&line) {
                    return Ok(Some(text));
                }
                continue;
            }
            if !self.options.follow {
                return Ok(None);
            }
            // Asked before the last look at the file: what was written before the end is then seen.
            let has_ended = ended();
            if let Some(line) = self.read_line()? {
                if let Some(text) = self.present(&line) {
                    return Ok(Some(text));
                }
                continue;
            }
            if has_ended || !self.wait()? {
                return Ok(None);
            }
        }
    }

    /// One whole raw line from the files in order.
    fn read_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(file) = &mut self.current {
                file.read_until(b'\n', &mut self.partial)?;
                if self.partial.ends_with(b"\n") {
                    return Ok(Some(std::mem::take(&mut self.partial)));
                }
            }
            if let Some(path) = self.older.pop() {
                self.current = Some(BufReader::new(File::open(path)?));
                self.partial.clear();
            } else if !self.find_newer()? {
                return Ok(None);
            }
            // A newer file was found: the current one is read once more first, it may have grown before it was rotated.
        }
    }

    /// Was the current file rotated away under us? Then what came after it is still to be read.
    fn find_newer(&mut self) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let Some(current) = &self.current else { return Ok(false) };
        let open = current.get_ref().metadata()?.ino();
        let mut newer = files(&self.path);
        let ours = newer.iter().position(|path| fs::metadata(path).is_ok_and(|m| m.ino() == open));
        newer.drain(..ours.map_or(0, |at| at + 1));
        newer.reverse();
        self.older = newer;
        Ok(!self.older.is_empty())
    }

    fn present(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        let parsed = Line::parse(line)?;
        if !parsed.is_wanted(&self.options) {
            return None;
        }
        if self.skip_lines > 0 {
            if parsed.is_whole {
                self.skip_lines -= 1;
            }
            return None;
        }
        let mut text = Vec::with_capacity(line.len());
        if self.options.timestamps && !self.in_line {
            text.extend_from_slice(parsed.time.as_bytes());
            text.push(b' ');
        }
        text.extend_from_slice(parsed.text);
        if parsed.is_whole {
            text.push(b'\n');
        }
        self.in_line = !parsed.is_whole;
        if let Some(left) = &mut self.left_bytes {
            text.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= text.len() as u64;
        }
        Some(text)
    }

    /// Waits until something happened in the log's directory; false when the reader was stopped.
    fn wait(&mut self) -> io::Result<bool> {
        let Some(watch) = &self.watch else { return Ok(false) };
        let mut fds = [PollFd::new(watch, PollFlags::IN), PollFd::new(&self.stop.0, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        if !fds[1].revents().is_empty() {
            return Ok(false);
        }
        let mut events = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(watch, &mut events);
        while reader.next().is_ok() {}
        Ok(true)
    }
}

/// Changes of the directory cover writes, rotation and (by the name `ended`) the end.
fn watch_dir(path: &Path) -> io::Result<OwnedFd> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    let flags = flags | inotify::WatchFlags::ATTRIB | inotify::WatchFlags::CLOSE_WRITE;
    inotify::add_watch(&fd, dir, flags)?;
    Ok(fd)
}

fn count_lines(files: &[PathBuf], options: &Options) -> io::Result<u64> {
    let (mut count, mut is_open) = (0, false);
    for path in files {
        let mut file = BufReader::new(File::open(path)?);
        file.seek(SeekFrom::Start(0))?;
        let mut line = Vec::new();
        while file.read_until(b'\n', &mut line)? > 0 {
            if let Some(found) = Line::parse(&line).filter(|l| l.is_wanted(options)) {
                count += u64::from(found.is_whole);
                is_open = !found.is_whole;
            }
            line.clear();
        }
    }
    // A line without an end is one, too.
    Ok(count + u64::from(is_open))
}

struct Line<'a> {
    time: &'a str,
    is_stdout: bool,
    is_whole: bool,
    text: &'a [u8],
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Option<Line<'a>> {
        let line = line.strip_suffix(b"\n")?;
        let mut parts = line.splitn(4, |b| *b == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let is_stdout = parts.next()? == b"stdout";
        let is_whole = parts.next()? == b"F";
        Some(Line { time, is_stdout, is_whole, text: parts.next().unwrap_or_default() })
    }

    fn is_wanted(&self, options: &Options) -> bool {
        let in_time = options.since.is_none_or(|since| self.time.parse::<Timestamp>().is_ok_and(|at| at >= since));
        in_time && options.stdout_only.is_none_or(|only| only == self.is_stdout)
    }
}

/// The last output of a container for its termination message: at most 80 lines and 2048 bytes.
pub fn tail(path: &Path) -> io::Result<String> {
    let options = Options { tail_lines: Some(80), ..Options::default() };
    let mut reader = Reader::open(path, options)?;
    let mut text = Vec::new();
    while let Some(piece) = reader.next(&|| true)? {
        text.extend(piece);
    }
    let from = text.len().saturating_sub(2048);
    Ok(String::from_utf8_lossy(&text[from..]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::new(1_700_000_000 + second, 5).unwrap()
    }

    fn read(path: &Path, options: Options) -> String {
        let mut reader = Reader::open(path, options).unwrap();
        let mut text = Vec::new();
        while let Some(piece) = reader.next(&|| true).unwrap() {
            text.extend(piece);
        }
        String::from_utf8(text).unwrap()
    }

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("stead-log-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn lines_are_whole_whatever_the_chunks() {
        let dir = dir("chunks");
        let path = dir.join("0.log");
        let mut log = Writer::open(&path).unwrap();
        log.write(at(0), Stream::Stdout, b"one\ntw");
        log.write(at(1), Stream::Stderr, b"oops\n");
        log.write(at(2), Stream::Stdout, b"o\n\nlast");
        log.finish(at(3), Stream::Stdout);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "2023-11-14T22:13:20.000000005Z stdout F one\n\
             2023-11-14T22:13:21.000000005Z stderr F oops\n\
             2023-11-14T22:13:22.000000005Z stdout F two\n\
             2023-11-14T22:13:22.000000005Z stdout F \n\
             2023-11-14T22:13:23.000000005Z stdout P last\n"
        );
        assert_eq!(read(&path, Options::default()), "one\noops\ntwo\n\nlast");
        let tail = Options { tail_lines: Some(2), timestamps: true, ..Options::default() };
        assert_eq!(read(&path, tail), "2023-11-14T22:13:22.000000005Z \n2023-11-14T22:13:23.000000005Z last");
        assert_eq!(read(&path, Options { since: Some(at(2)), ..Options::default() }), "two\n\nlast");
        assert_eq!(read(&path, Options { limit_bytes: Some(5), ..Options::default() }), "one\no");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_long_line_is_parts_on_disk_and_one_line_to_the_reader() {
        let dir = dir("long");
        let path = dir.join("0.log");
        let mut log = Writer::open(&path).unwrap();
        let long = "x".repeat(LINE_BYTES_MAX * 2 + 7);
        log.write(at(0), Stream::Stdout, format!("{long}\nnext\n").as_bytes());
        let tags: Vec<String> =
            fs::read_to_string(&path).unwrap().lines().map(|l| l.split(' ').nth(2).unwrap().to_string()).collect();
        assert_eq!(tags.join(""), "PPFF");
        assert_eq!(read(&path, Options::default()), format!("{long}\nnext\n"));
        assert_eq!(read(&path, Options { tail_lines: Some(1), ..Options::default() }), "next\n");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn rotation_keeps_five_files_and_a_follower_misses_nothing() {
        let dir = dir("rotate");
        let path = dir.join("0.log");
        let mut log = Writer::open(&path).unwrap();
        log.size_max = 200;
        log.write(at(0), Stream::Stdout, b"first\n");
        let mut reader = Reader::open(&path, Options { follow: true, ..Options::default() }).unwrap();
        let follower = std::thread::spawn(move || {
            let mut seen = String::new();
            while !seen.contains("line 3\n") {
                seen.push_str(&String::from_utf8(reader.next(&|| false).unwrap().unwrap()).unwrap());
            }
            seen
        });
        for number in 1..=3 {
            log.write(at(number), Stream::Stdout, format!("line {number}\n").as_bytes());
        }
        assert_eq!(follower.join().unwrap(), "first\nline 1\nline 2\nline 3\n");
        for number in 4..=40 {
            log.write(at(number), Stream::Stdout, format!("line {number}\n").as_bytes());
        }
        assert_eq!(files(&path).len(), 5);
        assert!(read(&path, Options::default()).ends_with("line 39\nline 40\n"));
        remove(&path).unwrap();
        assert_eq!(files(&path).len(), 0);
        fs::remove_dir_all(dir).unwrap();
    }
}
