//! Calls that the server itself makes: to webhooks, to extension API servers, to pods behind a proxy path.
//!
//! Guarantees: a connection is used again while its peer keeps it open, and only for a peer with the same trust, name, address and
//! certificate of ours; nothing waits longer than its limit. Errors read as Go's `net/http` gives them, because they end up in
//! messages and conditions that people know.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::line::{Line, Socket};
use crate::trust::{self, Shown, Trust};

/// How long a peer may take to accept a connection, and for its TLS handshake.
const DIAL: Duration = Duration::from_secs(30);
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection is kept that nobody uses, and how many of them for one peer.
const IDLE: Duration = Duration::from_secs(90);
const IDLE_CONNECTIONS_MAX: usize = 25;
/// Peers that are remembered.
const PEERS_MAX: usize = 256;

/// What a request may carry.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Whom to call, beside what the URL says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    pub trust: Trust,
    /// The name that its certificate must have, if it is not the URL's host.
    pub server_name: Option<String>,
    /// `host:port` to connect to, if it is not that of the URL.
    pub address: Option<String>,
    /// The certificate that we show.
    pub shown: Option<Arc<Shown>>,
    /// Whether HTTP/2 is out of the question: connections that are to be upgraded.
    pub only_http1: bool,
}

impl Peer {
    /// Whoever the URL names, with this trust.
    pub fn of_url(trust: Trust) -> Peer {
        Peer { trust, server_name: None, address: None, shown: None, only_http1: false }
    }

    /// A Service's server at an address; the URL names it `NAME.NAMESPACE.svc`.
    pub fn of_service(trust: Trust, address: String) -> Peer {
        Peer { address: Some(address), ..Peer::of_url(trust) }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("unable to load root certificates: {0}")]
    Trust(String),
    #[error("{0}: context deadline exceeded")]
    Late(String),
    #[error("{call}: {why}")]
    Call { call: String, why: String },
    #[error("{call}: the answer is longer than {limit} bytes")]
    TooLong { call: String, limit: usize },
}

impl Failure {
    /// What went wrong, without which call it was.
    pub fn why(&self) -> String {
        match self {
            Failure::Call { why, .. } => why.clone(),
            Failure::Late(_) => "context deadline exceeded".into(),
            other => other.to_string(),
        }
    }
}

type Pool = Client<Connector, Body>;

/// The connections of this process to others.
#[derive(Default)]
pub struct Outbound(Mutex<Pools>);

#[derive(Default)]
struct Pools {
    peers: BTreeMap<Peer, (Pool, u64)>,
    uses: u64,
}

impl Outbound {
    /// Sends a request; the answer's body is still to be read. `within`: until the answer's head.
    ///
    /// # Errors
    /// When the peer cannot be reached, is not believed, or does not answer in time.
    pub async fn send(
        &self,
        peer: &Peer,
        request: Request<Body>,
        within: Option<Duration>,
    ) -> Result<Response<Incoming>, Failure> {
        let call = name_of(request.method(), request.uri());
        let answer = self.pool(peer)?.request(request);
        let answer = match within {
            Some(within) => tokio::time::timeout(within, answer).await.map_err(|_| Failure::Late(call.clone()))?,
            None => answer.await,
        };
        answer.map_err(|error| Failure::Call { call, why: describe(&error) })
    }

    /// Sends bytes and reads the whole answer, all within a time and no more than a number of bytes.
    ///
    /// # Errors
    /// As `send`, and when the answer is too long.
    pub async fn exchange(
        &self,
        peer: &Peer,
        (method, url, headers): (Method, Uri, HeaderMap),
        body: Bytes,
        within: Duration,
        limit: usize,
    ) -> Result<(StatusCode, HeaderMap, Bytes), Failure> {
        let call = name_of(&method, &url);
        let mut request = Request::new(whole(body));
        *request.method_mut() = method;
        *request.uri_mut() = url;
        *request.headers_mut() = headers;
        let exchanged = async {
            let (head, body) = self.send(peer, request, None).await?.into_parts();
            let read = Limited::new(body, limit).collect().await.map_err(|error| {
                let call = call.clone();
                match error.is::<LengthLimitError>() {
                    true => Failure::TooLong { call, limit },
                    false => Failure::Call { call, why: "unexpected EOF".into() },
                }
            })?;
            Ok((head.status, head.headers, read.to_bytes()))
        };
        tokio::time::timeout(within, exchanged).await.unwrap_or_else(|_| Err(Failure::Late(call.clone())))
    }

    fn pool(&self, peer: &Peer) -> Result<Pool, Failure> {
        let mut pools = self.0.lock().unwrap_or_else(|e| e.into_inner());
        pools.uses += 1;
        let uses = pools.uses;
        if let Some((pool, used)) = pools.peers.get_mut(peer) {
            *used = uses;
            return Ok(pool.clone());
        }
        let pool = new_pool(peer)?;
        if pools.peers.len() >= PEERS_MAX {
            let oldest = pools.peers.iter().min_by_key(|(_, (_, used))| *used).map(|(peer, _)| peer.clone());
            oldest.and_then(|oldest| pools.peers.remove(&oldest));
        }
        pools.peers.insert(peer.clone(), (pool.clone(), uses));
        Ok(pool)
    }
}

/// A body of bytes.
pub fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// `Post "https://…"`, as Go names a call.
fn name_of(method: &Method, url: &Uri) -> String {
    let mut name = method.as_str().to_ascii_lowercase();
    name[..1].make_ascii_uppercase();
    format!("{name} \"{url}\"")
}

fn new_pool(peer: &Peer) -> Result<Pool, Failure> {
    let mut tls = trust::client_config(&peer.trust, peer.shown.as_deref()).map_err(Failure::Trust)?;
    tls.alpn_protocols = match peer.only_http1 {
        true => vec![b"http/1.1".to_vec()],
        false => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    let connector = Connector { peer: peer.clone(), tls: Arc::new(tls) };
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(IDLE_CONNECTIONS_MAX);
    Ok(builder.build(connector))
}

/// Makes connections to one peer.
#[derive(Clone)]
struct Connector {
    peer: Peer,
    tls: Arc<ClientConfig>,
}

/// Why there is no connection, in Go's words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotConnected(String);

impl tower_service::Service<Uri> for Connector {
    type Response = Line;
    type Error = NotConnected;
    type Future = Pin<Box<dyn Future<Output = Result<Line, NotConnected>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NotConnected>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        Box::pin(self.clone().connect(url))
    }
}

impl Connector {
    async fn connect(self, url: Uri) -> Result<Line, NotConnected> {
        let host = url.host().unwrap_or_default();
        let is_tls = url.scheme_str() != Some("http");
        let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let address = self.peer.address.clone().unwrap_or_else(|| format!("{host}:{port}"));
        let stream = dial(&address).await?;
        if !is_tls {
            return Ok(Line::new(Box::new(stream), false));
        }
        let name = self.peer.server_name.as_deref().unwrap_or(host).trim_start_matches('[').trim_end_matches(']');
        let server = ServerName::try_from(name.to_owned())
            .map_err(|_| NotConnected(format!("tls: \"{name}\" cannot be the name of a server")))?;
        let handshake = TlsConnector::from(self.tls).connect(server, stream);
        let shaken = tokio::time::timeout(HANDSHAKE, handshake).await;
        let shaken = shaken.map_err(|_| NotConnected("net/http: TLS handshake timeout".into()))?;
        let stream = shaken.map_err(|error| NotConnected(refused(&error, name)))?;
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Line::new(Box::new(stream) as Box<dyn Socket>, is_h2))
    }
}

fn refused(error: &std::io::Error, name: &str) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(tls) => trust::describe(tls, name),
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => "EOF".into(),
        None => words(error),
    }
}

/// Connects to the first of a name's addresses that accepts.
async fn dial(address: &str) -> Result<TcpStream, NotConnected> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let unknown = || NotConnected(format!("dial tcp: lookup {host}: no such host"));
    let found = tokio::net::lookup_host(address).await.map_err(|_| unknown())?;
    let mut last = unknown();
    for one in found {
        last = match tokio::time::timeout(DIAL, TcpStream::connect(one)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => NotConnected(format!("dial tcp {one}: connect: {}", words(&error))),
            Err(_) => NotConnected(format!("dial tcp {one}: i/o timeout")),
        };
    }
    Err(last)
}

/// The system's words for an error, as Go has them: in small letters and without the number.
fn words(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".into(),
        ErrorKind::ConnectionReset => "connection reset by peer".into(),
        ErrorKind::HostUnreachable => "no route to host".into(),
        ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        ErrorKind::TimedOut => "connection timed out".into(),
        _ => error.to_string(),
    }
}

/// The innermost cause of a failed call.
fn describe(error: &ClientError) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(one) = cause {
        if let Some(known) = one.downcast_ref::<NotConnected>() {
            return known.0.clone();
        }
        if let Some(broken) = one.downcast_ref::<std::io::Error>() {
            let tls = broken.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            return tls.map_or_else(|| words(broken), |tls| trust::describe(tls, ""));
        }
        if one.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) {
            return "EOF".into();
        }
        match one.source() {
            Some(inner) => cause = Some(inner),
            None => return one.to_string(),
        }
    }
    error.to_string()
}

#[cfg(test)]
#[path = "outbound_tests.rs"]
mod tests;
