//! Exec and attach: stdin, stdout, stderr, the terminal's size, and how it ended; whatever the client speaks.
//!
//! Contract: everything written to the outputs before [`RemoteCommand::finish`] reaches the client before the
//! outcome does. Take the streams out, move bytes, then finish; dropping a `RemoteCommand` unfinished closes the
//! connection without an outcome. Rule: behaviour row K-07.

use crate::channel::{Framing, Input, Output, Resizes, TerminalSize};
use crate::handshake::RemoteCommandProtocol;
use crate::outbox::Outbox;
use crate::outcome::Outcome;
use crate::session::{ClientGone, Options, Session, StreamError};
use crate::spdy::{self, SpdyStream};
use crate::websocket::{self, Channels};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Longest run of bytes without a complete terminal size on a resize stream.
const RESIZE_BYTES_MAX: usize = 1024;

/// Which streams a request asks for (its query parameters).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

impl Streams {
    /// Checks what must hold before the upgrade; a terminal has no stderr of its own.
    pub fn checked(self) -> Result<Streams, StreamError> {
        let stderr = self.stderr && !self.tty;
        if !self.stdin && !self.stdout && !stderr {
            return Err(StreamError::NoStreams);
        }
        Ok(Streams { stderr, ..self })
    }
}

/// A session of exec or attach. The streams asked for are `Some`; take them out to use them.
pub struct RemoteCommand {
    pub stdin: Option<Input>,
    pub stdout: Option<Output>,
    pub stderr: Option<Output>,
    pub resizes: Option<Resizes>,
    error: Output,
    status_json: bool,
    last_word: LastWord,
    session: Session,
}

#[derive(Clone, Copy)]
enum LastWord {
    WebSocketClose,
    /// GOAWAY with the last stream taken.
    SpdyGoAway(u32),
}

impl RemoteCommand {
    /// Serves an upgraded connection. Over SPDY this waits for the client to open its streams.
    pub async fn start<T>(
        socket: T,
        protocol: RemoteCommandProtocol,
        streams: Streams,
        options: &Options,
    ) -> Result<RemoteCommand, StreamError>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let streams = streams.checked()?;
        match protocol {
            RemoteCommandProtocol::WebSocket { close_signal, status_json, base64 } => {
                let wire = WebSocketWire { close_signal, status_json, base64 };
                Ok(over_websocket(socket, wire, streams, options))
            }
            RemoteCommandProtocol::Spdy { status_json, resize } => {
                over_spdy(socket, status_json, resize, streams, options).await
            }
        }
    }

    /// Tells when the client is gone. A process it leaves behind is the caller's to keep or stop.
    pub fn client_gone(&self) -> ClientGone {
        self.session.client_gone()
    }

    /// Reports the outcome and closes the connection; returns when the client has it all, or is gone.
    pub async fn finish(mut self, outcome: &Outcome) -> Result<(), StreamError> {
        drop((self.stdin.take(), self.stdout.take(), self.stderr.take()));
        let text = outcome.bytes(self.status_json);
        self.error.write_all(&text).await.map_err(|_| StreamError::ClientGone)?;
        self.error.shutdown().await.map_err(|_| StreamError::ClientGone)?;
        let last_word = self.last_word;
        self.session.outbox.seal(|out| match last_word {
            LastWord::WebSocketClose => websocket::encode_normal_close(out),
            LastWord::SpdyGoAway(last) => spdy::encode_go_away(out, last, spdy::GO_AWAY_OK),
        });
        self.session.ended().await;
        Ok(())
    }
}

struct WebSocketWire {
    close_signal: bool,
    status_json: bool,
    base64: bool,
}

fn over_websocket<T>(socket: T, wire: WebSocketWire, streams: Streams, options: &Options) -> RemoteCommand
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let outbox = Arc::new(Outbox::default());
    let base64 = wire.base64;
    let output = |channel| Output::new(Arc::clone(&outbox), Framing::WebSocket { channel, base64 });
    let (stdin_sink, stdin) = streams.stdin.then(Input::new).unzip();
    let (resize_sink, resizes) = streams.tty.then(Resizes::new).unzip();
    let stdout = streams.stdout.then(|| output(websocket::STDOUT));
    let stderr = streams.stderr.then(|| output(websocket::STDERR));
    let error = output(websocket::ERROR);
    // An empty message on the lowest channel tells the client that the session stands.
    let greeting = match (streams.stdout, streams.stderr) {
        (true, _) => websocket::STDOUT,
        (_, true) => websocket::STDERR,
        _ => websocket::ERROR,
    };
    // A fresh outbox takes the first message.
    let _ = outbox.push_now(|out| websocket::encode_channel(out, greeting, &[], base64));
    let inputs = stdin_sink.into_iter().map(|sink| (websocket::STDIN, sink)).collect();
    let channels = Channels { inputs, resize: resize_sink, close_signal: wire.close_signal, base64 };
    let session = websocket::start_channels(socket, outbox, channels, options);
    RemoteCommand {
        stdin,
        stdout,
        stderr,
        resizes,
        error,
        status_json: wire.status_json,
        last_word: LastWord::WebSocketClose,
        session,
    }
}

/// The streams of a SPDY session as they come in, in any order.
#[derive(Default)]
struct Opened {
    error: Option<SpdyStream>,
    stdin: Option<SpdyStream>,
    stdout: Option<SpdyStream>,
    stderr: Option<SpdyStream>,
    resize: Option<SpdyStream>,
    last: u32,
}

impl Opened {
    fn place(&mut self, name: &str) -> Option<&mut Option<SpdyStream>> {
        Some(match name {
            "error" => &mut self.error,
            "stdin" => &mut self.stdin,
            "stdout" => &mut self.stdout,
            "stderr" => &mut self.stderr,
            "resize" => &mut self.resize,
            _ => return None,
        })
    }

    fn has_all(&self, streams: Streams, resize: bool) -> bool {
        self.error.is_some()
            && (self.stdin.is_some() || !streams.stdin)
            && (self.stdout.is_some() || !streams.stdout)
            && (self.stderr.is_some() || !streams.stderr)
            && (self.resize.is_some() || !(streams.tty && resize))
    }
}

async fn over_spdy<T>(
    socket: T,
    status_json: bool,
    resize: bool,
    streams: Streams,
    options: &Options,
) -> Result<RemoteCommand, StreamError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (session, receiver) = spdy::start_spdy(socket, is_remote_command_stream, options);
    let wait = options.stream_creation_timeout;
    let opened =
        timeout(wait, gather(receiver, streams, resize)).await.map_err(|_| StreamError::StreamsNotCreated)??;
    let error = opened.error.ok_or(StreamError::StreamsNotCreated)?;
    let input = |stream: Option<SpdyStream>| stream.map(|s| s.input.holding(s.output));
    let output = |stream: Option<SpdyStream>| stream.map(|s| s.output);
    Ok(RemoteCommand {
        stdin: input(opened.stdin),
        stdout: output(opened.stdout),
        stderr: output(opened.stderr),
        resizes: input(opened.resize).map(read_resizes),
        error: error.output,
        status_json,
        last_word: LastWord::SpdyGoAway(opened.last),
        session,
    })
}

async fn gather(
    mut receiver: mpsc::Receiver<SpdyStream>,
    streams: Streams,
    resize: bool,
) -> Result<Opened, StreamError> {
    let mut opened = Opened::default();
    while !opened.has_all(streams, resize) {
        let stream = receiver.recv().await.ok_or(StreamError::ClientGone)?;
        opened.last = stream.id;
        let name = stream.headers.get("streamtype").cloned().unwrap_or_default();
        match opened.place(&name) {
            Some(place @ None) => *place = Some(stream),
            Some(_) => return Err(StreamError::Protocol("duplicate stream type")),
            None => return Err(StreamError::Protocol("unexpected stream type")),
        }
    }
    Ok(opened)
}

fn is_remote_command_stream(headers: &spdy::Headers) -> bool {
    let name = headers.get("streamtype").map(String::as_str);
    name.is_some_and(|name| Opened::default().place(name).is_some())
}

/// A resize stream carries one JSON value after another, with no frame around them.
fn read_resizes(mut input: Input) -> Resizes {
    let (sink, resizes) = Resizes::new();
    tokio::spawn(async move {
        let mut text = Vec::new();
        while text.len() < RESIZE_BYTES_MAX {
            match input.read_buf(&mut text).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            while let Some(end) = text.iter().position(|byte| *byte == b'}') {
                let value: Vec<u8> = text.drain(..=end).collect();
                if let Some(size) = TerminalSize::parse(&value) {
                    sink.send_replace(size);
                }
            }
        }
    });
    resizes
}
