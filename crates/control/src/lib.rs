//! Controllers: what should be done, as data; and the control plane that runs them.
//!
//! A controller is a constant: its name, what wakes it, and a function from a snapshot, a key and now to a `Plan`. It never learns
//! why it was called, cannot fail and does nothing itself; `plane.rs` applies plans through the same write path as a user's
//! request (One path).
//!
//! Start with `plan.rs` (the words) and `plane.rs` (the loop); then each controller is one file and one line in `all.rs`.

pub mod memory;
pub mod names;
pub mod plan;
pub mod plane;
pub mod usage;

mod all;
mod apiservice;
mod bootstrap_signer;
mod certificates;
mod clusterrole;
mod content;
mod cronjob;
mod daemonset;
mod definition;
mod deployment;
mod disruption;
pub mod effect;
mod endpoints;
mod endpointslice;
pub mod facts;
mod flowcontrol;
mod garbage;
mod hpa;
mod job;
mod namespace;
mod node;
mod parking;
mod policy_types;
mod queue;
mod quota;
mod recorder;
mod replicaset;
mod scheduler;
mod service_address;
mod statefulset;
mod status;
mod token_cleaner;
mod token_secret;
mod volume;

#[cfg(test)]
mod fixture;

pub use all::ALL;
pub use content::Content;
pub use effect::{CertificateOrder, Effect, Sweep, Work};
pub use parking::CallId;
pub use plan::{Action, Controller, EventType, Note, Plan, Settles, View, Watch};
pub use plane::{Batch, Plane, Released, RequestId};
pub use queue::Tally;
pub use usage::{ContainerUsage, Measured, Usage};
