//! An HTTP server that knows one pod and serves its streaming subresources with the crate under test.

use super::process;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use stead_stream::handshake::{self, Refusal};
use stead_stream::{Options, PortForward, RemoteCommand, Streams};
use tokio::net::{TcpListener, TcpStream};

pub struct Server {
    pub address: SocketAddr,
    /// The request lines seen, with the upgrade they asked for.
    pub seen: Arc<Mutex<Vec<String>>>,
}

pub async fn start() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let log = Arc::clone(&log);
            let service = service_fn(move |request| {
                let upgrade = request.headers().get("upgrade").map(|v| v.to_str().unwrap().to_owned());
                let line = format!("{} {} {}", request.method(), request.uri().path(), upgrade.unwrap_or_default());
                log.lock().unwrap().push(line);
                async { Ok::<_, Infallible>(answer(request)) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .with_upgrades();
            tokio::spawn(connection);
        }
    });
    Server { address, seen }
}

fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/api" => json_body(json!({"kind": "APIVersions", "versions": ["v1"]})),
        "/apis" => json_body(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})),
        "/api/v1" => json_body(json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [
            {"name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "verbs": ["get", "list"], "shortNames": ["po"]},
            {"name": "pods/exec", "singularName": "", "namespaced": true, "kind": "PodExecOptions", "verbs": ["create", "get"]},
        ]})),
        "/api/v1/namespaces/default/pods/web-0" => json_body(pod()),
        "/api/v1/namespaces/default/pods/web-0/exec" => command(request, Kind::Exec),
        "/api/v1/namespaces/default/pods/web-0/attach" => command(request, Kind::Attach),
        "/api/v1/namespaces/default/pods/web-0/portforward" => port_forward(request),
        _ => refusal(StatusCode::NOT_FOUND, format!("no such path {path}")),
    }
}

fn pod() -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": "web-0", "namespace": "default", "uid": "u-0"},
        "spec": {"containers": [{"name": "main", "image": "x", "stdin": true, "tty": false, "ports": [{"containerPort": 80}]}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "main", "ready": true, "restartCount": 0,
            "image": "x", "imageID": "x", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]},
    })
}

#[derive(Clone, Copy)]
enum Kind {
    Exec,
    Attach,
}

fn command(mut request: Request<Incoming>, kind: Kind) -> Response<Full<Bytes>> {
    let query = query(request.uri().query().unwrap_or_default());
    let asked = |name: &str| query.iter().any(|(n, v)| n == name && (v == "true" || v == "1"));
    let streams =
        Streams { stdin: asked("stdin"), stdout: asked("stdout"), stderr: asked("stderr"), tty: asked("tty") };
    let argv: Vec<String> = match kind {
        Kind::Exec => query.iter().filter(|(n, _)| n == "command").map(|(_, v)| v.clone()).collect(),
        Kind::Attach => ["sh", "-c", "echo attached; cat"].map(str::to_owned).to_vec(),
    };
    let upgrade = match handshake::remote_command(request.headers()) {
        Ok(upgrade) => upgrade,
        Err(refusal) => return refused(refusal),
    };
    let protocol = upgrade.protocol;
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let socket = TokioIo::new(upgraded.await.unwrap());
        let session = RemoteCommand::start(socket, protocol, streams, &Options::default()).await.unwrap();
        process::serve(session, &argv, streams.tty).await;
    });
    switching(upgrade.headers)
}

fn port_forward(mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let upgrade = match handshake::port_forward(request.headers()) {
        Ok(upgrade) => upgrade,
        Err(refusal) => return refused(refusal),
    };
    let protocol = upgrade.protocol;
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let socket = TokioIo::new(upgraded.await.unwrap());
        let mut session = PortForward::start(socket, protocol, &[], &Options::default());
        while let Some(mut connection) = session.next().await {
            tokio::spawn(async move {
                match TcpStream::connect(("127.0.0.1", connection.port)).await {
                    Ok(mut target) => {
                        let _ = tokio::io::copy_bidirectional(&mut connection.stream, &mut target).await;
                    }
                    Err(error) => connection.error.report(&format!("cannot connect: {error}")).await,
                }
            });
        }
    });
    switching(upgrade.headers)
}

fn switching(headers: hyper::HeaderMap) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    response
}

fn refused(refused: Refusal) -> Response<Full<Bytes>> {
    let mut response = refusal(refused.status, refused.message);
    response.headers_mut().extend(refused.headers.into_iter().map(|(n, v)| (Some(n), v)));
    response
}

fn refusal(status: StatusCode, message: String) -> Response<Full<Bytes>> {
    let body =
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": status.as_u16()});
    let mut response = json_body(body);
    *response.status_mut() = status;
    response
}

fn json_body(value: Value) -> Response<Full<Bytes>> {
    let response = Response::builder().header("content-type", "application/json");
    response.body(Full::from(value.to_string())).unwrap()
}

fn query(text: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (unescape(name), unescape(value))
    };
    text.split('&').filter(|p| !p.is_empty()).map(pair).collect()
}

fn unescape(text: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let hex: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&hex, 16).unwrap()
            }
            other => other,
        });
    }
    String::from_utf8(out).unwrap()
}
