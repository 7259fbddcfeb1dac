//! Whose a bearer token is: functions of a snapshot, given a token whose signature the shell has checked (ID-02, ID-05).
//!
//! A token dies with what it is bound to: the account, and the pod, Secret or node that it names.

use jiff::{SignedDuration, Timestamp};
use stead_api::object::Object;
use stead_api::token::{Bound, Credential, LegacyClaims};
use stead_api::{TokenClaims, User};
use stead_store::Snapshot;

use crate::{bootstrap_token, legacy_use};

/// For whom tokens are that name nobody, and whom the API server takes itself for.
pub const DEFAULT_AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";
/// What is deleted ends its tokens a moment later: clocks differ.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);

/// The user of a token, and for whom of `audiences` it is.
///
/// # Errors
/// Why it is nobody's, or not for these.
pub fn authenticate(
    snapshot: &Snapshot,
    now: Timestamp,
    credential: &Credential,
    audiences: &[String],
) -> Result<(User, Vec<String>), String> {
    let own = [DEFAULT_AUDIENCE.to_owned()];
    let (user, of_token) = match credential {
        Credential::Bound(claims) => (bound_user(snapshot, now, claims)?, claims.aud.as_slice()),
        Credential::Legacy { claims, token } => (legacy_user(snapshot, now, claims, token)?, own.as_slice()),
        Credential::Bootstrap { id, secret } => {
            (bootstrap_token::user(snapshot, now, id, secret).ok_or("invalid bearer token")?, own.as_slice())
        }
    };
    let common: Vec<String> = audiences.iter().filter(|one| of_token.contains(one)).cloned().collect();
    match common.is_empty() {
        false => Ok((user, common)),
        true => Err(format!("token audiences {of_token:?} is invalid for the target audiences {audiences:?}")),
    }
}

fn bound_user(snapshot: &Snapshot, now: Timestamp, claims: &TokenClaims) -> Result<User, String> {
    let bound = &claims.kubernetes;
    let (namespace, account) = (&bound.namespace, &bound.serviceaccount);
    if claims.exp <= now.as_second() {
        return Err("service account token has expired".into());
    }
    if claims.nbf > now.as_second() {
        return Err("service account token is not valid yet".into());
    }
    let mut user = account_user(snapshot, now, namespace, account)?;
    let mut tell = |key: &str, value: &str| {
        user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
    };
    if !claims.jti.is_empty() {
        tell("credential-id", &format!("JTI={}", claims.jti));
    }
    if let Some(secret) = &bound.secret {
        living(snapshot, now, "secrets", namespace, secret).ok_or("service account token has been invalidated")?;
    }
    if let Some(pod) = &bound.pod {
        living(snapshot, now, "pods", namespace, pod).ok_or("service account token has been invalidated")?;
        tell("pod-name", &pod.name);
        tell("pod-uid", &pod.uid);
    }
    if let Some(node) = &bound.node {
        // Of a pod's token it only tells where the pod runs.
        if bound.pod.is_none() {
            living(snapshot, now, "nodes", "", node).ok_or("service account token has been invalidated")?;
        }
        tell("node-name", &node.name);
        tell("node-uid", &node.uid);
    }
    Ok(user)
}

/// The token of a Secret: valid for as long as that very Secret holds it.
fn legacy_user(snapshot: &Snapshot, now: Timestamp, claims: &LegacyClaims, token: &str) -> Result<User, String> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD as BASE64;
    let secret = snapshot.find("secrets", &claims.namespace, &claims.secret);
    let secret = secret.filter(|secret| !is_gone(secret, now));
    let secret = secret.ok_or("service account token has been invalidated")?;
    if secret.value()["data"]["token"].as_str() != Some(&BASE64.encode(token)) {
        return Err("service account token does not match server's copy".into());
    }
    if secret.meta.label(legacy_use::INVALID_SINCE).is_some_and(|since| !since.is_empty()) {
        return Err(legacy_use::marked_invalid(claims));
    }
    let account = Bound { name: claims.account.clone(), uid: claims.account_uid.clone() };
    account_user(snapshot, now, &claims.namespace, &account)
}

fn account_user(snapshot: &Snapshot, now: Timestamp, namespace: &str, account: &Bound) -> Result<User, String> {
    let found = snapshot.find("serviceaccounts", namespace, &account.name);
    let found = found.ok_or_else(|| format!("serviceaccounts \"{}\" not found", account.name))?;
    if is_gone(found, now) {
        return Err(format!("service account {namespace}/{} has been deleted", account.name));
    }
    if found.meta.uid != account.uid {
        return Err(format!("service account UID ({}) does not match claim ({})", found.meta.uid, account.uid));
    }
    Ok(User {
        name: format!("system:serviceaccount:{namespace}:{}", account.name),
        uid: account.uid.clone(),
        groups: vec![
            "system:serviceaccounts".into(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".into(),
        ],
        ..User::default()
    })
}

fn living<'a>(
    snapshot: &'a Snapshot,
    now: Timestamp,
    kind: &'static str,
    namespace: &str,
    bound: &Bound,
) -> Option<&'a Object> {
    let found = snapshot.find(kind, namespace, &bound.name)?;
    (found.meta.uid == bound.uid && !is_gone(found, now)).then_some(found)
}

fn is_gone(object: &Object, now: Timestamp) -> bool {
    object.meta.deletion_timestamp.is_some_and(|at| at < now - LEEWAY)
}
