//! The zone: every name of the cluster with its records encoded.
//!
//! Contract: following heads one by one and reading the last one whole give the same zone. A name exists when it has records
//! or when a name below it does (then it has no records of its own, D-19); so do `<namespace>.svc` and `<namespace>.pod`.
//! Addresses of the cluster's own ranges that nobody has do not exist; other addresses are somebody else's.
//! Source: rows D-01, D-04, D-09, D-17, D-19.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use stead_api::Revision;
use stead_store::Head;

use super::name::{Name, is_within, labels};
use super::service::{self, Facts, Names};
use super::wire::{Records, kind};
use crate::catalog::{Catalog, ServiceKey};
use crate::cidr::Cidr;

/// How long answers may be kept (D-16), and how long "there is no such name" may be (D-20).
const TTL_SECONDS: u32 = 5;
const NEGATIVE_TTL_SECONDS: u32 = 0;
/// D-01.
const SCHEMA_VERSION: &str = "1.1.0";

/// What a zone is about.
#[derive(Debug, Clone)]
pub struct ZoneConfig {
    /// `cluster.local`
    pub domain: String,
    /// The DNS Service's address.
    pub dns_ip: Ipv4Addr,
    /// The ranges of pods and Services: we know all that there is to know about their addresses.
    pub ranges: Vec<Cidr>,
}

/// All names of the cluster.
pub struct Zone {
    domain: Name,
    services: Name,
    pods: Name,
    /// The reverse zones of the ranges, for the SOA of what does not exist.
    reverse: Vec<(Cidr, Name)>,
    dns_ip: Ipv4Addr,
    catalog: Catalog,
    names: BTreeMap<Name, Node>,
    of_service: BTreeMap<ServiceKey, BTreeMap<Name, Arc<Facts>>>,
    soa: Records,
}

/// One name.
#[derive(Default)]
pub struct Node {
    /// Who says what about it. Several Services may point from one pod's address (D-09).
    owners: BTreeMap<Owner, Arc<Facts>>,
    /// How many names lie directly below.
    below: usize,
    encoded: Encoded,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Zone,
    Namespace(Arc<str>),
    Service(ServiceKey),
}

/// The records of a name.
#[derive(Default)]
struct Encoded {
    records: Vec<(u16, Records)>,
    additional: Vec<(Name, Records)>,
    alias: Option<(Records, Name)>,
}

/// What there is under a name.
pub enum Found<'a> {
    Node(&'a Node),
    /// A pod's address in its name, and the type of record that it is.
    PodAddress(Records, u16),
    /// Ours, and not there.
    Nothing,
    /// Not ours.
    Elsewhere,
}

impl Zone {
    /// `None` when the domain is not a domain name.
    pub fn new(config: ZoneConfig) -> Option<Zone> {
        let domain = Name::parse(&config.domain).filter(|name| name.parent().is_some())?;
        let mut zone = Zone {
            services: domain.child(["svc"])?,
            pods: domain.child(["pod"])?,
            reverse: config.ranges.iter().map(|range| (*range, reverse_apex(*range))).collect(),
            dns_ip: config.dns_ip,
            domain,
            catalog: Catalog::default(),
            names: BTreeMap::new(),
            of_service: BTreeMap::new(),
            soa: Records::default(),
        };
        zone.set_fixed();
        zone.set_serial(0);
        Some(zone)
    }

    /// Brings the zone up to this head.
    pub fn follow(&mut self, head: &Head) {
        if self.is_at(head.snapshot.revision()) {
            return;
        }
        let changes = self.catalog.follow(head);
        for namespace in changes.namespaces {
            self.set_namespace(&namespace);
        }
        for key in changes.services {
            let entry = self.catalog.get(&key);
            let names = entry.map(|entry| service::names(&self.services, &key, entry)).unwrap_or_default();
            self.set_service(key, names);
        }
        self.set_serial(head.snapshot.revision());
    }

    /// Whether this revision is known here already.
    pub fn is_at(&self, revision: Revision) -> bool {
        self.catalog.is_at(revision)
    }

    pub(super) fn soa(&self) -> &Records {
        &self.soa
    }

    pub(super) fn find(&self, name: &[u8]) -> Found<'_> {
        if let Some(node) = self.names.get(name) {
            return Found::Node(node);
        }
        if is_within(name, self.domain.wire()) {
            return self.find_pod(name).unwrap_or(Found::Nothing);
        }
        match reverse_address(name) {
            Some(ip) if self.reverse.iter().any(|(range, _)| range.contains(ip)) => Found::Nothing,
            _ => Found::Elsewhere,
        }
    }

    /// `10-244-0-5.<namespace>.pod.<domain>` (D-17).
    fn find_pod(&self, name: &[u8]) -> Option<Found<'_>> {
        let head = name.strip_suffix(self.pods.wire())?;
        let mut parts = labels(head);
        let (address, namespace) = (parts.next()?, parts.next()?);
        if parts.next().is_some() || !self.catalog.has_namespace(std::str::from_utf8(namespace).ok()?) {
            return None;
        }
        let dashed = std::str::from_utf8(address).ok()?;
        let four = dashed.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::from);
        let ip = four.or_else(|_| dashed.replace('-', ":").parse()).ok()?;
        let mut records = Records::default();
        let record_kind = push_address(&mut records, ip);
        Some(Found::PodAddress(records, record_kind))
    }

    /// The zone that denies this name.
    pub(super) fn apex_of(&self, name: &[u8]) -> &Name {
        let reverse = self.reverse.iter().map(|(_, apex)| apex);
        reverse.into_iter().find(|apex| is_within(name, apex.wire())).unwrap_or(&self.domain)
    }

    /// Everything that is known, for comparison.
    #[cfg(test)]
    pub(super) fn dump(&self) -> String {
        let line = |(name, node): (&Name, &Node)| {
            let Encoded { records, additional, alias } = &node.encoded;
            format!("{name} below={} {records:?} {additional:?} {alias:?}\n", node.below)
        };
        self.names.iter().map(line).collect()
    }

    fn set_fixed(&mut self) {
        let mut text = Records::default();
        let version = SCHEMA_VERSION.as_bytes();
        text.push(kind::TXT, TTL_SECONDS, &[&[version.len() as u8], version].concat());
        let mut address = Records::default();
        push_address(&mut address, self.dns_ip.into());
        let server = self.name_server();
        let mut servers = Records::default();
        servers.push(kind::NS, TTL_SECONDS, server.wire());
        let fixed = [
            (self.domain.child(["dns-version"]), Some((kind::TXT, text))),
            (Some(server), Some((kind::A, address))),
            (Some(self.domain.clone()), Some((kind::NS, servers))),
            (Some(self.services.clone()), None),
            (Some(self.pods.clone()), None),
        ];
        for (name, record) in fixed {
            let Some(name) = name else { continue };
            self.own(&name, Owner::Zone, Arc::default());
            if let Some(node) = self.names.get_mut(&name) {
                node.encoded.records.extend(record);
            }
        }
    }

    fn name_server(&self) -> Name {
        self.domain.child(["ns", "dns"]).unwrap_or_else(|| self.domain.clone())
    }

    /// The SOA record carries the revision, and how long a denial may be kept.
    fn set_serial(&mut self, revision: Revision) {
        let mail = self.domain.child(["hostmaster"]).unwrap_or_else(|| self.domain.clone());
        let mut data = [self.name_server().wire(), mail.wire()].concat();
        let (refresh, retry, expire) = (7200u32, 1800u32, 86_400u32);
        for number in [revision as u32, refresh, retry, expire, NEGATIVE_TTL_SECONDS] {
            data.extend(number.to_be_bytes());
        }
        self.soa = Records::default();
        self.soa.push(kind::SOA, NEGATIVE_TTL_SECONDS, &data);
        if let Some(apex) = self.names.get_mut(&self.domain) {
            apex.encoded.records.retain(|(k, _)| *k != kind::SOA);
            apex.encoded.records.insert(0, (kind::SOA, self.soa.clone()));
        }
    }

    fn set_namespace(&mut self, namespace: &Arc<str>) {
        let owner = Owner::Namespace(Arc::clone(namespace));
        for parent in [&self.services, &self.pods] {
            let Some(name) = parent.child([&**namespace]) else { return };
            match self.catalog.has_namespace(namespace) {
                true => own(&mut self.names, &self.domain, &name, owner.clone(), Arc::default()),
                false => disown(&mut self.names, &self.domain, &name, &owner),
            }
        }
    }

    fn own(&mut self, name: &Name, owner: Owner, facts: Arc<Facts>) {
        own(&mut self.names, &self.domain, name, owner, facts);
    }

    /// Replaces what a Service says; only names whose facts differ are encoded anew.
    fn set_service(&mut self, key: ServiceKey, names: Names) {
        let mut known = self.of_service.remove(&key).unwrap_or_default();
        let owner = Owner::Service(key.clone());
        known.retain(|name, _| {
            let stays = names.contains_key(name);
            if !stays {
                disown(&mut self.names, &self.domain, name, &owner);
                encode(&mut self.names, name);
            }
            stays
        });
        for (name, facts) in names {
            if known.get(&name).is_some_and(|before| **before == facts) {
                continue;
            }
            let facts = Arc::new(facts);
            own(&mut self.names, &self.domain, &name, owner.clone(), Arc::clone(&facts));
            encode(&mut self.names, &name);
            known.insert(name, facts);
        }
        if !known.is_empty() {
            self.of_service.insert(key, known);
        }
    }
}

impl Node {
    pub fn records(&self) -> impl Iterator<Item = (u16, &Records)> {
        let alias = self.encoded.alias.iter().map(|(records, _)| (kind::CNAME, records));
        self.encoded.records.iter().map(|(k, records)| (*k, records)).chain(alias)
    }

    pub fn additional(&self) -> &[(Name, Records)] {
        &self.encoded.additional
    }

    /// The name that this one stands for.
    pub fn alias(&self) -> Option<(&Records, &Name)> {
        self.encoded.alias.as_ref().map(|(records, target)| (records, target))
    }
}

/// Adds an owner; a name that was not there comes into being below its parents, up to the zone's apex.
fn own(names: &mut BTreeMap<Name, Node>, domain: &Name, name: &Name, owner: Owner, facts: Arc<Facts>) {
    let is_new = !names.contains_key(name);
    names.entry(name.clone()).or_default().owners.insert(owner, facts);
    let mut child = is_new.then(|| name.clone());
    while let Some(parent) = child.as_ref().and_then(|name| parent_in_zone(name, domain)) {
        let is_new = !names.contains_key(&parent);
        names.entry(parent.clone()).or_default().below += 1;
        child = is_new.then_some(parent);
    }
}

/// Takes an owner away; names that nobody needs any more go, and so do their parents.
fn disown(names: &mut BTreeMap<Name, Node>, domain: &Name, name: &Name, owner: &Owner) {
    if let Some(node) = names.get_mut(name) {
        node.owners.remove(owner);
    }
    let mut at = Some(name.clone());
    while let Some(name) = at {
        if !names.get(&name).is_some_and(|node| node.owners.is_empty() && node.below == 0) {
            return;
        }
        names.remove(&name);
        at = parent_in_zone(&name, domain);
        if let Some(parent) = at.as_ref().and_then(|parent| names.get_mut(parent)) {
            parent.below -= 1;
        }
    }
}

/// Reverse names have no parents here: what lies above them is not ours to know.
fn parent_in_zone(name: &Name, domain: &Name) -> Option<Name> {
    let inside = name != domain && is_within(name.wire(), domain.wire());
    name.parent().filter(|_| inside)
}

fn encode(names: &mut BTreeMap<Name, Node>, name: &Name) {
    let Some(node) = names.get_mut(name) else { return };
    let facts: Vec<&Facts> = node.owners.values().map(|facts| &**facts).collect();
    node.encoded = encoded(&facts);
}

fn encoded(facts: &[&Facts]) -> Encoded {
    let mut by_kind: BTreeMap<u16, Records> = BTreeMap::new();
    let addresses: BTreeSet<IpAddr> = facts.iter().flat_map(|f| &f.addresses).copied().collect();
    for ip in addresses {
        push_address(by_kind.entry(address_kind(ip)).or_default(), ip);
    }
    for pointer in facts.iter().flat_map(|f| &f.pointers) {
        by_kind.entry(kind::PTR).or_default().push(kind::PTR, TTL_SECONDS, pointer.wire());
    }
    let services: BTreeSet<_> = facts.iter().flat_map(|f| &f.services).collect();
    // D-08: the weight is an equal share of 100, and at least 1.
    let weight = (100 / services.len().max(1)).max(1) as u16;
    let mut additional: BTreeMap<Name, Records> = BTreeMap::new();
    for srv in services {
        let mut data = Vec::new();
        for number in [0, weight, srv.port] {
            data.extend(number.to_be_bytes());
        }
        data.extend(srv.target.wire());
        by_kind.entry(kind::SRV).or_default().push(kind::SRV, TTL_SECONDS, &data);
        additional.entry(srv.target.clone()).or_insert_with(|| {
            let mut records = Records::default();
            for ip in &srv.addresses {
                push_address(&mut records, *ip);
            }
            records
        });
    }
    let alias = facts.iter().find_map(|f| f.alias.clone()).map(|target| {
        let mut records = Records::default();
        records.push(kind::CNAME, TTL_SECONDS, target.wire());
        (records, target)
    });
    Encoded { records: by_kind.into_iter().collect(), additional: additional.into_iter().collect(), alias }
}

fn address_kind(ip: IpAddr) -> u16 {
    match ip {
        IpAddr::V4(_) => kind::A,
        IpAddr::V6(_) => kind::AAAA,
    }
}

fn push_address(records: &mut Records, ip: IpAddr) -> u16 {
    let record_kind = address_kind(ip);
    match ip {
        IpAddr::V4(ip) => records.push(record_kind, TTL_SECONDS, &ip.octets()),
        IpAddr::V6(ip) => records.push(record_kind, TTL_SECONDS, &ip.octets()),
    }
    record_kind
}

/// The smallest reverse zone of whole bytes around a range: `244.10.in-addr.arpa` for `10.244.0.0/16`.
fn reverse_apex(range: Cidr) -> Name {
    let mut apex = Name::reverse(range.first().into());
    for _ in 0..4 - range.prefix_len() / 8 {
        apex = apex.parent().unwrap_or(apex);
    }
    apex
}

/// The IPv4 address that a whole reverse name stands for.
fn reverse_address(name: &[u8]) -> Option<Ipv4Addr> {
    let text: Vec<&str> = labels(name).map(|label| std::str::from_utf8(label).ok()).collect::<Option<_>>()?;
    let [d, c, b, a, "in-addr", "arpa"] = text[..] else { return None };
    Some(Ipv4Addr::new(a.parse().ok()?, b.parse().ok()?, c.parse().ok()?, d.parse().ok()?))
}
