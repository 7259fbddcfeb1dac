//! A webhook server, as an operator would write one: TLS with a certificate of its own authority, reviews in, answers out.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use base64::Engine;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// From the path and a review's request to the review's response; None: it never answers.
pub type Play = fn(&str, &Value) -> Option<Value>;

/// Answers until it is dropped.
pub struct HookServer {
    pub port: u16,
    /// The authority of its certificate, as configurations have it.
    pub ca_bundle: String,
    runtime: Option<tokio::runtime::Runtime>,
}

impl HookServer {
    /// Listens under `127.0.0.1` and under the address of this machine, with a certificate for these names, too.
    pub fn start(names: &[&str], play: Play) -> HookServer {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (tls, ca_pem) = tls(names);
        let listener = runtime.block_on(TcpListener::bind("0.0.0.0:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(accept(listener, TlsAcceptor::from(tls), play));
        let ca_bundle = base64::engine::general_purpose::STANDARD.encode(ca_pem);
        HookServer { port, ca_bundle, runtime: Some(runtime) }
    }

    /// An address for endpoints: loopback is none.
    pub fn machine_address() -> SocketAddr {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("192.0.2.254:9").expect("this machine has a route to the outside");
        socket.local_addr().unwrap()
    }
}

impl Drop for HookServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn tls(names: &[&str]) -> (Arc<ServerConfig>, String) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let loopback = IpAddr::from(Ipv4Addr::LOCALHOST).to_string();
    let all: Vec<String> = names.iter().map(ToString::to_string).chain([loopback]).collect();
    let certificate = CertificateParams::new(all).unwrap().signed_by(&key, &issuer).unwrap();
    let private = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], private).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (Arc::new(config), ca_pem)
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, play: Play) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let tls = tls.clone();
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(move |request| answer(play, request));
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(play: Play, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let Some(mut response) = play(&path, &review["request"]) else { return std::future::pending().await };
    response["uid"] = review["request"]["uid"].clone();
    let review = json!({"kind": review["kind"], "apiVersion": review["apiVersion"], "response": response});
    let mut response = Response::new(Full::new(Bytes::from(review.to_string())));
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    Ok(response)
}
