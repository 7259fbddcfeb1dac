//! What a caller holds of a connection: byte inputs, byte outputs, and terminal sizes.
//!
//! Contract: an [`Input`] ends (reads nothing) when the client closes that direction or is gone; dropping it
//! makes the connection discard what still comes. An [`Output`] waits while the client does not read, and closes
//! its direction when shut down or dropped. Neither blocks the other.

use crate::outbox::Outbox;
use crate::spdy::StreamState;
use crate::{spdy, websocket};
use bytes::BytesMut;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::watch;

/// Bytes of one input that wait for its reader before the connection stops reading.
pub(crate) const INPUT_BYTES: usize = 128 * 1024;
/// Most payload bytes of one output frame: small enough that outputs interleave, and what kubectl reads at once.
pub(crate) const OUTPUT_FRAME_BYTES: usize = 32 * 1024;

/// A direction from the client: stdin, or the data of a forwarded connection.
pub struct Input {
    pipe: DuplexStream,
    /// The unused direction of stdin's SPDY stream: kubectl stops sending once the server closes it.
    _opposite: Option<Output>,
}

/// The connection's end of an [`Input`]; dropping it ends the input.
pub(crate) type InputSink = DuplexStream;

impl Input {
    pub(crate) fn new() -> (InputSink, Input) {
        let (sink, input) = tokio::io::duplex(INPUT_BYTES);
        let input = Input { pipe: input, _opposite: None };
        (sink, input)
    }

    pub(crate) fn holding(self, opposite: Output) -> Input {
        Input { _opposite: Some(opposite), ..self }
    }
}

impl AsyncRead for Input {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buffer)
    }
}

/// How an output's bytes are put into frames.
pub(crate) enum Framing {
    WebSocket { channel: u8, base64: bool },
    Spdy(Arc<StreamState>),
}

/// A direction to the client: stdout, stderr, or the data of a forwarded connection.
pub struct Output {
    outbox: Arc<Outbox>,
    framing: Framing,
    closed: bool,
}

impl Output {
    pub(crate) fn new(outbox: Arc<Outbox>, framing: Framing) -> Output {
        Output { outbox, framing, closed: false }
    }

    /// Says that nothing follows. WebSocket channels have no such frame from a server.
    fn close(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        match &self.framing {
            Framing::WebSocket { .. } => Ok(()),
            Framing::Spdy(stream) if stream.close_local() => {
                self.outbox.push_end(|out| spdy::encode_data(out, stream.id, &[], true))
            }
            Framing::Spdy(_) => Ok(()),
        }
    }
}

impl Framing {
    fn encode(&self, out: &mut BytesMut, payload: &[u8]) {
        match self {
            Framing::WebSocket { channel, base64 } => websocket::encode_channel(out, *channel, payload, *base64),
            Framing::Spdy(stream) => spdy::encode_data(out, stream.id, payload, false),
        }
    }

    fn is_reset(&self) -> bool {
        matches!(self, Framing::Spdy(stream) if stream.is_local_closed())
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.closed || self.framing.is_reset() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let payload = &bytes[..bytes.len().min(OUTPUT_FRAME_BYTES)];
        if payload.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let framing = &self.framing;
        ready!(self.outbox.poll_push(cx, |out| framing.encode(out, payload)))?;
        Poll::Ready(Ok(payload.len()))
    }

    /// Nothing to do: what was written leaves without being asked.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.close())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // A connection that is gone needs no closing frame.
        let _ = self.close();
    }
}

/// Both directions of a forwarded connection, as `tokio::io::copy_bidirectional` wants them.
pub struct Duplex {
    pub input: Input,
    pub output: Output,
}

impl AsyncRead for Duplex {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.output).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_shutdown(cx)
    }
}

/// The size of the client's terminal, in character cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// The sizes the client's terminal takes; only the newest one is kept.
#[derive(Debug)]
pub struct Resizes(watch::Receiver<TerminalSize>);

pub(crate) type ResizeSink = watch::Sender<TerminalSize>;

impl Resizes {
    pub(crate) fn new() -> (ResizeSink, Resizes) {
        let (sink, receiver) = watch::channel(TerminalSize::default());
        (sink, Resizes(receiver))
    }

    /// The next size; `None` once the client is gone.
    pub async fn next(&mut self) -> Option<TerminalSize> {
        self.0.changed().await.ok()?;
        Some(*self.0.borrow_and_update())
    }
}

impl TerminalSize {
    /// Reads `{"Width":80,"Height":24}` as Go does: names in any case, a missing one is 0, others ignored.
    pub(crate) fn parse(text: &[u8]) -> Option<TerminalSize> {
        let value: serde_json::Value = serde_json::from_slice(text).ok()?;
        let field = |wanted: &str| match value.as_object()?.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)) {
            Some((_, number)) => u16::try_from(number.as_u64()?).ok(),
            None => Some(0),
        };
        Some(TerminalSize { width: field("width")?, height: field("height")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_size_is_read_as_go_reads_it() {
        let read = |text: &str| TerminalSize::parse(text.as_bytes()).map(|s| (s.width, s.height));
        assert_eq!(read(r#"{"Width":80,"Height":24}"#), Some((80, 24)));
        assert_eq!(read(r#"{"width":80,"x":[]}"#), Some((80, 0)));
        assert_eq!(read(r#"{"Width":65536,"Height":24}"#), None);
        assert_eq!(read(r#"[80,24]"#), None);
        assert_eq!(read("\u{1}"), None);
    }
}
