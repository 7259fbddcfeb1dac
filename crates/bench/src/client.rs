//! A lean HTTP/1.1 client over TLS: one connection a worker, as controllers have, so that the server is what is measured.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base64::Engine;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use stead_api::document::parse_yaml;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A server and how to prove who we are. Cheap to clone.
#[derive(Clone)]
pub struct Target {
    address: String,
    name: ServerName<'static>,
    tls: TlsConnector,
    token: Option<String>,
}

impl Target {
    /// Reads a context of a kubeconfig.
    pub fn load(path: &str, context: Option<&str>) -> Result<Target> {
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
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let tls = match (data(&user, "client-certificate")?, data(&user, "client-key")?) {
            (Some(certificate), Some(key)) => {
                let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<Vec<_>, _>>()?;
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&key)?)?
            }
            _ => builder.with_no_client_auth(),
        };
        let server = text(&cluster["server"]);
        let address =
            server.strip_prefix("https://").context("the server is not https")?.trim_end_matches('/').to_owned();
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host).to_owned();
        Ok(Target {
            name: ServerName::try_from(host)?,
            address: if address.contains(':') { address } else { address + ":443" },
            tls: TlsConnector::from(Arc::new(tls)),
            token: user["token"].as_str().map(str::to_owned),
        })
    }

    pub async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(&self.address).await.with_context(|| format!("connect to {}", self.address))?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(self.name.clone(), stream).await.context("TLS")?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection { sender, host: self.address.clone(), token: self.token.clone() })
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

/// One connection; one request at a time.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    token: Option<String>,
}

impl Connection {
    /// Sends a request and hands over the body as it comes. Fails unless the code is 2xx.
    pub async fn open(&mut self, method: Method, path: &str, content_type: &str, body: Bytes) -> Result<Incoming> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.host)
            .header(header::USER_AGENT, "stead-bench")
            .header(header::ACCEPT, "application/json");
        if !content_type.is_empty() {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        self.sender.ready().await?;
        let response = self.sender.send_request(request.body(Full::new(body))?).await?;
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
        Ok(serde_json::from_slice(&self.call(Method::GET, path, "", "").await?)?)
    }

    pub async fn post(&mut self, path: &str, object: &Value) -> Result<Value> {
        Ok(serde_json::from_slice(&self.call(Method::POST, path, "application/json", object.to_string()).await?)?)
    }

    pub async fn merge_patch(&mut self, path: &str, patch: &Value) -> Result<Bytes> {
        self.call(Method::PATCH, path, "application/merge-patch+json", patch.to_string()).await
    }

    /// Deletes; what is gone already is deleted too.
    pub async fn delete(&mut self, path: &str, options: &Value) -> Result<()> {
        match self.call(Method::DELETE, path, "application/json", options.to_string()).await {
            Err(error) if !error.to_string().contains("404") => Err(error),
            _ => Ok(()),
        }
    }
}
