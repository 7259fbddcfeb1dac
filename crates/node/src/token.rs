//! Service account tokens of pods: which one is wanted, and when it is asked for again.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

/// A token is asked for again at the latest after this.
const TOKEN_AGE_MAX: SignedDuration = SignedDuration::from_hours(24);

/// Which token a pod wants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenKey {
    pub pod_uid: String,
    pub pod_name: String,
    pub namespace: String,
    pub service_account: String,
    pub audience: String,
    pub expiration_seconds: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}

impl Token {
    /// When the next one is asked for.
    pub fn refresh_at(&self) -> Timestamp {
        let life = self.expires_at.duration_since(self.issued_at);
        self.issued_at + (life * 4 / 5).min(TOKEN_AGE_MAX)
    }
}

pub type Tokens = BTreeMap<TokenKey, Token>;

/// The tokens of one pod.
pub fn tokens_of<'a>(tokens: &'a Tokens, pod_uid: &'a str) -> impl Iterator<Item = (&'a TokenKey, &'a Token)> {
    let first = TokenKey {
        pod_uid: pod_uid.to_owned(),
        pod_name: String::new(),
        namespace: String::new(),
        service_account: String::new(),
        audience: String::new(),
        expiration_seconds: i64::MIN,
    };
    tokens.range(first..).take_while(move |(key, _)| key.pod_uid == pod_uid)
}
