//! Services, EndpointSlices and host ports become a [`Ruleset`], kept up to date from heads.
//!
//! Guarantees: a change costs what changed. Services without an IPv4 address of their own (headless, ExternalName) have no
//! rules (N-02, N-07); nor have those whose address the machine itself answers (the DNS Service).
//! Endpoints are chosen as upstream chooses them: ready ones; if there is none, those that still serve while terminating
//! (N-13), judged for the cluster and for each node apart. Topology hints (N-12) are not looked at: all endpoints are near.
//! Source: behaviour rows N-01 to N-13.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use stead_store::Head;

use super::claims::{Claim, Claimant, Claims};
use super::host_ports::HostPorts;
use super::ruleset::{Endpoint, PortId, Protocol, Ruleset, ServicePort};
use crate::catalog::{self, Catalog, Entry, ServiceKey};

/// `sessionAffinityConfig.clientIP.timeoutSeconds` where it is not set (N-08).
const AFFINITY_SECONDS: u32 = 10_800;

/// The rules of one machine.
pub struct Proxy {
    /// The nodes that run on this machine.
    nodes: BTreeSet<String>,
    /// Service addresses that the machine itself answers.
    own: BTreeSet<Ipv4Addr>,
    catalog: Catalog,
    host_ports: HostPorts,
    ports_of: BTreeMap<ServiceKey, Vec<PortId>>,
    ruleset: Ruleset,
}

impl Proxy {
    pub fn new(nodes: impl IntoIterator<Item = String>, own: impl IntoIterator<Item = Ipv4Addr>) -> Proxy {
        Proxy {
            nodes: nodes.into_iter().collect(),
            own: own.into_iter().collect(),
            catalog: Catalog::default(),
            host_ports: HostPorts::default(),
            ports_of: BTreeMap::new(),
            ruleset: Ruleset::default(),
        }
    }

    /// Brings the rules up to this head; whether they differ from before.
    pub fn follow(&mut self, head: &Head) -> bool {
        let mut differs = false;
        for key in self.catalog.follow(head).services {
            let ports = self.catalog.get(&key).map(|entry| self.ports(&key, entry)).unwrap_or_default();
            differs |= self.set(key, ports);
        }
        if self.host_ports.follow(head, &self.nodes) {
            // Of no namespace, so no Service has this key.
            let key = ServiceKey { namespace: "".into(), name: "hostPort".into() };
            differs |= self.set(key, self.host_ports.ports());
        }
        differs
    }

    pub fn ruleset(&self) -> &Ruleset {
        &self.ruleset
    }

    /// The ports of the machine that Services and pods ask for.
    pub fn claims(&self) -> Claims {
        let mut claims = self.host_ports.claims();
        for (id, port) in self.ruleset.ports.iter().filter(|(id, _)| !id.namespace.is_empty()) {
            let Some(node_port) = port.node_port else { continue };
            let claimant = Claimant { kind: "Service", namespace: id.namespace.clone(), name: id.service.clone() };
            let claim = Claim { port: node_port, protocol: port.protocol, address: None };
            claims.entry(claim).or_default().insert(claimant);
        }
        claims
    }

    fn set(&mut self, key: ServiceKey, ports: BTreeMap<PortId, ServicePort>) -> bool {
        let mut differs = false;
        for gone in self.ports_of.remove(&key).into_iter().flatten().filter(|id| !ports.contains_key(id)) {
            differs |= self.ruleset.ports.remove(&gone).is_some();
        }
        if !ports.is_empty() {
            self.ports_of.insert(key, ports.keys().cloned().collect());
        }
        for (id, port) in ports {
            if self.ruleset.ports.get(&id).is_none_or(|known| **known != port) {
                self.ruleset.ports.insert(id, Arc::new(port));
                differs = true;
            }
        }
        differs
    }

    fn ports(&self, key: &ServiceKey, entry: &Entry) -> BTreeMap<PortId, ServicePort> {
        let Some(service) = entry.service() else { return BTreeMap::new() };
        let Some(spec) = &service.spec else { return BTreeMap::new() };
        let (ips, _) = catalog::cluster_ips(spec);
        let Some(cluster_ip) = ips.into_iter().find(|ip| !self.own.contains(ip)) else { return BTreeMap::new() };
        let slices = entry.slices();
        let make = |port: &core::ServicePort| {
            let protocol = Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"))?;
            let id = PortId {
                namespace: key.namespace.to_string(),
                service: key.name.to_string(),
                port: port.name.clone().unwrap_or_default(),
                protocol,
            };
            let found = candidates(&slices, &id.port, protocol);
            Some((id, self.port(&service, spec, port, protocol, cluster_ip, &found)?))
        };
        spec.ports.iter().flatten().filter_map(make).collect()
    }

    fn port(
        &self,
        service: &core::Service,
        spec: &core::ServiceSpec,
        port: &core::ServicePort,
        protocol: Protocol,
        cluster_ip: Ipv4Addr,
        candidates: &[Candidate],
    ) -> Option<ServicePort> {
        let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
        let has_node_port = matches!(kind, "NodePort" | "LoadBalancer");
        let node_port = port.node_port.filter(|_| has_node_port).and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0);
        let external_ips = external_ips(service, spec, kind);
        let internal_local = spec.internal_traffic_policy.as_deref() == Some("Local");
        let is_external = node_port.is_some() || !external_ips.is_empty();
        let external_local = is_external && spec.external_traffic_policy.as_deref() == Some("Local");
        let mut local = BTreeMap::new();
        if internal_local || external_local {
            for node in &self.nodes {
                let here = candidates.iter().filter(|c| c.node == Some(node.as_str()));
                local.insert(node.clone(), usable(here));
            }
        }
        Some(ServicePort {
            protocol,
            cluster_ip: Some(cluster_ip),
            port: u16::try_from(port.port).ok()?,
            node_port,
            external_ips,
            affinity_seconds: affinity(spec),
            internal_local,
            external_local,
            endpoints: usable(candidates.iter()),
            local,
        })
    }
}

/// An endpoint of one Service port, usable or not.
struct Candidate<'a> {
    endpoint: Endpoint,
    node: Option<&'a str>,
    ready: bool,
    /// Serving and terminating.
    is_last_resort: bool,
}

fn candidates<'a>(
    slices: &'a [Arc<discovery::EndpointSlice>],
    port_name: &str,
    protocol: Protocol,
) -> Vec<Candidate<'a>> {
    let mut found = Vec::new();
    for slice in slices.iter().filter(|s| s.address_type == "IPv4") {
        for port in slice.ports.iter().flatten() {
            let is_it = port.name.as_deref().unwrap_or_default() == port_name
                && Protocol::parse(port.protocol.as_deref().unwrap_or("TCP")) == Some(protocol);
            let Some(number) = port.port.filter(|_| is_it).and_then(|p| u16::try_from(p).ok()) else { continue };
            found.extend(catalog::endpoints(slice).filter_map(|e| {
                Some(Candidate {
                    endpoint: Endpoint { ip: e.address.parse().ok()?, port: number },
                    node: e.node,
                    ready: e.ready,
                    is_last_resort: e.serving && e.terminating,
                })
            }));
        }
    }
    found
}

/// The ready ones; where none is, those that serve to the end (N-13). Sorted, each once.
fn usable<'a>(candidates: impl Iterator<Item = &'a Candidate<'a>> + Clone) -> Vec<Endpoint> {
    let ready: BTreeSet<Endpoint> = candidates.clone().filter(|c| c.ready).map(|c| c.endpoint).collect();
    if !ready.is_empty() {
        return ready.into_iter().collect();
    }
    let last: BTreeSet<Endpoint> = candidates.filter(|c| c.is_last_resort).map(|c| c.endpoint).collect();
    last.into_iter().collect()
}

/// `spec.externalIPs`, and the load balancer's addresses that packets still carry when they come (mode VIP: N-06).
fn external_ips(service: &core::Service, spec: &core::ServiceSpec, kind: &str) -> Vec<Ipv4Addr> {
    let given = spec.external_ips.iter().flatten().cloned();
    let status = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let ingress = status.and_then(|b| b.ingress.as_ref()).filter(|_| kind == "LoadBalancer");
    let balanced = ingress.into_iter().flatten().filter(|i| i.ip_mode.as_deref().unwrap_or("VIP") == "VIP");
    let all = given.chain(balanced.filter_map(|i| i.ip.clone()));
    let ips: BTreeSet<Ipv4Addr> = all.filter_map(|ip| ip.parse().ok()).collect();
    ips.into_iter().collect()
}

fn affinity(spec: &core::ServiceSpec) -> Option<u32> {
    (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
        let seconds = config.and_then(|c| c.timeout_seconds);
        seconds.and_then(|s| u32::try_from(s).ok()).filter(|s| *s > 0).unwrap_or(AFFINITY_SECONDS)
    })
}
