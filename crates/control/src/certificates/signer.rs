//! Approved requests for the cluster's own signers are signed, or told why not (condition `Failed`).

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use serde_json::json;
use stead_api::{Key, Object};
use stead_kinds::certificate_request::CertificateRequest;

use super::{API_SERVER_CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY_UNKNOWN, WATCHES, condition, issued, kubelet};
use crate::effect::{CertificateOrder, Work};
use crate::facts;
use crate::names::CERTIFICATE_REQUEST;
use crate::plan::{Action, Controller, Plan, Settles, View};

/// How long a certificate is valid that asks for no time, and at most: upstream's --cluster-signing-duration.
const SECONDS_MAX: i64 = 365 * 24 * 3600;
const SECONDS_MIN: i64 = 600;
/// Certificates begin to be valid a little early, for clients whose clock lags.
const BACKDATE_SECONDS: i64 = 300;
/// One that is valid no longer than this is not made shorter by it.
const SHORT_SECONDS: i64 = 8 * 3600;

pub const CONTROLLER: Controller = Controller {
    name: "certificatesigningrequest-signing-controller",
    settles: Settles::Always,
    watches: WATCHES,
    reconcile,
};

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let Some(object) = view.snapshot.get(key) else { return plan };
    let csr = object.view::<CertificateSigningRequest>();
    let is_approved = condition(&csr, "Approved").is_some() && condition(&csr, "Denied").is_none();
    if !is_approved || condition(&csr, "Failed").is_some() || issued(&csr).is_some() {
        return plan;
    }
    let Ok(request) = CertificateRequest::of_pem(&csr.spec.request.0) else { return plan };
    let usages = csr.spec.usages.clone().unwrap_or_default();
    let is_right = match csr.spec.signer_name.as_str() {
        KUBELET_SERVING => kubelet::check_serving(&request, &usages),
        KUBELET_CLIENT => kubelet::check_client(&request, &usages),
        API_SERVER_CLIENT => check_client_usages(&usages),
        LEGACY_UNKNOWN => Ok(()),
        // Somebody else's.
        _ => return plan,
    };
    match is_right.and_then(|()| request.check_signature()) {
        Ok(()) => plan.actions.push(Action::Make {
            kind: CERTIFICATE_REQUEST,
            subresource: "status",
            value: object.value(),
            work: Work::Certificate(order(view, &csr, request, usages)),
        }),
        Err(why) => fail(view, object, &why, &mut plan),
    }
    plan
}

fn order(
    view: &View,
    csr: &CertificateSigningRequest,
    request: CertificateRequest,
    usages: Vec<String>,
) -> CertificateOrder {
    let asked = csr.spec.expiration_seconds.map_or(SECONDS_MAX, i64::from);
    let seconds = asked.clamp(SECONDS_MIN, SECONDS_MAX);
    let until = if seconds <= SHORT_SECONDS { seconds } else { seconds - BACKDATE_SECONDS };
    CertificateOrder {
        request: request.der,
        usages,
        not_before: facts::after(view.now, -BACKDATE_SECONDS),
        not_after: facts::after(view.now, until),
    }
}

fn check_client_usages(usages: &[String]) -> Result<(), String> {
    let is_known = |usage: &&String| matches!(usage.as_str(), "digital signature" | "key encipherment" | "client auth");
    if let Some(usage) = usages.iter().find(|usage| !is_known(usage)) {
        return Err(format!("invalid usage for client certificate: {usage}"));
    }
    match usages.iter().any(|usage| usage == "client auth") {
        true => Ok(()),
        false => Err("missing required usage for client certificate: client auth".into()),
    }
}

fn fail(view: &View, object: &Object, why: &str, plan: &mut Plan) {
    let mut value = object.value();
    let mut conditions = facts::list(&value["status"]["conditions"]).to_vec();
    conditions.push(json!({"type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": why,
        "lastUpdateTime": facts::time(view.now)}));
    value["status"]["conditions"] = json!(conditions);
    plan.update_status(CERTIFICATE_REQUEST, value);
}
