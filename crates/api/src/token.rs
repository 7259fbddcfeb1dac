//! The claims of a ServiceAccount token (ID-02, ID-05), as the JWT carries them.
//!
//! The API server decides what a token says and whether a token's claims still hold; signing and checking signatures is the
//! shell's, which holds the key.

use serde::{Deserialize, Serialize};

/// The payload of the JWT. Times are seconds since the epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenClaims {
    #[serde(default)]
    pub aud: Vec<String>,
    #[serde(default)]
    pub exp: i64,
    #[serde(default)]
    pub iat: i64,
    /// Filled in by the shell that signs.
    #[serde(default)]
    pub iss: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    #[serde(rename = "kubernetes.io", default)]
    pub kubernetes: BoundTo,
    #[serde(default)]
    pub nbf: i64,
    #[serde(default)]
    pub sub: String,
}

/// What the token is bound to: it stops being valid when one of these goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundTo {
    #[serde(default)]
    pub namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Bound>,
    #[serde(default)]
    pub serviceaccount: Bound,
    /// When a client that never re-reads its token should be warned (ID-03).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub uid: String,
}

/// The payload of the token in a Secret: it never ends by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyClaims {
    pub iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub account_uid: String,
    pub sub: String,
}

impl LegacyClaims {
    /// Who issues the tokens of Secrets.
    pub const ISSUER: &str = "kubernetes/serviceaccount";

    pub fn new(namespace: &str, secret: &str, account: &str, account_uid: &str) -> LegacyClaims {
        LegacyClaims {
            iss: LegacyClaims::ISSUER.into(),
            namespace: namespace.into(),
            secret: secret.into(),
            account: account.into(),
            account_uid: account_uid.into(),
            sub: format!("system:serviceaccount:{namespace}:{account}"),
        }
    }
}

/// What a bearer token is, as far as it can be told without looking at the cluster: signatures are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    Bound(TokenClaims),
    Legacy {
        claims: LegacyClaims,
        /// The token itself: its Secret must still hold it.
        token: String,
    },
    /// A bootstrap token is no more than its words.
    Bootstrap {
        id: String,
        secret: String,
    },
}
