//! A small extension API server, as an operator would write one: TLS, a certificate of its own authority, callers believed only
//! when the front proxy vouches for them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc};
use tokio_rustls::TlsAcceptor;

const GROUP_VERSION: &str = "wardle.example.com/v1alpha1";

type Body = BoxBody<Bytes, Infallible>;

/// Serves `flunders.wardle.example.com` until it is dropped.
pub struct ExtensionServer {
    pub address: SocketAddr,
    /// PEM of the authority that signed its certificate.
    pub ca_pem: String,
    runtime: Option<tokio::runtime::Runtime>,
}

struct State {
    flunders: Mutex<BTreeMap<String, Value>>,
    events: broadcast::Sender<String>,
}

impl ExtensionServer {
    /// `front_proxy_ca`: the authority whose certificates vouch for callers. `name`: the Service's name in its namespace.
    pub fn start(name: &str, front_proxy_ca: &str) -> ExtensionServer {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (tls, ca_pem) = tls(name, front_proxy_ca);
        let listener = runtime.block_on(TcpListener::bind("0.0.0.0:0")).unwrap();
        let address = SocketAddr::new(machine_address(), listener.local_addr().unwrap().port());
        let state = Arc::new(State { flunders: Mutex::default(), events: broadcast::channel(64).0 });
        runtime.spawn(accept(listener, TlsAcceptor::from(tls), state));
        ExtensionServer { address, ca_pem, runtime: Some(runtime) }
    }
}

impl Drop for ExtensionServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// An address of this machine that endpoints may have: loopback is none.
fn machine_address() -> std::net::IpAddr {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.254:9").expect("this machine has a route to the outside");
    socket.local_addr().unwrap().ip()
}

fn tls(name: &str, front_proxy_ca: &str) -> (Arc<ServerConfig>, String) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(front_proxy_ca.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (Arc::new(config), ca_pem)
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, state: Arc<State>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            let builder = Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
}

fn reply(code: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())).boxed());
    *response.status_mut() = code;
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}

fn failure(code: StatusCode, reason: &str, message: &str) -> Response<Body> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code.as_u16()});
    reply(code, &status)
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let user = caller(&request);
    Ok(match parts.as_slice() {
        ["apis", "wardle.example.com", "v1alpha1"] => reply(StatusCode::OK, &resources()),
        ["openapi", "v3"] => {
            let url = format!("/openapi/v3/apis/{GROUP_VERSION}?hash=ABC");
            let entry = json!({"serverRelativeURL": url});
            reply(StatusCode::OK, &json!({"paths": {format!("apis/{GROUP_VERSION}"): entry}}))
        }
        ["openapi", "v3", "apis", "wardle.example.com", "v1alpha1"] => reply(StatusCode::OK, &openapi()),
        ["apis", _, _, "whoami"] => reply(StatusCode::OK, &user),
        ["apis", _, _, "echo"] => echo(request),
        ["apis", _, _, "namespaces", namespace, "flunders", name @ ..] => {
            flunders(&state, request, namespace, name.first().copied()).await
        }
        _ => failure(StatusCode::NOT_FOUND, "NotFound", &format!("nothing is at {path}")),
    })
}

/// What the front proxy says of the caller.
fn caller(request: &Request<Incoming>) -> Value {
    let all = |name: &str| -> Vec<&str> {
        request.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    };
    let has_token = request.headers().contains_key("authorization");
    json!({"user": all("x-remote-user"), "groups": all("x-remote-group"), "token": has_token,
        "for": all("x-forwarded-for"), "uri": all("x-forwarded-uri")})
}

fn resources() -> Value {
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION, "resources": [
        {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "shortNames": ["fl"],
            "verbs": ["create", "delete", "get", "list", "watch"]}]})
}

fn openapi() -> Value {
    let spec = json!({"type": "object", "description": "What a flunder is like.",
        "properties": {"colour": {"type": "string", "description": "Its colour."}}});
    let kind = json!([{"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"}]);
    let schema = json!({"type": "object", "description": "A flunder is small.", "x-kubernetes-group-version-kind": kind,
        "properties": {"spec": spec}});
    let action =
        json!({"get": {"x-kubernetes-action": "list", "x-kubernetes-group-version-kind": kind[0], "responses": {}}});
    let path = format!("/apis/{GROUP_VERSION}/namespaces/{{namespace}}/flunders");
    json!({"openapi": "3.0.0", "info": {"title": "wardle", "version": "v1"}, "paths": {path: action},
        "components": {"schemas": {"com.example.wardle.v1alpha1.Flunder": schema}}})
}

async fn flunders(
    state: &Arc<State>,
    request: Request<Incoming>,
    namespace: &str,
    name: Option<&str>,
) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    match (request.method().as_str(), name) {
        ("GET", None) if query.contains("watch=") => watch(state),
        ("GET", None) => {
            let flunders = state.flunders.lock().unwrap();
            let is_here = |flunder: &&Value| flunder["metadata"]["namespace"] == namespace;
            let items: Vec<Value> = flunders.values().filter(is_here).cloned().collect();
            let list = json!({"kind": "FlunderList", "apiVersion": GROUP_VERSION, "metadata": {"resourceVersion": "1"},
                "items": items});
            reply(StatusCode::OK, &list)
        }
        ("GET", Some(name)) => match state.flunders.lock().unwrap().get(name) {
            Some(flunder) => reply(StatusCode::OK, flunder),
            None => {
                let message = format!("flunders.wardle.example.com \"{name}\" not found");
                failure(StatusCode::NOT_FOUND, "NotFound", &message)
            }
        },
        ("POST", None) => {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let mut flunder: Value = serde_json::from_slice(&body).unwrap();
            let name = flunder["metadata"]["name"].as_str().unwrap().to_owned();
            flunder["metadata"]["namespace"] = json!(namespace);
            flunder["metadata"]["uid"] = json!(format!("uid-{name}"));
            flunder["metadata"]["resourceVersion"] = json!("1");
            state.flunders.lock().unwrap().insert(name, flunder.clone());
            let _ = state.events.send(json!({"type": "ADDED", "object": flunder}).to_string());
            reply(StatusCode::CREATED, &flunder)
        }
        ("DELETE", Some(name)) => {
            state.flunders.lock().unwrap().remove(name);
            reply(StatusCode::OK, &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
        }
        _ => failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "not that"),
    }
}

/// Events as they come, one frame each.
fn watch(state: &State) -> Response<Body> {
    let mut events = state.events.subscribe();
    let (sender, receiver) = mpsc::channel::<Bytes>(4);
    tokio::spawn(async move {
        while let Ok(event) = events.recv().await {
            if sender.send(Bytes::from(event + "\n")).await.is_err() {
                return;
            }
        }
    });
    let mut response = Response::new(BodyExt::boxed(Pieces(receiver)));
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}

/// A body that somebody fills.
struct Pieces(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|next| next.map(|piece| Ok(Frame::data(piece))))
    }
}

/// Switches to a protocol of its own, which sends back what it gets in capitals.
fn echo(mut request: Request<Incoming>) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut stream = TokioIo::new(upgraded);
        let mut bytes = [0; 64];
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            if stream.write_all(&bytes[..count].to_ascii_uppercase()).await.is_err() {
                return;
            }
        }
    });
    let mut response = Response::new(Full::new(Bytes::new()).boxed());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert("connection", "Upgrade".parse().unwrap());
    response.headers_mut().insert("upgrade", "capitals".parse().unwrap());
    response
}
