//! `hostPort`: ports of the machine that lead to one pod.
//!
//! Contract: after [`HostPorts::follow`] they are those of the head's pods on this machine's nodes; the work is proportional to what
//! changed. A host port is like a node port whose only endpoint is the pod, kept local so that the client's address is seen;
//! it is there from the pod's address to its end, ready or not. Pods on the host's network need none.
//! Upstream: the kubelet's port mappings and the CNI plugin `portmap`; main containers and sidecars only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{ContainerPort, Pod};
use stead_api::{Key, KindName, Object, Revision};
use stead_store::Head;

use super::claims::{Claim, Claimant, Claims};
use super::ruleset::{Endpoint, PortId, Protocol, ServicePort};

const PODS: KindName = "pods";

#[derive(Default)]
pub struct HostPorts {
    seen: Option<Revision>,
    /// Pods that have any.
    pods: BTreeMap<Key, BTreeSet<Mapping>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mapping {
    protocol: Protocol,
    /// None: every address of the machine.
    host_ip: Option<Ipv4Addr>,
    host_port: u16,
    node: String,
    endpoint: Endpoint,
}

impl HostPorts {
    /// Whether anything differs from before.
    pub fn follow(&mut self, head: &Head, nodes: &BTreeSet<String>) -> bool {
        let revision = head.snapshot.revision();
        let Some(seen) = self.seen.replace(revision) else { return self.read_whole(head, nodes) };
        if seen >= revision {
            self.seen = Some(seen);
            return false;
        }
        let Ok(events) = head.history.since(PODS, seen) else { return self.read_whole(head, nodes) };
        let mut differs = false;
        for event in events {
            let now = if event.deleted { BTreeSet::new() } else { mappings(&event.object, nodes) };
            differs |= self.set(event.key().clone(), now);
        }
        differs
    }

    fn read_whole(&mut self, head: &Head, nodes: &BTreeSet<String>) -> bool {
        let pods = head.snapshot.list(PODS, "").map(|pod| (pod.key.clone(), mappings(pod, nodes)));
        let fresh: BTreeMap<_, _> = pods.filter(|(_, mappings)| !mappings.is_empty()).collect();
        let differs = self.pods != fresh;
        self.pods = fresh;
        differs
    }

    fn set(&mut self, pod: Key, mappings: BTreeSet<Mapping>) -> bool {
        if mappings.is_empty() {
            return self.pods.remove(&pod).is_some();
        }
        self.pods.get(&pod) != Some(&mappings) && {
            self.pods.insert(pod, mappings);
            true
        }
    }

    /// Which pods ask for which ports of the machine.
    pub fn claims(&self) -> Claims {
        let mut claims = Claims::new();
        for (pod, mapping) in self.pods.iter().flat_map(|(pod, all)| all.iter().map(move |one| (pod, one))) {
            let Mapping { protocol, host_ip: address, host_port: port, .. } = *mapping;
            let (namespace, name) = (pod.namespace.to_string(), pod.name.to_string());
            let claimant = Claimant { kind: "Pod", namespace, name };
            claims.entry(Claim { port, protocol, address }).or_default().insert(claimant);
        }
        claims
    }

    /// The same as ports of a Service that is in no namespace. Pods on different nodes of this machine may share one.
    pub fn ports(&self) -> BTreeMap<PortId, ServicePort> {
        let mut ports: BTreeMap<PortId, ServicePort> = BTreeMap::new();
        for mapping in self.pods.values().flatten() {
            let address = mapping.host_ip.map_or("*".into(), |ip| ip.to_string());
            let id = PortId {
                namespace: String::new(),
                service: "hostPort".into(),
                port: format!("{address}:{}", mapping.host_port),
                protocol: mapping.protocol,
            };
            let port = ports.entry(id).or_insert_with(|| ServicePort {
                protocol: mapping.protocol,
                cluster_ip: None,
                port: mapping.host_port,
                node_port: mapping.host_ip.is_none().then_some(mapping.host_port),
                external_ips: mapping.host_ip.into_iter().collect(),
                affinity_seconds: None,
                internal_local: false,
                external_local: true,
                endpoints: Vec::new(),
                local: BTreeMap::new(),
            });
            for list in [&mut port.endpoints, port.local.entry(mapping.node.clone()).or_default()] {
                list.push(mapping.endpoint);
                list.sort();
            }
        }
        ports
    }
}

fn mappings(object: &Object, nodes: &BTreeSet<String>) -> BTreeSet<Mapping> {
    let pod = object.view::<Pod>();
    let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else { return BTreeSet::new() };
    let is_over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let ip = status.pod_ip.as_deref().and_then(|ip| ip.parse::<Ipv4Addr>().ok());
    let node = spec.node_name.as_ref().filter(|node| nodes.contains(*node));
    let (Some(ip), Some(node)) = (ip.filter(|_| !is_over && spec.host_network != Some(true)), node) else {
        return BTreeSet::new();
    };
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    ports.filter_map(|port| mapping(port, ip, node)).collect()
}

/// None without a host port, and for addresses that are not IPv4.
fn mapping(port: &ContainerPort, ip: Ipv4Addr, node: &str) -> Option<Mapping> {
    let host_port = port.host_port.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0)?;
    let host_ip = match port.host_ip.as_deref() {
        None | Some("" | "0.0.0.0" | "::") => None,
        Some(text) => Some(text.parse().ok()?),
    };
    Some(Mapping {
        protocol: Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"))?,
        host_ip,
        host_port,
        node: node.to_owned(),
        endpoint: Endpoint { ip, port: u16::try_from(port.container_port).ok()? },
    })
}
