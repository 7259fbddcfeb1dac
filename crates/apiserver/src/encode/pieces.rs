//! Bytes gathered into few pieces: small objects are copied together, large ones stay shared.

use bytes::{Bytes, BytesMut};

/// Objects up to this size are copied into the list's buffer; larger ones are shared pieces of their own.
const COPIED_BYTES_MAX: usize = 16 << 10;
/// How large a buffer of copied objects grows before the next one begins.
const BUFFER_BYTES: usize = 256 << 10;

/// Bytes gathered into few pieces.
#[derive(Default)]
pub(crate) struct Pieces {
    done: Vec<Bytes>,
    buffer: BytesMut,
}

impl Pieces {
    pub(crate) fn copy(&mut self, bytes: &[u8]) {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.flush();
        }
        self.buffer.extend_from_slice(bytes);
    }

    pub(crate) fn push(&mut self, bytes: Bytes) {
        if bytes.len() <= COPIED_BYTES_MAX {
            return self.copy(&bytes);
        }
        self.flush();
        self.done.push(bytes);
    }

    fn flush(&mut self) {
        if !self.buffer.is_empty() {
            self.done.push(self.buffer.split().freeze());
        }
    }

    pub(crate) fn finish(mut self) -> Vec<Bytes> {
        self.flush();
        self.done
    }
}
