//! Whether anybody still uses the tokens that Secrets hold: their last day of use is noted on them, so that those which nobody uses
//! can be taken away.
//!
//! Upstream: pkg/serviceaccount/legacy.go and pkg/controlplane/controller/legacytokentracking.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use stead_api::request::PatchType;
use stead_api::token::{Credential, LegacyClaims};
use stead_api::{Request, Resource, User, Verb};
use stead_store::Snapshot;

/// Set by whoever takes a token away for a while, to see whether it is missed.
pub const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
pub const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// Namespace and name of the ConfigMap that tells since when uses are noted.
pub const TRACKING: (&str, &str) = ("kube-system", "kube-apiserver-legacy-service-account-token-tracking");

fn day(now: Timestamp) -> String {
    now.strftime("%Y-%m-%d").to_string()
}

pub(crate) fn tracking(now: Timestamp) -> Value {
    json!({"metadata": {"name": TRACKING.1, "namespace": TRACKING.0},
        "data": {"since": day(now)}})
}

pub(crate) fn marked_invalid(claims: &LegacyClaims) -> String {
    let (namespace, secret, account) = (&claims.namespace, &claims.secret, &claims.account);
    format!(
        "the token in secret {namespace}/{secret} for service account {namespace}/{account} has been marked invalid. Use tokens from \
         the TokenRequest API or manually created secret-based tokens, or remove the '{INVALID_SINCE}' label from the secret to \
         temporarily allow use of this token"
    )
}

/// The write that notes the use of a credential; None when today's is noted already, or it is no Secret's.
pub fn note_use(snapshot: &Snapshot, now: Timestamp, credential: &Credential) -> Option<Request> {
    let Credential::Legacy { claims, .. } = credential else { return None };
    let secret = snapshot.find("secrets", &claims.namespace, &claims.secret)?;
    let today = day(now);
    // Days compare as their texts do; a clock that was put back notes nothing.
    if secret.meta.label(LAST_USED).is_some_and(|last| last >= today.as_str()) {
        return None;
    }
    let resource = Resource {
        version: "v1".into(),
        plural: "secrets".into(),
        namespace: claims.namespace.clone(),
        name: claims.secret.clone(),
        ..Resource::default()
    };
    let body = json!({"metadata": {"uid": secret.meta.uid, "labels": {LAST_USED: today}}});
    let user = User { name: "system:apiserver".into(), groups: vec!["system:masters".into()], ..User::default() };
    let mut request = Request::of(Arc::new(user), Verb::Patch(PatchType::Merge), resource, body);
    request.options.field_manager = "kube-apiserver".into();
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Server;
    use crate::{DEFAULT_AUDIENCE, authenticate};

    #[test]
    fn a_use_is_noted_once_a_day_and_a_token_that_is_marked_invalid_is_refused() {
        let mut server = Server::new();
        let account = server.get("/api/v1/namespaces/default/serviceaccounts/default");
        let uid = account["metadata"]["uid"].as_str().expect("a uid");
        let path = "/api/v1/namespaces/default/secrets";
        server.make(path, json!({"metadata": {"name": "t"}, "data": {"token": "dG9rZW4="}}));
        let claims = LegacyClaims::new("default", "t", "default", uid);
        let credential = Credential::Legacy { claims, token: "token".into() };
        let note = |server: &Server| note_use(&server.head().store.snapshot, server.now, &credential);
        let first = note(&server).expect("nothing is noted");
        assert!(server.perform(&first).status().is_none());
        assert_eq!(server.get(&format!("{path}/t"))["metadata"]["labels"][LAST_USED], "2026-01-01");
        assert!(note(&server).is_none());
        server.wait(24 * 3600);
        let next = note(&server).expect("another day");
        assert_eq!(next.body["metadata"]["labels"][LAST_USED], "2026-01-02");
        let ask = |server: &Server| {
            let audiences = [DEFAULT_AUDIENCE.to_owned()];
            authenticate(&server.head().store.snapshot, server.now, &credential, &audiences).map(|(user, _)| user.name)
        };
        assert_eq!(ask(&server), Ok("system:serviceaccount:default:default".into()));
        server.done(&format!("PATCH:merge {path}/t"), json!({"metadata": {"labels": {INVALID_SINCE: "2026-01-01"}}}));
        let told = ask(&server).expect_err("marked");
        assert!(
            told.starts_with(
                "the token in secret default/t for service account default/default has been marked invalid."
            ),
            "{told}"
        );
    }
}
