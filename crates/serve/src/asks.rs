//! What may be asked of the plane.

use stead_api::{Request, call};
use stead_apiserver::Reply;
use stead_control::{CallId, Measured};

/// What happens with a reply.
pub type Answer = Box<dyn FnOnce(Reply) + Send>;

pub enum Ask {
    Request(Box<Request>, Answer),
    /// What a webhook said about a write of the plane's own.
    Said(CallId, Box<call::Answer>),
    /// What pods use.
    Measured(Box<Measured>),
    Stop,
}
