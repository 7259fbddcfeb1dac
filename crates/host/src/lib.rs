//! stead-host.
pub mod network;
