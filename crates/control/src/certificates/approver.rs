//! Client certificates of nodes are approved unasked when the one who asks may have them: `nodeclient` for a joining node,
//! `selfnodeclient` for a node that renews its own.

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use serde_json::json;
use stead_api::{Key, User};
use stead_apiserver::{Attributes, access};
use stead_kinds::certificate_request::CertificateRequest;

use super::{KUBELET_CLIENT, WATCHES, condition, issued, kubelet};
use crate::facts;
use crate::names::CERTIFICATE_REQUEST;
use crate::plan::{Controller, Plan, Settles, View};

pub const CONTROLLER: Controller = Controller {
    name: "certificatesigningrequest-approving-controller",
    settles: Settles::Always,
    watches: WATCHES,
    reconcile,
};

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let Some(object) = view.snapshot.get(key) else { return plan };
    let csr = object.view::<CertificateSigningRequest>();
    let is_decided = condition(&csr, "Approved").is_some() || condition(&csr, "Denied").is_some();
    if is_decided || issued(&csr).is_some() || csr.spec.signer_name != KUBELET_CLIENT {
        return plan;
    }
    let Ok(request) = CertificateRequest::of_pem(&csr.spec.request.0) else { return plan };
    let usages = csr.spec.usages.as_deref().unwrap_or_default();
    if kubelet::check_client(&request, usages).is_err() {
        return plan;
    }
    let is_own = csr.spec.username.as_deref() == Some(&request.common_name);
    let rights = [
        (is_own, "selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."),
        (true, "nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."),
    ];
    let asker = asker(&csr);
    let granted = rights.into_iter().find(|(applies, right, _)| *applies && may(view, &asker, right));
    if let Some((_, _, message)) = granted {
        let mut value = object.value();
        let mut conditions = facts::list(&value["status"]["conditions"]).to_vec();
        conditions.push(json!({"type": "Approved", "status": "True", "reason": "AutoApproved", "message": message}));
        value["status"]["conditions"] = json!(conditions);
        plan.update_subresource(CERTIFICATE_REQUEST, "approval", value);
    }
    plan
}

fn asker(csr: &CertificateSigningRequest) -> User {
    User {
        name: csr.spec.username.clone().unwrap_or_default(),
        uid: csr.spec.uid.clone().unwrap_or_default(),
        groups: csr.spec.groups.clone().unwrap_or_default(),
        extra: csr.spec.extra.clone().unwrap_or_default(),
    }
}

fn may(view: &View, user: &User, subresource: &str) -> bool {
    let wanted = Attributes {
        verb: "create",
        group: "certificates.k8s.io",
        resource: "certificatesigningrequests",
        subresource,
        ..Attributes::default()
    };
    access::allowed(view.snapshot, user, &wanted).is_ok()
}
