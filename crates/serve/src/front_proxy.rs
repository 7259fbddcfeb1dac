//! Who we are to extension API servers: a certificate by an authority of its own, and headers that say for whom we ask.
//!
//! The authority signs nothing but this certificate, so nobody else can claim to speak for others. It is kept under
//! `pki/front-proxy/`, and lives as long as the cluster's own; the certificate lives as long as the process.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use stead_api::User;
use stead_apiserver::FRONT_PROXY;

use crate::pki::Pki;
use crate::trust::Shown;

const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const EXTRA: &str = "x-remote-extra-";

pub struct FrontProxy {
    pub ca_pem: String,
    pub shown: Arc<Shown>,
}

impl FrontProxy {
    /// `dir`: the cluster's `pki/`.
    pub fn open(dir: &Path) -> Result<FrontProxy> {
        let authority = Pki::open(&dir.join("front-proxy"))?;
        let identity = authority.client(FRONT_PROXY, &[])?;
        let shown = Arc::new(Shown { certificate: identity.certificate, key: identity.key });
        Ok(FrontProxy { ca_pem: authority.ca_pem, shown })
    }
}

/// Says for whom a request is made; what a client claims about itself is taken out.
pub fn name_user(headers: &mut HeaderMap, user: &User) {
    let claimed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| [USER, UID, GROUP].contains(name) || name.as_str().starts_with(EXTRA))
        .cloned()
        .collect();
    for name in claimed {
        headers.remove(name);
    }
    let mut add = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.append(name, value);
        }
    };
    add(USER, &user.name);
    if !user.uid.is_empty() {
        add(UID, &user.uid);
    }
    for group in &user.groups {
        add(GROUP, group);
    }
    for (key, values) in &user.extra {
        let Ok(name) = format!("{EXTRA}{}", escaped(key)).parse::<HeaderName>() else { continue };
        values.iter().for_each(|value| add(name.clone(), value));
    }
}

/// A key as part of a header's name: what may not stand there is percent-encoded.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'!' | b'#' | b'$' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~' => {
                out.push(char::from(byte));
            }
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte.to_ascii_lowercase())),
            byte => out.push_str(&format!("%{byte:02x}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_named_and_claims_are_taken_out() {
        let mut headers = HeaderMap::new();
        for claimed in ["x-remote-user", "x-remote-group", "x-remote-extra-evil"] {
            headers.insert(HeaderName::from_static(claimed), HeaderValue::from_static("system:masters"));
        }
        let mut user =
            User { name: "ann".into(), uid: "u1".into(), groups: vec!["a".into(), "b".into()], ..User::default() };
        user.extra.insert("example.org/Scopes".into(), vec!["x".into(), "y".into()]);
        name_user(&mut headers, &user);
        let mut shown: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
        shown.sort();
        assert_eq!(
            shown,
            [
                "x-remote-extra-example.org%2fscopes=x",
                "x-remote-extra-example.org%2fscopes=y",
                "x-remote-group=a",
                "x-remote-group=b",
                "x-remote-uid=u1",
                "x-remote-user=ann"
            ]
        );
    }
}
