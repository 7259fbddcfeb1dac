//! `/healthz`, `/livez`, `/readyz`, `/metrics` and the documents of the token issuer: the paths that are not of the API.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use serde_json::json;
use stead_api::{Request, Status, Target, Verb};

use crate::Server;
use crate::http::Out;
use crate::token::ISSUER;

/// Answers a path of ours, or None. The server answers at all only once its state is restored, so ready and live are one.
pub fn serve(path: &str, query: Option<&str>) -> Option<Response<Out>> {
    let verbose = query.is_some_and(|q| q.split('&').any(|p| p == "verbose" || p.starts_with("verbose=")));
    match path {
        "/healthz" | "/livez" | "/readyz" => Some(health(&path[1..], verbose)),
        _ => None,
    }
}

/// Answers a path of ours for a user who may read it, or None.
///
/// # Errors
/// 403 for everybody else.
pub fn serve_authorized(server: &Server, request: &Request) -> Result<Option<Response<Out>>, Status> {
    let Target::Path(path) = &request.target else { return Ok(None) };
    let answer: fn(&Server) -> Response<Out> = match path.as_str() {
        "/metrics" => |server| text("text/plain; version=0.0.4", metrics(server)),
        "/openid/v1/jwks" => |server| cached("application/jwk-set+json", server.signer.key_set().to_string()),
        "/.well-known/openid-configuration" => |_| cached("application/json", issuer()),
        _ => return Ok(None),
    };
    stead_apiserver::authorize_request(&server.plane.head().store.snapshot, request)?;
    match request.verb {
        Verb::Get => Ok(Some(answer(server))),
        _ => Err(Status::method_not_allowed()),
    }
}

/// A document that clients may keep for an hour.
fn cached(content_type: &'static str, body: String) -> Response<Out> {
    let mut response = text(content_type, body);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}

fn health(name: &str, verbose: bool) -> Response<Out> {
    let body = if verbose { format!("[+]ping ok\n[+]store ok\n{name} check passed\n") } else { "ok".into() };
    text("text/plain; charset=utf-8", body)
}

fn issuer() -> String {
    json!({"issuer": ISSUER, "jwks_uri": format!("{ISSUER}/openid/v1/jwks"), "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"]})
    .to_string()
}

fn metrics(server: &Server) -> String {
    let head = server.plane.head();
    let mut out = String::from(
        "# HELP apiserver_storage_objects Number of stored objects by resource.\n# TYPE apiserver_storage_objects gauge\n",
    );
    for kind in head.store.snapshot.kinds() {
        out.push_str(&format!(
            "apiserver_storage_objects{{resource=\"{kind}\"}} {}\n",
            head.store.snapshot.count(kind)
        ));
    }
    let revision = head.store.snapshot.revision();
    out.push_str(
        "# HELP stead_store_revision Revision of the last durable write.\n# TYPE stead_store_revision counter\n",
    );
    out.push_str(&format!("stead_store_revision {revision}\n"));
    out
}

fn text(content_type: &'static str, body: String) -> Response<Out> {
    let mut response = Response::new(Out::pieces(vec![Bytes::from(body)]));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
