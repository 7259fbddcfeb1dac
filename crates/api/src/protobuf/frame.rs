//! What stands around a message: the envelope of a body, the frame of a watch event, the list that holds items.
//!
//! Each is put around bytes that exist already, which are copied once or not at all.

use bytes::Bytes;

use super::decode::string;
use super::error::DecodeError;
use super::table::Message;
use super::wire::{Reader, Wire, Writer, varint_len};

/// What every body begins with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// The two empty strings with which Go ends an envelope: the encoding and the type of its content.
const END: [u8; 4] = [0x1a, 0, 0x22, 0];

/// What a body says of itself, and the message within.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub api_version: String,
    pub kind: String,
    pub raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Opens a body.
    pub fn open(body: &'a [u8]) -> Result<Envelope<'a>, DecodeError> {
        let rest = body.strip_prefix(&MAGIC).ok_or(DecodeError::Prefix)?;
        envelope(rest)
    }

    /// The body: what [`Envelope::open`] opens.
    pub fn seal(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let mut body = before(api_version, kind, raw.len());
        body.reserve_exact(raw.len() + END.len());
        body.extend_from_slice(raw);
        body.extend_from_slice(&END);
        body
    }
}

fn envelope(bytes: &[u8]) -> Result<Envelope<'_>, DecodeError> {
    let mut envelope = Envelope { api_version: String::new(), kind: String::new(), raw: &[] };
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => {
                let mut reader = Reader::new(bytes);
                while let Some((number, wire)) = reader.field()? {
                    match number {
                        1 => envelope.api_version = string("apiVersion", wire)?.to_owned(),
                        2 => envelope.kind = string("kind", wire)?.to_owned(),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => envelope.raw = bytes,
            (1, wire) => return Err(DecodeError::WireType("TypeMeta".into(), wire.kind())),
            (2, wire) => return Err(DecodeError::WireType("Raw".into(), wire.kind())),
            _ => {}
        }
    }
    Ok(envelope)
}

/// The same body in pieces: the message itself is shared.
pub fn sealed(api_version: &str, kind: &str, raw: impl IntoIterator<Item = Bytes, IntoIter: Clone>) -> Vec<Bytes> {
    let raw = raw.into_iter();
    let length = raw.clone().map(|piece| piece.len()).sum();
    let mut pieces = vec![before(api_version, kind, length).into()];
    pieces.extend(raw);
    pieces.push(Bytes::from_static(&END));
    pieces
}

/// The magic bytes, the type, and the head of the message.
fn before(api_version: &str, kind: &str, length: usize) -> Vec<u8> {
    let mut writer = Writer { bytes: Vec::with_capacity(MAGIC.len() + api_version.len() + kind.len() + 24) };
    writer.bytes.extend_from_slice(&MAGIC);
    writer.nested(1, |writer| {
        writer.slice(1, api_version.as_bytes());
        writer.slice(2, kind.as_bytes());
    });
    writer.head(2, length);
    writer.bytes
}

/// A frame of a watch: four bytes of length, then a WatchEvent that holds a whole body.
pub fn watch_frame(event: &str, api_version: &str, kind: &str, raw: &[u8]) -> Bytes {
    let before = before(api_version, kind, raw.len());
    let body = before.len() + raw.len() + END.len();
    let object = 1 + varint_len(body as u64) + body;
    let mut writer = Writer { bytes: Vec::with_capacity(4 + 2 + event.len() + 1 + varint_len(object as u64) + object) };
    writer.bytes.extend_from_slice(&[0; 4]);
    writer.slice(1, event.as_bytes());
    writer.head(2, object);
    writer.head(1, body);
    writer.bytes.extend_from_slice(&before);
    writer.bytes.extend_from_slice(raw);
    writer.bytes.extend_from_slice(&END);
    let length = u32::try_from(writer.bytes.len() - 4).unwrap_or(u32::MAX);
    writer.bytes[..4].copy_from_slice(&length.to_be_bytes());
    writer.bytes.into()
}

/// Where the bytes of a message's field are, for fields that are there at most once.
pub fn field_of(of: &'static Message, message: &Bytes, name: &str) -> Option<Bytes> {
    let wanted = of.number(name)?;
    let mut reader = Reader::new(message);
    while let Ok(Some((number, wire))) = reader.field() {
        if let (true, Wire::Bytes(bytes)) = (number == wanted, wire) {
            return Some(message.slice_ref(bytes));
        }
    }
    None
}
