//! Port-forward: pairs of a data and an error stream, one pair for each connection the client takes.
//!
//! Contract: [`PortForward::next`] yields a connection once both its streams are open; the caller connects to the
//! port and moves bytes both ways. A message on the error stream makes kubectl report it. A pair that stays
//! incomplete for [`Options::stream_creation_timeout`] is told so and dropped. Rule: behaviour row K-09.

use crate::channel::{Duplex, Output};
use crate::handshake::PortForwardProtocol;
use crate::session::{ClientGone, Options, Session};
use crate::spdy::{self, SpdyStream};
use crate::websocket::Tunnel;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

const DATA: &str = "data";
const ERROR: &str = "error";

/// A session of port-forward.
pub struct PortForward {
    streams: mpsc::Receiver<SpdyStream>,
    waiting: BTreeMap<String, Half>,
    pair_timeout: Duration,
    session: Session,
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
    /// Serves an upgraded connection.
    pub fn start<T>(socket: T, protocol: PortForwardProtocol, options: &Options) -> PortForward
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let accept: spdy::Accept = |headers| port_of(headers).is_some() && kind_of(headers).is_some();
        let (session, streams) = match protocol {
            PortForwardProtocol::Spdy => spdy::start_spdy(socket, accept, options),
            PortForwardProtocol::SpdyInWebSocket => spdy::start_spdy(Tunnel::new(socket), accept, options),
        };
        PortForward { streams, waiting: BTreeMap::new(), pair_timeout: options.stream_creation_timeout, session }
    }

    /// Tells when the client is gone.
    pub fn client_gone(&self) -> ClientGone {
        self.session.client_gone()
    }

    /// The next connection; `None` once the client is gone.
    pub async fn next(&mut self) -> Option<ForwardedConnection> {
        loop {
            let first_to_expire = self.waiting.values().map(|half| half.expires).min();
            let expiry = async {
                match first_to_expire {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                stream = self.streams.recv() => {
                    if let Some(pair) = self.pair(stream?) {
                        return Some(pair);
                    }
                }
                () = expiry => self.expire(Instant::now()).await,
            }
        }
    }

    fn pair(&mut self, stream: SpdyStream) -> Option<ForwardedConnection> {
        let request = request_of(&stream);
        let Some(half) = self.waiting.remove(&request) else {
            let expires = Instant::now() + self.pair_timeout;
            self.waiting.insert(request, Half { stream, expires });
            return None;
        };
        let (data, error) = match (kind_of(&half.stream.headers), kind_of(&stream.headers)) {
            (Some(DATA), Some(ERROR)) => (half.stream, stream),
            (Some(ERROR), Some(DATA)) => (stream, half.stream),
            // Two of a kind: the newer one is closed by dropping it.
            _ => {
                self.waiting.insert(request, half);
                return None;
            }
        };
        Some(ForwardedConnection {
            port: port_of(&data.headers)?,
            stream: Duplex { input: data.input, output: data.output },
            error: PortForwardError(error.output),
        })
    }

    async fn expire(&mut self, now: Instant) {
        let expired: Vec<String> =
            self.waiting.iter().filter(|(_, half)| half.expires <= now).map(|(request, _)| request.clone()).collect();
        for request in expired {
            let Some(half) = self.waiting.remove(&request) else {
                continue;
            };
            if kind_of(&half.stream.headers) == Some(ERROR) {
                PortForwardError(half.stream.output)
                    .report(&format!("(request={request}) timed out waiting for streams"))
                    .await;
            }
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
