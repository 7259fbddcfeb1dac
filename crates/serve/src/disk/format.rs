//! The bytes of the store's files: a header, then frames, each of some records.
//!
//! A log's frame is a batch, whole or not there. A base's frames together are all objects at one revision. Both end with a frame
//! without records where they were closed in order. Sums are taken over a number that each file draws for itself, so that nothing
//! a user stores can pass for a frame.
//!
//! | part | bytes, little endian |
//! |---|---|
//! | header | magic 8, version 4, salt 8, revision 8, sum 4 |
//! | frame | mark 4, revision 8, after 8, records 4, length of the records 8, sum 4; then the records |
//! | record | length of the key 4, of the value 4 (all ones: removed), sum 4; then key and value |

use stead_api::Revision;

pub const HEADER_BYTES: usize = 32;
pub const FRAME_BYTES: usize = 36;
const RECORD_BYTES: usize = 12;
const VERSION: u32 = 1;
const MARK: [u8; 4] = *b"\x00fr\xfe";
const REMOVED: u32 = u32::MAX;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Batches, one after the other.
    Log,
    /// All objects at one revision.
    Base,
}

impl Sort {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Sort::Log => b"steadlog",
            Sort::Base => b"steadbas",
        }
    }
}

/// How a file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Drawn for this file alone.
    pub salt: u64,
    /// A log holds what came after it, a base what was there at it.
    pub revision: Revision,
}

impl Header {
    pub fn bytes(&self, sort: Sort) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(sort.magic());
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.salt.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.revision.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..28]);
        bytes[28..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The header in the bytes; the error says what is wrong with them.
    pub fn read(sort: Sort, bytes: &[u8; HEADER_BYTES]) -> Result<Header, &'static str> {
        if bytes[..8] != sort.magic()[..] {
            return Err("is no such file");
        }
        if u32_at(bytes, 28) != crc32fast::hash(&bytes[..28]) {
            return Err("is damaged at its beginning");
        }
        match u32_at(bytes, 8) {
            VERSION => Ok(Header { salt: u64_at(bytes, 12), revision: u64_at(bytes, 20) }),
            _ => Err("is of another version of Stead"),
        }
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub revision: Revision,
    /// What it follows: in a log the revision of the frame before, in a base the number of objects before.
    pub after: u64,
    pub records: u32,
    /// The length of its records.
    pub bytes: u64,
}

impl Frame {
    /// The head in the bytes, if there is one.
    pub fn read(salt: u64, bytes: &[u8]) -> Option<Frame> {
        let bytes = bytes.first_chunk::<FRAME_BYTES>()?;
        if bytes[..4] != MARK || u32_at(bytes, 32) != salted(salt, &bytes[..32]) {
            return None;
        }
        Some(Frame {
            revision: u64_at(bytes, 4),
            after: u64_at(bytes, 12),
            records: u32_at(bytes, 20),
            bytes: u64_at(bytes, 24),
        })
    }

    /// Whether a head begins anywhere in the bytes.
    pub fn is_in(salt: u64, bytes: &[u8]) -> bool {
        bytes.windows(FRAME_BYTES).any(|window| window[..4] == MARK && Frame::read(salt, window).is_some())
    }
}

/// Writes one frame at the end of a buffer.
pub struct Writer<'a> {
    buffer: &'a mut Vec<u8>,
    start: usize,
    salt: u64,
    frame: Frame,
}

impl<'a> Writer<'a> {
    pub fn new(buffer: &'a mut Vec<u8>, salt: u64, revision: Revision, after: u64) -> Writer<'a> {
        let start = buffer.len();
        buffer.extend_from_slice(&[0; FRAME_BYTES]);
        Writer { buffer, start, salt, frame: Frame { revision, after, records: 0, bytes: 0 } }
    }

    /// Adds a record; None: the key is removed.
    ///
    /// # Errors
    /// When key or value is longer than a length can say.
    pub fn put(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), TooLong> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).ok().filter(|l| *l < REMOVED).ok_or(TooLong);
        let lengths = (length(key)?, value.map_or(Ok(REMOVED), length)?);
        let value = value.unwrap_or_default();
        let sum = record_sum(self.salt, &self.frame, lengths, key, value);
        self.buffer.extend_from_slice(&lengths.0.to_le_bytes());
        self.buffer.extend_from_slice(&lengths.1.to_le_bytes());
        self.buffer.extend_from_slice(&sum.to_le_bytes());
        self.buffer.extend_from_slice(key);
        self.buffer.extend_from_slice(value);
        self.frame.records += 1;
        self.frame.bytes = (self.buffer.len() - self.start - FRAME_BYTES) as u64;
        Ok(())
    }

    /// The length of the records so far.
    pub fn bytes(&self) -> u64 {
        self.frame.bytes
    }

    /// Completes the frame.
    pub fn finish(self) -> Frame {
        let head = &mut self.buffer[self.start..self.start + FRAME_BYTES];
        head[..4].copy_from_slice(&MARK);
        head[4..12].copy_from_slice(&self.frame.revision.to_le_bytes());
        head[12..20].copy_from_slice(&self.frame.after.to_le_bytes());
        head[20..24].copy_from_slice(&self.frame.records.to_le_bytes());
        head[24..32].copy_from_slice(&self.frame.bytes.to_le_bytes());
        let sum = salted(self.salt, &head[..32]);
        head[32..].copy_from_slice(&sum.to_le_bytes());
        self.frame
    }
}

/// More than four gigabytes in one value.
#[derive(Debug, thiserror::Error)]
#[error("a value is too long for the store")]
pub struct TooLong;

/// A record as it was read: key, and value unless the key was removed.
pub type Put<'a> = (&'a [u8], Option<&'a [u8]>);

/// The records of a frame. The error is the key of the first damaged one, as far as it can be told.
pub fn records<'a>(salt: u64, frame: &Frame, mut bytes: &'a [u8]) -> Result<Vec<Put<'a>>, Vec<u8>> {
    let mut records = Vec::new();
    for nth in 0..frame.records {
        let Some((head, rest)) = bytes.split_first_chunk::<RECORD_BYTES>() else { return Err(Vec::new()) };
        let lengths = (u32_at(head, 0), u32_at(head, 4));
        let Some((key, rest)) = rest.split_at_checked(lengths.0 as usize) else { return Err(Vec::new()) };
        let length = if lengths.1 == REMOVED { 0 } else { lengths.1 as usize };
        let Some((value, rest)) = rest.split_at_checked(length) else { return Err(key.to_vec()) };
        let position = Frame { records: nth, ..*frame };
        if u32_at(head, 8) != record_sum(salt, &position, lengths, key, value) {
            return Err(key.to_vec());
        }
        records.push((key, (lengths.1 != REMOVED).then_some(value)));
        bytes = rest;
    }
    if bytes.is_empty() { Ok(records) } else { Err(Vec::new()) }
}

/// Over everything that says what a record is and where it belongs: its frame and its place in it, too.
fn record_sum(salt: u64, place: &Frame, lengths: (u32, u32), key: &[u8], value: &[u8]) -> u32 {
    let mut head = [0; 36];
    head[..8].copy_from_slice(&salt.to_le_bytes());
    head[8..16].copy_from_slice(&place.revision.to_le_bytes());
    head[16..24].copy_from_slice(&place.after.to_le_bytes());
    head[24..28].copy_from_slice(&place.records.to_le_bytes());
    head[28..32].copy_from_slice(&lengths.0.to_le_bytes());
    head[32..].copy_from_slice(&lengths.1.to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head);
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

fn salted(salt: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}
