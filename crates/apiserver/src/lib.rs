//! Request to reply: the API server as two functions.
//!
//! `serve_read` answers gets, lists, watches, discovery and reviews from a published head and never enters the control plane's
//! thread; `serve_write` changes the store inside it; `is_read` tells which of them a request belongs to. `decode_body` turns a
//! body into a value before either, `negotiate` sets the form of the answer, and `present` makes it. None does I/O: what needs a key or a connection is a `Reply` that the shell performs.

mod accept;
pub mod access;
pub mod admission;
mod attempt;
mod attributes;
pub mod audit;
mod authenticate;
mod backend;
pub mod body;
pub mod bootstrap;
pub mod bootstrap_token;
mod components;
mod condition;
mod connect;
pub mod context;
mod conversion;
pub mod custom;
mod default_roles;
mod delete;
pub mod discovery;
mod draft;
mod encode;
mod eviction;
mod extension;
pub mod fairness;
mod halt;
mod impersonate;
mod jsonpath;
pub mod legacy_use;
mod listed;
mod log_query;
mod long_list;
mod managed;
mod node_authorizer;
mod openapi;
mod owners;
mod page;
mod pipeline;
mod policy;
mod present;
mod proxy;
pub mod read;
pub mod replay;
pub mod reply;
pub mod review;
mod rule;
mod scale;
pub mod select;
mod serve;
mod subresource;
mod table;
mod target;
mod unstored;
mod version;
pub mod watch;
mod webhook;
pub mod write;
mod write_options;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use accept::{error_form, negotiate};
pub use access::{authorize, authorize_request};
pub use attributes::Attributes;
pub use authenticate::{DEFAULT_AUDIENCE, authenticate};
pub use backend::resolve;
pub use body::{Decoded, decode_body};
pub use bootstrap::{Bootstrap, FRONT_PROXY, bootstrap};
pub use context::{Cluster, Context, Head, Ids};
pub use custom::definition::may_have_its_names;
pub use custom::registry_of;
pub use discovery::extensions::{Known, Told, read_resources, with_extensions};
pub use extension::{API_SERVICES, Availability, Extension, extensions, tell_availability};
pub use impersonate::{Impersonation, impersonate};
pub use legacy_use::note_use;
pub use log_query::LogQuery;
pub use long_list::LongList;
pub use present::{present, present_failure, takes_long};
pub use proxy::{ProxiedServer, ProxyPlan, is_proxied, proxy};
pub use replay::permit_connection;
pub use reply::{Body, CallPlan, Reply, SignPlan, StreamPlan, WatchPlan};
pub use scale::scale_of;
pub use serve::{is_read, serve_read, serve_write};
pub use watch::{watch_asks, watch_bookmark, watch_error, watch_next, watch_told};
