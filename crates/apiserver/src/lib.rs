//! Request to reply: the API server as two functions.
//!
//! `serve_read` answers gets, lists, watches and discovery from a published head and never enters the control plane's thread;
//! `serve_write` changes the store inside it. Neither does I/O: a call out is a `Reply` that the shell performs.

pub mod context;
pub mod reply;

pub use context::{Cluster, Context, Head, Ids};
pub use reply::{Body, Reply, WatchPlan};
