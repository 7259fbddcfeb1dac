//! The rules of a node as plain data: each Service port, how it is reached and who answers.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Everything a node forwards for Services: `namespace/name:port/PROTOCOL` → how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Shared, so that two rulesets of nearly the same cluster are cheap to hold and to compare.
    pub ports: BTreeMap<PortId, Arc<ServicePort>>,
}

/// One port of one Service. The port's name is empty for a Service's only, unnamed port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortId {
    pub namespace: String,
    pub service: String,
    pub port: String,
    pub protocol: Protocol,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// Where one Service port is reached, and who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    pub protocol: Protocol,
    /// None for a host port.
    pub cluster_ip: Option<Ipv4Addr>,
    pub port: u16,
    /// On every address of the node (N-05, N-22).
    pub node_port: Option<u16>,
    /// `spec.externalIPs` and the load balancer's addresses of mode VIP (N-06).
    pub external_ips: Vec<Ipv4Addr>,
    /// `sessionAffinity: ClientIP` and its timeout (N-08).
    pub affinity_seconds: Option<u32>,
    /// `internalTrafficPolicy: Local` (N-11).
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local` (N-09).
    pub external_local: bool,
    /// All usable endpoints of the cluster (ready, else serving and terminating: N-13), sorted.
    pub endpoints: Vec<Endpoint>,
    /// The usable endpoints of each node of this machine, judged apart (N-13); filled only where a policy is Local.
    pub local: BTreeMap<String, Vec<Endpoint>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub ip: Ipv4Addr,
    pub port: u16,
}

impl Protocol {
    /// The IP protocol number.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        }
    }

    /// `None` for a word Kubernetes does not know.
    pub fn parse(word: &str) -> Option<Protocol> {
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|protocol| protocol.as_str() == word)
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}/{}", self.namespace, self.service, self.port, self.protocol.as_str())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.ip, self.port)
    }
}

impl fmt::Display for Ruleset {
    /// One line a port, in order: how it is reached, and who answers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, port) in &self.ports {
            writeln!(f, "{id} {port}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.cluster_ip.iter().chain(&self.external_ips);
        let mut ways: Vec<String> = addresses.map(|ip| format!("{ip}:{}", self.port)).collect();
        ways.extend(self.node_port.map(|port| format!("*:{port}")));
        write!(f, "{}", ways.join(" "))?;
        if let Some(seconds) = self.affinity_seconds {
            write!(f, " affinity={seconds}s")?;
        }
        write!(f, " ->")?;
        match self.endpoints.is_empty() {
            true => write!(f, " refuse")?,
            false => list(f, &self.endpoints)?,
        }
        for (policy, is_set) in [("internal", self.internal_local), ("external", self.external_local)] {
            if is_set {
                write!(f, " {policy}=local")?;
            }
        }
        for (node, endpoints) in &self.local {
            write!(f, " {node}:")?;
            match endpoints.is_empty() {
                true => write!(f, " drop")?,
                false => list(f, endpoints)?,
            }
        }
        Ok(())
    }
}

fn list(f: &mut fmt::Formatter<'_>, endpoints: &[Endpoint]) -> fmt::Result {
    endpoints.iter().try_for_each(|endpoint| write!(f, " {endpoint}"))
}
