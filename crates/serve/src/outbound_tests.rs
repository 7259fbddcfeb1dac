//! Calls to real servers on loopback, with certificates made for each test.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::Builder;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::pki::{Identity, Pki};

/// An authority in a directory of its own.
struct Authority {
    pki: Pki,
    dir: std::path::PathBuf,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let dir = std::env::temp_dir().join(format!("stead-outbound-{name}-{}", std::process::id()));
        Authority { pki: Pki::open(&dir).unwrap(), dir }
    }

    fn trust(&self) -> Trust {
        Trust::bundle(self.pki.ca_pem.as_bytes())
    }

    fn tls(&self, identity: &Identity) -> Arc<ServerConfig> {
        self.pki.tls(identity).unwrap()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

struct Echo {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

/// Answers each request with its method, version, Host, body and the name in its client certificate.
async fn echo(tls: Option<Arc<ServerConfig>>) -> Echo {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            let tls = tls.clone();
            tokio::spawn(async move {
                let Some(tls) = tls else { return serve(stream, String::new()).await };
                let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
                let shown = stream.get_ref().1.peer_certificates().and_then(|all| crate::pki::user_of(all.first()?));
                serve(stream, shown.map(|user| user.name).unwrap_or_default()).await;
            });
        }
    });
    Echo { address, connections }
}

async fn serve(stream: impl Socket + 'static, shown: String) {
    let service = service_fn(move |request: Request<Incoming>| {
        let shown = shown.clone();
        async move {
            if request.uri().path() == "/never" {
                std::future::pending::<()>().await;
            }
            let host = request.headers().get("host").map_or("-", |host| host.to_str().unwrap()).to_owned();
            let (method, version) = (request.method().clone(), request.version());
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let text = format!("{method} {version:?} {host} {} {shown}", String::from_utf8_lossy(&body));
            Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(text))))
        }
    });
    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

async fn post(outbound: &Outbound, peer: &Peer, url: &str) -> Result<String, String> {
    let call = (Method::POST, url.parse().unwrap(), HeaderMap::new());
    let sent = outbound.exchange(peer, call, Bytes::from_static(b"hello"), Duration::from_secs(5), 1000).await;
    sent.map(|(_, _, body)| String::from_utf8(body.to_vec()).unwrap()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_service_is_called_by_its_name_at_its_address_over_one_connection() {
    let authority = Authority::new("service");
    let identity = authority.pki.server(&["hook.default.svc"], &[]).unwrap();
    let server = echo(Some(authority.tls(&identity))).await;
    let peer = Peer::of_service(authority.trust(), server.address.to_string());
    let outbound = Outbound::default();
    for _ in 0..3 {
        let answer = post(&outbound, &peer, "https://hook.default.svc:443/validate").await.unwrap();
        assert_eq!(answer, "POST HTTP/2.0 - hello ");
    }
    let old = Peer { only_http1: true, ..peer };
    let answer = post(&outbound, &old, "https://hook.default.svc:8443/validate").await.unwrap();
    assert_eq!(answer, "POST HTTP/1.1 hook.default.svc:8443 hello ");
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn our_certificate_is_shown() {
    let authority = Authority::new("shown");
    let identity = authority.pki.server(&["localhost"], &[]).unwrap();
    let server = echo(Some(authority.tls(&identity))).await;
    let Identity { certificate, key } = authority.pki.client("front-proxy-client", &[]).unwrap();
    let shown = Some(Arc::new(Shown { certificate, key }));
    let peer = Peer { shown, ..Peer::of_url(authority.trust()) };
    let url = format!("https://localhost:{}/", server.address.port());
    let answer = post(&Outbound::default(), &peer, &url).await.unwrap();
    assert!(answer.ends_with(" front-proxy-client"), "{answer}");
}

#[tokio::test]
async fn who_is_not_trusted_is_told_apart() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = echo(Some(theirs.tls(&theirs.pki.server(&["a.example", "b.example"], &[]).unwrap()))).await;
    let address = server.address.to_string();
    let outbound = Outbound::default();
    let failed = async |trust: Trust, url: &str| {
        post(&outbound, &Peer::of_service(trust, address.clone()), url).await.unwrap_err()
    };
    let unknown = "Post \"https://a.example/\": tls: failed to verify certificate: x509: \
        certificate signed by unknown authority";
    assert_eq!(failed(ours.trust(), "https://a.example/").await, unknown);
    assert_eq!(failed(Trust::Machine, "https://a.example/").await, unknown);
    assert_eq!(
        failed(theirs.trust(), "https://c.example/").await,
        "Post \"https://c.example/\": tls: failed to verify certificate: x509: certificate is valid for a.example, \
            b.example, not c.example"
    );
    assert_eq!(
        failed(Trust::bundle(b"rubbish"), "https://a.example/").await,
        "unable to load root certificates: unable to parse bytes as PEM block"
    );
    let anyone = Peer::of_service(Trust::Anyone, address.clone());
    assert!(post(&outbound, &anyone, "https://c.example/").await.is_ok());
}

/// A self-signed certificate is its own authority, also when it may not sign others.
#[tokio::test]
async fn a_bundle_may_be_the_certificate_of_the_server_itself() {
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["hook.default.svc".to_owned()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(own.pem().as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        )
        .unwrap();
    let server = echo(Some(Arc::new(tls))).await;
    let peer = Peer::of_service(Trust::bundle(own.pem().as_bytes()), server.address.to_string());
    let outbound = Outbound::default();
    assert!(post(&outbound, &peer, "https://hook.default.svc/").await.is_ok());
    let other = post(&outbound, &peer, "https://other.default.svc/").await.unwrap_err();
    assert!(other.contains("certificate is valid for hook.default.svc, not other.default.svc"), "{other}");
}

#[tokio::test]
async fn a_server_that_demands_a_certificate_says_so() {
    let authority = Authority::new("demands");
    let identity = authority.pki.server(&["localhost"], &[]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pki.ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap(),
        )
        .unwrap();
    let server = echo(Some(Arc::new(tls))).await;
    let url = format!("https://localhost:{}/", server.address.port());
    let error = post(&Outbound::default(), &Peer::of_url(authority.trust()), &url).await.unwrap_err();
    assert_eq!(error, format!("Post \"{url}\": remote error: tls: certificate required"));
}

#[tokio::test]
async fn what_does_not_answer_is_told_in_the_words_of_go() {
    let server = echo(None).await;
    let outbound = Outbound::default();
    let plain = format!("http://{}/never", server.address);
    let peer = Peer::of_url(Trust::Machine);
    let call = (Method::POST, plain.parse().unwrap(), HeaderMap::new());
    let late = outbound.exchange(&peer, call, Bytes::new(), Duration::from_millis(50), 9).await.unwrap_err();
    assert_eq!(late.to_string(), format!("Post \"{plain}\": context deadline exceeded"));
    let call = (Method::GET, format!("http://{}/", server.address).parse().unwrap(), HeaderMap::new());
    let long = outbound.exchange(&peer, call, Bytes::new(), Duration::from_secs(5), 9).await.unwrap_err();
    assert!(long.to_string().ends_with("the answer is longer than 9 bytes"), "{long}");
    let wrong = format!("https://{}/", server.address);
    let error = post(&outbound, &peer, &wrong).await.unwrap_err();
    assert_eq!(error, format!("Post \"{wrong}\": http: server gave HTTP response to HTTPS client"));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = post(&outbound, &peer, &format!("https://{free}/")).await.unwrap_err();
    assert_eq!(error, format!("Post \"https://{free}/\": dial tcp {free}: connect: connection refused"));
}
