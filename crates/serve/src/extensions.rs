//! Extension API servers: requests below `/apis/GROUP/VERSION` go to the Service that the APIService names.
//!
//! Without such an APIService a request costs one look at an empty map. `attend.rs` asks each extension whether it answers, and
//! what it serves; the outcome is written as the condition `Available`, and requests follow what was written.
//! Upstream: kube-aggregator, pkg/apiserver.

mod attend;
mod call;
mod learn;
mod map;
mod sweep;

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HOST, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use stead_api::{Request, Status, Target, User};
use stead_apiserver::{Extension, Head, Reply};

use crate::Server;
use crate::forward::{FORWARDED_URI, forward};
use crate::front_proxy::name_user;
use crate::out::Out;
use crate::outbound::Failure;

pub use attend::start;
pub use map::Extensions;
pub use sweep::sweep;

use call::place;

/// The name that documents are asked for under.
const AGGREGATOR: &str = "system:aggregator";

/// Whether a path's document is another server's own.
fn document_of(path: &str) -> Option<&str> {
    path.strip_prefix("/openapi/v3").filter(|rest| rest.starts_with("/apis/"))
}

/// The extension that a request belongs to, if it does.
pub fn route(server: &Server, path: &str) -> Option<Extension> {
    if server.extensions.is_empty() {
        return None;
    }
    server.extensions.of_path(document_of(path).unwrap_or(path))
}

/// Passes a request on, if its user may make it.
///
/// # Errors
/// 403, in the words for our own resources.
pub async fn serve(
    server: &Arc<Server>,
    extension: &Extension,
    request: &Request,
    (mut parts, body): (Parts, Incoming),
) -> Result<Response<Out>, Status> {
    let head = server.plane.head();
    stead_apiserver::authorize_request(&head.store.snapshot, request)?;
    if !extension.is_available {
        return Ok(refusal(StatusCode::SERVICE_UNAVAILABLE, "service unavailable"));
    }
    let is_document = document_of(parts.uri.path()).is_some();
    let aggregator = User { name: AGGREGATOR.into(), ..User::default() };
    name_user(&mut parts.headers, if is_document { &aggregator } else { &request.user });
    // The URL says it.
    parts.headers.remove(HOST);
    if let Ok(uri) = HeaderValue::from_str(parts.uri.path()) {
        parts.headers.insert(FORWARDED_URI, uri);
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let Ok((peer, url)) = place(server, &head, extension, &path) else {
        return Ok(refusal(StatusCode::SERVICE_UNAVAILABLE, "service unavailable"));
    };
    drop(head);
    match forward(server, peer, url, (parts, body)).await {
        Ok(response) => Ok(response),
        Err(Failure::Trust(why)) => Ok(refusal(StatusCode::INTERNAL_SERVER_ERROR, &why)),
        Err(failure) => {
            let why = format!("error trying to reach service: {}", failure.why());
            Err(Status::unavailable(why))
        }
    }
}

/// Adds what extensions told to a document of ours.
pub fn complete(server: &Server, head: &Head, request: &Request, reply: Reply) -> Reply {
    let Target::Path(path) = &request.target else { return reply };
    let mut known = server.extensions.known();
    if let Some(own) = crate::usage::known(server).filter(|own| !known.iter().any(|other| other.0.name == own.0.name)) {
        known.push(own);
    }
    if known.is_empty() { reply } else { stead_apiserver::with_extensions(head, request, path, reply, &known) }
}

/// Plain text, as upstream's aggregator refuses.
fn refusal(code: StatusCode, why: &str) -> Response<Out> {
    let mut response = Response::new(Out::pieces(vec![format!("{why}\n").into()]));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
