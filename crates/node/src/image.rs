//! Which image a container's start needs, with which credentials, and what is said while it is fetched.
//!
//! Upstream: pkg/kubelet/images (imagePullPolicy, ErrImagePull and ImagePullBackOff) and pkg/credentialprovider for pull secrets.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{self as core, Pod, Secret};
use serde_json::Value;
use stead_store::Snapshot;

use crate::action::Credentials;
use crate::state::{Retry, Waiting};

/// `imagePullPolicy`; the API server has defaulted it, so the rule for `latest` is only repeated for old objects.
pub fn policy(container: &core::Container) -> &str {
    match container.image_pull_policy.as_deref() {
        Some(policy) if !policy.is_empty() => policy,
        _ => {
            let image = container.image.as_deref().unwrap_or_default();
            let tag = image.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
            if image.contains('@') || tag.is_some_and(|t| t != "latest") { "IfNotPresent" } else { "Always" }
        }
    }
}

/// `state.waiting` between a failed fetch and the next.
pub fn waiting(image: &str, retry: &Retry, now: Timestamp, error_shown: SignedDuration) -> Waiting {
    let (reason, message) = (retry.failure.reason.as_str(), &retry.failure.message);
    let is_pull = matches!(reason, "ErrImagePull" | "RegistryUnavailable");
    if is_pull && now >= retry.since + error_shown {
        let message = format!("Back-off pulling image \"{image}\": {reason}: {message}");
        return Waiting { reason: "ImagePullBackOff".into(), message: Some(message) };
    }
    Waiting { reason: reason.into(), message: Some(message.clone()) }
}

/// The first pull secret of the pod that has an entry for the image's registry.
pub fn credentials(pod: &Pod, image: &str, snapshot: &Snapshot) -> Option<Credentials> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let registry = registry(image);
    let references = pod.spec.as_ref()?.image_pull_secrets.iter().flatten();
    references.filter_map(|r| snapshot.find("secrets", namespace, &r.name)).find_map(|object| {
        let secret = object.view::<Secret>();
        let data = secret.data.as_ref()?;
        let entries: Value = match (data.get(".dockerconfigjson"), data.get(".dockercfg")) {
            (Some(json), _) => serde_json::from_slice::<Value>(&json.0).ok()?.get("auths")?.clone(),
            (None, Some(json)) => serde_json::from_slice(&json.0).ok()?,
            (None, None) => return None,
        };
        let (_, entry) = entries.as_object()?.iter().find(|(key, _)| host_of(key) == registry)?;
        entry_credentials(entry)
    })
}

/// `user` and `password`, or both in `auth` as base64 of `user:password`.
fn entry_credentials(entry: &Value) -> Option<Credentials> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned);
    if let (Some(username), Some(password)) = (text("username"), text("password")) {
        return Some(Credentials { username, password });
    }
    let quoted = Value::String(text("auth")?);
    let bytes: k8s_openapi::ByteString = serde_json::from_value(quoted).ok()?;
    let both = String::from_utf8(bytes.0).ok()?;
    let (username, password) = both.split_once(':')?;
    Some(Credentials { username: username.into(), password: password.into() })
}

/// The registry's host of an image reference; images without one come from docker.io.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        Some(_) | None => "docker.io",
    }
}

/// The host of a credentials entry: `https://index.docker.io/v1/` and `registry.example.com:5000/team`.
fn host_of(key: &str) -> &str {
    let bare = key.trim_start_matches("https://").trim_start_matches("http://");
    match bare.split('/').next().unwrap_or_default() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_match_their_entries() {
        assert_eq!(registry("nginx:1"), host_of("https://index.docker.io/v1/"));
        assert_eq!(registry("127.0.0.1:5000/a/b"), host_of("127.0.0.1:5000"));
        assert_eq!(registry("stead.local/demo:1"), "stead.local");
        let entry = serde_json::json!({"auth": "dXNlcjpwYTpzcw=="});
        let found = entry_credentials(&entry).unwrap();
        assert_eq!((found.username.as_str(), found.password.as_str()), ("user", "pa:ss"));
    }

    #[test]
    fn policy_follows_the_tag() {
        let policy_of = |image: &str| {
            let container = core::Container { image: Some(image.into()), ..core::Container::default() };
            policy(&container).to_owned()
        };
        assert_eq!(policy_of("nginx"), "Always");
        assert_eq!(policy_of("h:5000/nginx"), "Always");
        assert_eq!(policy_of("nginx:1.27"), "IfNotPresent");
    }
}
