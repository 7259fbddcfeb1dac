//! Linux below the node agent: containers, images, mounts, network, cgroups. Start at [`Host`].
//!
//! Guarantees: [`Host::perform`] makes an action true and says what it saw, from any number of threads; containers belong to their
//! shims, so ending this process in any way stops none, and the next [`Host::open`] finds them all; ends come unasked through the
//! sender. Two clusters on one machine share nothing: every name carries the cluster's id.
//! The binary that uses this crate must call [`shim::main`] for its argument `shim`, before it starts a thread.

mod cgroup;
mod container;
mod container_end;
mod dial;
mod disk_use;
pub mod dns_server;
mod exec;
mod fault;
#[cfg(test)]
mod fixture;
mod host;
mod image;
mod image_load;
mod image_name;
mod image_pull;
mod image_trust;
mod image_unpack;
mod locks;
pub mod log;
mod machine;
mod mount;
pub mod network;
mod preflight;
mod probe;
mod probe_grpc;
mod record;
mod sandbox;
mod seccomp;
pub mod shim;
mod shim_exec;
mod shim_filter;
mod shim_io;
mod shim_protocol;
mod shim_trace;
mod signal;
mod spec;
mod sys;
mod tls;
pub mod usage;
mod user;
mod watch;

pub use exec::{Attach, Exec, ExecRequest, Streams};
pub use host::{Host, HostConfig, HostError};
pub use image::{BUILT_IN, ImageError, ImageStore};
pub use image_load::load as load_images;
pub use image_pull::pull as pull_image;
pub use network::Network;
pub use preflight::check_overlay;
pub use record::run_dir;
pub use shim_protocol::resize as resize_terminal;
pub use sys::trim_memory;
