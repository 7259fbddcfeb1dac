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
}

/// The identity of a node, as Kubernetes names it.
pub fn node_user(name: &str) -> Arc<User> {
    Arc::new(User {
        name: format!("system:node:{name}"),
        groups: vec!["system:nodes".into(), "system:authenticated".into()],
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
