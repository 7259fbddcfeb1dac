//! WebSocket as a server speaks it (RFC 6455), and Kubernetes' two uses of it.

mod channels;
mod frame;
mod tunnel;

pub(crate) use channels::{Channels, ERROR, STDERR, STDIN, STDOUT, encode_normal_close, start_channels};
pub(crate) use frame::encode_channel;
pub(crate) use tunnel::Tunnel;
