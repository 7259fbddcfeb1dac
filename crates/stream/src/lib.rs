//! The server side of Kubernetes' streaming protocols, on any upgraded byte stream.
//!
//! `kubectl exec`, `attach`, `cp` and `port-forward` upgrade an HTTP request to one of four wire forms:
//! WebSocket channels, SPDY/3.1 streams, SPDY/3.1 tunnelled in WebSocket messages, and (`logs`) plain bytes.
//! This crate turns each into the same few values, so that a caller never learns which one a client spoke.
//!
//! Start at [`handshake`] (which answer to give to the request), then [`RemoteCommand`] for exec and attach,
//! [`PortForward`] for port-forward and
//! [`log_follow`] for logs, and [`send_messages`] for what else is read piece by piece; [`Descriptor`] is the process's side of a remote command.
//!
//! Contract: buffers are bounded and back-pressure reaches the peer; bytes from the peer may be anything and
//! give an error, never a panic; a connection that moves no byte for [`Options::idle_timeout`] ends.
//! Rules: behaviour rows K-06 to K-09.

mod channel;
mod descriptor;
pub mod handshake;
mod log_files;
pub mod log_follow;
mod log_line;
mod messages;
mod outbox;
mod outcome;
mod port_forward;
mod remote_command;
mod session;
mod spdy;
mod websocket;

pub use channel::{Duplex, Input, Output, Resizes, TerminalSize};
pub use descriptor::Descriptor;
pub use messages::{MessageForm, send_messages};
pub use outcome::Outcome;
pub use port_forward::{ForwardedConnection, PortForward, PortForwardError};
pub use remote_command::{RemoteCommand, Streams};
pub use session::{ClientGone, Options, StreamError};
