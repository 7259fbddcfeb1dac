//! What only the shell can do, because it holds the keys: signatures, asked for as data.
//!
//! An effect leaves the plane with its batch. The shell does the work and asks what the effect says, with the product in its place:
//! an ordinary request under the controller's name, which conflicts if the object has changed meanwhile (One path). Nothing
//! remembers an effect: the controller looks at the object, and one that still lacks its product is asked for again (Level).

use std::fmt;

use jiff::Timestamp;
use serde_json::json;
use stead_api::Request;
use stead_api::token::LegacyClaims;

#[derive(Debug)]
pub struct Effect {
    pub work: Work,
    /// The update that lacks the product.
    pub(crate) request: Request,
}

/// What is to be made.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// A certificate, PEM, for `status.certificate`.
    Certificate(CertificateOrder),
    /// A token, for `data.token` of its Secret.
    Token(LegacyClaims),
}

/// Everything about a certificate that is not in the request itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateOrder {
    /// The request, DER.
    pub request: Vec<u8>,
    pub usages: Vec<String>,
    pub not_before: Timestamp,
    /// The authority's own end comes first, if it does.
    pub not_after: Timestamp,
}

impl Effect {
    /// The request to make, given the base64 of what was made.
    pub fn done(mut self, product: &str) -> Request {
        match self.work {
            Work::Certificate(_) => self.request.body["status"]["certificate"] = json!(product),
            Work::Token(_) => self.request.body["data"]["token"] = json!(product),
        }
        self.request
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Token(claims) => write!(f, "a token of {}", claims.sub),
            Work::Certificate(order) => {
                write!(
                    f,
                    "a certificate ({}) from {} to {}",
                    order.usages.join(", "),
                    order.not_before,
                    order.not_after
                )
            }
        }
    }
}
