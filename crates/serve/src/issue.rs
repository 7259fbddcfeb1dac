//! Certificates for approved requests: the names and key of the request, everything else as ordered.
//!
//! Written by hand, field by field: the subject must be the request's own bytes, and libraries that build certificates for
//! their callers lose a second organization.

use std::net::IpAddr;

use anyhow::{Context, Result, anyhow, bail};
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use stead_control::CertificateOrder;
use stead_kinds::certificate_request::CertificateRequest;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate, X509CertificationRequest};
use yasna::models::{GeneralizedTime, ObjectIdentifier, UTCTime};
use yasna::{DERWriter, DERWriterSeq, Tag};

const ECDSA_WITH_SHA256: &[u64] = &[1, 2, 840, 10045, 4, 3, 2];
const EXTENSION: &[u64] = &[2, 5, 29];
const KEY_USAGE: u64 = 15;
const ALTERNATIVE_NAMES: u64 = 17;
const BASIC_CONSTRAINTS: u64 = 19;
const AUTHORITY_KEY: u64 = 35;
const EXTENDED_KEY_USAGE: u64 = 37;
const SERIAL_BYTES: usize = 16;
/// From then on times are written with four digits for the year (RFC 5280).
const FOUR_DIGIT_YEAR: i32 = 2050;

/// The authority that signs.
pub struct Authority {
    key: EcdsaKeyPair,
    random: SystemRandom,
    /// The subject, as DER.
    name: Vec<u8>,
    key_id: Option<Vec<u8>>,
    not_after: Timestamp,
}

impl Authority {
    /// # Errors
    /// When these are not a certificate and its P-256 key.
    pub fn new(certificate_pem: &str, pkcs8: &[u8]) -> Result<Authority> {
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).context("the authority's certificate")?;
        let (_, parsed) = X509Certificate::from_der(&der).context("the authority's certificate")?;
        let key_id = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &random)
            .map_err(|error| anyhow!("the authority's key: {error}"))?;
        Ok(Authority {
            key,
            random,
            name: parsed.subject().as_raw().to_vec(),
            key_id,
            not_after: Timestamp::from_second(parsed.validity().not_after.timestamp())?,
        })
    }

    /// The certificate, PEM.
    ///
    /// # Errors
    /// When the request cannot be read, or has usages that certificates do not know.
    pub fn issue(&self, order: &CertificateOrder) -> Result<String> {
        let (_, request) = X509CertificationRequest::from_der(&order.request).context("the request")?;
        let mut serial = [0; SERIAL_BYTES];
        self.random.fill(&mut serial).map_err(|_| anyhow!("the system gives no random numbers"))?;
        let content = yasna::try_construct_der(|writer| self.content(writer, order, &request, &serial))?;
        let signature = self.key.sign(&self.random, &content).map_err(|_| anyhow!("sign a certificate"))?;
        let der = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_der(&content);
                algorithm(writer.next());
                writer.next().write_bitvec_bytes(signature.as_ref(), signature.as_ref().len() * 8);
            });
        });
        Ok(pem(&der))
    }

    fn content(
        &self,
        writer: DERWriter,
        order: &CertificateOrder,
        request: &X509CertificationRequest,
        serial: &[u8],
    ) -> Result<()> {
        let names = names(&order.request)?;
        let usages = Usages::of(&order.usages)?;
        let info = &request.certification_request_info;
        writer.write_sequence(|writer| {
            writer.next().write_tagged(Tag::context(0), |writer| writer.write_u8(2));
            writer.next().write_bigint_bytes(serial, true);
            algorithm(writer.next());
            writer.next().write_der(&self.name);
            writer.next().write_sequence(|writer| {
                write_time(writer.next(), order.not_before);
                write_time(writer.next(), order.not_after.min(self.not_after));
            });
            writer.next().write_der(info.subject.as_raw());
            writer.next().write_der(info.subject_pki.raw);
            writer.next().write_tagged(Tag::context(3), |writer| {
                writer.write_sequence(|writer| self.extensions(writer, &usages, &names));
            });
        });
        Ok(())
    }

    fn extensions(&self, writer: &mut DERWriterSeq, usages: &Usages, names: &CertificateRequest) {
        if usages.bits != 0 {
            extension(writer, KEY_USAGE, true, |writer| usages.write_bits(writer));
        }
        if !usages.extended.is_empty() {
            extension(writer, EXTENDED_KEY_USAGE, false, |writer| {
                writer.write_sequence(|writer| {
                    usages.extended.iter().for_each(|id| writer.next().write_oid(&ObjectIdentifier::from_slice(id)));
                });
            });
        }
        extension(writer, BASIC_CONSTRAINTS, true, |writer| writer.write_sequence(|_| {}));
        if let Some(id) = &self.key_id {
            extension(writer, AUTHORITY_KEY, false, |writer| {
                writer.write_sequence(|writer| {
                    writer.next().write_tagged_implicit(Tag::context(0), |writer| writer.write_bytes(id));
                });
            });
        }
        write_names(writer, names);
    }
}

fn names(der: &[u8]) -> Result<CertificateRequest> {
    CertificateRequest::of_der(der.to_vec()).map_err(|error| anyhow!(error))
}

fn write_names(writer: &mut DERWriterSeq, names: &CertificateRequest) {
    let texts = [(1, &names.emails), (2, &names.dns_names), (6, &names.uris)];
    if texts.iter().all(|(_, list)| list.is_empty()) && names.addresses.is_empty() {
        return;
    }
    extension(writer, ALTERNATIVE_NAMES, false, |writer| {
        writer.write_sequence(|writer| {
            for (tag, list) in texts {
                for text in list {
                    writer.next().write_tagged_implicit(Tag::context(tag), |writer| writer.write_ia5_string(text));
                }
            }
            for address in &names.addresses {
                let bytes = match address {
                    IpAddr::V4(address) => address.octets().to_vec(),
                    IpAddr::V6(address) => address.octets().to_vec(),
                };
                writer.next().write_tagged_implicit(Tag::context(7), |writer| writer.write_bytes(&bytes));
            }
        });
    });
}

/// Key usages as certificates carry them.
#[derive(Default)]
struct Usages {
    /// The first usage is the lowest bit.
    bits: u16,
    extended: Vec<Vec<u64>>,
}

const KEY_USAGES: &[(&str, u16)] = &[
    ("signing", 0),
    ("digital signature", 0),
    ("content commitment", 1),
    ("key encipherment", 2),
    ("data encipherment", 3),
    ("key agreement", 4),
    ("cert sign", 5),
    ("crl sign", 6),
    ("encipher only", 7),
    ("decipher only", 8),
];
const PURPOSE: [u64; 8] = [1, 3, 6, 1, 5, 5, 7, 3];
const PURPOSES: &[(&str, u64)] = &[
    ("server auth", 1),
    ("client auth", 2),
    ("code signing", 3),
    ("email protection", 4),
    ("s/mime", 4),
    ("ipsec end system", 5),
    ("ipsec tunnel", 6),
    ("ipsec user", 7),
    ("timestamping", 8),
    ("ocsp signing", 9),
];
const OTHER_PURPOSES: &[(&str, &[u64])] = &[
    ("any", &[2, 5, 29, 37, 0]),
    ("microsoft sgc", &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    ("netscape sgc", &[2, 16, 840, 1, 113730, 4, 1]),
];

impl Usages {
    fn of(words: &[String]) -> Result<Usages> {
        let mut usages = Usages::default();
        for word in words {
            let is_it = |(name, _): &&(&str, u16)| name == word;
            if let Some((_, bit)) = KEY_USAGES.iter().find(is_it) {
                usages.bits |= 1 << bit;
            } else if let Some((_, last)) = PURPOSES.iter().find(|(name, _)| name == word) {
                usages.extended.push([&PURPOSE[..], &[*last]].concat());
            } else if let Some((_, id)) = OTHER_PURPOSES.iter().find(|(name, _)| name == word) {
                usages.extended.push(id.to_vec());
            } else {
                bail!("unrecognized usage {word:?}");
            }
        }
        // Two words may mean one purpose.
        usages.extended.sort();
        usages.extended.dedup();
        Ok(usages)
    }

    /// A bit string whose first bit is the first usage, without trailing zeros.
    fn write_bits(&self, writer: DERWriter) {
        let length = 16 - self.bits.leading_zeros() as usize;
        let bytes = self.bits.reverse_bits().to_be_bytes();
        writer.write_bitvec_bytes(&bytes[..length.div_ceil(8)], length);
    }
}

fn algorithm(writer: DERWriter) {
    writer.write_sequence(|writer| writer.next().write_oid(&ObjectIdentifier::from_slice(ECDSA_WITH_SHA256)));
}

fn extension(writer: &mut DERWriterSeq, id: u64, is_critical: bool, write: impl FnOnce(DERWriter)) {
    writer.next().write_sequence(|writer| {
        writer.next().write_oid(&ObjectIdentifier::from_slice(&[EXTENSION, &[id]].concat()));
        if is_critical {
            writer.next().write_bool(true);
        }
        writer.next().write_bytes(&yasna::construct_der(write));
    });
}

fn write_time(writer: DERWriter, at: Timestamp) {
    let at = OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    match at.year() < FOUR_DIGIT_YEAR {
        true => writer.write_utctime(&UTCTime::from_datetime(at)),
        false => writer.write_generalized_time(&GeneralizedTime::from_datetime(at)),
    }
}

fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Pki;

    const REQUEST: &str = include_str!("../../kinds/src/certificate_request/node.csr");

    fn order(request: &str) -> CertificateOrder {
        CertificateOrder {
            request: CertificateRequest::of_pem(request.as_bytes()).unwrap().der,
            usages: ["client auth", "digital signature", "crl sign"].map(str::to_owned).to_vec(),
            not_before: "2026-01-01T00:00:00Z".parse().unwrap(),
            not_after: "2126-01-01T00:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn a_certificate_is_what_was_asked_for_under_our_name() {
        let dir = std::env::temp_dir().join(format!("stead-issue-{}", std::process::id()));
        let pki = Pki::open(&dir).unwrap();
        let authority = pki.authority().unwrap();
        let pem = authority.issue(&order(REQUEST)).unwrap();
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let (_, certificate) = X509Certificate::from_der(&block.contents).unwrap();
        let (_, root) = x509_parser::pem::parse_x509_pem(pki.ca_pem.as_bytes()).unwrap();
        let (_, root) = X509Certificate::from_der(&root.contents).unwrap();
        certificate.verify_signature(Some(root.public_key())).unwrap();
        assert_eq!(certificate.issuer(), root.subject());
        assert_eq!(certificate.subject().to_string(), "O=system:nodes, O=two, CN=system:node:n1");
        assert_eq!(certificate.validity().not_after, root.validity().not_after, "no longer than the authority's own");
        let names = certificate.subject_alternative_name().unwrap().unwrap().value;
        assert_eq!(names.general_names.len(), 5);
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && usage.crl_sign() && !usage.key_cert_sign());
        assert!(certificate.extended_key_usage().unwrap().unwrap().value.client_auth);
        assert!(!certificate.is_ca());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
