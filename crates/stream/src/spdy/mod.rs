//! SPDY/3.1 as Kubernetes' clients speak it: streams of bytes on one connection.

mod connection;
mod dictionary;
mod error;
mod frame;
mod headers;
mod state;

pub(crate) use connection::{Accept, SpdyStream, start_spdy};
pub(crate) use frame::{GO_AWAY_OK, encode_data, encode_go_away};
pub(crate) use headers::Headers;
pub(crate) use state::StreamState;
