//! Certificate requests: who asked, who may approve, who may sign.

use serde_json::{Value, json};
use stead_api::{Request, Status};
use stead_kinds::certificate_request::CertificateRequest;

use crate::Context;
use crate::access;
use crate::attributes::Attributes;
use crate::draft::{Draft, time_text};

/// Where the requests are stored.
pub(super) const REQUESTS: &str = "certificatesigningrequests.certificates.k8s.io";
const GROUP: &str = "certificates.k8s.io";

/// Writes down who asked; nobody can say it of themselves.
pub(super) fn requester(_: &mut Context, request: &Request, draft: &mut Draft) -> Result<(), Status> {
    if !draft.is_creation() {
        return Ok(());
    }
    let user = &request.user;
    let Some(spec) = draft.new["spec"].as_object_mut() else { return Ok(()) };
    spec.insert("username".into(), json!(user.name));
    for (field, value, is_set) in [
        ("uid", json!(user.uid), !user.uid.is_empty()),
        ("groups", json!(user.groups), !user.groups.is_empty()),
        ("extra", json!(user.extra), !user.extra.is_empty()),
    ] {
        match is_set {
            true => drop(spec.insert(field.into(), value)),
            false => drop(spec.shift_remove(field)),
        }
    }
    Ok(())
}

/// Nobody becomes an administrator by a client certificate of the API server's own signer.
pub(super) fn restrict_subject(_: &mut Context, _: &Request, draft: &mut Draft) -> Result<(), Status> {
    if !draft.is_creation() || draft.new["spec"]["signerName"] != "kubernetes.io/kube-apiserver-client" {
        return Ok(());
    }
    let Some(request) = parsed(&draft.new["spec"]["request"]) else { return Ok(()) };
    if request.organizations.iter().any(|one| one == "system:masters") {
        return Err(draft
            .forbidden("use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"));
    }
    Ok(())
}

/// The request of a field `spec.request`; None leaves it to validation to say what is wrong.
pub(super) fn parsed(field: &Value) -> Option<CertificateRequest> {
    use base64::Engine;
    let pem = base64::engine::general_purpose::STANDARD.decode(field.as_str()?).ok()?;
    CertificateRequest::of_pem(&pem).ok()
}

/// Needs the verb `approve` on the signer, or on all signers of its domain.
pub(super) fn approve(ctx: &mut Context, request: &Request, draft: &mut Draft) -> Result<(), Status> {
    let signer = signer(draft);
    if !may(ctx, request, &signer, "approve") {
        return Err(draft.forbidden(&format!("user not permitted to approve requests with signerName {signer:?}")));
    }
    stamp(ctx, draft);
    Ok(())
}

/// Issuing a certificate needs the verb `sign` in the same way.
pub(super) fn sign(ctx: &mut Context, request: &Request, draft: &mut Draft) -> Result<(), Status> {
    let issues = draft.new["status"]["certificate"] != draft.old_value["status"]["certificate"]
        || failed(&draft.new) != failed(&draft.old_value);
    let signer = signer(draft);
    if issues && !may(ctx, request, &signer, "sign") {
        return Err(draft.forbidden(&format!("user not permitted to sign requests with signerName {signer:?}")));
    }
    stamp(ctx, draft);
    Ok(())
}

fn signer(draft: &Draft) -> String {
    draft.old_value["spec"]["signerName"].as_str().unwrap_or_default().to_owned()
}

fn failed(value: &Value) -> bool {
    let conditions = value["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|one| one["type"] == "Failed")
}

fn may(ctx: &Context, request: &Request, signer: &str, verb: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    [signer.to_owned(), format!("{domain}/*")].iter().any(|name| {
        let wanted = Attributes { verb, group: GROUP, resource: "signers", name, ..Attributes::default() };
        access::allowed(ctx.store.snapshot(), &request.user, &wanted).is_ok()
    })
}

/// Conditions carry the time at which they came to be.
fn stamp(ctx: &Context, draft: &mut Draft) {
    let now = json!(time_text(ctx.now));
    let old = draft.old_value["status"]["conditions"].clone();
    for condition in draft.new["status"]["conditions"].as_array_mut().into_iter().flatten() {
        let before = old.as_array().into_iter().flatten().find(|one| one["type"] == condition["type"]);
        if condition["lastUpdateTime"].is_null() {
            condition["lastUpdateTime"] = now.clone();
        }
        if condition["lastTransitionTime"].is_null() {
            condition["lastTransitionTime"] = match before {
                Some(before) if before["status"] == condition["status"] => before["lastTransitionTime"].clone(),
                _ => now.clone(),
            };
        }
    }
}
