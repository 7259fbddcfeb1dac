//! The HTTP server under every lesson: one thread, `/healthz`, an orderly end on SIGTERM and SIGINT.

use std::convert::Infallible;
use std::net::Ipv6Addr;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// The largest body a lesson takes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// A request as lessons see it.
pub struct Ask {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub body: Bytes,
}

/// A lesson's answer: code and text.
pub type Answer = (StatusCode, String);

/// Serves until told to stop. `answer` runs on the one thread and may block for a disk write.
pub fn serve(port: u16, answer: impl Fn(Ask) -> Answer + Send + Sync + 'static) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let listener = listen(port).await?;
        println!("{} listens on port {port}", crate::lesson::own_name());
        tokio::select! {
            () = accept(listener, Arc::new(answer)) => {}
            _ = terminate.recv() => println!("{} was told to stop", crate::lesson::own_name()),
            _ = interrupt.recv() => println!("{} was interrupted", crate::lesson::own_name()),
        }
        Ok(())
    })
}

/// Both families where there are two.
async fn listen(port: u16) -> Result<TcpListener> {
    if let Ok(listener) = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        return Ok(listener);
    }
    TcpListener::bind(("0.0.0.0", port)).await.with_context(|| format!("listen on port {port}"))
}

async fn accept(listener: TcpListener, answer: Arc<impl Fn(Ask) -> Answer + Send + Sync + 'static>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let answer = Arc::clone(&answer);
        tokio::spawn(async move {
            let service = service_fn(move |request| handle(request, Arc::clone(&answer)));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn handle(
    request: Request<Incoming>,
    answer: Arc<impl Fn(Ask) -> Answer>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let (code, text) = match (parts.uri.path(), Limited::new(body, BODY_BYTES_MAX).collect().await) {
        ("/healthz", _) => (StatusCode::OK, "ok\n".to_owned()),
        (_, Err(_)) => (StatusCode::PAYLOAD_TOO_LARGE, "too large\n".to_owned()),
        (path, Ok(body)) => answer(Ask {
            method: parts.method,
            path: path.to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            body: body.to_bytes(),
        }),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = code;
    Ok(response)
}
