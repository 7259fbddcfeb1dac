//! Clients that others wrote, unmodified and from the package registries, against the real binary. Needs root and the network.
//!
//! Each module is one client on a cluster of its own. A client that notices a difference from Kubernetes has found a bug of Stead.

#[allow(dead_code, reason = "the whole-system tests use the rest")]
#[path = "../system/cluster.rs"]
mod cluster;
mod debian;
#[allow(dead_code, reason = "the whole-system tests use the rest")]
#[path = "../system/images.rs"]
mod images;
mod install;
mod node;
mod patroni;
mod python;
mod rabbitmq;
mod rust;
