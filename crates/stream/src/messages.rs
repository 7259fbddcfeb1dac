//! An answer of many pieces as WebSocket messages: how browsers and old clients read watches and logs.
//!
//! Contract: one piece, one message, in order; what the client sends is not looked at but for pings and its close. The session ends
//! with the pieces, with the client, or when either side of the socket fails.

use std::io;
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::websocket::{CLOSE_NORMAL, Decoder, Piece, encode_binary, encode_close, encode_pong, encode_text};

const READ_BYTES: usize = 4096;

/// What a message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageForm {
    /// The piece, as text.
    Text,
    /// The piece, as bytes.
    Binary,
    /// The piece in base64, as text.
    Base64,
}

/// Sends each piece as a message until there is none any more, the client closes, or the socket fails.
pub async fn send_messages<T: AsyncRead + AsyncWrite + Unpin>(
    socket: T,
    form: MessageForm,
    mut poll_next: impl FnMut(&mut Context<'_>) -> Poll<Option<Bytes>>,
) -> io::Result<()> {
    let (mut from, mut to) = tokio::io::split(socket);
    let mut ears = Ears::default();
    let mut output = BytesMut::new();
    loop {
        ears.input.reserve(READ_BYTES);
        let goes_on = tokio::select! {
            piece = std::future::poll_fn(&mut poll_next) => encode(piece, form, &mut output),
            count = from.read_buf(&mut ears.input) => count? > 0 && ears.hear(&mut output),
        };
        to.write_all_buf(&mut output).await?;
        to.flush().await?;
        if !goes_on {
            return to.shutdown().await;
        }
    }
}

/// A message of the piece, or the last word. Whether it goes on.
fn encode(piece: Option<Bytes>, form: MessageForm, output: &mut BytesMut) -> bool {
    match (&piece, form) {
        (None, _) => encode_close(output, CLOSE_NORMAL),
        (Some(piece), MessageForm::Text) => encode_text(output, piece),
        (Some(piece), MessageForm::Binary) => encode_binary(output, piece),
        (Some(piece), MessageForm::Base64) => encode_text(output, STANDARD.encode(piece).as_bytes()),
    }
    piece.is_some()
}

#[derive(Default)]
struct Ears {
    decoder: Decoder,
    input: BytesMut,
}

impl Ears {
    /// Takes what the client has sent, and says what is to be answered. Whether it goes on.
    fn hear(&mut self, output: &mut BytesMut) -> bool {
        loop {
            match self.decoder.next(&mut self.input) {
                Ok(Some(Piece::Ping(payload))) => encode_pong(output, &payload),
                Ok(Some(Piece::Data { .. } | Piece::Pong)) => {}
                Ok(None) => return true,
                Ok(Some(Piece::Close(code))) => {
                    encode_close(output, code);
                    return false;
                }
                Err(error) => {
                    encode_close(output, error.code);
                    return false;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::client_frame;

    async fn sent(form: MessageForm, pieces: &[&'static str]) -> Vec<u8> {
        let (near, mut far) = tokio::io::duplex(1024);
        let mut pieces =
            pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect::<Vec<_>>().into_iter();
        send_messages(near, form, |_| Poll::Ready(pieces.next())).await.unwrap();
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        all
    }

    #[tokio::test]
    async fn each_piece_is_a_message_and_the_end_is_a_close() {
        let close = b"\x88\x02\x03\xe8";
        assert_eq!(sent(MessageForm::Text, &["ab", "c"]).await, [&b"\x81\x02ab\x81\x01c"[..], close].concat());
        assert_eq!(sent(MessageForm::Binary, &["ab"]).await, [&b"\x82\x02ab"[..], close].concat());
        assert_eq!(sent(MessageForm::Base64, &["ab"]).await, [&b"\x81\x04YWI="[..], close].concat());
    }

    #[tokio::test]
    async fn a_ping_is_answered_and_the_clients_close_ends_it() {
        let (near, mut far) = tokio::io::duplex(1024);
        let session = tokio::spawn(send_messages(near, MessageForm::Text, |_| Poll::Pending));
        far.write_all(&client_frame(0x89, b"hi")).await.unwrap();
        far.write_all(&client_frame(0x81, b"of no interest")).await.unwrap();
        far.write_all(&client_frame(0x88, &1000u16.to_be_bytes())).await.unwrap();
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"\x8a\x02hi\x88\x02\x03\xe8");
        session.await.unwrap().unwrap();
    }
}
