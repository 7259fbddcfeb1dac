//! Certificate requests: who is approved unasked, what is signed, and when a request is forgotten.
//!
//! Upstream: pkg/controller/certificates (approver, signer, cleaner), pkg/apis/certificates/helpers.go.

pub mod approver;
pub mod cleaner;
pub mod kubelet;
pub mod signer;

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};

use crate::names::CERTIFICATE_REQUEST;
use crate::plan::Watch;

/// What wakes each of the three.
const WATCHES: &[Watch] = &[Watch {
    kind: CERTIFICATE_REQUEST,
    keys: |_, event| if event.deleted { Vec::new() } else { vec![event.key().clone()] },
}];

pub const API_SERVER_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
pub const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";

fn condition<'a>(csr: &'a CertificateSigningRequest, kind: &str) -> Option<&'a CertificateSigningRequestCondition> {
    let conditions = csr.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().find(|one| one.type_ == kind)
}

/// The certificate issued, PEM.
fn issued(csr: &CertificateSigningRequest) -> Option<&[u8]> {
    let certificate = csr.status.as_ref().and_then(|status| status.certificate.as_ref());
    certificate.map(|bytes| &*bytes.0).filter(|bytes| !bytes.is_empty())
}

#[cfg(test)]
mod tests;
