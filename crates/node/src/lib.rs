//! The node agent: a pure state machine between the API server's snapshot and one machine.
//!
//! `step` takes what happened (a new head, a reply, an observation of the machine) and gives requests and actions. Start here, then
//! `pod.rs` (what to do next for a pod), `status.rs` (what to say about it), `action.rs` (the contract with the machine).
//!
//! Guarantees: no clock, chance or I/O (Pure); no state file: after a restart everything is planned again from the machine's
//! [`World`](action::World) and the snapshot; a pod's deletion is confirmed, with its uid, only when its containers, its
//! sandbox and its mounts are gone (AtMostOne). Nothing is planned before both the world and the first head are known.
//!
//! To add a runtime ability: one `Action` variant, one place in a plan, one arm in `observe.rs`; the compiler lists the rest.

pub mod action;
mod admit;
mod agent;
pub mod config;
mod container;
mod disk;
mod duty;
mod env;
mod event;
mod evict;
mod exchange;
mod facts;
mod files;
mod grant;
mod image;
mod limits;
pub mod machine;
mod node;
mod observe;
mod plan;
pub mod pod;
mod probe;
mod question;
mod reclaim;
mod reclaim_steps;
mod resize;
mod shutdown;
mod space;
mod state;
mod status;
mod stop;
mod sync;
#[cfg(test)]
mod tests;
mod token;
mod volume;

pub use agent::NodeAgent;
pub use config::{NodeConfig, Threshold, node_user};
pub use exchange::{Input, Output, RequestId};
pub use volume::{DIRECTORY_FINALIZER, DIRECTORY_PROVISIONER};
