//! CertificateSigningRequest. Who asked is written down by the server; approval and signing are subresources.

use std::collections::BTreeSet;

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use serde_json::{Value, json};
use stead_api::names::dns1123_subdomain;
use stead_api::object::Fields;
use stead_api::{Errors, Object};

use crate::certificate_request::CertificateRequest;
use crate::check::{FIELD_IS_IMMUTABLE, list, one_of, text};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN};
use crate::fill::put;
use crate::names::names;
use crate::path::Path;
use crate::{Behavior, Hooks, Kind, Subresource, human};

pub const CERTIFICATESIGNINGREQUEST: Kind = Kind {
    short: &["csr"],
    namespaced: false,
    subresources: &[Subresource::Status, Subresource::Named("approval")],
    fields: Fields { selectable: &["spec.signerName"], indexed: &[], labels_indexed: false, ..Fields::NONE },
    columns: &[
        NAME_COLUMN,
        AGE_COLUMN,
        columns::path("SignerName", "spec.signerName", "Who should sign."),
        columns::text("Requestor", |o, _| o.value()["spec"]["username"].as_str().unwrap_or("").into(), "Who asked."),
        columns::text("RequestedDuration", duration, "For how long."),
        columns::text("Condition", condition, "What became of it."),
    ],
    hooks: Hooks::of::<CertificateSigningRequest>(),
    ..Kind::plain(
        "certificatesigningrequests.certificates.k8s.io",
        "certificates.k8s.io",
        "v1",
        names!("CertificateSigningRequest", "certificatesigningrequest", "certificatesigningrequests"),
        "io.k8s.api.certificates.v1.CertificateSigningRequest",
    )
};

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
/// The shortest time a certificate may be asked for.
const SECONDS_MIN: i32 = 600;
const SIGNER_MAX: usize = 571;

fn duration(object: &Object, _now: jiff::Timestamp) -> Value {
    let seconds = object.value()["spec"]["expirationSeconds"].as_i64();
    seconds.map_or("<none>".to_owned(), human::duration).into()
}

/// `Approved,Issued`.
fn condition(object: &Object, _now: jiff::Timestamp) -> Value {
    let value = object.value();
    let has = |name: &str| {
        let all = value["status"]["conditions"].as_array().into_iter().flatten();
        all.into_iter().any(|one| one["type"] == name)
    };
    let mut parts = vec![match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    }];
    if has("Failed") {
        parts.push("Failed");
    }
    if value["status"]["certificate"].as_str().is_some_and(|text| !text.is_empty()) {
        parts.push("Issued");
    }
    parts.join(",").into()
}

impl Behavior for CertificateSigningRequest {
    fn prepare(new: &mut Value, old: Option<&Value>) {
        if let Some(old) = old {
            put(new, "spec", old.get("spec").cloned());
        }
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        match old {
            None => validate_spec(Path::root("spec"), &self.spec, errors),
            Some(old) => validate_status(self, old, errors),
        }
    }
}

fn validate_spec(at: Path, spec: &CertificateSigningRequestSpec, errors: &mut Errors) {
    if let Err(why) = CertificateRequest::of_pem(&spec.request.0) {
        at.child("request").invalid(errors, json!(spec.request), why);
    }
    if let Some(seconds) = spec.expiration_seconds.filter(|seconds| *seconds < SECONDS_MIN) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        at.child("expirationSeconds").invalid(errors, seconds, detail);
    }
    let usages = list(&spec.usages);
    if usages.is_empty() {
        at.child("usages").required(errors, "usages must be provided");
    }
    let mut seen = BTreeSet::new();
    for (index, usage) in usages.iter().enumerate() {
        let all = at.child("usages");
        one_of(all.index(index), usage, USAGES, false, errors);
        if !seen.insert(usage) {
            all.index(index).duplicate(errors, usage.as_str());
        }
    }
    let signer = at.child("signerName");
    if spec.signer_name == "kubernetes.io/legacy-unknown" {
        signer.invalid(errors, spec.signer_name.as_str(), "the legacy signerName is not allowed via this API version");
    } else {
        validate_signer(signer, &spec.signer_name, errors);
    }
}

/// `example.com/my-signer`: a domain of two parts and a path of one.
fn validate_signer(at: Path, name: &str, errors: &mut Errors) {
    if name.is_empty() {
        return at.required(errors, "");
    }
    let wrong = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
    let (Some((domain, path)), 1) = (name.split_once('/'), name.matches('/').count()) else {
        return at.invalid(errors, name, wrong);
    };
    if path.is_empty() {
        at.invalid(errors, name, wrong);
    }
    for (part, messages) in [(domain, dns1123_subdomain(domain)), (path, dns1123_subdomain(path))] {
        for message in messages.into_iter().filter(|_| !part.is_empty()) {
            let what = if part == domain { "validating label" } else { "validating signer path" };
            at.invalid(errors, part, format!("{what} {part:?}: {message}"));
        }
    }
    if domain.split('.').count() < 2 {
        at.invalid(errors, domain, "should be a domain with at least two segments separated by dots");
    }
    if name.len() > SIGNER_MAX {
        at.too_long(errors, SIGNER_MAX);
    }
}

fn validate_status(new: &CertificateSigningRequest, old: &CertificateSigningRequest, errors: &mut Errors) {
    let at = Path::root("status");
    let empty = Default::default();
    let (status, before) = (new.status.as_ref().unwrap_or(&empty), old.status.as_ref().unwrap_or(&empty));
    let conditions = list(&status.conditions);
    let mut seen = BTreeSet::new();
    let has = |conditions: &[k8s_openapi::api::certificates::v1::CertificateSigningRequestCondition], name: &str| {
        conditions.iter().any(|one| one.type_ == name)
    };
    for (index, one) in conditions.iter().enumerate() {
        let all = at.child("conditions");
        let at = all.index(index);
        if one.type_.is_empty() {
            at.child("type").required(errors, "");
        }
        let allowed: &[&str] = if matches!(one.type_.as_str(), "Approved" | "Denied" | "Failed") {
            &["True"]
        } else {
            &["False", "True", "Unknown"]
        };
        one_of(at.child("status"), &one.status, allowed, false, errors);
        if !seen.insert(&one.type_) {
            at.child("type").duplicate(errors, one.type_.as_str());
        }
    }
    if has(conditions, "Approved") && has(conditions, "Denied") {
        at.child("conditions").invalid(errors, "Denied", "Approved and Denied conditions are mutually exclusive");
    }
    for name in ["Approved", "Denied", "Failed"] {
        if has(list(&before.conditions), name) && !has(conditions, name) {
            at.child("conditions").forbidden(errors, format!("updates may not remove a condition of type {name:?}"));
        }
    }
    let issued = |status: &k8s_openapi::api::certificates::v1::CertificateSigningRequestStatus| {
        status.certificate.as_ref().map(|bytes| bytes.0.clone()).filter(|bytes| !bytes.is_empty())
    };
    let (certificate, earlier) = (issued(status), issued(before));
    if earlier.is_some() && certificate != earlier {
        at.child("certificate").invalid(
            errors,
            text(&None),
            "updates may not set certificate content, existing certificate data cannot be modified",
        );
    } else if let Some(bytes) = certificate.filter(|_| earlier.is_none()) {
        let is_pem = std::str::from_utf8(&bytes).is_ok_and(|text| text.contains("-----BEGIN CERTIFICATE-----"));
        if !is_pem {
            at.child("certificate").invalid(
                errors,
                "<certificate data>",
                "must contain at least one CERTIFICATE PEM block",
            );
        }
    }
    if new.spec != old.spec {
        Path::root("spec").invalid(errors, json!(new.spec), FIELD_IS_IMMUTABLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_checked_as_a_whole() {
        let errors = |spec: Value| {
            let value = json!({"metadata": {"name": "a"}, "spec": spec});
            let found = CERTIFICATESIGNINGREQUEST.check(&value, None).expect("decodes").errors;
            found.0.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            errors(json!({"request": "eA==", "signerName": "signer", "usages": ["fishing"], "expirationSeconds": 5}))
                .into_iter()
                .map(|error| error.split(": ").take(2).collect::<Vec<_>>().join(": "))
                .collect::<Vec<_>>(),
            [
                "spec.request: Invalid value",
                "spec.expirationSeconds: Invalid value",
                "spec.usages[0]: Unsupported value",
                "spec.signerName: Invalid value",
            ]
        );
    }
}
