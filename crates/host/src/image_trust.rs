//! How a registry is spoken to: over HTTPS with which authorities, or over plain HTTP.
//!
//! A registry's own authorities are the `*.crt` files of `<data dir>/certs.d/HOST[:PORT]/` or `/etc/docker/certs.d/HOST[:PORT]/`,
//! as Docker has them; they stand beside the machine's list, which `SSL_CERT_FILE` names if it is set. Loopback registries
//! without such a directory are asked over HTTP, and over HTTPS if they answer that they want it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider};

use crate::image::ImageError;

const PROBE_WAIT: Duration = Duration::from_secs(5);
const DOCKER_CERTS: &str = "/etc/docker/certs.d";
/// The machine's list of authorities, wherever its distribution keeps it.
const MACHINE_LISTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// `https` or `http`, and the TLS that goes with it.
pub struct Transport {
    pub scheme: &'static str,
    pub tls: TlsConfig,
}

/// What a registry needs. `certs`: the data directory's `certs.d`.
pub fn transport(host: &str, certs: &Path, insecure: &[String]) -> Result<Transport, ImageError> {
    let own = own_authorities(host, certs)?;
    let is_plain = own.is_none() && (insecure.iter().any(|r| r == host) || is_loopback(host) && !wants_tls(host));
    let tls =
        TlsConfig::builder().provider(TlsProvider::Rustls).unversioned_rustls_crypto_provider(crate::tls::provider());
    if is_plain {
        return Ok(Transport { scheme: "http", tls: tls.build() });
    }
    let mut roots = own.unwrap_or_default();
    match machine_list() {
        Ok(list) => roots.extend(list),
        // A registry with authorities of its own needs no others.
        Err(error) if roots.is_empty() => return Err(error),
        Err(_) => {}
    }
    Ok(Transport { scheme: "https", tls: tls.root_certs(RootCerts::Specific(Arc::new(roots))).build() })
}

/// The authorities of a registry's directory; None without one.
fn own_authorities(host: &str, certs: &Path) -> Result<Option<Vec<Certificate<'static>>>, ImageError> {
    let places = [certs.join(host), Path::new(DOCKER_CERTS).join(host)];
    let Some(place) = places.into_iter().find(|place| place.is_dir()) else { return Ok(None) };
    let read = |path: &PathBuf| {
        let pem = fs::read(path).map_err(ImageError::disk(format!("read {}", path.display())))?;
        let found = authorities(&pem);
        match found.is_empty() {
            true => Err(ImageError::Damaged(format!("{} holds no certificate", path.display()))),
            false => Ok(found),
        }
    };
    let entries = fs::read_dir(&place).map_err(ImageError::disk(format!("read {}", place.display())))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|kind| kind == "crt"));
    files.sort();
    Ok(Some(files.iter().map(read).collect::<Result<Vec<_>, _>>()?.concat()))
}

fn machine_list() -> Result<Vec<Certificate<'static>>, ImageError> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let places = named.into_iter().chain(MACHINE_LISTS.map(PathBuf::from));
    match places.into_iter().find_map(|path| fs::read(path).ok()) {
        Some(pem) => Ok(authorities(&pem)),
        None => Err(ImageError::Unreachable(
            "this machine has no list of trusted certificates: install the package ca-certificates".into(),
        )),
    }
}

fn authorities(pem: &[u8]) -> Vec<Certificate<'static>> {
    let items = ureq::tls::parse_pem(pem);
    items
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect()
}

/// A server that speaks TLS answers plain HTTP with 400, or not at all; then a certificate is worth asking for.
fn wants_tls(host: &str) -> bool {
    let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(PROBE_WAIT));
    let answer = Agent::new_with_config(config.build()).get(format!("http://{host}/v2/")).call();
    answer.is_ok_and(|answer| answer.status() == ureq::http::StatusCode::BAD_REQUEST)
}

fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

/// A failed request in the words that Go's clients use, which people search for.
pub fn why(error: &ureq::Error) -> String {
    let text = error.to_string();
    let known = [
        ("UnknownIssuer", "x509: certificate signed by unknown authority"),
        ("NotValidForName", "x509: certificate is not valid for this name"),
        ("Expired", "x509: certificate has expired or is not yet valid"),
    ];
    match known.iter().find(|(ours, _)| text.contains(ours)) {
        Some((_, theirs)) => format!("tls: failed to verify certificate: {theirs}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_may_be_plain_by_itself() {
        assert!(is_loopback("127.0.0.1:5000") && is_loopback("localhost:5000") && is_loopback("127.1.2.3"));
        assert!(!is_loopback("registry.k8s.io") && !is_loopback("10.0.0.1:5000"));
    }

    #[test]
    fn a_directory_of_rubbish_is_named() {
        let certs = std::env::temp_dir().join(format!("stead-certs-{}", std::process::id()));
        fs::create_dir_all(certs.join("registry.example:5000")).unwrap();
        fs::write(certs.join("registry.example:5000/ca.crt"), "rubbish").unwrap();
        let refused = transport("registry.example:5000", &certs, &[]).err().expect("a certificate was expected");
        assert!(refused.to_string().ends_with("ca.crt holds no certificate"), "{refused}");
        fs::remove_dir_all(&certs).unwrap();
    }
}
