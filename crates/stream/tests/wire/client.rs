//! The client's side: frames made and read plainly, over an in-memory connection.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// Bytes under way in each direction of the in-memory connection.
pub const WIRE_BYTES: usize = 16 * 1024;

pub fn wire() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(WIRE_BYTES)
}

/// A client's WebSocket frame; `first` is the byte of FIN and opcode.
pub fn message(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0xA1, 0x00, 0xFF, 0x5C];
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// The next frame of the server: FIN and opcode, and the payload; `None` at the end of the connection.
pub async fn read_message(socket: &mut DuplexStream) -> Option<(u8, Vec<u8>)> {
    let first = socket.read_u8().await.ok()?;
    let length = match socket.read_u8().await.ok()? {
        126 => usize::from(socket.read_u16().await.ok()?),
        127 => socket.read_u64().await.ok()? as usize,
        short => usize::from(short),
    };
    let mut payload = vec![0; length];
    socket.read_exact(&mut payload).await.ok()?;
    Some((first, payload))
}

/// Everything the server says until it closes, one frame a line.
pub async fn transcript(socket: &mut DuplexStream) -> String {
    let mut text = String::new();
    while let Some((first, payload)) = read_message(socket).await {
        text += &format!("{first:02x} {}\n", payload.escape_ascii().to_string().replace("\\\"", "\""));
    }
    text
}

/// A SPDY client over any connection.
pub struct Spdy {
    pub socket: DuplexStream,
    deflate: Compress,
    inflate: Decompress,
}

#[derive(Debug, PartialEq)]
pub enum Said {
    Reply(u32),
    Rst(u32, u32),
    Ping(u32),
    GoAway(u32, u32),
    Data(u32, String, bool),
}

/// SPDY/3's dictionary, written out a second time; zlib refuses one that differs from the server's.
fn dictionary() -> Vec<u8> {
    let names = "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges \
        age allow authorization cache-control connection content-base content-encoding content-language content-length \
        content-location content-md5 content-range content-type date etag expect expires from host if-match \
        if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
        proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
        user-agent vary via warning www-authenticate method get status";
    let mut all: Vec<&str> = names.split_whitespace().collect();
    all.extend(["200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin"]);
    let mut bytes = Vec::new();
    for text in all {
        bytes.extend((text.len() as u32).to_be_bytes());
        bytes.extend(text.bytes());
    }
    bytes.extend(
        "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
         Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 \
         Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May \
         Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, \
         GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,\
         text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
            .bytes(),
    );
    bytes
}

pub fn control(kind: u16, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80, 3];
    frame.extend(kind.to_be_bytes());
    frame.extend((u32::from(flags) << 24 | body.len() as u32).to_be_bytes());
    frame.extend(body);
    frame
}

pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

pub fn data(id: u32, payload: &[u8], fin: bool) -> Vec<u8> {
    let mut frame = words(&[id, u32::from(fin) << 24 | payload.len() as u32]);
    frame.extend(payload);
    frame
}

impl Spdy {
    pub fn new(socket: DuplexStream) -> Spdy {
        let mut deflate = Compress::new(Compression::default(), true);
        deflate.set_dictionary(&dictionary()).unwrap();
        Spdy { socket, deflate, inflate: Decompress::new(true) }
    }

    /// The frame that opens a stream; to be sent in the order made.
    pub fn syn_stream(&mut self, id: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = words(&[headers.len() as u32]);
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend(words(&[text.len() as u32]));
            plain.extend(text.bytes());
        }
        let mut body = words(&[id, 0]);
        body.extend([0, 0]);
        body.reserve(plain.len() + 256);
        self.deflate.compress_vec(&plain, &mut body, FlushCompress::Sync).unwrap();
        control(1, 0, &body)
    }

    pub async fn open(&mut self, id: u32, headers: &[(&str, &str)]) {
        let frame = self.syn_stream(id, headers);
        self.send(&frame).await;
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    /// The server's next frame; `None` at the end of the connection.
    pub async fn hear(&mut self) -> Option<Said> {
        let first = self.socket.read_u32().await.ok()?;
        let second = self.socket.read_u32().await.ok()?;
        let mut body = vec![0; (second & 0x00FF_FFFF) as usize];
        self.socket.read_exact(&mut body).await.ok()?;
        if first & 0x8000_0000 == 0 {
            let text = String::from_utf8_lossy(&body).into_owned();
            return Some(Said::Data(first, text, second >> 24 == 1));
        }
        let word = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().unwrap());
        Some(match first & 0xFFFF {
            2 => {
                self.check_empty_block(&body[4..]);
                Said::Reply(word(0))
            }
            3 => Said::Rst(word(0), word(4)),
            6 => Said::Ping(word(0)),
            7 => Said::GoAway(word(0), word(4)),
            kind => panic!("unexpected frame {kind}"),
        })
    }

    fn check_empty_block(&mut self, block: &[u8]) {
        let mut plain = Vec::with_capacity(256);
        let mut rest = block;
        let before = self.inflate.total_in();
        if let Err(error) = self.inflate.decompress_vec(rest, &mut plain, FlushDecompress::Sync) {
            assert!(error.needs_dictionary().is_some(), "{error}");
            self.inflate.set_dictionary(&dictionary()).unwrap();
            rest = &rest[(self.inflate.total_in() - before) as usize..];
            self.inflate.decompress_vec(rest, &mut plain, FlushDecompress::Sync).unwrap();
        }
        assert_eq!(plain, [0, 0, 0, 0], "no headers");
    }
}
