//! Protobuf's own encoding: numbered fields of four wire types.

use super::error::DecodeError;

/// One field as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl Wire<'_> {
    pub fn kind(&self) -> u8 {
        match self {
            Wire::Varint(_) => 0,
            Wire::Fixed64(_) => 1,
            Wire::Bytes(_) => 2,
            Wire::Fixed32 => 5,
        }
    }
}

/// Reads a message field by field.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    pub rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// The next field, if there is one.
    pub fn field(&mut self) -> Result<Option<(u32, Wire<'a>)>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let kind = (tag & 7) as u8;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0);
        let number = number.ok_or(DecodeError::Tag(tag >> 3, kind))?;
        let wire = match kind {
            0 => Wire::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?.try_into().map_err(|_| DecodeError::End)?;
                Wire::Fixed64(u64::from_le_bytes(bytes))
            }
            2 => {
                let length = self.varint()?;
                Wire::Bytes(self.take(usize::try_from(length).map_err(|_| DecodeError::Overflow)?)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            _ => return Err(DecodeError::Tag(tag >> 3, kind)),
        };
        Ok(Some((number, wire)))
    }

    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for (index, byte) in self.rest.iter().enumerate() {
            // The tenth byte holds the last bit.
            if index == 9 && *byte > 1 {
                return Err(DecodeError::Overflow);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(DecodeError::End)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::End)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// A message in the making.
#[derive(Debug, Default)]
pub struct Writer {
    pub bytes: Vec<u8>,
}

/// A field of bytes that is not ended yet: where its bytes begin.
#[derive(Debug)]
pub struct Open(usize);

/// How many bytes a length takes.
pub(super) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

impl Writer {
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn tag(&mut self, number: u32, kind: u8) {
        self.varint(u64::from(number) << 3 | u64::from(kind));
    }

    pub fn number(&mut self, number: u32, value: u64) {
        self.tag(number, 0);
        self.varint(value);
    }

    pub fn double(&mut self, number: u32, value: f64) {
        self.tag(number, 1);
        self.bytes.extend_from_slice(&value.to_bits().to_le_bytes());
    }

    /// What stands before the bytes of a field.
    pub fn head(&mut self, number: u32, length: usize) {
        self.tag(number, 2);
        self.varint(length as u64);
    }

    pub fn slice(&mut self, number: u32, bytes: &[u8]) {
        self.head(number, bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// Begins a field of bytes; [`Writer::close`] puts its length before it.
    pub fn open(&mut self, number: u32) -> Open {
        self.tag(number, 2);
        // Most messages are shorter than 128 bytes: one byte of length.
        self.bytes.push(0);
        Open(self.bytes.len())
    }

    /// Ends the field that was opened last.
    pub fn close(&mut self, open: Open) {
        let Open(start) = open;
        let mut length = self.bytes.len() - start;
        if length < 0x80 {
            self.bytes[start - 1] = length as u8;
            return;
        }
        let mut prefix = [0u8; 10];
        let mut used = 0;
        while length >= 0x80 {
            prefix[used] = length as u8 | 0x80;
            length >>= 7;
            used += 1;
        }
        prefix[used] = length as u8;
        self.bytes.splice(start - 1..start, prefix[..=used].iter().copied());
    }

    /// A message within.
    pub fn nested(&mut self, number: u32, fill: impl FnOnce(&mut Writer)) {
        let open = self.open(number);
        fill(self);
        self.close(open);
    }
}
