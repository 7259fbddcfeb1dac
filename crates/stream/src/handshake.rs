//! The answer to a request that asks for an upgrade: which protocol, which response headers, or which refusal.
//!
//! Contract: a function of the request's headers alone. The first protocol in the *client's* order that the
//! server speaks is taken. A refusal carries the status code and text Kubernetes answers with; the caller
//! decides the form of the body. Rules: RFC 6455 section 4.2, behaviour rows K-07 and K-09.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::messages::MessageForm;

const STREAM_PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_STREAM_PROTOCOL_VERSIONS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
const SPDY_31: &str = "SPDY/3.1";
/// What RFC 6455 appends to the client's key before hashing.
const WEBSOCKET_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The wire form of an exec or attach session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteCommandProtocol {
    /// Channels in WebSocket messages, each message led by its channel's number.
    WebSocket {
        /// The client says when stdin ends (version 5).
        close_signal: bool,
        /// The error channel carries a `Status` as JSON (versions 4 and 5), else a plain text.
        status_json: bool,
        /// Messages are text: a digit for the channel, then base64.
        base64: bool,
    },
    /// One SPDY stream for each of stdin, stdout, stderr, error and resize.
    Spdy {
        /// The error stream carries a `Status` as JSON (version 4), else a plain text.
        status_json: bool,
        /// A terminal comes with a resize stream (versions 3 and 4).
        resize: bool,
    },
}

/// The wire form of a port-forward session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortForwardProtocol {
    /// SPDY frames on the connection itself.
    Spdy,
    /// SPDY frames as the payload of binary WebSocket messages.
    SpdyInWebSocket,
    /// Two channels for each port that the request names, data and error, in WebSocket messages.
    WebSocket {
        /// Messages are text: a digit for the channel, then base64.
        base64: bool,
    },
}

/// An accepted upgrade: answer `101 Switching Protocols` with these headers and speak this protocol.
#[derive(Clone, Debug)]
pub struct Upgrade<P> {
    pub headers: HeaderMap,
    pub protocol: P,
}

/// A refused upgrade: the status code, the text Kubernetes gives, and headers to add to the response.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub status: StatusCode,
    pub message: String,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// How the bytes of a log are sent; a client that names no subprotocol gets them as they are.
const BYTES_WEBSOCKET: &Table<MessageForm> =
    &[("", MessageForm::Binary), ("binary.k8s.io", MessageForm::Binary), ("base64.binary.k8s.io", MessageForm::Base64)];

type Table<P> = [(&'static str, P)];

const fn websocket(close_signal: bool, status_json: bool, base64: bool) -> RemoteCommandProtocol {
    RemoteCommandProtocol::WebSocket { close_signal, status_json, base64 }
}

const fn spdy(status_json: bool, resize: bool) -> RemoteCommandProtocol {
    RemoteCommandProtocol::Spdy { status_json, resize }
}

/// The empty name stands for a client that names no subprotocol.
const REMOTE_COMMAND_WEBSOCKET: &Table<RemoteCommandProtocol> = &[
    ("v5.channel.k8s.io", websocket(true, true, false)),
    ("v4.channel.k8s.io", websocket(false, true, false)),
    ("v4.base64.channel.k8s.io", websocket(false, true, true)),
    ("channel.k8s.io", websocket(false, false, false)),
    ("base64.channel.k8s.io", websocket(false, false, true)),
    ("", websocket(false, false, false)),
];

const REMOTE_COMMAND_SPDY: &Table<RemoteCommandProtocol> = &[
    ("v4.channel.k8s.io", spdy(true, true)),
    ("v3.channel.k8s.io", spdy(false, true)),
    ("v2.channel.k8s.io", spdy(false, false)),
];

const PORT_FORWARD_WEBSOCKET: &Table<PortForwardProtocol> = &[
    ("SPDY/3.1+portforward.k8s.io", PortForwardProtocol::SpdyInWebSocket),
    ("v4.channel.k8s.io", PortForwardProtocol::WebSocket { base64: false }),
    ("v4.base64.channel.k8s.io", PortForwardProtocol::WebSocket { base64: true }),
    ("", PortForwardProtocol::WebSocket { base64: false }),
];

const PORT_FORWARD_SPDY: &Table<PortForwardProtocol> = &[("portforward.k8s.io", PortForwardProtocol::Spdy)];

/// Decides the upgrade of an exec or attach request.
pub fn remote_command(request: &HeaderMap) -> Result<Upgrade<RemoteCommandProtocol>, Refusal> {
    negotiate(request, REMOTE_COMMAND_WEBSOCKET, REMOTE_COMMAND_SPDY)
}

/// Decides the upgrade of a port-forward request.
pub fn port_forward(request: &HeaderMap) -> Result<Upgrade<PortForwardProtocol>, Refusal> {
    negotiate(request, PORT_FORWARD_WEBSOCKET, PORT_FORWARD_SPDY)
}

/// Whether a request asks for WebSocket at all.
pub fn is_websocket(request: &HeaderMap) -> bool {
    let asks = |name, wanted: &str| values(request, name).iter().any(|value| value.eq_ignore_ascii_case(wanted));
    asks(CONNECTION, "upgrade") && asks(UPGRADE, "websocket")
}

/// Decides the upgrade of a request for bytes, a log.
pub fn bytes(request: &HeaderMap) -> Result<Upgrade<MessageForm>, Refusal> {
    accept_websocket(request, BYTES_WEBSOCKET)
}

/// Decides the upgrade of a watch, whose form is settled already: the subprotocol that the client names is its own affair.
pub fn events(request: &HeaderMap, form: MessageForm) -> Result<Upgrade<MessageForm>, Refusal> {
    let mut plain = request.clone();
    let named = plain.remove(SEC_WEBSOCKET_PROTOCOL);
    let mut accepted = accept_websocket(&plain, &[("", form)])?;
    let named = named.filter(|value| value.to_str().is_ok_and(|text| !text.trim().is_empty() && !text.contains(',')));
    if let Some(named) = named {
        accepted.headers.insert(SEC_WEBSOCKET_PROTOCOL, named);
    }
    Ok(accepted)
}

fn negotiate<P: Copy>(request: &HeaderMap, websocket: &Table<P>, spdy: &Table<P>) -> Result<Upgrade<P>, Refusal> {
    let connection = values(request, CONNECTION);
    if !connection.iter().any(|v| v.eq_ignore_ascii_case("upgrade")) {
        return Err(refuse(StatusCode::BAD_REQUEST, "Upgrade request required"));
    }
    let wanted = values(request, UPGRADE);
    if wanted.iter().any(|v| v.eq_ignore_ascii_case("websocket")) {
        return accept_websocket(request, websocket);
    }
    if wanted.iter().any(|v| v.eq_ignore_ascii_case(SPDY_31)) {
        return accept_spdy(request, spdy);
    }
    Err(refuse(StatusCode::BAD_REQUEST, "unable to upgrade: missing upgrade headers in request"))
}

fn accept_websocket<P: Copy>(request: &HeaderMap, table: &Table<P>) -> Result<Upgrade<P>, Refusal> {
    if values(request, SEC_WEBSOCKET_VERSION) != ["13"] {
        let mut refusal = refuse(StatusCode::BAD_REQUEST, "missing or bad WebSocket Version");
        refusal.headers.push((SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")));
        return Err(refusal);
    }
    let key = request
        .get(SEC_WEBSOCKET_KEY)
        .map(HeaderValue::as_bytes)
        .filter(|key| STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16))
        .ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "mismatch challenge/response"))?;
    let offered = values(request, SEC_WEBSOCKET_PROTOCOL);
    let names = if offered.is_empty() { vec![""] } else { offered.clone() };
    let (name, protocol) = first_common(&names, table).ok_or_else(|| {
        refuse(
            StatusCode::FORBIDDEN,
            format!("requested protocol(s) are not supported: {}; supports {}", list(&offered), list(&names_of(table))),
        )
    })?;
    let mut headers = upgrade_headers("websocket");
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept_value(key));
    if !name.is_empty() {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    }
    Ok(Upgrade { headers, protocol })
}

fn accept_spdy<P: Copy>(request: &HeaderMap, table: &Table<P>) -> Result<Upgrade<P>, Refusal> {
    let offered = values(request, STREAM_PROTOCOL_VERSION);
    if offered.is_empty() {
        return Err(refuse(StatusCode::BAD_REQUEST, "unable to upgrade: X-Stream-Protocol-Version is required"));
    }
    let Some((name, protocol)) = first_common(&offered, table) else {
        let accepted = names_of(table);
        let mut refusal = refuse(
            StatusCode::FORBIDDEN,
            format!(
                "unable to upgrade: unable to negotiate protocol: client supports {}, server accepts {}",
                list(&offered),
                list(&accepted)
            ),
        );
        for name in accepted {
            let value = HeaderValue::from_static(name);
            refusal.headers.push((ACCEPTED_STREAM_PROTOCOL_VERSIONS, value));
        }
        return Err(refusal);
    };
    let mut headers = upgrade_headers(SPDY_31);
    headers.insert(STREAM_PROTOCOL_VERSION, HeaderValue::from_static(name));
    Ok(Upgrade { headers, protocol })
}

fn first_common<P: Copy>(offered: &[&str], table: &Table<P>) -> Option<(&'static str, P)> {
    offered.iter().find_map(|wanted| table.iter().find(|(name, _)| name == wanted)).copied()
}

fn names_of<P>(table: &Table<P>) -> Vec<&'static str> {
    table.iter().map(|(name, _)| *name).collect()
}

/// Go's `%v` of a list of strings, as the texts have it.
fn list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn upgrade_headers(to: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(to));
    headers
}

fn accept_value(key: &[u8]) -> HeaderValue {
    let mut hash = sha1_smol::Sha1::new();
    hash.update(key);
    hash.update(WEBSOCKET_GUID.as_bytes());
    let text = STANDARD.encode(hash.digest().bytes());
    HeaderValue::from_str(&text).expect("base64 is a valid header value")
}

/// The comma-separated values of every header line of this name; a line that is not text counts for nothing.
fn values(headers: &HeaderMap, name: HeaderName) -> Vec<&str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .collect()
}

fn refuse(status: StatusCode, message: impl Into<String>) -> Refusal {
    Refusal { status, message: message.into(), headers: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(request: &str, expected: Expect) {
        let mut headers = HeaderMap::new();
        for line in request.lines() {
            let (name, value) = line.trim().split_once(": ").expect("test header");
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let line = |(n, v): (&HeaderName, &HeaderValue)| format!("\n{n}: {}", v.to_str().unwrap());
        let text = match remote_command(&headers) {
            Ok(upgrade) => {
                format!("{:?}{}", upgrade.protocol, upgrade.headers.iter().map(line).collect::<String>())
            }
            Err(refusal) => {
                let added: String = refusal.headers.iter().map(|(n, v)| line((n, v))).collect();
                format!("{} {}{added}", refusal.status.as_u16(), refusal.message)
            }
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn the_key_of_the_rfc_gives_the_accept_value_of_the_rfc() {
        check(
            "Connection: keep-alive, Upgrade
             Upgrade: WebSocket
             Sec-WebSocket-Version: 13
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
             Sec-WebSocket-Protocol: v9.channel.k8s.io, v5.channel.k8s.io
             Sec-WebSocket-Protocol: v4.channel.k8s.io",
            expect![[r#"
                WebSocket { close_signal: true, status_json: true, base64: false }
                connection: Upgrade
                upgrade: websocket
                sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
                sec-websocket-protocol: v5.channel.k8s.io"#]],
        );
    }

    #[test]
    fn an_unknown_subprotocol_is_forbidden() {
        check(
            "Connection: Upgrade
             Upgrade: websocket
             Sec-WebSocket-Version: 13
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
             Sec-WebSocket-Protocol: v9.channel.k8s.io",
            expect![
                "403 requested protocol(s) are not supported: [v9.channel.k8s.io]; supports [v5.channel.k8s.io v4.channel.k8s.io v4.base64.channel.k8s.io channel.k8s.io base64.channel.k8s.io ]"
            ],
        );
    }

    #[test]
    fn a_bad_websocket_request_is_a_bad_request() {
        check(
            "Connection: Upgrade
             Upgrade: websocket
             Sec-WebSocket-Version: 8",
            expect![[r#"
                400 missing or bad WebSocket Version
                sec-websocket-version: 13"#]],
        );
        check(
            "Connection: Upgrade
             Upgrade: websocket
             Sec-WebSocket-Version: 13
             Sec-WebSocket-Key: short",
            expect!["400 mismatch challenge/response"],
        );
        check("Accept: */*", expect!["400 Upgrade request required"]);
        check(
            "Connection: Upgrade
             Upgrade: h2c",
            expect!["400 unable to upgrade: missing upgrade headers in request"],
        );
    }

    #[test]
    fn spdy_takes_the_clients_first_choice() {
        check(
            "Connection: Upgrade
             Upgrade: SPDY/3.1
             X-Stream-Protocol-Version: v5.channel.k8s.io
             X-Stream-Protocol-Version: v3.channel.k8s.io
             X-Stream-Protocol-Version: v4.channel.k8s.io",
            expect![[r#"
                Spdy { status_json: false, resize: true }
                connection: Upgrade
                upgrade: SPDY/3.1
                x-stream-protocol-version: v3.channel.k8s.io"#]],
        );
        check(
            "Connection: Upgrade
             Upgrade: SPDY/3.1
             X-Stream-Protocol-Version: v9.channel.k8s.io",
            expect![[r#"
                403 unable to upgrade: unable to negotiate protocol: client supports [v9.channel.k8s.io], server accepts [v4.channel.k8s.io v3.channel.k8s.io v2.channel.k8s.io]
                x-accepted-stream-protocol-versions: v4.channel.k8s.io
                x-accepted-stream-protocol-versions: v3.channel.k8s.io
                x-accepted-stream-protocol-versions: v2.channel.k8s.io"#]],
        );
        check(
            "Connection: Upgrade
             Upgrade: SPDY/3.1",
            expect!["400 unable to upgrade: X-Stream-Protocol-Version is required"],
        );
    }
}
