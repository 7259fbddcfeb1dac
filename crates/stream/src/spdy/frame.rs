//! SPDY/3.1 frames: bytes in, frames out, and frames to bytes.
//!
//! Contract: no I/O. The payload of a data frame is handed on as it arrives; a control frame is taken whole and
//! is at most [`CONTROL_FRAME_BYTES_MAX`] long. Rule: SPDY/3.1 draft, section 2.

use super::error::FrameError;
use super::headers::{Headers, Inflater};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Longest control frame taken; the longest a client needs opens a stream with three short headers.
pub(crate) const CONTROL_FRAME_BYTES_MAX: usize = 32 * 1024;

const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GO_AWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

const FLAG_FIN: u8 = 1;
const FLAG_UNIDIRECTIONAL: u8 = 2;

pub(crate) const RST_PROTOCOL_ERROR: u32 = 1;
pub(crate) const RST_INVALID_STREAM: u32 = 2;
pub(crate) const RST_REFUSED_STREAM: u32 = 3;

pub(crate) const GO_AWAY_OK: u32 = 0;
pub(crate) const GO_AWAY_PROTOCOL_ERROR: u32 = 1;

#[derive(Debug, PartialEq)]
pub(crate) enum Frame {
    SynStream {
        id: u32,
        headers: Headers,
        fin: bool,
        unidirectional: bool,
    },
    SynReply {
        id: u32,
        fin: bool,
    },
    Rst {
        id: u32,
    },
    Headers {
        id: u32,
        fin: bool,
    },
    /// Bytes of a stream, perhaps part of a frame; `fin` comes with the last part.
    Data {
        id: u32,
        bytes: Bytes,
        fin: bool,
    },
    Ping(u32),
    GoAway,
    /// SETTINGS, WINDOW_UPDATE and types we do not know.
    Ignored,
}

/// Reads frames out of a growing buffer.
#[derive(Default)]
pub(crate) struct Decoder {
    inflater: Inflater,
    data: Option<DataFrame>,
}

struct DataFrame {
    id: u32,
    remaining: usize,
    fin: bool,
}

impl Decoder {
    /// Takes the next frame from the front of `input`; `None` when more bytes are needed.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        if let Some(data) = self.data.take() {
            return Ok(self.data_part(data, input));
        }
        let Some((head, _)) = input.split_first_chunk::<8>() else {
            return Ok(None);
        };
        let (first, second) = (word(head, 0), word(head, 4));
        let (flags, length) = ((second >> 24) as u8, (second & 0x00FF_FFFF) as usize);
        if first & 0x8000_0000 == 0 {
            if first == 0 {
                return Err(FrameError("stream id zero is disallowed"));
            }
            input.advance(8);
            let data = DataFrame { id: first, remaining: length, fin: flags & FLAG_FIN != 0 };
            return Ok(self.data_part(data, input));
        }
        if (first >> 16) as u16 & 0x7FFF != VERSION {
            return Err(FrameError("unsupported SPDY version"));
        }
        if length > CONTROL_FRAME_BYTES_MAX {
            return Err(FrameError("control frame is too long"));
        }
        if input.len() < 8 + length {
            return Ok(None);
        }
        input.advance(8);
        let body = input.split_to(length);
        self.control(first as u16, flags, &body).map(Some)
    }

    fn data_part(&mut self, mut data: DataFrame, input: &mut BytesMut) -> Option<Frame> {
        if data.remaining > 0 && input.is_empty() {
            self.data = Some(data);
            return None;
        }
        let take = data.remaining.min(input.len());
        data.remaining -= take;
        let frame =
            Frame::Data { id: data.id, bytes: input.split_to(take).freeze(), fin: data.fin && data.remaining == 0 };
        if data.remaining > 0 {
            self.data = Some(data);
        }
        Some(frame)
    }

    fn control(&mut self, kind: u16, flags: u8, body: &[u8]) -> Result<Frame, FrameError> {
        let fin = flags & FLAG_FIN != 0;
        match kind {
            SYN_STREAM => {
                let (fixed, block) = fixed::<10>(body)?;
                Ok(Frame::SynStream {
                    id: stream_id(fixed)?,
                    headers: self.inflater.headers(block)?,
                    fin,
                    unidirectional: flags & FLAG_UNIDIRECTIONAL != 0,
                })
            }
            SYN_REPLY | HEADERS => {
                let (fixed, block) = fixed::<4>(body)?;
                let id = stream_id(fixed)?;
                // The headers say nothing to us, but the compression's state must follow.
                self.inflater.headers(block)?;
                Ok(match kind {
                    SYN_REPLY => Frame::SynReply { id, fin },
                    _ => Frame::Headers { id, fin },
                })
            }
            RST_STREAM => Ok(Frame::Rst { id: stream_id(fixed::<8>(body)?.0)? }),
            PING => Ok(Frame::Ping(word(fixed::<4>(body)?.0, 0))),
            GO_AWAY => fixed::<8>(body).map(|_| Frame::GoAway),
            WINDOW_UPDATE => fixed::<8>(body).map(|_| Frame::Ignored),
            SETTINGS => fixed::<4>(body).map(|_| Frame::Ignored),
            _ => Ok(Frame::Ignored),
        }
    }
}

fn fixed<const N: usize>(body: &[u8]) -> Result<(&[u8; N], &[u8]), FrameError> {
    body.split_first_chunk::<N>().ok_or(FrameError("invalid control frame"))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let take = |i: usize| bytes.get(at + i).copied().unwrap_or(0);
    u32::from_be_bytes([take(0), take(1), take(2), take(3)])
}

fn stream_id(fixed: &[u8]) -> Result<u32, FrameError> {
    match word(fixed, 0) & 0x7FFF_FFFF {
        0 => Err(FrameError("stream id zero is disallowed")),
        id => Ok(id),
    }
}

fn encode_control(out: &mut BytesMut, kind: u16, flags: u8, length: usize) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    out.put_u32(u32::from(flags) << 24 | length as u32);
}

/// `payload` must be shorter than 16 MiB; outputs cut theirs far below.
pub(crate) fn encode_data(out: &mut BytesMut, id: u32, payload: &[u8], fin: bool) {
    out.put_u32(id);
    out.put_u32(u32::from(fin) << 24 | payload.len() as u32);
    out.put_slice(payload);
}

pub(crate) fn encode_syn_reply(out: &mut BytesMut, id: u32, block: &[u8]) {
    encode_control(out, SYN_REPLY, 0, 4 + block.len());
    out.put_u32(id);
    out.put_slice(block);
}

pub(crate) fn encode_rst(out: &mut BytesMut, id: u32, status: u32) {
    encode_control(out, RST_STREAM, 0, 8);
    out.put_u32(id);
    out.put_u32(status);
}

pub(crate) fn encode_ping(out: &mut BytesMut, id: u32) {
    encode_control(out, PING, 0, 4);
    out.put_u32(id);
}

pub(crate) fn encode_go_away(out: &mut BytesMut, last_stream: u32, status: u32) {
    encode_control(out, GO_AWAY, 0, 8);
    out.put_u32(last_stream);
    out.put_u32(status);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::session::tests::Random;
    use crate::spdy::headers::Deflater;
    use expect_test::expect;

    /// What a client sends to open a stream.
    pub(crate) fn syn_stream(deflater: &mut Deflater, id: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let block = deflater.block(headers);
        let mut out = BytesMut::new();
        encode_control(&mut out, SYN_STREAM, 0, 10 + block.len());
        out.put_u32(id);
        out.put_u32(0);
        out.put_u16(0);
        out.put_slice(&block);
        out.to_vec()
    }

    pub(crate) fn data(id: u32, payload: &[u8], fin: bool) -> Vec<u8> {
        let mut out = BytesMut::new();
        encode_data(&mut out, id, payload, fin);
        out.to_vec()
    }

    fn decode(bytes: &[u8], step: usize) -> String {
        let (mut decoder, mut input, mut text) = (Decoder::default(), BytesMut::new(), String::new());
        for chunk in bytes.chunks(step) {
            input.extend_from_slice(chunk);
            loop {
                match decoder.next(&mut input) {
                    Ok(Some(frame)) => text += &format!("{frame:?}\n"),
                    Ok(None) => break,
                    Err(error) => return text + &format!("error: {error}\n"),
                }
            }
        }
        text
    }

    fn sample() -> Vec<u8> {
        let mut deflater = Deflater::default();
        let mut bytes = syn_stream(&mut deflater, 1, &[("streamtype", "error")]);
        bytes.extend(syn_stream(&mut deflater, 3, &[("streamtype", "data"), ("port", "80")]));
        bytes.extend(data(3, b"hi", false));
        bytes.extend(data(3, b"", true));
        let mut out = BytesMut::new();
        encode_ping(&mut out, 1);
        encode_rst(&mut out, 1, RST_REFUSED_STREAM);
        encode_control(&mut out, WINDOW_UPDATE, 0, 8);
        out.put_u64(0);
        encode_control(&mut out, 77, 0, 1);
        out.put_u8(0);
        encode_go_away(&mut out, 3, GO_AWAY_OK);
        bytes.extend(out);
        bytes
    }

    #[test]
    fn frames_of_every_kind() {
        expect![[r#"
            SynStream { id: 1, headers: {"streamtype": "error"}, fin: false, unidirectional: false }
            SynStream { id: 3, headers: {"port": "80", "streamtype": "data"}, fin: false, unidirectional: false }
            Data { id: 3, bytes: b"hi", fin: false }
            Data { id: 3, bytes: b"", fin: true }
            Ping(1)
            Rst { id: 1 }
            Ignored
            Ignored
            GoAway
        "#]]
        .assert_eq(&decode(&sample(), usize::MAX));
    }

    #[test]
    fn bytes_that_come_one_by_one_give_the_same_frames() {
        let parts = decode(&sample(), 1).replace(
            "Data { id: 3, bytes: b\"h\", fin: false }\nData { id: 3, bytes: b\"i\", fin: false }",
            "Data { id: 3, bytes: b\"hi\", fin: false }",
        );
        assert_eq!(parts, decode(&sample(), usize::MAX));
    }

    #[test]
    fn bad_frames_are_errors() {
        for (bytes, expected) in [
            (&[0, 0, 0, 0, 0, 0, 0, 0][..], "error: stream id zero is disallowed\n"),
            (&[0x80, 2, 0, 6, 0, 0, 0, 4], "error: unsupported SPDY version\n"),
            (&[0x80, 3, 0, 6, 0, 0, 0, 0], "error: invalid control frame\n"),
            (&[0x80, 3, 0, 1, 0, 1, 0, 0], "error: control frame is too long\n"),
            (&[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1], "error: stream id zero is disallowed\n"),
        ] {
            assert_eq!(decode(bytes, 99), expected);
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = Random(11);
        let good = sample();
        for _ in 0..5_000 {
            let mut bytes = good.clone();
            for _ in 0..1 + random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] = random.below(256) as u8;
            }
            decode(&bytes, 1 + random.below(50));
            let noise: Vec<u8> = (0..random.below(60)).map(|_| random.below(256) as u8).collect();
            decode(&noise, 9);
        }
    }
}
