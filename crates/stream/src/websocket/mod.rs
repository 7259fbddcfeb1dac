//! WebSocket as a server speaks it (RFC 6455), and Kubernetes' two uses of it.

mod channels;
mod frame;
mod tunnel;

pub(crate) use channels::{Channels, ERROR, STDERR, STDIN, STDOUT, encode_normal_close, start_channels};
#[cfg(test)]
pub(crate) use frame::tests::client_frame;
pub(crate) use frame::{
    CLOSE_NORMAL, Decoder, Piece, encode_binary, encode_channel, encode_close, encode_pong, encode_text,
};
pub(crate) use tunnel::Tunnel;
