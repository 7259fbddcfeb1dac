//! The names that one Service makes.
//!
//! Contract: a function of the Service and its slices. Only ready endpoints have names, whatever the reason they count as
//! ready (D-05, D-12, D-13).
//! Source: the Kubernetes DNS specification 1.1.0 and CoreDNS where that leaves it open; rows D-02 to D-11, D-15, D-18.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ServiceSpec;

use super::name::Name;
use crate::catalog::{self, Entry, ServiceKey};

/// What a name has, before it is encoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    pub addresses: BTreeSet<IpAddr>,
    pub alias: Option<Name>,
    pub services: BTreeSet<Arc<Srv>>,
    pub pointers: BTreeSet<Name>,
}

/// Where a port is served: `target`, which has these addresses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Srv {
    pub target: Name,
    pub port: u16,
    pub addresses: BTreeSet<IpAddr>,
}

pub type Names = BTreeMap<Name, Facts>;

/// `services` is `svc.<domain>`.
pub fn names(services: &Name, key: &ServiceKey, entry: &Entry) -> Names {
    let mut names = Names::new();
    let Some(service) = entry.service() else { return names };
    let Some(spec) = &service.spec else { return names };
    let Some(own) = services.child([&*key.name, &*key.namespace]) else { return names };
    if spec.type_.as_deref() == Some("ExternalName") {
        external_name(&mut names, own, spec);
        return names;
    }
    let endpoints = ready_endpoints(&own, entry);
    if catalog::is_headless(spec) {
        for endpoint in &endpoints {
            names.entry(own.clone()).or_default().addresses.insert(endpoint.address);
        }
        serve_ports(&mut names, &own, &endpoints);
    } else {
        cluster_ip(&mut names, &own, spec);
    }
    for endpoint in &endpoints {
        let facts = names.entry(endpoint.name.clone()).or_default();
        facts.addresses.insert(endpoint.address);
        if endpoint.has_hostname {
            let reverse = names.entry(Name::reverse(endpoint.address)).or_default();
            reverse.pointers.insert(endpoint.name.clone());
        }
    }
    names
}

/// D-15. An address in place of a name makes no name.
fn external_name(names: &mut Names, own: Name, spec: &ServiceSpec) {
    let external = spec.external_name.as_deref().unwrap_or_default();
    if external.is_empty() || external.parse::<IpAddr>().is_ok() {
        return;
    }
    names.entry(own).or_default().alias = Name::parse(external);
}

/// D-02, D-03, D-04, D-08.
fn cluster_ip(names: &mut Names, own: &Name, spec: &ServiceSpec) {
    let (four, six) = catalog::cluster_ips(spec);
    let addresses: BTreeSet<IpAddr> =
        four.into_iter().map(IpAddr::from).chain(six.into_iter().map(IpAddr::from)).collect();
    if addresses.is_empty() {
        return;
    }
    names.entry(own.clone()).or_default().addresses = addresses.clone();
    for ip in &addresses {
        names.entry(Name::reverse(*ip)).or_default().pointers.insert(own.clone());
    }
    for port in spec.ports.iter().flatten() {
        let Ok(number) = u16::try_from(port.port) else { continue };
        let srv = Srv { target: own.clone(), port: number, addresses: addresses.clone() };
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        serve(names, own, port.name.as_deref(), protocol, Arc::new(srv));
    }
}

/// An endpoint that names may lead to.
struct Endpoint {
    name: Name,
    has_hostname: bool,
    address: IpAddr,
    /// Name, protocol and number.
    ports: Vec<(Option<String>, String, u16)>,
}

/// D-06, D-10, D-11.
fn ready_endpoints(own: &Name, entry: &Entry) -> Vec<Endpoint> {
    let mut found = Vec::new();
    for slice in entry.slices() {
        let ports = slice.ports.iter().flatten().filter_map(|p| {
            let number = u16::try_from(p.port?).ok()?;
            Some((p.name.clone(), p.protocol.clone().unwrap_or_else(|| "TCP".into()), number))
        });
        let ports: Vec<_> = ports.collect();
        for endpoint in catalog::endpoints(&slice).filter(|e| e.ready) {
            let Ok(address) = endpoint.address.parse::<IpAddr>() else { continue };
            let dashed = address.to_string().replace(['.', ':'], "-");
            let Some(name) = own.child([endpoint.hostname.unwrap_or(&dashed)]) else { continue };
            let has_hostname = endpoint.hostname.is_some();
            found.push(Endpoint { name, has_hostname, address, ports: ports.clone() });
        }
    }
    found
}

/// D-07, D-08: each port of each endpoint; without ports there is nothing to serve (D-18).
fn serve_ports(names: &mut Names, own: &Name, endpoints: &[Endpoint]) {
    let mut addresses_of: BTreeMap<&Name, BTreeSet<IpAddr>> = BTreeMap::new();
    for endpoint in endpoints {
        addresses_of.entry(&endpoint.name).or_default().insert(endpoint.address);
    }
    for endpoint in endpoints {
        for (port_name, protocol, number) in &endpoint.ports {
            let addresses = addresses_of[&endpoint.name].clone();
            let srv = Arc::new(Srv { target: endpoint.name.clone(), port: *number, addresses });
            names.entry(endpoint.name.clone()).or_default().services.insert(Arc::clone(&srv));
            serve(names, own, port_name.as_deref(), protocol, srv);
        }
    }
}

/// Under the Service's name for every port, and under `_port._protocol` for named ones.
fn serve(names: &mut Names, own: &Name, port_name: Option<&str>, protocol: &str, srv: Arc<Srv>) {
    if let Some(port_name) = port_name.filter(|name| !name.is_empty()) {
        let labels = [format!("_{port_name}"), format!("_{protocol}")];
        if let Some(name) = own.child(labels.iter().map(String::as_str)) {
            names.entry(name).or_default().services.insert(Arc::clone(&srv));
        }
    }
    names.entry(own.clone()).or_default().services.insert(srv);
}
