//! What the shell tells of the cluster when it starts.

use std::net::Ipv4Addr;

/// What the shell knows and the objects need.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// Where the API server listens, for the EndpointSlice of Service default/kubernetes.
    pub api_address: Ipv4Addr,
    pub api_port: u16,
    /// The address of the Service kube-system/kube-dns.
    pub dns_ip: Ipv4Addr,
    /// PEM of the authority behind the certificate that requests are passed on to extension servers with.
    pub front_proxy_ca: String,
    /// Whether this server tells what pods and nodes use, unless another one does.
    pub tells_usage: bool,
}
