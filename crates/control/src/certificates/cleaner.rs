//! Requests go when nobody needs them any more: an hour after they were decided, a day after nobody decided.

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use stead_api::{Key, Object};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{WATCHES, condition, issued};
use crate::facts;
use crate::plan::{Controller, Plan, Settles, View};

const DECIDED_SECONDS: i64 = 3600;
const PENDING_SECONDS: i64 = 24 * 3600;

pub const CONTROLLER: Controller = Controller {
    name: "certificatesigningrequest-cleaner-controller",
    settles: Settles::Always,
    watches: WATCHES,
    reconcile,
};

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let Some(object) = view.snapshot.get(key).filter(|object| !object.meta.is_deleting()) else { return plan };
    match end(object) {
        Some(end) if end < view.now => plan.delete(object),
        // Older than its age, not as old.
        Some(end) => plan.wake(facts::after(end, 1)),
        None => {}
    }
    plan
}

/// When this request is forgotten.
fn end(object: &Object) -> Option<Timestamp> {
    let csr = object.view::<CertificateSigningRequest>();
    let has_conditions =
        csr.status.as_ref().is_some_and(|status| status.conditions.as_ref().is_some_and(|c| !c.is_empty()));
    if !has_conditions {
        return object.meta.creation_timestamp.map(|at| facts::after(at, PENDING_SECONDS));
    }
    let since =
        |kind: &str| condition(&csr, kind)?.last_update_time.as_ref().map(|at| facts::after(at.0, DECIDED_SECONDS));
    let expires = condition(&csr, "Approved").and_then(|_| expiry(issued(&csr)?));
    ["Denied", "Failed", "Approved"].into_iter().filter_map(since).chain(expires).min()
}

/// When a certificate ends.
fn expiry(pem: &[u8]) -> Option<Timestamp> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&block.contents).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}
