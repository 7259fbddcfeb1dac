//! A request passed on to another server, and its answer passed back: bodies as streams, upgraded connections as bytes.
//!
//! What belongs to one connection alone (RFC 9110, 7.6.1) is not passed on, nor how the caller proved who it is.

use std::sync::Arc;

use http::header::{
    AUTHORIZATION, CONNECTION, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::out::Out;
use crate::outbound::{Failure, Peer, whole};
use crate::{Server, audit};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// The path under which the client asked.
pub const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// What is said between two neighbours only.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Passes a request on to `url` and its answer back. `headers` is what the peer shall see.
///
/// # Errors
/// When the peer does not answer.
pub async fn forward(
    server: &Arc<Server>,
    peer: Peer,
    url: Uri,
    (mut parts, body): (Parts, Incoming),
) -> Result<Response<Out>, Failure> {
    let client_side = parts.extensions.remove::<OnUpgrade>();
    let wanted = upgrade_of(&parts.headers).filter(|_| client_side.is_some());
    let mut request = Request::new(match wanted {
        // An upgraded connection's bytes are no body.
        Some(_) => whole(bytes::Bytes::new()),
        None => body.map_err(Into::into).boxed_unsync(),
    });
    *request.method_mut() = parts.method;
    *request.uri_mut() = url;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = passed_on(parts.headers);
    if let Some(audit::Peer(client)) = parts.extensions.get::<audit::Peer>() {
        add_forwarded_for(request.headers_mut(), &client.ip().to_string());
    }
    let peer = match &wanted {
        Some(protocol) => {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            request.headers_mut().insert(UPGRADE, protocol.clone());
            Peer { only_http1: true, ..peer }
        }
        None => peer,
    };
    let mut answer = server.outbound.send(&peer, request, None).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(switched(&mut answer, client_side));
    }
    let (head, body) = answer.into_parts();
    let mut response = Response::new(Out::Passed(body));
    *response.status_mut() = head.status;
    *response.headers_mut() = passed_back(head.headers);
    Ok(response)
}

/// The protocol that a request asks its connection to be switched to.
pub fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let asks = named.any(|list| list.split(',').any(|one| one.trim().eq_ignore_ascii_case("upgrade")));
    if asks { headers.get(UPGRADE).cloned() } else { None }
}

/// Both sides agreed: from now on bytes go to and fro until one of them ends.
fn switched(answer: &mut Response<Incoming>, client_side: Option<OnUpgrade>) -> Response<Out> {
    let mut response = Response::new(Out::pieces(Vec::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = answer.headers().clone();
    let peer_side = hyper::upgrade::on(answer);
    if let Some(client_side) = client_side {
        tokio::spawn(async move {
            let (Ok(client), Ok(peer)) = tokio::join!(client_side, peer_side) else { return };
            let (mut client, mut peer) = (TokioIo::new(client), TokioIo::new(peer));
            let _ = tokio::io::copy_bidirectional(&mut client, &mut peer).await;
        });
    }
    response
}

fn passed_on(mut headers: HeaderMap) -> HeaderMap {
    let takes_trailers = headers.get(TE).is_some_and(|te| te.to_str().is_ok_and(|te| te.contains("trailers")));
    strip(&mut headers);
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    headers.remove(AUTHORIZATION);
    let impersonation: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in impersonation {
        headers.remove(name);
    }
    headers
}

/// Adds the client to those that a request was passed on for.
fn add_forwarded_for(headers: &mut HeaderMap, client: &str) {
    let before: Vec<&str> =
        headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).chain([client]).collect();
    if let Ok(value) = HeaderValue::from_str(&before.join(", ")) {
        headers.insert(FORWARDED_FOR, value);
    }
}

fn passed_back(mut headers: HeaderMap) -> HeaderMap {
    strip(&mut headers);
    headers
}

fn strip(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.into_iter().chain(listed) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let pairs = lines.iter().map(|(name, value)| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_str(value).unwrap())
        });
        pairs.collect()
    }

    #[test]
    fn what_belongs_to_one_connection_or_proves_who_asks_stays() {
        let given = headers(&[
            ("connection", "keep-alive, x-mine"),
            ("x-mine", "1"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("authorization", "Bearer secret"),
            ("impersonate-user", "other"),
            ("impersonate-extra-a", "b"),
            ("accept", "*/*"),
        ]);
        let passed = passed_on(given);
        let mut names: Vec<&str> = passed.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "te"]);
    }

    #[test]
    fn the_client_is_added_to_those_before_it() {
        let mut passed = headers(&[("accept", "*/*")]);
        add_forwarded_for(&mut passed, "192.0.2.1");
        assert_eq!(passed.get(FORWARDED_FOR).unwrap(), "192.0.2.1");
        let mut passed = headers(&[("x-forwarded-for", "a, b")]);
        passed.append(FORWARDED_FOR, HeaderValue::from_static("c"));
        add_forwarded_for(&mut passed, "192.0.2.1");
        let all: Vec<&HeaderValue> = passed.get_all(FORWARDED_FOR).iter().collect();
        assert_eq!(all, ["a, b, c, 192.0.2.1"]);
    }

    #[test]
    fn an_upgrade_is_asked_for_by_both_headers() {
        let asked = headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(upgrade_of(&asked).unwrap(), "websocket");
        assert_eq!(upgrade_of(&headers(&[("upgrade", "websocket")])), None);
    }
}
