//! Channels in WebSocket messages: `channel.k8s.io`, versions 1, 4 and 5, binary and base64.
//!
//! Contract: the first byte of a message names its channel (0 stdin, 4 resize, or the data of forwarded ports; 255 in version 5, followed by the
//! channel that the client closes); others are ignored. While stdin's reader is slow no more is read from the
//! socket, and the client is kept from giving us up by pongs it did not ask for (RFC 6455 section 5.5.3).

use super::frame::{CLOSE_NORMAL, Decoder, MESSAGE_BYTES_MAX, Piece, encode_close, encode_pong};
use crate::channel::{InputSink, ResizeSink, TerminalSize};
use crate::outbox::Outbox;
use crate::session::{BytesRead, Options, Session};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub(crate) const STDIN: u8 = 0;
pub(crate) const STDOUT: u8 = 1;
pub(crate) const STDERR: u8 = 2;
pub(crate) const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Version 5: the next byte names a channel the client has closed.
const CLOSE_SIGNAL: u8 = 255;

const READ_BYTES: usize = 64 * 1024;
/// Longest message on the resize channel.
const RESIZE_BYTES_MAX: usize = 1024;
/// kubectl gives up after a minute without a pong.
const UNSOLICITED_PONG_PERIOD: Duration = Duration::from_secs(10);

/// Where the client's channels lead.
pub(crate) struct Channels {
    /// By channel: stdin, or the data of forwarded ports.
    pub inputs: BTreeMap<u8, InputSink>,
    pub resize: Option<ResizeSink>,
    pub close_signal: bool,
    pub base64: bool,
}

/// Serves the channels of an upgraded socket.
pub(crate) fn start_channels<T>(socket: T, outbox: Arc<Outbox>, channels: Channels, options: &Options) -> Session
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let reader_outbox = Arc::clone(&outbox);
    Session::start(socket, outbox, options, |socket, count| async move {
        let mut reader = Reader { channels, outbox: reader_outbox, message: Message::Unnamed };
        let code = reader.read(socket, count).await;
        if let Some(code) = code {
            reader.outbox.seal(|out| encode_close(out, code));
        }
    })
}

struct Reader {
    channels: Channels,
    outbox: Arc<Outbox>,
    message: Message,
}

/// The message that is coming in.
enum Message {
    /// Its first byte has not come.
    Unnamed,
    Input(u8),
    /// Gathered whole, because it must be decoded: the channel and its bytes so far.
    Whole(u8, Vec<u8>),
    Ignored,
}

impl Reader {
    /// Reads to the end; the close code to answer, if the client can still hear one.
    async fn read(&mut self, mut socket: impl AsyncRead + Unpin, count: BytesRead) -> Option<u16> {
        let (mut decoder, mut input) = (Decoder::default(), BytesMut::new());
        loop {
            loop {
                match decoder.next(&mut input) {
                    Ok(Some(piece)) => {
                        if let Some(code) = self.accept(piece).await {
                            return Some(code);
                        }
                    }
                    Ok(None) => break,
                    Err(error) => return Some(error.code),
                }
            }
            input.reserve(READ_BYTES);
            match socket.read_buf(&mut input).await {
                Ok(0) | Err(_) => return None,
                Ok(bytes) => count.add(bytes),
            }
        }
    }

    async fn accept(&mut self, piece: Piece) -> Option<u16> {
        match piece {
            Piece::Data { start, bytes, end } => {
                if start {
                    self.message = Message::Unnamed;
                }
                self.data(&bytes).await;
                if end {
                    self.message_end().await;
                }
            }
            Piece::Ping(payload) => {
                // After our last word nothing can be answered; the client sees the close frame.
                let _ = self.outbox.push_now(|out| encode_pong(out, &payload));
            }
            Piece::Pong => {}
            Piece::Close(code) => return Some(code),
        }
        None
    }

    async fn data(&mut self, mut bytes: &[u8]) {
        if let (Message::Unnamed, [channel, rest @ ..]) = (&self.message, bytes) {
            self.message = self.named(*channel);
            bytes = rest;
        }
        match &mut self.message {
            Message::Input(channel) => {
                let channel = *channel;
                self.input(channel, bytes).await;
            }
            Message::Whole(channel, whole) => {
                let limit = match self.channels.inputs.contains_key(channel) {
                    true => MESSAGE_BYTES_MAX as usize,
                    false => RESIZE_BYTES_MAX,
                };
                if whole.len() + bytes.len() <= limit {
                    whole.extend_from_slice(bytes);
                } else {
                    self.message = Message::Ignored;
                }
            }
            Message::Unnamed | Message::Ignored => {}
        }
    }

    fn named(&self, byte: u8) -> Message {
        let base64 = self.channels.base64;
        let channel = if base64 { byte.wrapping_sub(b'0') } else { byte };
        let is_input = self.channels.inputs.contains_key(&channel);
        match channel {
            _ if is_input && !base64 => Message::Input(channel),
            _ if is_input => Message::Whole(channel, Vec::new()),
            RESIZE if self.channels.resize.is_some() => Message::Whole(channel, Vec::new()),
            CLOSE_SIGNAL if self.channels.close_signal => Message::Whole(channel, Vec::new()),
            _ => Message::Ignored,
        }
    }

    async fn message_end(&mut self) {
        let Message::Whole(channel, mut bytes) = std::mem::replace(&mut self.message, Message::Unnamed) else {
            return;
        };
        if self.channels.base64 {
            match STANDARD.decode(&bytes) {
                Ok(decoded) => bytes = decoded,
                Err(_) => return,
            }
        }
        match channel {
            _ if self.channels.inputs.contains_key(&channel) => self.input(channel, &bytes).await,
            RESIZE => {
                if let (Some(sink), Some(size)) = (&self.channels.resize, TerminalSize::parse(&bytes)) {
                    sink.send_replace(size);
                }
            }
            _ if bytes == [STDIN] => drop(self.channels.inputs.remove(&STDIN)),
            _ => {}
        }
    }

    /// Hands bytes to a channel's reader, however long it takes; they are dropped once it is gone.
    async fn input(&mut self, channel: u8, bytes: &[u8]) {
        let Some(input) = self.channels.inputs.get_mut(&channel) else {
            return;
        };
        let mut writing = std::pin::pin!(input.write_all(bytes));
        let written = loop {
            tokio::select! {
                biased;
                written = &mut writing => break written,
                () = tokio::time::sleep(UNSOLICITED_PONG_PERIOD) => {
                    let _ = self.outbox.push_now(|out| encode_pong(out, &[]));
                }
            }
        };
        if written.is_err() {
            self.channels.inputs.remove(&channel);
        }
    }
}

/// The last frame of a session that ended well.
pub(crate) fn encode_normal_close(out: &mut BytesMut) {
    encode_close(out, CLOSE_NORMAL);
}
