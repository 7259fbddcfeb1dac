//! Header blocks: names and values, compressed over the life of a connection.
//!
//! Contract: one [`Inflater`] sees every header block of the peer in order, one [`Deflater`] makes every block of
//! ours; either fails for good once a block is bad, because the state is shared. A block never grows beyond
//! [`HEADER_BLOCK_BYTES_MAX`]. Rule: SPDY/3 draft, section 2.6.10.

use super::dictionary::DICTIONARY;
use super::error::FrameError;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::collections::BTreeMap;

/// Longest header block once inflated: clients send three short headers a stream.
pub(crate) const HEADER_BLOCK_BYTES_MAX: usize = 64 * 1024;
/// What the first header block of a connection may add, zlib's own header included.
const DEFLATE_ROOM: usize = 256;

/// Header names (lower case) and values; several values are joined by a zero byte.
pub(crate) type Headers = BTreeMap<String, String>;

pub(crate) struct Inflater {
    zlib: Decompress,
    primed: bool,
}

impl Default for Inflater {
    fn default() -> Inflater {
        Inflater { zlib: Decompress::new(true), primed: false }
    }
}

impl Inflater {
    pub fn headers(&mut self, block: &[u8]) -> Result<Headers, FrameError> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, FrameError> {
        let mut out = Vec::with_capacity(1024);
        let mut rest = block;
        loop {
            let (taken, made) = (self.zlib.total_in(), self.zlib.total_out());
            let result = self.zlib.decompress_vec(rest, &mut out, FlushDecompress::Sync);
            rest = rest.get((self.zlib.total_in() - taken) as usize..).unwrap_or_default();
            match result {
                Ok(Status::StreamEnd) => return Err(FrameError("header compression ended")),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() && !self.primed => {
                    self.primed = true;
                    self.zlib
                        .set_dictionary(&DICTIONARY)
                        .map_err(|_| FrameError("unknown header compression dictionary"))?;
                    continue;
                }
                Err(_) => return Err(FrameError("bad header compression")),
            }
            if rest.is_empty() && out.len() < out.capacity() {
                return Ok(out);
            }
            if self.zlib.total_in() == taken && self.zlib.total_out() == made && out.len() < out.capacity() {
                return Err(FrameError("bad header compression"));
            }
            if out.len() >= HEADER_BLOCK_BYTES_MAX {
                return Err(FrameError("header block is too long"));
            }
            out.reserve(out.len());
        }
    }
}

pub(crate) struct Deflater(Compress);

impl Default for Deflater {
    fn default() -> Deflater {
        let mut zlib = Compress::new(Compression::best(), true);
        zlib.set_dictionary(&DICTIONARY).expect("a fresh deflater takes a dictionary");
        Deflater(zlib)
    }
}

impl Deflater {
    /// The compressed form of a header block with these names and values.
    pub fn block(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend((text.len() as u32).to_be_bytes());
            plain.extend(text.as_bytes());
        }
        let mut out = Vec::with_capacity(plain.len() + DEFLATE_ROOM);
        let mut rest = &plain[..];
        loop {
            let before = self.0.total_in();
            self.0
                .compress_vec(rest, &mut out, FlushCompress::Sync)
                .expect("deflate does not fail while its stream is open");
            rest = rest.get((self.0.total_in() - before) as usize..).unwrap_or_default();
            if rest.is_empty() && out.len() < out.capacity() {
                return out;
            }
            out.reserve(DEFLATE_ROOM);
        }
    }
}

fn parse(mut block: &[u8]) -> Result<Headers, FrameError> {
    let count = take_u32(&mut block)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = take_text(&mut block)?;
        let value = take_text(&mut block)?;
        if name.is_empty() || name.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(FrameError("header name is empty or not lower case"));
        }
        if headers.insert(name, value).is_some() {
            return Err(FrameError("multiple headers with same name"));
        }
    }
    if !block.is_empty() {
        return Err(FrameError("header block is longer than its headers"));
    }
    Ok(headers)
}

fn take_u32(block: &mut &[u8]) -> Result<u32, FrameError> {
    let (number, rest) = block.split_first_chunk::<4>().ok_or(FrameError("header block is cut short"))?;
    *block = rest;
    Ok(u32::from_be_bytes(*number))
}

fn take_text(block: &mut &[u8]) -> Result<String, FrameError> {
    let length = take_u32(block)? as usize;
    let (text, rest) = block.split_at_checked(length).ok_or(FrameError("header block is cut short"))?;
    *block = rest;
    String::from_utf8(text.to_vec()).map_err(|_| FrameError("header is not text"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::Random;

    #[test]
    fn the_dictionary_is_the_protocols() {
        assert_eq!(DICTIONARY.len(), 1423);
        // zlib names the dictionary by its Adler-32 in the stream's header.
        let block = Deflater::default().block(&[("streamtype", "error")]);
        assert_eq!(block[2..6], [0xE3, 0xC6, 0xA7, 0xC2]);
    }

    #[test]
    fn blocks_come_back_in_order_over_one_connection() {
        let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
        let long = "x".repeat(60_000);
        for value in ["error", "data", "", &long, "error"] {
            let block = deflater.block(&[("streamtype", value), ("port", "80")]);
            let headers = inflater.headers(&block).unwrap();
            assert_eq!(headers["streamtype"], value);
            assert_eq!(headers["port"], "80");
        }
    }

    #[test]
    fn bad_blocks_are_errors() {
        let inflate =
            |headers: &[(&str, &str)]| Inflater::default().headers(&Deflater::default().block(headers)).unwrap_err().0;
        assert_eq!(inflate(&[("Port", "1")]), "header name is empty or not lower case");
        assert_eq!(inflate(&[("a", "1"), ("a", "2")]), "multiple headers with same name");
        let bomb = "0".repeat(1 << 20);
        assert_eq!(inflate(&[("a", &bomb)]), "header block is too long");
        let mut foreign = Compress::new(Compression::fast(), true);
        foreign.set_dictionary(b"another dictionary").unwrap();
        let mut block = Vec::with_capacity(99);
        foreign.compress_vec(&[0; 4], &mut block, FlushCompress::Sync).unwrap();
        assert!(Inflater::default().headers(&block).is_err());
        assert_eq!(parse(&[0, 0, 0, 1]).unwrap_err().0, "header block is cut short");
        assert_eq!(parse(&[255, 255, 255, 255]).unwrap_err().0, "header block is cut short");
    }

    #[test]
    fn random_blocks_never_panic() {
        let mut random = Random(3);
        let good = Deflater::default().block(&[("streamtype", "error"), ("port", "80")]);
        for _ in 0..5_000 {
            let mut block = good.clone();
            let at = random.below(block.len());
            block[at] = random.below(256) as u8;
            block.truncate(1 + random.below(block.len()));
            let _ = Inflater::default().headers(&block);
        }
    }
}
