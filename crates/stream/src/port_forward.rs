//! Port-forward: pairs of a data and an error stream, one pair for each connection the client takes.
//!
//! Contract: [`PortForward::next`] yields a connection once both its streams are open; the caller connects to the
//! port and moves bytes both ways. A message on the error stream makes kubectl report it. A pair that stays
//! incomplete for [`Options::stream_creation_timeout`] is told so and dropped. Clients that speak channels name their ports in
//! the request and have one connection for each. Rule: behaviour row K-09.

use crate::channel::{Duplex, Framing, Input, Output};
use crate::handshake::PortForwardProtocol;
use crate::outbox::Outbox;
use crate::session::{ClientGone, Options, Session};
use crate::spdy::{self, SpdyStream};
use crate::websocket::{self, Channels, Tunnel};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

const DATA: &str = "data";
const ERROR: &str = "error";
/// As many as one byte can name pairs of channels for.
const PORTS_MAX: usize = 128;

/// A session of port-forward.
pub struct PortForward {
    streams: Streams,
    session: Option<Session>,
}

/// Where connections come from.
enum Streams {
    /// The client opens pairs of streams, as many as it likes.
    Spdy { receiver: mpsc::Receiver<SpdyStream>, waiting: BTreeMap<String, Half>, pair_timeout: Duration },
    /// One connection for each port that the request named.
    Channels { ready: VecDeque<ForwardedConnection>, alive: mpsc::Receiver<()> },
}

/// One stream of a pair, until the other comes.
struct Half {
    stream: SpdyStream,
    expires: Instant,
}

/// A connection that the client forwards.
pub struct ForwardedConnection {
    pub port: u16,
    pub stream: Duplex,
    pub error: PortForwardError,
    /// Whether the client can be told that the pod sends no more, and goes on sending itself. Else the connection is over then.
    pub half_closes: bool,
    /// Dropped with the connection: a session of channels ends with its last one.
    _alive: Option<mpsc::Sender<()>>,
}

/// Where to say why a connection failed. Dropped in silence, all went well.
pub struct PortForwardError(Output);

impl PortForwardError {
    /// Reports the failure, as "error forwarding port PORT to pod POD, uid UID: …" in Kubernetes.
    pub async fn report(mut self, message: &str) {
        // If the client is gone there is nobody to tell.
        let _ = self.0.write_all(message.as_bytes()).await;
        let _ = self.0.shutdown().await;
    }
}

impl PortForward {
    /// Serves an upgraded connection. `ports` are those of the request; only clients that speak channels name them there.
    pub fn start<T>(socket: T, protocol: PortForwardProtocol, ports: &[u16], options: &Options) -> PortForward
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let accept: spdy::Accept = |headers| port_of(headers).is_some() && kind_of(headers).is_some();
        let (session, receiver) = match protocol {
            PortForwardProtocol::Spdy => spdy::start_spdy(socket, accept, options),
            PortForwardProtocol::SpdyInWebSocket => spdy::start_spdy(Tunnel::new(socket), accept, options),
            PortForwardProtocol::WebSocket { base64 } => return over_channels(socket, base64, ports, options),
        };
        let pair_timeout = options.stream_creation_timeout;
        PortForward {
            streams: Streams::Spdy { receiver, waiting: BTreeMap::new(), pair_timeout },
            session: Some(session),
        }
    }

    /// Tells when the client is gone.
    pub fn client_gone(&self) -> Option<ClientGone> {
        self.session.as_ref().map(Session::client_gone)
    }

    /// The next connection; `None` once the client is gone, or has all it asked for and all of that is over.
    pub async fn next(&mut self) -> Option<ForwardedConnection> {
        match &mut self.streams {
            Streams::Spdy { receiver, waiting, pair_timeout } => next_pair(receiver, waiting, *pair_timeout).await,
            Streams::Channels { ready, alive } => {
                if let Some(connection) = ready.pop_front() {
                    return Some(connection);
                }
                let session = self.session.take()?;
                let mut gone = session.client_gone();
                tokio::select! {
                    _ = alive.recv() => {
                        session.outbox.seal(websocket::encode_normal_close);
                        session.ended().await;
                    }
                    () = gone.wait() => {}
                }
                None
            }
        }
    }
}

/// Channel 2n is the data of the n-th port, 2n+1 its errors; the first message on each tells the port, low byte first.
fn over_channels<T>(socket: T, base64: bool, ports: &[u16], options: &Options) -> PortForward
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let outbox = Arc::new(Outbox::default());
    let output = |channel| Output::new(Arc::clone(&outbox), Framing::WebSocket { channel, base64 });
    let (is_alive, alive) = mpsc::channel(1);
    let (mut inputs, mut ready) = (BTreeMap::new(), VecDeque::new());
    for (data, port) in (0..=u8::MAX).step_by(2).zip(ports.iter().copied().take(PORTS_MAX)) {
        let (sink, input) = Input::new();
        inputs.insert(data, sink);
        for channel in [data, data + 1] {
            // A fresh outbox takes the first messages.
            let _ = outbox.push_now(|out| websocket::encode_channel(out, channel, &port.to_le_bytes(), base64));
        }
        ready.push_back(ForwardedConnection {
            port,
            stream: Duplex { input, output: output(data) },
            error: PortForwardError(output(data + 1)),
            half_closes: false,
            _alive: Some(is_alive.clone()),
        });
    }
    let channels = Channels { inputs, resize: None, close_signal: false, base64 };
    let session = websocket::start_channels(socket, outbox, channels, options);
    PortForward { streams: Streams::Channels { ready, alive }, session: Some(session) }
}

async fn next_pair(
    receiver: &mut mpsc::Receiver<SpdyStream>,
    waiting: &mut BTreeMap<String, Half>,
    pair_timeout: Duration,
) -> Option<ForwardedConnection> {
    loop {
        let first_to_expire = waiting.values().map(|half| half.expires).min();
        let expiry = async {
            match first_to_expire {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            stream = receiver.recv() => {
                if let Some(pair) = pair(waiting, pair_timeout, stream?) {
                    return Some(pair);
                }
            }
            () = expiry => expire(waiting, Instant::now()).await,
        }
    }
}

fn pair(
    waiting: &mut BTreeMap<String, Half>,
    pair_timeout: Duration,
    stream: SpdyStream,
) -> Option<ForwardedConnection> {
    let request = request_of(&stream);
    let Some(half) = waiting.remove(&request) else {
        let expires = Instant::now() + pair_timeout;
        waiting.insert(request, Half { stream, expires });
        return None;
    };
    let (data, error) = match (kind_of(&half.stream.headers), kind_of(&stream.headers)) {
        (Some(DATA), Some(ERROR)) => (half.stream, stream),
        (Some(ERROR), Some(DATA)) => (stream, half.stream),
        // Two of a kind: the newer one is closed by dropping it.
        _ => {
            waiting.insert(request, half);
            return None;
        }
    };
    Some(ForwardedConnection {
        port: port_of(&data.headers)?,
        stream: Duplex { input: data.input, output: data.output },
        error: PortForwardError(error.output),
        half_closes: true,
        _alive: None,
    })
}

async fn expire(waiting: &mut BTreeMap<String, Half>, now: Instant) {
    let expired: Vec<String> =
        waiting.iter().filter(|(_, half)| half.expires <= now).map(|(request, _)| request.clone()).collect();
    for request in expired {
        let Some(half) = waiting.remove(&request) else {
            continue;
        };
        if kind_of(&half.stream.headers) == Some(ERROR) {
            let text = format!("(request={request}) timed out waiting for streams");
            PortForwardError(half.stream.output).report(&text).await;
        }
    }
}

fn port_of(headers: &spdy::Headers) -> Option<u16> {
    headers.get("port")?.parse().ok().filter(|port| *port > 0)
}

fn kind_of(headers: &spdy::Headers) -> Option<&'static str> {
    match headers.get("streamtype")?.as_str() {
        DATA => Some(DATA),
        ERROR => Some(ERROR),
        _ => None,
    }
}

/// What makes two streams a pair. Clients from before request ids open the error stream, then the data stream.
fn request_of(stream: &SpdyStream) -> String {
    match stream.headers.get("requestid").filter(|id| !id.is_empty()) {
        Some(id) => id.clone(),
        None if kind_of(&stream.headers) == Some(DATA) => stream.id.saturating_sub(2).to_string(),
        None => stream.id.to_string(),
    }
}
