//! What a store's files say together: the last base, then the logs after it, frame by frame.
//!
//! Guarantees: the result is all batches up to one, each whole. Only the end of the last log may be torn, for only there can a write
//! have been cut off that nobody was told of; everything else that does not add up is damage, and stops the start.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use stead_api::Revision;
use stead_store::durable::key_of_bytes;

use super::format::{FRAME_BYTES, Frame, HEADER_BYTES, Header, Sort, records};
use super::log::Tail;
use super::name::{self, Files};

const READ_BYTES: usize = 256 << 10;

/// What the files say.
#[derive(Default)]
pub struct Replayed {
    pub revision: Revision,
    /// By key, as they are stored.
    pub values: BTreeMap<Vec<u8>, Bytes>,
    /// The length of the base; zero without one.
    pub base_bytes: u64,
    /// The length of the logs before the last.
    pub earlier_bytes: u64,
    /// Where the last log ends. None: there is no log, and so no store.
    pub tail: Option<Tail>,
}

/// Is told key and value of everything that the files hold, also of what was replaced later.
pub type Seen<'a> = &'a mut dyn FnMut(&[u8], &[u8]);

/// Reads a store's directory.
///
/// # Errors
/// What is missing or damaged, with the key where it can be told.
pub fn replay(dir: &Path, files: &Files, seen: Seen<'_>) -> Result<Replayed> {
    let mut replayed = Replayed::default();
    if let Some(base) = files.bases.last() {
        replayed.read_base(&name::path(dir, Sort::Base, *base), seen)?;
    }
    let start = replayed.revision;
    let logs: Vec<Revision> = files.logs.iter().copied().filter(|log| *log >= start).collect();
    if logs.first() != Some(&start) && (!logs.is_empty() || !files.bases.is_empty()) {
        bail!("{} is missing", name::path(dir, Sort::Log, start).display());
    }
    for (nth, log) in logs.iter().enumerate() {
        let path = name::path(dir, Sort::Log, *log);
        if *log != replayed.revision {
            bail!("between revisions {} and {log} a log is missing before {}", replayed.revision, path.display());
        }
        replayed.earlier_bytes += replayed.tail.take().map_or(0, |tail| tail.length);
        replayed.read_log(path, nth + 1 == logs.len(), seen)?;
    }
    Ok(replayed)
}

impl Replayed {
    fn read_base(&mut self, path: &Path, seen: Seen<'_>) -> Result<()> {
        let mut reader = Reader::open(path, Sort::Base)?;
        self.revision = reader.header.revision;
        loop {
            let frame = reader.next()?.map_err(|damage| damage.error(path))?;
            if frame.after != self.values.len() as u64 || frame.revision != self.revision {
                bail!("{} is damaged: its parts do not belong together", path.display());
            }
            if frame.records == 0 && reader.left == 0 {
                break;
            }
            self.fold(&reader, &frame, seen).map_err(|damage| damage.error(path))?;
        }
        self.base_bytes = reader.at;
        Ok(())
    }

    fn read_log(&mut self, path: PathBuf, is_last: bool, seen: Seen<'_>) -> Result<()> {
        let mut reader = Reader::open(&path, Sort::Log)?;
        let (salt, start) = (reader.header.salt, reader.header.revision);
        if start != self.revision {
            bail!("{} is damaged: it begins at revision {start}", path.display());
        }
        let mut length = reader.at;
        while reader.left > 0 {
            let whole = match reader.next()? {
                Ok(frame) if frame.after != self.revision => {
                    bail!(
                        "{} is damaged: revision {} does not follow {}",
                        path.display(),
                        frame.revision,
                        self.revision
                    )
                }
                Ok(frame) => self.fold(&reader, &frame, seen).map(|()| frame),
                Err(damage) => Err(damage),
            };
            match whole {
                Ok(frame) => (self.revision, length) = (frame.revision, reader.at),
                Err(damage) if !is_last || Frame::is_in(salt, &rest(&path, length + 1)?) => {
                    return Err(damage.error(&path).context(format!("after revision {}", self.revision)));
                }
                Err(_) => break,
            }
        }
        self.tail = Some(Tail { path, salt, start, revision: self.revision, length });
        Ok(())
    }

    fn fold(&mut self, reader: &Reader, frame: &Frame, seen: Seen<'_>) -> Result<(), Damage> {
        let puts = records(reader.header.salt, frame, &reader.bytes).map_err(|key| Damage { key })?;
        for (key, value) in puts {
            let Some(value) = value else {
                self.values.remove(key);
                continue;
            };
            seen(key, value);
            self.values.insert(key.to_vec(), Bytes::copy_from_slice(value));
        }
        Ok(())
    }
}

/// A frame that is not whole.
#[derive(Default)]
struct Damage {
    /// Of its first damaged record; empty: unknown.
    key: Vec<u8>,
}

impl Damage {
    fn error(self, path: &Path) -> anyhow::Error {
        match key_of_bytes(&self.key) {
            Ok(key) => {
                anyhow::anyhow!("stored object {key} is damaged: its checksum does not match, in {}", path.display())
            }
            Err(_) => anyhow::anyhow!("{} is damaged", path.display()),
        }
    }
}

/// Reads frame after frame.
struct Reader {
    file: BufReader<File>,
    header: Header,
    /// The records of the last frame.
    bytes: Vec<u8>,
    at: u64,
    left: u64,
}

impl Reader {
    fn open(path: &Path, sort: Sort) -> Result<Reader> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let length = file.metadata()?.len();
        let mut file = BufReader::with_capacity(READ_BYTES, file);
        let mut header = [0; HEADER_BYTES];
        let Some(left) = length.checked_sub(HEADER_BYTES as u64) else { bail!("{} is cut off", path.display()) };
        file.read_exact(&mut header)?;
        let header = Header::read(sort, &header).map_err(|why| anyhow::anyhow!("{} {why}", path.display()))?;
        Ok(Reader { file, header, bytes: Vec::new(), at: HEADER_BYTES as u64, left })
    }

    /// The next frame's head, with its records in `bytes`.
    fn next(&mut self) -> std::io::Result<Result<Frame, Damage>> {
        let Some(left) = self.left.checked_sub(FRAME_BYTES as u64) else { return Ok(Err(Damage::default())) };
        let mut head = [0; FRAME_BYTES];
        self.file.read_exact(&mut head)?;
        let Some(frame) = Frame::read(self.header.salt, &head) else { return Ok(Err(Damage::default())) };
        // Not more than there is: a length is believed only as far as the file reaches.
        let there = frame.bytes.min(left);
        self.bytes.clear();
        self.file.by_ref().take(there).read_to_end(&mut self.bytes)?;
        self.at += FRAME_BYTES as u64 + there;
        self.left = left - there;
        if there < frame.bytes {
            let key = records(self.header.salt, &frame, &self.bytes).err().unwrap_or_default();
            return Ok(Err(Damage { key }));
        }
        Ok(Ok(frame))
    }
}

/// What lies behind a place in a file.
fn rest(path: &Path, from: u64) -> Result<Vec<u8>> {
    use std::io::Seek;
    let mut file = File::open(path)?;
    file.seek(std::io::SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
