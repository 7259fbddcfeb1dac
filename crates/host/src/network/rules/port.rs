//! One Service port as chains, maps and elements of the shared sets.
//!
//! Contract: a function of the port alone; names are made of the port's id, so the same port always has the same ones.
//! Entry chains apply the traffic policies and lead to a pool; a pool chooses an endpoint at random, or the one that the
//! client had before, and translates. A pool without endpoints drops (N-09, N-11); a port without any is refused.

use std::collections::{BTreeMap, BTreeSet};

use nlink::netlink::nftables::types::{FibFlags, SetDataType};
use nlink::netlink::nftables::{
    Expr, LookupExpr, NumgenKind, RawExpr, Register, Rule, Set, SetElement, SetKeyType, Verdict,
};
use nlink::netlink::types::route::RouteType;
use stead_net::proxy::{Endpoint, PortId, ServicePort};

use super::base::{Base, SOURCE};
use super::table::{AffinitySet, SharedKey, chain_name};
use crate::network::digest::fnv1a;

/// What one Service port puts into the kernel.
#[derive(Default)]
pub struct Rendered {
    pub chains: Vec<(String, Vec<Rule>)>,
    pub maps: Vec<(Set, Vec<SetElement>)>,
    pub affinity: BTreeSet<AffinitySet>,
    /// Elements of the shared sets, with the chain they lead to.
    pub shared: BTreeMap<SharedKey, Option<String>>,
}

pub fn render(base: &Base, id: &PortId, port: &ServicePort) -> Rendered {
    let mut out = Rendered::default();
    let name = format!("{:016x}", fnv1a(id.to_string().as_bytes()));
    let external = port.external_ips.iter().copied();
    if port.endpoints.is_empty() && port.local.values().all(Vec::is_empty) {
        for ip in external.chain(port.cluster_ip) {
            let key = SharedKey::RefusedAddress(ip, port.protocol, port.port);
            out.shared.insert(key, None);
        }
        if let Some(node_port) = port.node_port {
            let key = SharedKey::RefusedNodePort(port.protocol, node_port);
            out.shared.insert(key, None);
        }
        return out;
    }

    let mut draft = Draft { base, port, name: &name, out: &mut out };
    let all = draft.pool("all", &port.endpoints);
    let locals = draft.local_pools();
    let internal = draft.internal_entry(&all, &locals);
    let is_external = port.node_port.is_some() || !port.external_ips.is_empty();
    let entry = is_external.then(|| draft.external_entry(&all, &locals));

    if let Some(cluster_ip) = port.cluster_ip {
        out.shared.insert(SharedKey::Address(cluster_ip, port.protocol, port.port), Some(internal));
    }
    for ip in external {
        let key = SharedKey::Address(ip, port.protocol, port.port);
        out.shared.entry(key).or_insert_with(|| entry.clone());
    }
    if let Some(node_port) = port.node_port {
        out.shared.insert(SharedKey::NodePort(port.protocol, node_port), entry);
    }
    for endpoint in port.endpoints.iter().chain(port.local.values().flatten()) {
        out.shared.insert(SharedKey::Hairpin(endpoint.ip), None);
    }
    out
}

struct Draft<'a> {
    base: &'a Base,
    port: &'a ServicePort,
    name: &'a str,
    out: &'a mut Rendered,
}

/// The pools of the endpoints of this machine's nodes.
struct LocalPools {
    /// By position in [`Base::nodes`].
    by_node: Vec<String>,
    /// All of them, for addresses that are no node's own.
    any: String,
}

impl Draft<'_> {
    fn chain(&mut self, name: String, rules: Vec<Rule>) -> String {
        self.out.chains.push((name.clone(), rules));
        name
    }

    fn local_pools(&mut self) -> Option<LocalPools> {
        let port = self.port;
        if !port.internal_local && !port.external_local {
            return None;
        }
        let of_node = |name: &str| port.local.get(name).map_or(&[][..], Vec::as_slice);
        let names: Vec<String> = self.base.nodes.iter().map(|n| n.name.clone()).collect();
        let by_node = (names.iter().enumerate())
            .map(|(i, node)| self.pool(&format!("node{i}"), of_node(node)))
            .collect::<Vec<_>>();
        let any = match by_node.as_slice() {
            [only] => only.clone(),
            _ => {
                let here: BTreeSet<Endpoint> = names.iter().flat_map(|node| of_node(node)).copied().collect();
                self.pool("local", &here.into_iter().collect::<Vec<_>>())
            }
        };
        Some(LocalPools { by_node, any })
    }

    /// Where the cluster IP leads (N-11).
    fn internal_entry(&mut self, all: &str, locals: &Option<LocalPools>) -> String {
        let Some(locals) = locals.as_ref().filter(|_| self.port.internal_local) else {
            return all.to_owned();
        };
        let chain = format!("internal-{}", self.name);
        let mut rules = Vec::new();
        for (node, pool) in self.base.nodes.iter().zip(&locals.by_node) {
            let from_node = self.base.rule(&chain).match_saddr_v4(node.range.first(), node.range.prefix_len());
            rules.push(from_node.goto(chain_name(pool)));
        }
        rules.push(self.base.rule(&chain).goto(chain_name(&locals.any)));
        self.chain(chain, rules)
    }

    /// Where node ports and external addresses lead (N-09): with policy Local, clients of the cluster and of the machine
    /// still get all endpoints.
    fn external_entry(&mut self, all: &str, locals: &Option<LocalPools>) -> String {
        let base = self.base;
        let chain = format!("external-{}", self.name);
        let rule = || base.rule(&chain);
        let mut rules = Vec::new();
        match locals.as_ref().filter(|_| self.port.external_local) {
            None => {
                rules.push(rule().set_mark(base.mark));
                rules.push(rule().goto(chain_name(all)));
            }
            Some(locals) => {
                let pods = base.pod_range;
                let from_machine = || rule().match_fib_type(FibFlags::SADDR, RouteType::Local);
                rules.push(from_machine().set_mark(base.mark));
                rules.push(from_machine().goto(chain_name(all)));
                let from_pod = rule().match_saddr_v4(pods.first(), pods.prefix_len());
                rules.push(from_pod.goto(chain_name(all)));
                for (node, pool) in base.nodes.iter().zip(&locals.by_node) {
                    let to_node = rule().match_daddr_v4(node.node_ip(), 32);
                    rules.push(to_node.goto(chain_name(pool)));
                }
                rules.push(rule().goto(chain_name(&locals.any)));
            }
        }
        self.chain(chain, rules)
    }

    /// The chain that chooses one of the endpoints.
    fn pool(&mut self, label: &str, endpoints: &[Endpoint]) -> String {
        let chain = format!("{label}-{}", self.name);
        let rules = match (endpoints, self.port.affinity_seconds) {
            ([], _) => vec![self.base.rule(&chain).drop()],
            (_, Some(seconds)) => self.sticky(&chain, endpoints, seconds),
            ([only], None) => vec![self.base.rule(&chain).dnat(only.ip, Some(only.port))],
            (_, None) => vec![self.balanced(&chain, endpoints)],
        };
        self.chain(chain, rules)
    }

    /// A number at random chooses address and port out of a map.
    fn balanced(&mut self, chain: &str, endpoints: &[Endpoint]) -> Rule {
        let data = SetKeyType::Concat(vec![SetKeyType::Ipv4Addr, SetKeyType::InetService]);
        let map = self.base.set(chain, SetKeyType::Mark).map(SetDataType::Value(data));
        let element = |(i, endpoint): (u32, &Endpoint)| {
            let to = [SetElement::ipv4(endpoint.ip), SetElement::port(endpoint.port)];
            SetElement::mark(i).value(SetElement::concat(to))
        };
        let elements = (0..).zip(endpoints).map(element).collect();
        self.out.maps.push((map, elements));
        let lookup = LookupExpr::new(chain, Register::R0).dreg(Register::R0);
        self.base.rule(chain).expr(at_random(endpoints)).expr(Expr::Lookup(lookup)).expr(Expr::Raw(dnat_to_registers()))
    }

    /// The endpoint that has this client in its set, else one at random; either way the client's time starts anew (N-08).
    fn sticky(&mut self, chain: &str, endpoints: &[Endpoint], seconds: u32) -> Vec<Rule> {
        let mut rules = Vec::new();
        let mut elements = Vec::new();
        for (i, endpoint) in (0..).zip(endpoints) {
            let set = format!("clients-{}-{}", self.name, endpoint);
            let known = self.base.rule(chain).match_in_set(SOURCE, &set);
            let to = self.sticky_endpoint(set, *endpoint, seconds);
            rules.push(known.goto(chain_name(&to)));
            let verdict = Verdict::GotoTo(chain_name(&to));
            elements.push(SetElement::mark(i).verdict(verdict));
        }
        let map = self.base.set(chain, SetKeyType::Mark).vmap();
        self.out.maps.push((map, elements));
        let lookup = LookupExpr::new(chain, Register::R0).dreg(Register::Verdict);
        let choose = self.base.rule(chain).expr(at_random(endpoints));
        rules.push(choose.expr(Expr::Lookup(lookup)));
        rules
    }

    fn sticky_endpoint(&mut self, set: String, endpoint: Endpoint, seconds: u32) -> String {
        let chain = format!("endpoint-{}-{}", self.name, endpoint);
        let affinity = AffinitySet { name: set.clone(), seconds };
        if self.out.affinity.insert(affinity) {
            let remember = self.base.rule(&chain).update_in_set(SOURCE, &set, None);
            let translate = self.base.rule(&chain).dnat(endpoint.ip, Some(endpoint.port));
            self.chain(chain.clone(), vec![remember, translate]);
        }
        chain
    }
}

fn at_random(endpoints: &[Endpoint]) -> Expr {
    Expr::Numgen { dreg: Register::R0, kind: NumgenKind::Random, modulus: endpoints.len() as u32, offset: 0 }
}

/// `dnat` to the address in the first register and the port in the one behind it. The library has no constructor for
/// this form, so its attributes (`enum nft_nat_attributes`) are written here.
fn dnat_to_registers() -> RawExpr {
    const DNAT: u32 = 1;
    const NFPROTO_IPV4: u32 = 2;
    let (address, port) = (Register::R0.wire(), Register::Reg32_01.wire());
    let attributes = [(1, DNAT), (2, NFPROTO_IPV4), (3, address), (4, address), (5, port), (6, port)];
    let attribute = |(kind, value): (u16, u32)| {
        let mut bytes = 8u16.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value.to_be_bytes());
        bytes
    };
    RawExpr::new("nat", attributes.into_iter().flat_map(attribute).collect())
}
