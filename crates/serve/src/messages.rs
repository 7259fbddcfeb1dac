//! Watches and logs for who asks by WebSocket: the answer that anybody gets, sent as messages.
//!
//! An event is a message, and so is a piece of a log. Browsers have no other way to read an answer that goes on, and old clients used it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response, StatusCode};
use http_body::Body;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use stead_api::Status;
use stead_stream::handshake::{self, Refusal};
use stead_stream::{MessageForm, send_messages};

use crate::out::Out;

/// What precedes an event in protobuf: its length.
const LENGTH_BYTES: usize = 4;

/// The response to a request with these headers: as it is, or switched to WebSocket when that was asked for and the answer goes on.
///
/// # Errors
/// When the handshake is not one.
pub fn switched(
    headers: &HeaderMap,
    upgrade: Option<OnUpgrade>,
    response: Response<Out>,
) -> Result<Response<Out>, Status> {
    if response.status() != StatusCode::OK || !handshake::is_websocket(headers) {
        return Ok(response);
    }
    let (accepted, events) = match response.body() {
        Out::Watch(_) if is_protobuf(&response) => {
            (handshake::events(headers, MessageForm::Binary), Some(Events::Measured))
        }
        Out::Watch(_) => (handshake::events(headers, MessageForm::Text), Some(Events::Lines)),
        Out::Stream(_) => (handshake::bytes(headers), None),
        _ => return Ok(response),
    };
    let accepted = accepted.map_err(refused)?;
    let upgrade = upgrade.ok_or_else(|| Status::bad_request("unable to upgrade: the connection cannot be upgraded"))?;
    let mut messages = Messages { out: response.into_body(), rest: Bytes::new(), events };
    tokio::spawn(async move {
        let Ok(socket) = upgrade.await else { return };
        // A client that is gone is the usual end of a watch.
        let _ = send_messages(TokioIo::new(socket), accepted.protocol, |cx| messages.poll_next(cx)).await;
    });
    let mut response = Response::new(Out::pieces(Vec::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = accepted.headers;
    Ok(response)
}

fn is_protobuf(response: &Response<Out>) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.contains("protobuf"))
}

/// What a refused handshake is told.
pub fn refused(refusal: Refusal) -> Status {
    let reason = if refusal.status == StatusCode::FORBIDDEN { "Forbidden" } else { "BadRequest" };
    Status::new(refusal.status.as_u16(), reason, refusal.message)
}

/// How events stand one after the other in a piece.
#[derive(Clone, Copy)]
enum Events {
    /// Each ends with a newline.
    Lines,
    /// Each has its length before it.
    Measured,
}

/// A body, cut into messages.
struct Messages {
    out: Out,
    /// Of the last piece, what was not sent yet.
    rest: Bytes,
    events: Option<Events>,
}

impl Messages {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while self.rest.is_empty() {
            match std::task::ready!(Pin::new(&mut self.out).poll_frame(cx)) {
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
                Some(Err(_)) | None => return Poll::Ready(None),
            }
        }
        Poll::Ready(Some(match self.events {
            Some(events) => events.take(&mut self.rest),
            None => std::mem::take(&mut self.rest),
        }))
    }
}

impl Events {
    /// The first event of a piece, without what sets it apart from the next.
    fn take(self, piece: &mut Bytes) -> Bytes {
        match self {
            Events::Lines => {
                let end = piece.iter().position(|byte| *byte == b'\n').map_or(piece.len(), |at| at + 1);
                piece.split_to(end)
            }
            Events::Measured => {
                let length = piece.split_to(LENGTH_BYTES.min(piece.len()));
                let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                piece.split_to(length.min(piece.len()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(events: Option<Events>, pieces: &[&'static [u8]]) -> Vec<Vec<u8>> {
        let out = Out::pieces(pieces.iter().map(|piece| Bytes::from_static(piece)).collect());
        let mut messages = Messages { out, rest: Bytes::new(), events };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        std::iter::from_fn(|| match messages.poll_next(&mut cx) {
            Poll::Ready(next) => next.map(|piece| piece.to_vec()),
            Poll::Pending => None,
        })
        .collect()
    }

    #[test]
    fn an_event_is_a_message_and_a_log_goes_as_it_comes() {
        assert_eq!(cut(Some(Events::Lines), &[b"{1}\n{2}\n", b"{3}\n"]), [b"{1}\n", b"{2}\n", b"{3}\n"]);
        assert_eq!(cut(Some(Events::Measured), &[b"\0\0\0\x02ab\0\0\0\x01c"]), [&b"ab"[..], b"c"]);
        assert_eq!(cut(None, &[b"one\ntwo\n"]), [b"one\ntwo\n"]);
    }
}
