//! The shell: threads, sockets and files around the deciding crates.
//!
//! Start at `run` (run.rs). `plane.rs` is the control plane's thread, `agent.rs` the node agents', `http.rs` the API's surface,
//! `streams.rs` what goes to containers, `disk.rs` the store's file.

pub mod admin;
pub mod agent;
pub mod asks;
pub mod audit;
pub mod auth;
mod clock;
pub mod config;
pub mod disk;
mod effects;
pub mod extensions;
pub mod fairness;
pub mod fake;
pub mod files;
pub mod forward;
pub mod front_proxy;
pub mod gzip;
pub mod health;
pub mod http;
pub mod issue;
pub mod kubelet;
pub mod line;
pub mod listen;
pub mod metrics;
mod neighbours;
pub mod nodes;
pub mod out;
pub mod outbound;
pub mod persist;
pub mod pki;
pub mod plane;
pub mod proxied;
pub mod run;
pub mod say;
mod seal;
pub mod services;
pub mod stop;
pub mod streams;
pub mod token;
pub mod trust;
pub mod usage;
pub mod watch;
pub mod webhooks;

use std::collections::BTreeMap;
use std::sync::Arc;

use stead_api::User;
use stead_host::Host;

pub use config::Options;
pub use run::run;
pub use stop::{forget, stop};

/// The version whose API is served.
pub const KUBERNETES_VERSION: &str = "v1.36";

/// What every connection shares.
pub struct Server {
    pub plane: plane::PlaneHandle,
    pub signer: token::Signer,
    pub anonymous: Arc<User>,
    /// Who comes over the data directory's socket.
    pub administrator: Arc<User>,
    pub admin: admin::Admin,
    /// The machines of this process's nodes, by node name.
    pub hosts: std::sync::OnceLock<BTreeMap<String, Arc<Host>>>,
    pub ends: streams::Ends,
    /// None: nobody asked for an audit log.
    pub audit: Option<Arc<audit::Audit>>,
    /// The connections that the server itself makes.
    pub outbound: outbound::Outbound,
    pub front_proxy: front_proxy::FrontProxy,
    pub metrics: metrics::Metrics,
    pub fairness: Arc<fairness::Fairness>,
    /// What pods and nodes were found to use.
    pub meter: usage::Meter,
    pub extensions: extensions::Extensions,
}
