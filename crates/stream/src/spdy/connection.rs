//! One SPDY connection as its server: streams the client opens, pings, resets, and their ends.
//!
//! Contract: every acceptable stream is answered and handed over in order; one that [`Accept`] refuses, or that
//! comes when [`STREAMS_MAX`] are open, is reset. Kubernetes' clients neither send window updates nor heed
//! ours, so neither do we: back-pressure is that we stop reading the socket while an input's buffer is full,
//! and stop writing while the client does not read. Rule: behaviour rows K-07 and K-09.

use super::error::FrameError;
use super::frame::{
    Decoder, Frame, GO_AWAY_PROTOCOL_ERROR, RST_INVALID_STREAM, RST_PROTOCOL_ERROR, RST_REFUSED_STREAM, encode_go_away,
    encode_ping, encode_rst, encode_syn_reply,
};
use super::headers::{Deflater, Headers};
use super::state::StreamState;
use crate::channel::{Framing, Input, InputSink, Output};
use crate::outbox::Outbox;
use crate::session::{BytesRead, Options, Session};
use bytes::BytesMut;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// Streams open at once on one connection: two for each forwarded connection.
pub(crate) const STREAMS_MAX: usize = 2048;
/// Streams that wait to be taken before the connection stops reading.
const STREAMS_WAITING: usize = 16;
const READ_BYTES: usize = 64 * 1024;

/// Whether a stream with these headers is welcome.
pub(crate) type Accept = fn(&Headers) -> bool;

/// A stream the client opened.
pub(crate) struct SpdyStream {
    pub id: u32,
    pub headers: Headers,
    pub input: Input,
    pub output: Output,
}

/// Serves SPDY on a socket; the receiver yields the streams and ends when the client is gone.
pub(crate) fn start_spdy<T>(socket: T, accept: Accept, options: &Options) -> (Session, mpsc::Receiver<SpdyStream>)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let outbox = Arc::new(Outbox::default());
    let (sender, receiver) = mpsc::channel(STREAMS_WAITING);
    let mut reader = Reader {
        outbox: Arc::clone(&outbox),
        deflater: Deflater::default(),
        streams: BTreeMap::new(),
        last_stream: 0,
        going_away: false,
        accept,
        sender,
    };
    let session = Session::start(socket, outbox, options, |socket, count| async move {
        if reader.read(socket, count).await.is_err() {
            let last = reader.last_stream;
            reader.outbox.seal(|out| encode_go_away(out, last, GO_AWAY_PROTOCOL_ERROR));
        }
    });
    (session, receiver)
}

struct Reader {
    outbox: Arc<Outbox>,
    deflater: Deflater,
    streams: BTreeMap<u32, OpenStream>,
    last_stream: u32,
    going_away: bool,
    accept: Accept,
    sender: mpsc::Sender<SpdyStream>,
}

struct OpenStream {
    state: Arc<StreamState>,
    /// Gone once the client has closed its direction.
    sink: Option<InputSink>,
}

impl OpenStream {
    fn is_done(&self) -> bool {
        self.sink.is_none() && self.state.is_local_closed()
    }
}

impl Reader {
    /// Reads until the client closes the connection, or to the first thing it must not send.
    async fn read(&mut self, mut socket: impl AsyncRead + Unpin, count: BytesRead) -> Result<(), FrameError> {
        let (mut decoder, mut input) = (Decoder::default(), BytesMut::new());
        loop {
            while let Some(frame) = decoder.next(&mut input)? {
                self.accept_frame(frame).await?;
            }
            input.reserve(READ_BYTES);
            match socket.read_buf(&mut input).await {
                Ok(0) | Err(_) => return Ok(()),
                Ok(bytes) => count.add(bytes),
            }
        }
    }

    async fn accept_frame(&mut self, frame: Frame) -> Result<(), FrameError> {
        match frame {
            Frame::SynStream { id, headers, fin, unidirectional } => {
                self.open(id, headers, fin, unidirectional).await?
            }
            Frame::Data { id, bytes, fin } => {
                self.data(id, &bytes).await?;
                if fin {
                    self.remote_close(id);
                }
            }
            Frame::SynReply { id, fin } | Frame::Headers { id, fin } => {
                if fin {
                    self.remote_close(id);
                }
            }
            Frame::Rst { id } => {
                if let Some(stream) = self.streams.remove(&id) {
                    stream.state.close_local();
                }
            }
            // An even number answers a ping of ours, of which there are none.
            Frame::Ping(id) if id % 2 == 1 => self.reply(|out| encode_ping(out, id))?,
            Frame::Ping(_) | Frame::Ignored => {}
            Frame::GoAway => self.going_away = true,
        }
        Ok(())
    }

    async fn open(&mut self, id: u32, headers: Headers, fin: bool, unidirectional: bool) -> Result<(), FrameError> {
        if id.is_multiple_of(2) || id <= self.last_stream {
            return self.reply(|out| encode_rst(out, id, RST_PROTOCOL_ERROR));
        }
        self.last_stream = id;
        if self.streams.len() >= STREAMS_MAX {
            self.streams.retain(|_, stream| !stream.is_done());
        }
        let welcome = !self.going_away && (self.accept)(&headers);
        if !welcome || self.streams.len() >= STREAMS_MAX {
            return self.reply(|out| encode_rst(out, id, RST_REFUSED_STREAM));
        }
        let Ok(permit) = self.sender.clone().reserve_owned().await else {
            return self.reply(|out| encode_rst(out, id, RST_REFUSED_STREAM));
        };
        let block = self.deflater.block(&[]);
        self.reply(|out| encode_syn_reply(out, id, &block))?;
        let (sink, input) = Input::new();
        let state = Arc::new(StreamState::new(id, unidirectional));
        let stream = OpenStream { state: Arc::clone(&state), sink: (!fin).then_some(sink) };
        self.streams.insert(id, stream);
        permit.send(SpdyStream {
            id,
            headers,
            input,
            output: Output::new(Arc::clone(&self.outbox), Framing::Spdy(state)),
        });
        Ok(())
    }

    /// Hands bytes to a stream's reader, however long it takes; they are dropped once it is gone.
    async fn data(&mut self, id: u32, bytes: &[u8]) -> Result<(), FrameError> {
        let Some(stream) = self.streams.get_mut(&id) else {
            if id > self.last_stream {
                return self.reply(|out| encode_rst(out, id, RST_INVALID_STREAM));
            }
            return Ok(());
        };
        if let Some(sink) = &mut stream.sink {
            // The reader may be gone; the stream stays until the client closes it.
            let _ = sink.write_all(bytes).await;
        }
        Ok(())
    }

    fn remote_close(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.sink = None;
            if stream.is_done() {
                self.streams.remove(&id);
            }
        }
    }

    fn reply(&self, encode: impl FnOnce(&mut BytesMut)) -> Result<(), FrameError> {
        match self.outbox.push_now(encode) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(FrameError("the peer does not read its replies"))
            }
            // After our last word nothing needs an answer.
            _ => Ok(()),
        }
    }
}
