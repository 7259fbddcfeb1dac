//! The cluster's keys: its certificate authority, the serving certificate, the administrator's client certificate and the key that
//! signs service account tokens.
//!
//! Guarantees: the authority and the token key are made once and kept under `pki/` (mode 0600); serving certificates are
//! made anew at each start, so they always name the addresses of the day.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files::{make_dirs, write_private};
use crate::issue::Authority;
use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use stead_api::User;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// How long the authority is valid. A cluster is made anew long before.
const AUTHORITY_VALID_DAYS: i64 = 3650;
/// How long leaf certificates are valid.
const LEAF_VALID_DAYS: i64 = 365;

pub struct Pki {
    ca: Issuer<'static, KeyPair>,
    pub ca_pem: String,
    /// PKCS#8 of the authority's own key.
    ca_key: Vec<u8>,
    /// PKCS#8 of the P-256 key that signs service account tokens.
    pub token_key: Vec<u8>,
}

/// A certificate and its key, both PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Pki {
    /// Reads the keys below `dir`, making what is missing.
    pub fn open(dir: &Path) -> Result<Pki> {
        make_dirs(dir, 0o755).with_context(|| format!("make {}", dir.display()))?;
        let key = key_file(&dir.join("ca.key"))?;
        let path = dir.join("ca.crt");
        if !path.exists() {
            let pem = authority_params().self_signed(&key).context("make the cluster's certificate authority")?.pem();
            write_private(&path, pem.as_bytes())?;
        }
        let ca_pem = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let ca_key = key.serialize_der();
        let ca = Issuer::from_ca_cert_pem(&ca_pem, key).with_context(|| format!("understand {}", path.display()))?;
        let token_key = key_file(&dir.join("sa.key"))?.serialize_der();
        Ok(Pki { ca, ca_pem, ca_key, token_key })
    }

    /// What signs the certificate requests of others.
    pub fn authority(&self) -> Result<Authority> {
        Authority::new(&self.ca_pem, &self.ca_key)
    }

    /// A client certificate for a user and groups.
    pub fn client(&self, name: &str, groups: &[&str]) -> Result<Identity> {
        let mut params = leaf_params(ExtendedKeyUsagePurpose::ClientAuth);
        params.distinguished_name.push(DnType::CommonName, name);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        self.issue(params)
    }

    /// A certificate for a server under these names and addresses.
    pub fn server(&self, names: &[&str], addresses: &[IpAddr]) -> Result<Identity> {
        let mut params = leaf_params(ExtendedKeyUsagePurpose::ServerAuth);
        params.distinguished_name.push(DnType::CommonName, "stead-apiserver");
        for name in names {
            params.subject_alt_names.push(SanType::DnsName((*name).try_into()?));
        }
        params.subject_alt_names.extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
        self.issue(params)
    }

    fn issue(&self, params: CertificateParams) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.ca)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem() })
    }

    /// TLS for the API: client certificates of our own authority are asked for, and not required (tokens).
    pub fn tls(&self, identity: &Identity) -> Result<Arc<ServerConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca_pem.as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
        let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes())?];
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

/// Who a verified client certificate names: CommonName is the user, Organizations are the groups.
pub fn user_of(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    let mut groups: Vec<String> =
        parsed.subject().iter_organization().filter_map(|o| o.as_str().ok().map(str::to_owned)).collect();
    groups.push("system:authenticated".into());
    Some(User { name, groups, ..User::default() })
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "stead-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    validity(&mut params, AUTHORITY_VALID_DAYS);
    params
}

fn leaf_params(usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, LEAF_VALID_DAYS);
    params
}

/// Valid from an hour ago, for clients whose clock lags.
fn validity(params: &mut CertificateParams, days: i64) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(days);
}

fn key_file(path: &PathBuf) -> Result<KeyPair> {
    if !path.exists() {
        write_private(path, KeyPair::generate()?.serialize_pem().as_bytes())?;
    }
    let pem = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    KeyPair::from_pem(&pem).with_context(|| format!("understand {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_kept_and_name_their_user() {
        let dir = std::env::temp_dir().join(format!("stead-pki-{}", std::process::id()));
        let first = Pki::open(&dir).unwrap();
        let again = Pki::open(&dir).unwrap();
        assert_eq!((&first.ca_pem, &first.token_key), (&again.ca_pem, &again.token_key));
        let admin = again.client("kubernetes-admin", &["system:masters"]).unwrap();
        let user = user_of(&CertificateDer::from_pem_slice(admin.certificate.as_bytes()).unwrap()).unwrap();
        assert_eq!(user.name, "kubernetes-admin");
        assert_eq!(user.groups, ["system:masters", "system:authenticated"]);
        let server = again.server(&["localhost"], &["127.0.0.1".parse().unwrap()]).unwrap();
        again.tls(&server).unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }
}
