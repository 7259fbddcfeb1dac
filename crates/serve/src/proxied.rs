//! Proxy subresources: a request below `…/proxy/` goes to the pod, the Service's pod or the node's agent.
//!
//! The page behind it does not know under which path it is seen, so redirects and the links of HTML pages that mean its own root are
//! led back below the proxy's path. Upstream: apimachinery pkg/util/proxy.

mod html;
mod links;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, LOCATION};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use stead_api::{Remarks, Request, Status};
use stead_apiserver::{ProxiedServer, ProxyPlan};
use tokio::sync::mpsc;

use crate::Server;
use crate::forward::{FORWARDED_URI, forward, upgrade_of};
use crate::out::Out;
use crate::outbound::Peer;
use crate::trust::Trust;
use html::Rewriter;
use links::Links;

/// Pieces of a page on their way.
const PIECES_MAX: usize = 4;

/// Serves a request whose path leads through a proxy.
///
/// # Errors
/// 403, 404 and 503 as `stead_apiserver::proxy`, and 503 when the server behind it cannot be reached.
pub async fn serve(
    server: &Arc<Server>,
    request: &Request,
    (parts, body): (Parts, Incoming),
    remarks: &mut Remarks,
) -> Result<Response<Out>, Status> {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let turn = TURN.fetch_add(1, Ordering::Relaxed);
    let head = server.plane.head();
    crate::webhooks::permit(server, &head, request, remarks).await?;
    let ProxyPlan { server: target, prefix, path } = stead_apiserver::proxy(&head, request, parts.uri.path(), turn)?;
    drop(head);
    let (scheme, authority) = match target {
        ProxiedServer::Agent { node } => return crate::kubelet::serve(server, &node, &path, &parts),
        ProxiedServer::Address { scheme, authority } => (scheme, authority),
    };
    let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    if path.is_empty() && reads && upgrade_of(&parts.headers).is_none() {
        return Ok(moved(&format!("{}/{query}", parts.uri.path())));
    }
    let slashed = if path.is_empty() { "/" } else { &path };
    let url = format!("{scheme}://{authority}{slashed}{query}").parse();
    let url = url.map_err(|_| Status::bad_request(format!("\"{authority}\" is no address")))?;
    pass(server, authority, url, prefix, (parts, body)).await
}

async fn pass(
    server: &Arc<Server>,
    authority: String,
    url: http::Uri,
    prefix: String,
    (mut parts, body): (Parts, Incoming),
) -> Result<Response<Out>, Status> {
    let host = host_of(&parts);
    if let Ok(uri) = HeaderValue::from_str(parts.uri.path()) {
        parts.headers.insert(FORWARDED_URI, uri);
    }
    if let Ok(host) = HeaderValue::from_str(&host) {
        parts.headers.insert(HOST, host);
    }
    // Pages are looked into: the only packing that is undone here is none.
    if parts
        .headers
        .get("accept")
        .is_some_and(|accept| accept.to_str().is_ok_and(|accept| accept.contains("text/html")))
    {
        parts.headers.remove(ACCEPT_ENCODING);
    }
    // Pods are known by their addresses, which no certificate names.
    let peer = Peer { only_http1: true, ..Peer::of_url(Trust::Anyone) };
    let answer = forward(server, peer, url, (parts, body)).await;
    let answer = answer.map_err(|why| Status::unavailable(format!("error trying to reach service: {}", why.why())))?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer);
    }
    Ok(rewritten(answer, Links { authority, host, prefix }))
}

/// The host as the client names it.
fn host_of(parts: &Parts) -> String {
    let named = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    named.or_else(|| parts.uri.authority().map(ToString::to_string)).unwrap_or_default()
}

fn moved(to: &str) -> Response<Out> {
    let mut response = Response::new(Out::pieces(Vec::new()));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

fn rewritten(mut answer: Response<Out>, links: Links) -> Response<Out> {
    if let Some(to) = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok()) {
        if let Ok(to) = HeaderValue::from_str(&links.rewrite(to)) {
            answer.headers_mut().insert(LOCATION, to);
        }
        return answer;
    }
    if !is_plain_page(answer.headers()) {
        return answer;
    }
    answer.headers_mut().remove(CONTENT_LENGTH);
    answer.map(|body| match body {
        Out::Passed(page) => Out::Stream(rewrite_page(page, links)),
        other => other,
    })
}

fn is_plain_page(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim() == "text/html") && !headers.contains_key(CONTENT_ENCODING)
}

fn rewrite_page(mut page: Incoming, links: Links) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    tokio::spawn(async move {
        let mut rewriter = Rewriter::new(links);
        while let Some(Ok(frame)) = page.frame().await {
            let Ok(piece) = frame.into_data() else { continue };
            let made = rewriter.next(&piece);
            if !made.is_empty() && sender.send(made.into()).await.is_err() {
                return;
            }
        }
        let _ = sender.send(rewriter.end().into()).await;
    });
    receiver
}
