//! Bootstrap tokens: Secrets of kube-system that let machines in before they have certificates.
//!
//! Upstream: plugin/pkg/auth/authenticator/token/bootstrap, k8s.io/cluster-bootstrap.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde_json::Value;
use stead_api::User;
use stead_api::object::Object;
use stead_store::Snapshot;

pub const TYPE: &str = "bootstrap.kubernetes.io/token";
pub const NAMESPACE: &str = "kube-system";
/// Names of the Secrets, before the token's id.
pub const PREFIX: &str = "bootstrap-token-";
const GROUP: &str = "system:bootstrappers";

/// What a token's Secret says.
pub struct Token<'a> {
    object: &'a Object,
    data: Value,
}

impl<'a> Token<'a> {
    /// The token that a Secret holds, if it is whole and named after its id.
    pub fn of(object: &'a Object) -> Option<Token<'a>> {
        let named = object.key.name.strip_prefix(PREFIX)?;
        let mut value = object.value();
        if &*object.key.namespace != NAMESPACE || value["type"] != TYPE {
            return None;
        }
        let token = Token { object, data: value["data"].take() };
        (token.text("token-id") == named).then_some(token)
    }

    pub fn id(&self) -> String {
        self.text("token-id")
    }

    pub fn secret(&self) -> String {
        self.text("token-secret")
    }

    fn text(&self, field: &str) -> String {
        let bytes = self.data[field].as_str().and_then(|text| BASE64.decode(text).ok()).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    }

    /// Whether it may be used for `authentication` or `signing`.
    pub fn is_for(&self, usage: &str) -> bool {
        self.text(&format!("usage-bootstrap-{usage}")) == "true"
    }

    /// When it ends; an expiration that nobody understands is over.
    pub fn expiration(&self) -> Option<Timestamp> {
        let text = self.text("expiration");
        (!text.is_empty()).then(|| text.parse().unwrap_or(Timestamp::MIN))
    }

    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expiration().is_some_and(|end| end < now)
    }

    /// The groups it gives. None: one of them is not allowed, and then the token is good for nothing.
    fn groups(&self) -> Option<Vec<String>> {
        let text = self.text("auth-extra-groups");
        let mut groups: Vec<String> =
            text.split(',').filter(|one| !text.is_empty() && !one.is_empty()).map(str::to_owned).collect();
        groups.iter().all(|group| is_allowed(group)).then_some(())?;
        groups.sort();
        groups.dedup();
        groups.insert(0, GROUP.into());
        Some(groups)
    }
}

/// `system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]`
fn is_allowed(group: &str) -> bool {
    let Some(rest) = group.strip_prefix("system:bootstrappers:") else { return false };
    let is_word = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends_well = rest.bytes().last().is_some_and(is_word);
    ends_well && rest.len() <= 256 && rest.bytes().all(|c| is_word(c) || c == b':' || c == b'-')
}

/// Splits `abcdef.0123456789abcdef`.
pub fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let is_word = |text: &str| text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && is_word(id) && is_word(secret)).then_some((id, secret))
}

/// Who comes with this token.
pub(crate) fn user(snapshot: &Snapshot, now: Timestamp, id: &str, secret: &str) -> Option<User> {
    let object = snapshot.find("secrets", NAMESPACE, &format!("{PREFIX}{id}"))?;
    let token = Token::of(object)?;
    let is_good = !token.object.meta.is_deleting() && !token.is_expired(now) && token.is_for("authentication");
    if !is_good || !is_same(&token.secret(), secret) {
        return None;
    }
    let mut groups = token.groups()?;
    groups.push("system:authenticated".into());
    Some(User { name: format!("system:bootstrap:{id}"), groups, ..User::default() })
}

/// Compares in the same time wherever they differ.
fn is_same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differs, (x, y)| differs | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_and_its_groups_have_a_form() {
        assert_eq!(parse("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for wrong in ["abcdef", "abcdeF.0123456789abcdef", "abcde.0123456789abcdef", "abcdef.0123456789abcde", "a.b.c"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert!(is_allowed("system:bootstrappers:kubeadm:default-node-token"));
        for wrong in ["system:masters", "system:bootstrappers:", "system:bootstrappers:x-", "system:bootstrappers:X"] {
            assert!(!is_allowed(wrong), "{wrong}");
        }
    }
}
