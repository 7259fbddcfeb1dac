//! A lean client over TLS, so that the server is what is measured.
//!
//! HTTP/1.1 with a connection for each worker, or HTTP/2 with several workers on a connection, as client-go has. Sockets are read
//! through large buffers, and the cipher suite is the one that Go's clients ask for first.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base64::Engine;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CipherSuite, ClientConfig, RootCertStore};
use serde_json::Value;
use stead_api::Format;
use stead_api::document::parse_yaml;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::form;

/// How much of a socket is read at once.
const READ_BYTES: usize = 256 << 10;
/// The flow-control windows that Go's HTTP/2 client opens.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;

/// A server and how to prove who we are. Cheap to clone.
#[derive(Clone)]
pub struct Target {
    address: String,
    name: ServerName<'static>,
    tls: TlsConnector,
    token: Option<String>,
    /// Workers on one HTTP/2 connection; None speaks HTTP/1.1, a connection for each.
    shared_by: Option<usize>,
    /// Of bodies and answers.
    pub format: Format,
}

impl Target {
    /// Reads a context of a kubeconfig.
    pub fn load(path: &str, context: Option<&str>, shared_by: Option<usize>, format: Format) -> Result<Target> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
        let config = parse_yaml(&text).map_err(|e| anyhow::anyhow!("{path}: {e}"))?.value;
        let current =
            context.or(config["current-context"].as_str()).context("the kubeconfig has no current context")?;
        let context = named(&config, "contexts", current).context("no such context")?["context"].clone();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let cluster =
            named(&config, "clusters", &text(&context["cluster"])).context("no such cluster")?["cluster"].clone();
        let user = named(&config, "users", &text(&context["user"])).context("no such user")?["user"].clone();

        let mut roots = RootCertStore::empty();
        let authority = data(&cluster, "certificate-authority")?.context("the cluster names no authority")?;
        for certificate in CertificateDer::pem_slice_iter(&authority) {
            roots.add(certificate?)?;
        }
        let mut provider = rustls::crypto::ring::default_provider();
        provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut tls = match (data(&user, "client-certificate")?, data(&user, "client-key")?) {
            (Some(certificate), Some(key)) => {
                let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<Vec<_>, _>>()?;
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&key)?)?
            }
            _ => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![if shared_by.is_some() { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let server = text(&cluster["server"]);
        let address =
            server.strip_prefix("https://").context("the server is not https")?.trim_end_matches('/').to_owned();
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host).to_owned();
        Ok(Target {
            name: ServerName::try_from(host)?,
            address: if address.contains(':') { address } else { address + ":443" },
            tls: TlsConnector::from(Arc::new(tls)),
            token: user["token"].as_str().map(str::to_owned),
            shared_by,
            format,
        })
    }

    /// A connection of its own.
    pub async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(&self.address).await.with_context(|| format!("connect to {}", self.address))?;
        stream.set_nodelay(true)?;
        let stream = BufReader::with_capacity(READ_BYTES, stream);
        let stream = TokioIo::new(self.tls.connect(self.name.clone(), stream).await.context("TLS")?);
        let sender = match self.shared_by {
            None => {
                let (sender, connection) = http1::handshake(stream).await?;
                tokio::spawn(connection);
                Sender::Http1(sender)
            }
            Some(_) => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
                let (sender, connection) = builder.handshake(stream).await?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        };
        Ok(self.connection(sender))
    }

    fn connection(&self, sender: Sender) -> Connection {
        Connection { sender, host: self.address.clone(), token: self.token.clone(), format: self.format }
    }

    /// One for each of `count` workers: HTTP/2 workers share connections.
    pub async fn connections(&self, count: usize) -> Result<Vec<Connection>> {
        let mut made: Vec<Connection> = Vec::with_capacity(count);
        for n in 0..count {
            let shared = match (self.shared_by, made.last().map(|last| &last.sender)) {
                (Some(by), Some(Sender::Http2(sender))) if n % by != 0 => Some(Sender::Http2(sender.clone())),
                _ => None,
            };
            made.push(match shared {
                Some(sender) => self.connection(sender),
                None => self.connect().await?,
            });
        }
        Ok(made)
    }
}

fn named<'a>(config: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    config[list].as_array()?.iter().find(|item| item["name"] == name)
}

/// `NAME-data` in base64, or the file that `NAME` names.
fn data(value: &Value, name: &str) -> Result<Option<Vec<u8>>> {
    if let Some(text) = value[format!("{name}-data")].as_str() {
        return Ok(Some(base64::engine::general_purpose::STANDARD.decode(text)?));
    }
    match value[name].as_str() {
        Some(file) => Ok(Some(std::fs::read(file).with_context(|| format!("read {file}"))?)),
        None => Ok(None),
    }
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A worker's connection; one request at a time.
pub struct Connection {
    sender: Sender,
    host: String,
    token: Option<String>,
    pub format: Format,
}

impl Connection {
    /// Sends a request and hands over the body as it comes. Fails unless the code is 2xx.
    pub async fn open(&mut self, method: Method, path: &str, content_type: &str, body: Bytes) -> Result<Incoming> {
        let uri = match self.sender {
            Sender::Http1(_) => path.to_owned(),
            Sender::Http2(_) => format!("https://{}{path}", self.host),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::USER_AGENT, "stead-bench")
            .header(header::ACCEPT, form::accept(self.format));
        if !content_type.is_empty() {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                let request = request.header(header::HOST, &self.host);
                sender.send_request(request.body(Full::new(body))?).await?
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request.body(Full::new(body))?).await?
            }
        };
        let code = response.status();
        if !code.is_success() {
            let text = response.into_body().collect().await?.to_bytes();
            bail!("{path}: {code}: {}", String::from_utf8_lossy(&text));
        }
        Ok(response.into_body())
    }

    /// The same, with the whole body read.
    pub async fn call(
        &mut self,
        method: Method,
        path: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> Result<Bytes> {
        Ok(self.open(method, path, content_type, body.into()).await?.collect().await?.to_bytes())
    }

    pub async fn get(&mut self, path: &str) -> Result<Value> {
        form::decoded(&self.call(Method::GET, path, "", "").await?)
    }

    /// Makes an object and leaves the answer as it is.
    pub async fn create(&mut self, path: &str, object: &Value) -> Result<Bytes> {
        let body = form::encoded(self.format, object)?;
        self.call(Method::POST, path, self.format.media_type(), body).await
    }

    pub async fn post(&mut self, path: &str, object: &Value) -> Result<Value> {
        form::decoded(&self.create(path, object).await?)
    }

    pub async fn merge_patch(&mut self, path: &str, patch: &Value) -> Result<Bytes> {
        self.call(Method::PATCH, path, "application/merge-patch+json", patch.to_string()).await
    }

    /// Deletes; what is gone already is deleted too.
    pub async fn delete(&mut self, path: &str, options: &Value) -> Result<()> {
        let mut options = options.clone();
        options["apiVersion"] = "v1".into();
        options["kind"] = "DeleteOptions".into();
        let body = form::encoded(self.format, &options)?;
        match self.call(Method::DELETE, path, self.format.media_type(), body).await {
            Err(error) if !error.to_string().contains("404") => Err(error),
            _ => Ok(()),
        }
    }
}
