//! A byte stream inside binary WebSocket messages: what port-forward over WebSocket speaks SPDY through.
//!
//! Contract: the boundaries of messages mean nothing, each write leaves as one message, pings are answered, a
//! close frame is the end of the stream and is answered with ours. Reading may queue a pong that the next
//! write or flush sends; so both halves must be polled by one task, as a session does. Rule: behaviour row K-09.

use super::frame::{CLOSE_NORMAL, Decoder, Piece, encode_binary, encode_close, encode_pong};
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const READ_BYTES: usize = 64 * 1024;
/// Longest payload of one message we send; kubectl reads messages of any length.
const WRITE_BYTES: usize = 64 * 1024;
/// Bytes of pongs that may wait: a client that pings on and reads nothing is given up.
const PONG_BYTES_MAX: usize = 64 * 1024;

pub(crate) struct Tunnel<T> {
    socket: T,
    decoder: Decoder,
    input: BytesMut,
    /// Payload that did not fit the reader's buffer.
    ready: Bytes,
    ended: bool,
    output: BytesMut,
    closing: bool,
    /// The last word of the tunnel: our code, or the client's.
    close_code: u16,
}

impl<T> Tunnel<T> {
    pub fn new(socket: T) -> Tunnel<T> {
        Tunnel {
            socket,
            decoder: Decoder::default(),
            input: BytesMut::new(),
            ready: Bytes::new(),
            ended: false,
            output: BytesMut::new(),
            closing: false,
            close_code: CLOSE_NORMAL,
        }
    }

    /// Takes what the bytes read so far mean. True when there is payload or the end.
    fn decode(&mut self) -> io::Result<bool> {
        loop {
            if self.ended || !self.ready.is_empty() {
                return Ok(true);
            }
            match self.decoder.next(&mut self.input) {
                Ok(Some(Piece::Data { bytes, .. })) => self.ready = bytes,
                Ok(Some(Piece::Ping(payload))) if self.output.len() < PONG_BYTES_MAX => {
                    encode_pong(&mut self.output, &payload);
                }
                Ok(Some(Piece::Ping(_))) => {
                    return Err(io::Error::other("the peer does not read its replies"));
                }
                Ok(Some(Piece::Pong)) => {}
                Ok(Some(Piece::Close(code))) => {
                    self.close_code = code;
                    self.ended = true;
                }
                Ok(None) => return Ok(false),
                Err(error) => {
                    self.close_code = error.code;
                    self.ended = true;
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> Tunnel<T> {
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let count = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.output))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tunnel<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let decoded = this.decode()?;
            // A pong leaves now if it can; else with the next write.
            if let Poll::Ready(Err(error)) = this.poll_output(cx) {
                return Poll::Ready(Err(error));
            }
            if decoded {
                let count = this.ready.len().min(buffer.remaining());
                buffer.put_slice(&this.ready.split_to(count));
                return Poll::Ready(Ok(()));
            }
            this.input.reserve(READ_BYTES);
            let room = this.input.spare_capacity_mut();
            let mut read = ReadBuf::uninit(room);
            ready!(Pin::new(&mut this.socket).poll_read(cx, &mut read))?;
            let filled = read.filled().to_vec();
            if filled.is_empty() {
                this.ended = true;
            }
            this.input.extend_from_slice(&filled);
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tunnel<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_output(cx))?;
        if this.closing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let payload = &bytes[..bytes.len().min(WRITE_BYTES)];
        encode_binary(&mut this.output, payload);
        // The frame is ours now; what the socket does not take at once goes with the next poll.
        if let Poll::Ready(Err(error)) = this.poll_output(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(payload.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_output(cx))?;
        Pin::new(&mut this.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.closing, true) {
            encode_close(&mut this.output, this.close_code);
        }
        ready!(this.poll_output(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}
