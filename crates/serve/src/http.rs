//! HTTP to requests and replies to HTTP.
//!
//! The life of a request: authenticate, parse path and query, read and decode the body (on this thread), then either answer from the
//! published head or ask the plane. Watches are bodies driven by the head's changes; a slow reader holds up nobody but itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, RETRY_AFTER,
    USER_AGENT, VARY, WARNING,
};
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use serde_json::Value;
use stead_api::{Form, Noted, Options, Remarks, Request, Status, Target, User, Verb, request};
use stead_apiserver::{Head, LongList, Reply, WatchPlan};

use crate::audit::Trail;
use crate::fairness::Flow;
use crate::metrics::InFlight;
use crate::out::{NOT_CACHED, Out};
use crate::watch::Watch;
use crate::{Server, clock, gzip};
use stead_apiserver::body::BODY_BYTES_MAX;

/// How long a body may take to arrive.
const BODY_SECONDS_MAX: u64 = 60;
/// What a client may keep without asking again.
const CACHE_FOREVER: &str = "public, immutable, max-age=31536000";

/// Serves one HTTP request of a connection whose client certificate named `peer`.
pub async fn serve(server: Arc<Server>, peer: Option<Arc<User>>, request: http::Request<Incoming>) -> Response<Out> {
    let (parts, body) = request.into_parts();
    let of_errors = ErrorForm::of(&parts);
    let mut followed = Followed::default();
    let mut response = answer(&server, peer, (parts, body), &of_errors, &mut followed).await.unwrap_or_else(|status| {
        if let Some(trail) = &mut followed.trail {
            trail.failed(&status);
        }
        failure(&status, &[], &of_errors)
    });
    warn(response.headers_mut(), &followed.remarks.warnings);
    let private = HeaderValue::from_static(NOT_CACHED);
    response.headers_mut().entry(CACHE_CONTROL).or_insert(private);
    server.metrics.end(followed.counted, response.status().as_u16());
    if let Some(flow) = followed.flow {
        flow.mark(response.headers_mut());
    }
    match followed.trail {
        Some(trail) => trail.finish(response, followed.remarks.notes),
        None => response,
    }
}

/// What the form of an error is told by; it is settled when there is one.
struct ErrorForm {
    accept: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    uri: http::Uri,
}

impl ErrorForm {
    fn of(parts: &Parts) -> ErrorForm {
        let value = |name: &HeaderName| parts.headers.get(name).cloned();
        ErrorForm { accept: value(&ACCEPT), user_agent: value(&USER_AGENT), uri: parts.uri.clone() }
    }

    fn settle(&self) -> Form {
        let text =
            |value: &Option<HeaderValue>| value.as_ref().and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let options = request::options(self.uri.query().unwrap_or_default()).ok();
        stead_apiserver::error_form(&text(&self.accept), &text(&self.user_agent), options.as_ref())
    }
}

/// What goes with a request: its count, its seat, its trail in the audit log, if that wants to know of it, and what there is to say
/// of its decision beside the answer.
#[derive(Default)]
struct Followed<'a> {
    counted: Option<InFlight<'a>>,
    flow: Option<Flow<'a>>,
    trail: Option<Trail>,
    remarks: Remarks,
}

/// Who asks what, of us or of another server.
fn understand<'a>(
    server: &'a Server,
    peer: Option<Arc<User>>,
    parts: &Parts,
    is_others: bool,
    followed: &mut Followed<'a>,
) -> Result<Request, Status> {
    let users = crate::auth::users(server, peer, &parts.headers);
    let read = |user| if is_others { Ok(parse_of_others(parts, user)) } else { parse(parts, user) };
    let mut request = match &server.audit {
        None => read(users?.1)?,
        Some(audit) => {
            let (asker, user) = users.clone().unwrap_or_default();
            let request = read(user);
            if let Ok(request) = &request {
                followed.trail = audit.begin(parts, &asker, request);
            }
            users?;
            request?
        }
    };
    if let Some(trail) = &mut followed.trail {
        trail.decided(&server.plane.head(), &request);
        request.noted = trail.noted();
    }
    followed.counted = Some(server.metrics.begin(&server.plane.head(), &request));
    followed.flow = server.fairness.classify(&request);
    Ok(request)
}

async fn answer<'a>(
    server: &'a Arc<Server>,
    peer: Option<Arc<User>>,
    (mut parts, body): (Parts, Incoming),
    of_errors: &ErrorForm,
    followed: &mut Followed<'a>,
) -> Result<Response<Out>, Status> {
    crate::auth::take_protocol_token(&mut parts.headers)?;
    let extension = crate::extensions::route(server, parts.uri.path());
    let is_proxied = extension.is_none() && stead_apiserver::is_proxied(parts.uri.path());
    let is_of_usage = extension.is_none() && crate::usage::is_asked(server, parts.uri.path());
    let is_of_others = extension.is_some() || is_proxied || is_of_usage;
    let mut request = understand(server, peer, &parts, is_of_others, followed)?;
    // Whose body is still to come holds no seat: else a few that never come would keep everybody out.
    let is_coming = !is_of_others && !body.is_end_stream();
    if !is_coming {
        admit(server, &request, followed).await?;
    }
    if let Some(extension) = extension {
        return crate::extensions::serve(server, &extension, &request, (parts, body)).await;
    }
    if is_of_usage {
        return crate::usage::serve(server, &request, &parts.method).await;
    }
    if is_proxied {
        return crate::proxied::serve(server, &request, (parts, body), &mut followed.remarks).await;
    }
    if let Some(response) = crate::health::serve_authorized(server, &request)? {
        return Ok(response);
    }
    if crate::streams::is_upgrade(&request) {
        let upgrade = parts.extensions.remove::<OnUpgrade>();
        drop(body);
        return crate::streams::upgrade(server, &request, &parts.headers, upgrade, &mut followed.remarks).await;
    }
    stead_apiserver::negotiate(&server.plane.head().registry, &mut request)?;
    let options = request.options.clone();
    let bytes = collect(body).await?;
    if is_coming {
        admit(server, &request, followed).await?;
    }
    let head = server.plane.head();
    if !bytes.is_empty() {
        decode(&head, &mut request, &bytes, header(&parts.headers, &CONTENT_TYPE))?;
        crate::auth::review(server, &mut request);
    }
    if let Some(trail) = &mut followed.trail {
        trail.asked(&request);
    }
    let reply = if stead_apiserver::is_read(&request) {
        let reply = crate::webhooks::read(server, &head, &request).await;
        crate::extensions::complete(server, &head, &request, reply)
    } else {
        drop(head);
        server.plane.call(request).await
    };
    let (reply, notes) = reply.split();
    followed.remarks.notes = notes;
    let reply = match reply {
        Reply::Sign(plan) => crate::auth::sign(server, *plan)?,
        other => other,
    };
    if let Some(trail) = &mut followed.trail {
        trail.answered(&reply);
    }
    let response = respond(server, &parts, present(server, reply, options).await, of_errors).await?;
    crate::messages::switched(&parts.headers, parts.extensions.remove::<OnUpgrade>(), response)
}

/// Has a request wait for its turn.
async fn admit(server: &Server, request: &Request, followed: &mut Followed<'_>) -> Result<(), Status> {
    match &mut followed.flow {
        Some(flow) => flow.admit(&server.plane.head(), request).await,
        None => Ok(()),
    }
}

/// Encodes a reply; what takes long is done where nobody else waits.
async fn present(server: &Server, reply: Reply, options: Options) -> Reply {
    let form = options.form;
    let encode = move |reply| stead_apiserver::present(reply, &options, clock::now());
    if !stead_apiserver::takes_long(&reply, form) {
        return encode(reply);
    }
    let _turn = server.fairness.encoding.acquire().await;
    let encoded = tokio::task::spawn_blocking(move || encode(reply)).await;
    encoded.unwrap_or_else(|error| Reply::failure(Status::internal(error.to_string())))
}

fn parse(parts: &Parts, user: Arc<User>) -> Result<Request, Status> {
    let target = request::target(parts.uri.path());
    let options = request::options(parts.uri.query().unwrap_or_default())?;
    let verb = request::verb(parts.method.as_str(), header(&parts.headers, &CONTENT_TYPE), &target, &options)?;
    Ok(assemble(parts, user, (verb, target, options)))
}

/// A request that another server answers: all that is asked of it here is whether its user may make it.
fn parse_of_others(parts: &Parts, user: Arc<User>) -> Request {
    let target = request::target(parts.uri.path());
    let options = request::options(parts.uri.query().unwrap_or_default()).unwrap_or_default();
    let verb = request::verb_of_others(parts.method.as_str(), &target, &options);
    assemble(parts, user, (verb, target, options))
}

fn assemble(parts: &Parts, user: Arc<User>, (verb, target, options): (Verb, Target, Options)) -> Request {
    Request {
        user,
        verb,
        target,
        accept: header(&parts.headers, &ACCEPT).to_owned(),
        options,
        body: Value::Null,
        strict_problems: Vec::new(),
        user_agent: header(&parts.headers, &USER_AGENT).to_owned(),
        reviewed: None,
        replay: None,
        noted: Noted::Nothing,
    }
}

fn decode(head: &Head, request: &mut Request, bytes: &Bytes, content_type: &str) -> Result<(), Status> {
    let Some(resource) = request.resource() else { return Ok(()) };
    let decoded = stead_apiserver::decode_body(&head.registry, resource, request.verb, bytes, content_type)?;
    request.body = decoded.value;
    request.strict_problems = decoded.strict_problems;
    Ok(())
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

async fn collect(body: Incoming) -> Result<Bytes, Status> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let read = Limited::new(body, BODY_BYTES_MAX).collect();
    let limit = Duration::from_secs(BODY_SECONDS_MAX);
    match tokio::time::timeout(limit, read).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Status::too_large(format!("Request entity too large: limit is {BODY_BYTES_MAX}")))
        }
        Ok(Err(error)) => Err(Status::bad_request(format!("the body could not be read: {error}"))),
        Err(_) => Err(Status::new(408, "Timeout", "the body did not arrive in time")),
    }
}

/// Turns a reply into a response.
async fn respond(
    server: &Arc<Server>,
    parts: &Parts,
    reply: Reply,
    of_errors: &ErrorForm,
) -> Result<Response<Out>, Status> {
    match reply {
        Reply::Body(body) => {
            let known = header(&parts.headers, &IF_NONE_MATCH);
            let unchanged = body.etag.as_deref().is_some_and(|tag| is_among(tag, known));
            let code = if unchanged { StatusCode::NOT_MODIFIED } else { code(body.code) };
            let pieces = if unchanged { Vec::new() } else { body.pieces };
            let length = pieces.iter().map(|piece| piece.len() as u64).sum();
            let packed = match gzip::is_due(&parts.headers, parts.uri.path(), length) {
                true => gzip::pack(pieces.clone()).await,
                false => None,
            };
            let mut response = packed.map_or_else(|| Response::new(Out::pieces(pieces)), in_gzip);
            *response.status_mut() = code;
            response.headers_mut().insert(CONTENT_TYPE, media_type(&body.content_type));
            if is_named_by_hash(parts, body.etag.as_deref()) {
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(CACHE_FOREVER));
            }
            if body.etag.is_some() && matches!(parts.uri.path(), "/api" | "/apis") {
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public"));
            }
            if let Some(tag) = body.etag.and_then(|tag| HeaderValue::from_str(&tag).ok()) {
                response.headers_mut().insert(ETAG, tag);
                response.headers_mut().append(VARY, HeaderValue::from_static("Accept"));
            }
            warn(response.headers_mut(), &body.warnings);
            Ok(response)
        }
        Reply::LongList { list, warnings } => {
            let packed = pack_list(parts, &list).await;
            let mut response = packed.map_or_else(|| Response::new(Out::list(list)), in_gzip);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            warn(response.headers_mut(), &warnings);
            Ok(response)
        }
        Reply::Failure { status, warnings } => Ok(failure(&status, &warnings, of_errors)),
        Reply::Watch(plan) => Ok(watch(server, *plan)),
        Reply::Stream(plan) => crate::streams::read(server, *plan).await,
        Reply::Object { .. } | Reply::List { .. } | Reply::Sign(_) | Reply::Noted(..) | Reply::Call(_) => {
            Err(Status::internal("an answer was not put in its form"))
        }
    }
}

/// A long list in gzip, for those who take it.
async fn pack_list(parts: &Parts, list: &LongList) -> Option<Bytes> {
    let is_due = |length| gzip::is_due(&parts.headers, parts.uri.path(), length);
    if !is_due(u64::MAX) {
        return None;
    }
    let mut length = 0;
    let is_long = list.clone().any(|piece| {
        length += piece.len() as u64;
        is_due(length)
    });
    if is_long { gzip::pack(list.clone()).await } else { None }
}

fn in_gzip(packed: Bytes) -> Response<Out> {
    let mut response = Response::new(Out::pieces(vec![packed]));
    response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.headers_mut().append(VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

fn media_type(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

/// Whether a tag is among those of an If-None-Match header.
fn is_among(tag: &str, known: &str) -> bool {
    known.split(',').map(str::trim).any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

/// Whether the URL names the document by its very hash (`/openapi/v3/apis/apps/v1?hash=…`): then it never changes.
fn is_named_by_hash(parts: &Parts, etag: Option<&str>) -> bool {
    let hash = parts.uri.query().and_then(|query| query.split('&').find_map(|one| one.strip_prefix("hash=")));
    matches!((hash, etag), (Some(hash), Some(etag)) if etag.trim_matches('"') == hash)
}

fn code(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A failure as a response.
fn failure(status: &Status, warnings: &[String], form: &ErrorForm) -> Response<Out> {
    let (content_type, bytes) = stead_apiserver::present_failure(status, form.settle());
    let mut response = Response::new(Out::pieces(vec![bytes]));
    *response.status_mut() = code(status.code);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    let retry = status.details.as_ref().and_then(|d| d.retry_after_seconds);
    if let Some(seconds) = retry {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    warn(response.headers_mut(), warnings);
    response
}

/// `Warning: 299 - "text"`, one header each.
fn warn(headers: &mut HeaderMap, warnings: &[String]) {
    for warning in warnings {
        let text: String = warning.chars().filter(|c| !c.is_control()).collect();
        let quoted = format!("299 - \"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        if let Ok(value) = HeaderValue::from_bytes(quoted.as_bytes()) {
            headers.append(WARNING, value);
        }
    }
}

fn watch(server: &Arc<Server>, plan: WatchPlan) -> Response<Out> {
    let content_type = plan.content_type();
    let mut response = Response::new(Out::Watch(Box::new(Watch::new(server, plan))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
