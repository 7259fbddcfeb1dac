//! What a cluster's network is made of, and how what goes wrong with it is told.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use stead_net::Cidr;

/// What a cluster's network looks like on this machine.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// At least six lower-case letters and digits; its first six name the interfaces.
    pub cluster_id: String,
    /// `netns/<uid>` is made below it.
    pub run_dir: PathBuf,
    /// The range of all pods, `10.244.0.0/16`.
    pub pod_range: Cidr,
    /// The range of all Services, `10.96.0.0/16`.
    pub service_range: Cidr,
    /// The DNS Service's address: it is the machine's own, so that the DNS server can listen on it.
    pub dns_ip: Ipv4Addr,
    /// The nodes that run in this process. A node's own address is the first one of its range.
    pub nodes: Vec<NodeRange>,
}

/// A node and its part of the pod range (`spec.podCIDR`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRange {
    pub name: String,
    pub range: Cidr,
}

impl NodeRange {
    /// The address the node goes by: the first of its range.
    pub fn node_ip(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.range.first()) + 1)
    }
}

/// A pod's place in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodNet {
    pub ip: Ipv4Addr,
    /// The pinned namespace, to be joined by the pod's containers.
    pub netns: PathBuf,
}

/// What could not be done, to what, and why.
#[derive(Debug, thiserror::Error)]
#[error("{op} {target}: {source}")]
pub struct NetworkError {
    pub op: &'static str,
    pub target: String,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl NetworkError {
    pub fn new(
        op: &'static str,
        target: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> NetworkError {
        NetworkError { op, target: target.into(), source: source.into() }
    }
}

/// How much of the cluster id fits into interface names (15 characters in all).
pub const ID_LEN: usize = 6;
