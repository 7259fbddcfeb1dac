//! Whom a call of ours believes: the authorities of a bundle, those of this machine, or anyone; and the texts of what is not
//! believed, which are those that Go's clients give and that users look for.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

/// This machine's list of authorities, wherever its distribution keeps it. `SSL_CERT_FILE` names another.
const MACHINE_LISTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Whom to believe.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// The authorities of this machine.
    Machine,
    /// Those of a PEM bundle.
    Bundle(Arc<[u8]>),
    /// Anyone: `insecureSkipTLSVerify`.
    Anyone,
}

impl Trust {
    /// Of a `caBundle` that is decoded already; an empty one means the authorities of this machine.
    pub fn bundle(pem: &[u8]) -> Trust {
        if pem.is_empty() { Trust::Machine } else { Trust::Bundle(pem.into()) }
    }
}

/// A certificate that we show, and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shown {
    pub certificate: String,
    pub key: String,
}

/// # Errors
/// When a bundle, or what we show, is not understood.
pub fn client_config(trust: &Trust, shown: Option<&Shown>) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = verifier(trust, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let Some(shown) = shown else { return Ok(builder.with_no_client_auth()) };
    let chain = CertificateDer::pem_slice_iter(shown.certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).map_err(|error| error.to_string())?;
    builder.with_client_auth_cert(chain, key).map_err(|error| error.to_string())
}

fn verifier(trust: &Trust, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let certificates = match trust {
        Trust::Anyone => return Ok(Arc::new(Verifier { belief: Belief::Anyone, provider: Arc::clone(provider) })),
        Trust::Bundle(pem) => {
            let parsed = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
            parsed.ok().filter(|all| !all.is_empty()).ok_or("unable to parse bytes as PEM block")?
        }
        Trust::Machine => machine_list(),
    };
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        // A list of the machine may hold old oddities; a bundle's own are judged when they are needed.
        let _ = roots.add(certificate.clone());
    }
    let known = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    let belief = Belief::Known { chains: known.ok(), named: certificates };
    Ok(Arc::new(Verifier { belief, provider: Arc::clone(provider) }))
}

fn machine_list() -> Vec<CertificateDer<'static>> {
    let named = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
    let mut places = named.into_iter().chain(MACHINE_LISTS.map(Into::into));
    let pem = places.find_map(|path| std::fs::read(path).ok()).unwrap_or_default();
    CertificateDer::pem_slice_iter(&pem).flatten().collect()
}

/// Whom a verifier believes.
#[derive(Debug)]
enum Belief {
    /// Chains to the authorities, and the very certificates that a bundle names: a server's self-signed one is its own authority.
    Known { chains: Option<Arc<WebPkiServerVerifier>>, named: Vec<CertificateDer<'static>> },
    /// Anyone who can sign with the key of the certificate that is shown.
    Anyone,
}

#[derive(Debug)]
struct Verifier {
    belief: Belief,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Belief::Known { chains, named } = &self.belief else { return Ok(ServerCertVerified::assertion()) };
        if named.iter().any(|one| one == end_entity) {
            is_in_time(end_entity, now)?;
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        let chains = chains.as_ref().ok_or(CertificateError::UnknownIssuer)?;
        chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn is_in_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// What Go's client says of a handshake that failed.
pub fn describe(error: &rustls::Error, server_name: &str) -> String {
    let x509 = |text: &str| format!("tls: failed to verify certificate: x509: {text}");
    match error {
        rustls::Error::InvalidCertificate(why) => match why {
            // An authority of the same name with another key signs nothing that we know.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                x509("certificate signed by unknown authority")
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => x509("certificate has expired or is not yet valid"),
            CertificateError::NotValidForName => x509(&format!("certificate is not valid for {server_name}")),
            CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
                x509(&format!("certificate is not valid for any names, but wanted to match {server_name}"))
            }
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names: Vec<&str> = presented.iter().map(|name| plain_name(name)).collect();
                x509(&format!("certificate is valid for {}, not {server_name}", names.join(", ")))
            }
            other => x509(&other.to_string()),
        },
        rustls::Error::InvalidMessage(_) => "http: server gave HTTP response to HTTPS client".into(),
        rustls::Error::AlertReceived(alert) => format!("remote error: tls: {}", alert_text(*alert)),
        other => format!("tls: {other}"),
    }
}

fn alert_text(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => "certificate required".into(),
        AlertDescription::BadCertificate => "bad certificate".into(),
        AlertDescription::UnknownCA => "unknown certificate authority".into(),
        AlertDescription::HandshakeFailure => "handshake failure".into(),
        AlertDescription::ProtocolVersion => "protocol version not supported".into(),
        other => format!("{other:?}"),
    }
}

/// `DnsName("a")` is a.
fn plain_name(shown: &str) -> &str {
    shown.split_once('(').map_or(shown, |(_, rest)| rest.trim_end_matches(')')).trim_matches('"')
}
