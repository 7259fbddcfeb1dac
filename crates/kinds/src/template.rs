//! PodSpec and PodTemplateSpec: defaults and validation, shared by Pod and all workloads (S-03, SC-06).

pub mod affinity;
pub mod containers;
pub mod defaults;
pub mod env;
pub mod ephemeral;
pub mod probes;
pub mod resources;
pub mod security;
pub mod sources;
pub mod validate;
pub mod volumes;
pub mod warnings;
mod windows;

pub use defaults::{default_pod_spec, default_template};
pub use validate::{validate_pod_spec, validate_template};
