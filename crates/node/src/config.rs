//! What a node agent is told when it starts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::SignedDuration;
use stead_api::{Quantity, User};

use crate::action::Machine;

#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub name: String,
    pub node_ip: IpAddr,
    /// `spec.podCIDR` of the node; empty leaves it to others.
    pub pod_cidr: String,
    /// The cluster DNS Service.
    pub dns_ip: IpAddr,
    /// `cluster.local`
    pub domain: String,
    /// Under which provisioned directory volumes are made.
    pub volumes_dir: PathBuf,
    pub machine: Machine,
    pub max_pods: u32,
    /// Labels beside the standard ones.
    pub labels: BTreeMap<String, String>,
    /// `status.daemonEndpoints.kubeletEndpoint.Port`.
    pub port: u16,
    /// `status.nodeInfo.kubeletVersion`.
    pub version: String,
    /// As whom the agent asks the API server: [`node_user`].
    pub user: Arc<User>,
    /// After how long without a renewed lease the pods of StatefulSets are stopped. `None`: never, right for one node that
    /// shares its fate with the API server.
    pub fence_after: Option<SignedDuration>,
    /// With less free space than this the node has disk pressure.
    pub disk_pressure: Threshold,
}

/// A part of a disk, as the kubelet's `--eviction-hard` takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    Percent(u64),
    Bytes(u64),
}

impl Threshold {
    /// Upstream's `nodefs.available<10%`.
    pub const DISK_PRESSURE: Threshold = Threshold::Percent(10);

    /// `10%` or a quantity such as `5Gi`.
    pub fn parse(text: &str) -> Option<Threshold> {
        match text.strip_suffix('%') {
            Some(percent) => percent.parse().ok().filter(|p| *p <= 100).map(Threshold::Percent),
            None => {
                let bytes = text.parse::<Quantity>().ok()?.value();
                u64::try_from(bytes).ok().map(Threshold::Bytes)
            }
        }
    }

    /// The same in bytes, of a disk of this size.
    pub fn bytes_of(self, disk_bytes: u64) -> u64 {
        match self {
            Threshold::Percent(percent) => disk_bytes / 100 * percent,
            Threshold::Bytes(bytes) => bytes,
        }
    }
}

impl std::fmt::Display for Threshold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Threshold::Percent(percent) => write!(f, "{percent}%"),
            Threshold::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

/// The identity of a node, as Kubernetes names it.
pub fn node_user(name: &str) -> Arc<User> {
    Arc::new(User {
        name: format!("system:node:{name}"),
        groups: vec!["system:nodes".into(), "system:authenticated".into()],
        ..User::default()
    })
}

/// As whom an agent releases the directories that it provisioned: nodes may not write volumes.
pub fn provisioner_user() -> Arc<User> {
    let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"];
    Arc::new(User {
        name: "system:serviceaccount:kube-system:directory-provisioner".into(),
        groups: groups.map(str::to_owned).to_vec(),
        ..User::default()
    })
}

impl NodeConfig {
    /// What the node has of a resource; all of it can be given to pods.
    pub fn allocatable(&self, resource: &str) -> Option<Quantity> {
        let bytes = |n: u64| Quantity::from_bytes(i64::try_from(n).unwrap_or(i64::MAX));
        match resource {
            "cpu" => Some(Quantity::from_int(self.machine.cpus.into())),
            "memory" => Some(bytes(self.machine.memory_bytes)),
            "ephemeral-storage" => Some(bytes(self.machine.disk_bytes)),
            "pods" => Some(Quantity::from_int(self.max_pods.into())),
            _ => None,
        }
    }
}
