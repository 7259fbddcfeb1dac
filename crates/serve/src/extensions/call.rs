//! Where an extension is, and how it is asked in the server's own name.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::{ACCEPT, HeaderMap, HeaderValue};
use http::{Method, StatusCode, Uri};
use stead_api::{Status, User};
use stead_apiserver::{Extension, Head};

use crate::Server;
use crate::front_proxy::{FrontProxy, name_user};
use crate::outbound::{Failure, Peer};
use crate::trust::Trust;

/// Whom to call for an extension, and under which URL.
pub fn place(server: &Server, head: &Head, extension: &Extension, path: &str) -> Result<(Peer, http::Uri), Status> {
    let turn = server.extensions.turn.fetch_add(1, Ordering::Relaxed);
    let Extension { namespace, service, port, .. } = extension;
    let address = stead_apiserver::resolve(&head.store.snapshot, namespace, service, *port, turn)?;
    let url = format!("https://{address}{path}").parse();
    let url = url.map_err(|_| Status::internal(format!("\"{address}\" is no address")))?;
    Ok((peer_of(&server.front_proxy, extension), url))
}

fn peer_of(front_proxy: &FrontProxy, extension: &Extension) -> Peer {
    let trust = if extension.trusts_anyone { Trust::Anyone } else { Trust::bundle(&extension.ca_bundle) };
    Peer {
        server_name: Some(extension.server_name()),
        shown: Some(Arc::clone(&front_proxy.shown)),
        ..Peer::of_url(trust)
    }
}

/// How long an extension may take to answer, and how much of the answer is read.
const ANSWER: Duration = Duration::from_secs(5);

const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Asks an extension for a document, as one who may see everything.
pub(super) async fn ask(
    server: &Arc<Server>,
    extension: &Extension,
    path: &str,
    accept: &'static str,
) -> Result<(HeaderMap, bytes::Bytes), String> {
    let asker = User { name: "system:kube-aggregator".into(), groups: masters(), ..User::default() };
    let (url, answer) = call(server, extension, &asker, (Method::GET, path, accept)).await?;
    let (code, headers, body) = answer.map_err(|why| format!("failing or missing response from {url}: {why}"))?;
    if (StatusCode::OK..StatusCode::MULTIPLE_CHOICES).contains(&code) {
        return Ok((headers, body));
    }
    Err(format!("failing or missing response from {url}: bad status from {url}: {}", code.as_u16()))
}

pub type Called = Result<(StatusCode, HeaderMap, bytes::Bytes), Failure>;

/// Calls an extension in somebody's name; under which URL, and what came of it.
pub(super) async fn call(
    server: &Arc<Server>,
    extension: &Extension,
    user: &User,
    (method, path, accept): (Method, &str, &'static str),
) -> Result<(Uri, Called), String> {
    let head = server.plane.head();
    let (peer, url) = place(server, &head, extension, path).map_err(|status| status.message)?;
    drop(head);
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    name_user(&mut headers, user);
    let call = (method, url.clone(), headers);
    Ok((url, server.outbound.exchange(&peer, call, bytes::Bytes::new(), ANSWER, ANSWER_BYTES_MAX).await))
}

pub fn masters() -> Vec<String> {
    vec!["system:masters".into()]
}
