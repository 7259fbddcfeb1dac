//! What only the shell can do, because it holds the keys or the connections: signatures, and what other API servers have; asked for as data.
//!
//! An effect leaves the plane with its batch. The shell does the work and asks what the effect says, with the product in its place:
//! an ordinary request under the controller's name, which conflicts if the object has changed meanwhile (One path). Nothing
//! remembers an effect: the controller looks at the object, and one that still lacks its product is asked for again (Level).

use std::fmt;

use jiff::Timestamp;
use serde_json::json;
use stead_api::token::LegacyClaims;
use stead_api::{Request, Target, User};

use crate::content::{Content, finished};

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
    /// What extension API servers have of a namespace that ends: to be deleted, and what is left of it to be told. Takes calls.
    Sweep(Sweep),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    pub namespace: String,
    /// The names of their APIServices.
    pub extensions: Vec<String>,
    /// What was found here.
    pub found: Content,
    pub now: Timestamp,
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
            Work::Sweep(_) => {}
        }
        self.request
    }

    /// The request to make, given what is left: it lets the namespace go, or tells what holds it. None when there is nothing to say.
    pub fn swept(mut self, left: Content) -> Option<Request> {
        let Work::Sweep(sweep) = self.work else { return None };
        let left = sweep.found.with(left);
        if !left.is_empty() {
            return left.tell(&mut self.request.body, sweep.now).then_some(self.request);
        }
        if let Target::Resource(resource) = &mut self.request.target {
            resource.subresource = "finalize".into();
        }
        self.request.body = finished(self.request.body)?;
        Some(self.request)
    }

    /// Who asks for it.
    pub fn user(&self) -> &User {
        &self.request.user
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Sweep(sweep) => write!(f, "the end of namespace {}", sweep.namespace),
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
