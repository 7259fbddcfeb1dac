//! The sockets of the API: TLS on the API's port, plain HTTP on the data directory's socket.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use stead_api::User;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use crate::audit::Peer;
use crate::{Server, http, pki};

/// How long a client may take for its TLS handshake, and for its request's head.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEAD: Duration = Duration::from_secs(30);
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 250;
/// How long to wait when the process has no file descriptor left.
const OUT_OF_FILES: Duration = Duration::from_millis(100);

/// Accepts API connections until the process ends.
pub async fn api(server: Arc<Server>, listener: TcpListener, tls: Arc<ServerConfig>) {
    let acceptor = TlsAcceptor::from(tls);
    loop {
        let Ok((stream, address)) = listener.accept().await else {
            tokio::time::sleep(OUT_OF_FILES).await;
            continue;
        };
        let (server, acceptor) = (Arc::clone(&server), acceptor.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
            let certificates = stream.get_ref().1.peer_certificates();
            let peer = certificates.and_then(|chain| pki::user_of(chain.first()?)).map(Arc::new);
            connection(server, stream, peer, Peer(address)).await;
        });
    }
}

/// Accepts connections of the administrator.
pub async fn admin(server: Arc<Server>, listener: UnixListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(OUT_OF_FILES).await;
            continue;
        };
        let peer = Some(Arc::clone(&server.administrator));
        tokio::spawn(connection_of_admin(Arc::clone(&server), stream, peer));
    }
}

async fn connection(
    server: Arc<Server>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Option<Arc<User>>,
    from: Peer,
) {
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(from);
        let (server, peer) = (Arc::clone(&server), peer.clone());
        async move { Ok::<_, Infallible>(http::serve(server, peer, request).await) }
    });
    // What a client does wrong on its connection ends that connection; there is nobody else to tell.
    let _ = builder().serve_connection_with_upgrades(TokioIo::new(stream), service).await;
}

async fn connection_of_admin(server: Arc<Server>, stream: tokio::net::UnixStream, peer: Option<Arc<User>>) {
    let connections = Arc::clone(&server.admin.connections);
    let _open = connections.read().await;
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (server, peer) = (Arc::clone(&server), peer.clone());
        async move {
            let path = request.uri().path().to_owned();
            if let Some(response) = crate::admin::serve(&server, &path, request.uri().query()).await {
                return Ok::<_, Infallible>(response);
            }
            Ok(http::serve(server, peer, request).await)
        }
    });
    let _ = builder().serve_connection_with_upgrades(TokioIo::new(stream), service).await;
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX);
    builder
}
