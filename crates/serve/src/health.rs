//! `/healthz`, `/livez`, `/readyz` with their checks, `/metrics` and the documents of the token issuer: the paths that are not of
//! the API. Each is for those who may read it, as roles say.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;
use stead_api::{Request, Status, Target, Verb};

use crate::Server;
use crate::out::{NOT_CACHED, Out};
use crate::token::ISSUER;

/// What is looked at. The server answers at all only once its state is restored, so being ready needs no more than living.
const CHECKS: [Check; 3] = [
    Check { name: "ping", is_well: |_| true },
    Check { name: "log", is_well: |_| true },
    // The store, under the name that dashboards and probes know.
    Check { name: "etcd", is_well: |server| server.plane.trouble().is_none() },
];

struct Check {
    name: &'static str,
    is_well: fn(&Server) -> bool,
}

/// Answers a path of ours for a user who may read it, or None.
///
/// # Errors
/// 403 for everybody else.
pub fn serve_authorized(server: &Server, request: &Request) -> Result<Option<Response<Out>>, Status> {
    let Target::Path(path) = &request.target else { return Ok(None) };
    if !is_ours(path) {
        return Ok(None);
    }
    stead_apiserver::authorize_request(&server.plane.head().store.snapshot, request)?;
    if request.verb != Verb::Get {
        return Err(Status::method_not_allowed());
    }
    let answer = match path.as_str() {
        "/metrics" => text("text/plain; version=0.0.4; charset=utf-8", crate::metrics::text::all(server)),
        "/metrics/slis" => text("text/plain; version=0.0.4; charset=utf-8", indicators(server)),
        "/openid/v1/jwks" => cached("application/jwk-set+json", server.signer.key_set().to_string()),
        "/.well-known/openid-configuration" => cached("application/json", issuer()),
        path => return health(server, request, path).map(Some),
    };
    Ok(Some(answer))
}

fn is_ours(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    matches!(first, "healthz" | "livez" | "readyz")
        || matches!(path, "/metrics" | "/metrics/slis" | "/openid/v1/jwks" | "/.well-known/openid-configuration")
}

/// `/livez`, or one check: `/livez/ping`.
fn health(server: &Server, request: &Request, path: &str) -> Result<Response<Out>, Status> {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let name = parts.next().unwrap_or_default();
    if let Some(only) = parts.next() {
        let check = CHECKS.iter().find(|check| check.name == only && parts.next().is_none());
        let check = check.ok_or_else(Status::no_such_path)?;
        return Ok(match (check.is_well)(server) {
            true => healthy("ok".into()),
            false => unwell(format!("internal server error: {}\n", reason(server))),
        });
    }
    let excluded: Vec<&str> = request.options.params("exclude").collect();
    let is_verbose = request.options.param("verbose").is_some();
    let (said, failed) = look(server, &excluded);
    Ok(match (failed.is_empty(), is_verbose) {
        (true, false) => healthy("ok".into()),
        (true, true) => healthy(format!("{said}{name} check passed\n")),
        (false, _) => unwell(format!("{said}{name} check failed\n")),
    })
}

/// What each check says, and which ones failed.
fn look(server: &Server, excluded: &[&str]) -> (String, Vec<&'static str>) {
    let mut said = String::new();
    let mut failed = Vec::new();
    for Check { name, is_well } in CHECKS {
        if excluded.contains(&name) {
            said.push_str(&format!("[+]{name} excluded: ok\n"));
        } else if is_well(server) {
            said.push_str(&format!("[+]{name} ok\n"));
        } else {
            said.push_str(&format!("[-]{name} failed: reason withheld\n"));
            failed.push(name);
        }
    }
    let unknown: Vec<String> = excluded
        .iter()
        .filter(|one| !CHECKS.iter().any(|check| check.name == **one))
        .map(|one| format!("\"{one}\""))
        .collect();
    if !unknown.is_empty() {
        let unknown = unknown.join(", ");
        said.push_str(&format!("warn: some health checks cannot be excluded: no matches for {unknown}\n"));
    }
    (said, failed)
}

fn reason(server: &Server) -> String {
    server.plane.trouble().map_or_else(String::new, |why| why.to_string())
}

fn healthy(body: String) -> Response<Out> {
    let mut response = text("text/plain; charset=utf-8", body);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(NOT_CACHED));
    response
}

fn unwell(body: String) -> Response<Out> {
    let mut response = healthy(body);
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// The checks as metrics.
fn indicators(server: &Server) -> String {
    let name = "kubernetes_healthcheck";
    let mut out =
        format!("# HELP {name} [STABLE] This metric records the result of all healthchecks.\n# TYPE {name} gauge\n");
    for kind in ["healthz", "livez", "readyz"] {
        for check in &CHECKS {
            let value = u8::from((check.is_well)(server));
            out.push_str(&format!("{name}{{name=\"{}\",type=\"{kind}\"}} {value}\n", check.name));
        }
    }
    out
}

/// A document that clients may keep for an hour.
fn cached(content_type: &'static str, body: String) -> Response<Out> {
    let mut response = text(content_type, body);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}

fn issuer() -> String {
    json!({"issuer": ISSUER, "jwks_uri": format!("{ISSUER}/openid/v1/jwks"), "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"]})
    .to_string()
}

fn text(content_type: &'static str, body: String) -> Response<Out> {
    let mut response = Response::new(Out::pieces(vec![Bytes::from(body)]));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
