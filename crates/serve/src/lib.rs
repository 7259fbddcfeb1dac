//! The shell: threads, sockets and files around the deciding crates.
//!
//! Start at `run` (run.rs). `plane.rs` is the control plane's thread, `agent.rs` the node agents', `http.rs` the API's surface,
//! `streams.rs` what goes to containers, `disk.rs` the store's file.

pub mod admin;
pub mod agent;
pub mod asks;
pub mod audit;
pub mod auth;
mod chance;
mod claims;
mod clock;
pub mod config;
mod conflicts;
pub mod disk;
mod effects;
mod errands;
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
mod listeners;
mod messages;
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
mod server;
pub mod services;
pub mod stop;
pub mod streams;
pub mod token;
pub mod trust;
pub mod usage;
pub mod watch;
pub mod webhooks;

pub use config::Options;
pub use run::run;
pub use server::{KUBERNETES_VERSION, Server};
pub use stop::{forget, stop};
