//! WebSocket frames: bytes in, pieces of messages out, and frames to bytes.
//!
//! Contract: no I/O. A payload is handed on as it arrives, so a frame of any allowed length costs no more
//! memory than the caller's read buffer. Whatever RFC 6455 forbids a client is an error with the close code to
//! answer. Rules: RFC 6455 sections 5.1 to 5.5 and 7.4.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Longest message taken from a client.
pub(crate) const MESSAGE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Longest payload of a control frame (RFC 6455 section 5.5).
const CONTROL_PAYLOAD_MAX: usize = 125;

pub(crate) const CLOSE_NORMAL: u16 = 1000;
pub(crate) const CLOSE_PROTOCOL: u16 = 1002;
pub(crate) const CLOSE_TOO_BIG: u16 = 1009;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// What the bytes of a client mean, in order.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece {
    /// Bytes of a message; `start` and `end` mark its first and last piece. Either may be empty.
    Data {
        start: bool,
        bytes: Bytes,
        end: bool,
    },
    Ping(Bytes),
    Pong,
    /// The client closes, with the code to answer.
    Close(u16),
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct FrameError {
    pub code: u16,
    pub reason: &'static str,
}

/// Reads frames out of a growing buffer.
#[derive(Default)]
pub(crate) struct Decoder {
    /// The data frame whose payload is coming in.
    payload: Option<Payload>,
    /// A message is open: its last frame has not come.
    in_message: bool,
    /// Payload bytes of the message so far, frames not yet complete included.
    message_bytes: u64,
}

struct Payload {
    remaining: u64,
    mask: [u8; 4],
    start: bool,
    last: bool,
}

struct Header {
    fin: bool,
    opcode: u8,
    length: u64,
    mask: [u8; 4],
    size: usize,
}

impl Decoder {
    /// Takes the next piece from the front of `input`; `None` when more bytes are needed.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, FrameError> {
        if let Some(payload) = self.payload.take() {
            return Ok(self.payload_piece(payload, input));
        }
        let Some(header) = parse_header(input)? else {
            return Ok(None);
        };
        if header.opcode >= CLOSE {
            return control(header, input);
        }
        self.check_data(&header)?;
        input.advance(header.size);
        let payload = Payload {
            remaining: header.length,
            mask: header.mask,
            start: header.opcode != CONTINUATION,
            last: header.fin,
        };
        Ok(self.payload_piece(payload, input))
    }

    fn check_data(&mut self, header: &Header) -> Result<(), FrameError> {
        let continuation = header.opcode == CONTINUATION;
        if continuation != self.in_message {
            return Err(protocol("unexpected continuation or new message"));
        }
        if !continuation {
            self.message_bytes = 0;
        }
        self.message_bytes = self.message_bytes.saturating_add(header.length);
        if self.message_bytes > MESSAGE_BYTES_MAX {
            return Err(FrameError { code: CLOSE_TOO_BIG, reason: "message too big" });
        }
        self.in_message = !header.fin;
        Ok(())
    }

    fn payload_piece(&mut self, mut payload: Payload, input: &mut BytesMut) -> Option<Piece> {
        if payload.remaining > 0 && input.is_empty() {
            self.payload = Some(payload);
            return None;
        }
        let take = usize::try_from(payload.remaining).unwrap_or(usize::MAX).min(input.len());
        let mut bytes = input.split_to(take);
        unmask(&mut bytes, payload.mask);
        payload.mask.rotate_left(take % 4);
        payload.remaining -= take as u64;
        let piece =
            Piece::Data { start: payload.start, bytes: bytes.freeze(), end: payload.last && payload.remaining == 0 };
        payload.start = false;
        if payload.remaining > 0 {
            self.payload = Some(payload);
        }
        Some(piece)
    }
}

fn parse_header(input: &BytesMut) -> Result<Option<Header>, FrameError> {
    let [first, second, rest @ ..] = &input[..] else {
        return Ok(None);
    };
    let (fin, opcode) = (first & 0x80 != 0, first & 0x0F);
    if first & 0x70 != 0 {
        return Err(protocol("reserved bits are set"));
    }
    if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
        return Err(protocol("unknown opcode"));
    }
    if second & 0x80 == 0 {
        return Err(protocol("frame is not masked"));
    }
    let (extra, length) = match second & 0x7F {
        126 => match rest.first_chunk::<2>() {
            Some(bytes) => (2, u64::from(u16::from_be_bytes(*bytes))),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(bytes) => (8, u64::from_be_bytes(*bytes)),
            None => return Ok(None),
        },
        short => (0, u64::from(short)),
    };
    if opcode >= CLOSE && (!fin || length > CONTROL_PAYLOAD_MAX as u64) {
        return Err(protocol("control frame is fragmented or too long"));
    }
    let Some(mask) = rest.get(extra..).and_then(|r| r.first_chunk::<4>()) else {
        return Ok(None);
    };
    Ok(Some(Header { fin, opcode, length, mask: *mask, size: 2 + extra + 4 }))
}

fn control(header: Header, input: &mut BytesMut) -> Result<Option<Piece>, FrameError> {
    // At most 125, checked with the header.
    let length = header.length as usize;
    if input.len() < header.size + length {
        return Ok(None);
    }
    input.advance(header.size);
    let mut payload = input.split_to(length);
    unmask(&mut payload, header.mask);
    Ok(Some(match header.opcode {
        PING => Piece::Ping(payload.freeze()),
        PONG => Piece::Pong,
        _ => Piece::Close(close_code(&payload)?),
    }))
}

fn close_code(payload: &[u8]) -> Result<u16, FrameError> {
    let code = match payload {
        [] => return Ok(CLOSE_NORMAL),
        [high, low, ..] => u16::from_be_bytes([*high, *low]),
        _ => return Err(protocol("close frame is too short")),
    };
    match code {
        1000..=1003 | 1007..=1014 | 3000..=4999 => Ok(code),
        _ => Err(protocol("invalid close code")),
    }
}

fn protocol(reason: &'static str) -> FrameError {
    FrameError { code: CLOSE_PROTOCOL, reason }
}

fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let (words, tail) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

fn encode_header(out: &mut BytesMut, opcode: u8, length: usize) {
    out.put_u8(0x80 | opcode);
    match length {
        0..126 => out.put_u8(length as u8),
        126..=0xFFFF => {
            out.put_u8(126);
            out.put_u16(length as u16);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(length as u64);
        }
    }
}

/// A message on a channel: the channel's number, then the bytes; or a digit, then base64.
pub(crate) fn encode_channel(out: &mut BytesMut, channel: u8, payload: &[u8], base64: bool) {
    if base64 {
        let text = STANDARD.encode(payload);
        encode_header(out, TEXT, 1 + text.len());
        out.put_u8(b'0' + channel);
        out.put_slice(text.as_bytes());
    } else {
        encode_header(out, BINARY, 1 + payload.len());
        out.put_u8(channel);
        out.put_slice(payload);
    }
}

pub(crate) fn encode_text(out: &mut BytesMut, payload: &[u8]) {
    encode_header(out, TEXT, payload.len());
    out.put_slice(payload);
}

pub(crate) fn encode_binary(out: &mut BytesMut, payload: &[u8]) {
    encode_header(out, BINARY, payload.len());
    out.put_slice(payload);
}

pub(crate) fn encode_pong(out: &mut BytesMut, payload: &[u8]) {
    encode_header(out, PONG, payload.len());
    out.put_slice(payload);
}

pub(crate) fn encode_close(out: &mut BytesMut, code: u16) {
    encode_header(out, CLOSE, 2);
    out.put_u16(code);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// A client's frame, masked.
    pub(crate) fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x37, 0xFA, 0x21, 0x3D];
        let mut out = BytesMut::new();
        encode_header(&mut out, 0, payload.len());
        out[0] = first;
        out[1] |= 0x80;
        out.put_slice(&mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
        out.to_vec()
    }

    fn decode(bytes: &[u8], step: usize) -> String {
        let (mut decoder, mut input, mut text) = (Decoder::default(), BytesMut::new(), String::new());
        for chunk in bytes.chunks(step) {
            input.extend_from_slice(chunk);
            loop {
                match decoder.next(&mut input) {
                    Ok(Some(piece)) => text += &format!("{piece:?}\n"),
                    Ok(None) => break,
                    Err(error) => return text + &format!("{} {error}\n", error.code),
                }
            }
        }
        text
    }

    fn check(frames: &[(u8, &[u8])], expected: Expect) {
        let bytes: Vec<u8> = frames.iter().flat_map(|(f, p)| client_frame(*f, p)).collect();
        expected.assert_eq(&decode(&bytes, usize::MAX));
    }

    #[test]
    fn messages_fragments_and_control_frames_between_them() {
        check(
            &[
                (0x82, b"\x00hello"),
                (0x01, b"fr"),
                (0x89, b"are you there"),
                (0x80, b"agment"),
                (0x82, b""),
                (0x8A, b"x"),
                (0x88, b"\x03\xe8bye"),
            ],
            expect![[r#"
                Data { start: true, bytes: b"\0hello", end: true }
                Data { start: true, bytes: b"fr", end: false }
                Ping(b"are you there")
                Data { start: false, bytes: b"agment", end: true }
                Data { start: true, bytes: b"", end: true }
                Pong
                Close(1000)
            "#]],
        );
    }

    #[test]
    fn what_the_rfc_forbids_is_refused() {
        for (first, payload, expected) in [
            (0xC2, &b""[..], expect!["1002 reserved bits are set\n"]),
            (0x83, b"", expect!["1002 unknown opcode\n"]),
            (0x80, b"x", expect!["1002 unexpected continuation or new message\n"]),
            (0x09, b"x", expect!["1002 control frame is fragmented or too long\n"]),
            (0x89, &[0; 126], expect!["1002 control frame is fragmented or too long\n"]),
            (0x88, b"\x03", expect!["1002 close frame is too short\n"]),
            (0x88, b"\x03\xed", expect!["1002 invalid close code\n"]),
        ] {
            check(&[(first, payload)], expected);
        }
        expect!["1002 frame is not masked\n"].assert_eq(&decode(&[0x82, 0x01, 0x00], 9));
        let too_big = [0x82, 0xFF, 0, 0, 0, 0, 2, 0, 0, 1, 1, 2, 3, 4];
        expect!["1009 message too big\n"].assert_eq(&decode(&too_big, 99));
    }

    #[test]
    fn the_split_of_the_bytes_does_not_matter() {
        for size in [0, 1, 125, 126, 127, 65535, 65536, 70000] {
            let payload: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let bytes = client_frame(0x82, &payload);
            for step in [1, 3, 1000, usize::MAX] {
                let (mut decoder, mut input, mut got) = (Decoder::default(), BytesMut::new(), Vec::new());
                let (mut started, mut ended) = (0, 0);
                for chunk in bytes.chunks(step) {
                    input.extend_from_slice(chunk);
                    while let Some(Piece::Data { start, bytes, end }) = decoder.next(&mut input).unwrap() {
                        started += usize::from(start);
                        ended += usize::from(end);
                        got.extend_from_slice(&bytes);
                    }
                }
                assert_eq!((started, ended), (1, 1), "size {size} step {step}");
                assert!(got == payload, "size {size} step {step}");
            }
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = crate::session::tests::Random(7);
        for _ in 0..20_000 {
            let length = random.below(40);
            let bytes: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
            decode(&bytes, 1 + random.below(7));
        }
    }
}
