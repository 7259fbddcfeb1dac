//! What a PKCS#10 certificate request asks for, as far as anybody here looks at it: the names in it.

use std::net::IpAddr;

use x509_parser::prelude::{AttributeTypeAndValue, FromDer, GeneralName, ParsedExtension, X509CertificationRequest};

/// A certificate request, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateRequest {
    /// The request as it is signed by its key.
    pub der: Vec<u8>,
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    pub emails: Vec<String>,
    pub uris: Vec<String>,
}

impl CertificateRequest {
    /// Reads the PEM of a CertificateSigningRequest's `spec.request`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_pem(pem: &[u8]) -> Result<CertificateRequest, String> {
        let wrong_type = || "PEM block type must be CERTIFICATE REQUEST".to_owned();
        let (_, block) = x509_parser::pem::parse_x509_pem(pem).map_err(|_| wrong_type())?;
        if block.label != "CERTIFICATE REQUEST" {
            return Err(wrong_type());
        }
        CertificateRequest::of_der(block.contents)
    }

    /// The same from DER.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_der(der: Vec<u8>) -> Result<CertificateRequest, String> {
        let (rest, parsed) = X509CertificationRequest::from_der(&der).map_err(|error| format!("x509: {error}"))?;
        if !rest.is_empty() {
            return Err("asn1: syntax error: trailing data".into());
        }
        let subject = &parsed.certification_request_info.subject;
        let mut request = CertificateRequest {
            common_name: subject.iter_common_name().map(text).last().unwrap_or_default(),
            organizations: subject.iter_organization().map(text).collect(),
            ..CertificateRequest::default()
        };
        for extension in parsed.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                names.general_names.iter().for_each(|name| request.add_name(name));
            }
        }
        request.der = der;
        Ok(request)
    }

    /// Whether the request is signed by the key that it names.
    ///
    /// # Errors
    /// Why it is not.
    pub fn check_signature(&self) -> Result<(), String> {
        let parsed = X509CertificationRequest::from_der(&self.der).map(|(_, parsed)| parsed);
        let checked =
            parsed.map_err(|error| error.to_string()).and_then(|p| p.verify_signature().map_err(|e| e.to_string()));
        checked.map_err(|error| format!("unable to verify certificate request signature: {error}"))
    }

    fn add_name(&mut self, name: &GeneralName) {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::RFC822Name(name) => self.emails.push((*name).to_owned()),
            GeneralName::URI(name) => self.uris.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                self.addresses.extend(v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok());
            }
            _ => {}
        }
    }
}

/// A name is never passed over, whatever its encoding: what is in the request gets into the certificate.
fn text(name: &AttributeTypeAndValue) -> String {
    name.as_str().map_or_else(|_| String::from_utf8_lossy(name.as_slice()).into_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `openssl req -new -subj "/O=system:nodes/O=two/CN=system:node:n1" -addext subjectAltName=…` with a P-256 key.
    const REQUEST: &str = include_str!("certificate_request/node.csr");

    #[test]
    fn every_name_of_a_request_is_read() {
        let request = CertificateRequest::of_pem(REQUEST.as_bytes()).unwrap();
        assert_eq!(request.common_name, "system:node:n1");
        assert_eq!(request.organizations, ["system:nodes", "two"]);
        assert_eq!(request.dns_names, ["n1.example"]);
        assert_eq!(request.addresses, ["192.0.2.7", "2001:db8::7"].map(|text| text.parse::<IpAddr>().unwrap()));
        assert_eq!(request.emails, ["a@example.com"]);
        assert_eq!(request.uris, ["spiffe://a/b"]);
    }

    #[test]
    fn a_name_in_a_rare_encoding_counts() {
        let mut der = CertificateRequest::of_pem(REQUEST.as_bytes()).unwrap().der;
        let two = [0x0c, 3, b't', b'w', b'o'];
        let at = der.windows(two.len()).position(|window| window == two).unwrap();
        // A BMPString.
        der[at] = 0x1e;
        let organizations = CertificateRequest::of_der(der).unwrap().organizations;
        assert_eq!(organizations.len(), 2, "{organizations:?}");
    }

    #[test]
    fn a_request_is_signed_by_its_own_key() {
        let mut request = CertificateRequest::of_pem(REQUEST.as_bytes()).unwrap();
        assert_eq!(request.check_signature(), Ok(()));
        *request.der.last_mut().unwrap() ^= 1;
        assert!(request.check_signature().unwrap_err().starts_with("unable to verify certificate request signature: "));
    }

    #[test]
    fn what_is_no_request_is_told_so() {
        let wrong = |pem: &str| CertificateRequest::of_pem(pem.as_bytes()).unwrap_err();
        assert_eq!(wrong("x"), "PEM block type must be CERTIFICATE REQUEST");
        assert_eq!(
            wrong(&REQUEST.replace("CERTIFICATE REQUEST", "CERTIFICATE")),
            "PEM block type must be CERTIFICATE REQUEST"
        );
        assert!(
            wrong("-----BEGIN CERTIFICATE REQUEST-----\neA==\n-----END CERTIFICATE REQUEST-----\n")
                .starts_with("x509: ")
        );
    }
}
