//! The objects of an empty cluster.

use std::net::Ipv4Addr;

use crate::Context;

/// What the shell knows and the objects need.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// Where the API server listens, for the EndpointSlice of Service default/kubernetes.
    pub api_address: Ipv4Addr,
    pub api_port: u16,
    /// The address of the Service kube-system/kube-dns.
    pub dns_ip: Ipv4Addr,
}

/// Makes the initial objects that are missing. Called at every start.
pub fn bootstrap(_ctx: &mut Context, _facts: &Bootstrap) {}
