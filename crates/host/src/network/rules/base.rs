//! What every cluster's table has, whatever its Services: hooks, shared sets, masquerading and guards.
//!
//! Contract: a packet to a Service address that no rule translated is refused at once, never sent on. Traffic of pods that
//! leaves the pod range gets the machine's address. Packets marked by an external entry, and packets of a pod to itself,
//! get the node's address, so that replies come back through here. Of the addresses that the machine owns, each cluster
//! looks at its own nodes' first (a hook before the common one), so two clusters may use one node port.

use nlink::netlink::nftables::types::{CtStatus, FibFlags, FibResult, PacketField};
use nlink::netlink::nftables::{
    BaseChain, Chain, CmpOp, CtKey, Expr, FilterHook, LookupExpr, MetaKey, NatHook, PayloadBase, Priority, Register,
    Rule, Set, SetKeyType,
};
use nlink::netlink::types::route::RouteType;
use stead_net::Cidr;

use super::table::{AffinitySet, FAMILY, SharedKey, SharedSet, Step, chain_name};
use crate::network::config::{NetworkConfig, NodeRange};
use crate::network::digest::fnv1a;

/// Elements that one session affinity set may hold; further clients are balanced without memory.
const AFFINITY_CLIENTS_MAX: u32 = 65_536;
/// `nat` hooks run in this order; the nodes' own addresses come first.
const BEFORE_DSTNAT: Priority = Priority::Custom(-101);
/// ICMP code "port unreachable".
const PORT_UNREACHABLE: u8 = 3;

/// The fixed facts of a cluster's table.
pub struct Base {
    pub table: String,
    pub pod_range: Cidr,
    pub service_range: Cidr,
    pub nodes: Vec<NodeRange>,
    /// Packets with this mark get the node's address as their source. Made of the cluster's id, so that clusters on one
    /// machine do not take each other's packets.
    pub mark: u32,
}

impl Base {
    pub fn new(config: &NetworkConfig) -> Base {
        let hash = fnv1a(config.cluster_id.as_bytes());
        Base {
            table: format!("stead-{}", config.cluster_id),
            pod_range: config.pod_range,
            service_range: config.service_range,
            nodes: config.nodes.clone(),
            mark: 0x4000_0000 | (hash as u32 & 0x0fff_ffff),
        }
    }

    pub fn create(&self, steps: &mut Vec<Step>) {
        for set in SharedSet::ALL {
            steps.push(Step::AddSet(Box::new(self.shared_set(set))));
        }
        for name in [SERVICES, NODE_PORTS] {
            steps.push(Step::AddChain(Box::new(self.chain(name))));
        }
        for (name, hook) in self.hooks() {
            steps.push(Step::AddChain(Box::new(self.chain(name).base(hook))));
        }
        let rules = self.translation_rules();
        let rules = rules.into_iter().chain(self.source_rules()).chain(self.guard_rules());
        steps.extend(rules.map(|rule| Step::AddRule(Box::new(rule))));
    }

    fn hooks(&self) -> [(&'static str, BaseChain); 8] {
        let nat = BaseChain::nat;
        let filter = |hook| BaseChain::filter(hook, Priority::Filter);
        [
            ("prerouting-node", nat(NatHook::Prerouting, BEFORE_DSTNAT)),
            ("output-node", nat(NatHook::Output, BEFORE_DSTNAT)),
            ("prerouting", nat(NatHook::Prerouting, Priority::DstNat)),
            ("output", nat(NatHook::Output, Priority::DstNat)),
            ("postrouting", nat(NatHook::Postrouting, Priority::SrcNat)),
            ("filter-input", filter(FilterHook::Input)),
            ("filter-forward", filter(FilterHook::Forward)),
            ("filter-output", filter(FilterHook::Output)),
        ]
    }

    /// Which chain a packet's destination leads to.
    fn translation_rules(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        for hook in ["prerouting-node", "output-node"] {
            for node in &self.nodes {
                let to_node = self.rule(hook).match_daddr_v4(node.node_ip(), 32);
                rules.push(to_node.jump(chain_name(NODE_PORTS)));
            }
        }
        for hook in ["prerouting", "output"] {
            rules.push(self.rule(hook).jump(chain_name(SERVICES)));
        }
        let by_address = LookupExpr::new(SharedSet::Addresses.name(), Register::R0);
        rules
            .push(with(self.rule(SERVICES), address_and_port()).expr(Expr::Lookup(by_address.dreg(Register::Verdict))));
        // The DNS Service's address is the machine's own too, but has no node ports.
        let services = self.service_range;
        rules.push(
            self.rule(SERVICES)
                .match_daddr_v4_not(services.first(), services.prefix_len())
                .match_fib_type(FibFlags::DADDR, RouteType::Local)
                .jump(chain_name(NODE_PORTS)),
        );
        let by_port = LookupExpr::new(SharedSet::NodePorts.name(), Register::R0);
        rules
            .push(with(self.rule(NODE_PORTS), protocol_and_port()).expr(Expr::Lookup(by_port.dreg(Register::Verdict))));
        rules
    }

    /// Whose address a packet leaves with.
    fn source_rules(&self) -> Vec<Rule> {
        let (pods, node) = (self.pod_range, self.nodes[0].node_ip());
        let rule = || self.rule("postrouting");
        let mut to_itself = vec![
            load(Register::R0, PayloadBase::Network, 12, 4),
            load(Register::Reg32_01, PayloadBase::Network, 16, 4),
        ];
        let hairpin = LookupExpr::new(SharedSet::Hairpin.name(), Register::R0);
        to_itself.push(Expr::Lookup(hairpin));
        vec![
            rule().match_mark(self.mark).match_daddr_v4(pods.first(), pods.prefix_len()).snat(node, None),
            rule().match_mark(self.mark).masquerade(),
            with(rule(), to_itself).snat(node, None),
            rule()
                .match_saddr_v4(pods.first(), pods.prefix_len())
                .match_daddr_v4_not(pods.first(), pods.prefix_len())
                .masquerade(),
        ]
    }

    /// What is refused.
    fn guard_rules(&self) -> Vec<Rule> {
        let mut rules = vec![
            // route_localnet lets replies of 127.0.0.1:nodePort in; nothing else from outside may reach loopback.
            with(
                self.rule("filter-input").match_iif_not("lo").match_daddr_v4([127, 0, 0, 0].into(), 8),
                not_translated(),
            )
            .drop(),
        ];
        for hook in ["filter-input", "filter-forward", "filter-output"] {
            let refused = LookupExpr::new(SharedSet::RefusedAddresses.name(), Register::R0);
            rules.push(
                with(self.rule(hook), address_and_port()).expr(Expr::Lookup(refused)).reject_icmp(PORT_UNREACHABLE),
            );
        }
        for hook in ["filter-forward", "filter-output"] {
            rules.push(
                self.rule(hook)
                    .match_daddr_v4(self.service_range.first(), self.service_range.prefix_len())
                    .expr(Expr::Fib { dreg: Register::R0, result: FibResult::AddrType, flags: FibFlags::DADDR })
                    .expr(Expr::Cmp {
                        sreg: Register::R0,
                        op: CmpOp::Neq,
                        data: u32::from(RouteType::Local as u8).to_ne_bytes().to_vec(),
                    })
                    .reject_icmp(PORT_UNREACHABLE),
            );
        }
        let refused = LookupExpr::new(SharedSet::RefusedNodePorts.name(), Register::R0);
        let local = with(self.rule("filter-input"), not_translated());
        let local = with(local, protocol_and_port());
        rules.push(local.expr(Expr::Lookup(refused)).reject_icmp(PORT_UNREACHABLE));
        rules
    }

    pub fn rule(&self, chain: &str) -> Rule {
        Rule::new(&self.table, chain).family(FAMILY)
    }

    pub fn chain(&self, name: &str) -> Chain {
        Chain::new(self.table.as_str(), name).expect("table and chain names are short and without NUL").family(FAMILY)
    }

    pub fn set(&self, name: &str, key: SetKeyType) -> Set {
        Set::new(&self.table, name).family(FAMILY).key_type(key)
    }

    pub fn affinity_set(&self, set: &AffinitySet) -> Set {
        self.set(&set.name, SetKeyType::Ipv4Addr)
            .dynamic()
            .timeout(std::time::Duration::from_secs(set.seconds.into()))
            .size(AFFINITY_CLIENTS_MAX)
    }

    pub fn shared(&self, key: SharedKey) -> Set {
        self.shared_set(key.set())
    }

    fn shared_set(&self, set: SharedSet) -> Set {
        use SetKeyType::{Concat, InetProto, InetService, Ipv4Addr};
        let address = || Concat(vec![Ipv4Addr, InetProto, InetService]);
        let port = || Concat(vec![InetProto, InetService]);
        let make = |key| self.set(set.name(), key);
        match set {
            SharedSet::Addresses => make(address()).vmap(),
            SharedSet::NodePorts => make(port()).vmap(),
            SharedSet::RefusedAddresses => make(address()),
            SharedSet::RefusedNodePorts => make(port()),
            SharedSet::Hairpin => make(Concat(vec![Ipv4Addr, Ipv4Addr])),
        }
    }
}

const SERVICES: &str = "services";
const NODE_PORTS: &str = "node-ports";

/// `expressions` behind those the rule has.
fn with(rule: Rule, expressions: Vec<Expr>) -> Rule {
    expressions.into_iter().fold(rule, Rule::expr)
}

/// Loads destination address, protocol and destination port, as the keys of address sets lie in registers.
fn address_and_port() -> Vec<Expr> {
    vec![
        load(Register::R0, PayloadBase::Network, 16, 4),
        meta(Register::Reg32_01, MetaKey::L4Proto),
        load(Register::Reg32_02, PayloadBase::Transport, 2, 2),
    ]
}

/// Loads protocol and destination port.
fn protocol_and_port() -> Vec<Expr> {
    vec![meta(Register::R0, MetaKey::L4Proto), load(Register::Reg32_01, PayloadBase::Transport, 2, 2)]
}

/// Goes on for packets of connections whose destination was never translated.
fn not_translated() -> Vec<Expr> {
    let dst_nat = CtStatus::DST_NAT.bits().to_ne_bytes().to_vec();
    let zero = vec![0; dst_nat.len()];
    vec![
        Expr::Ct { dreg: Register::R0, key: CtKey::Status },
        Expr::Bitwise {
            sreg: Register::R0,
            dreg: Register::R0,
            len: dst_nat.len() as u32,
            mask: dst_nat,
            xor: zero.clone(),
        },
        Expr::Cmp { sreg: Register::R0, op: CmpOp::Eq, data: zero },
    ]
}

fn load(dreg: Register, base: PayloadBase, offset: u32, len: u32) -> Expr {
    Expr::Payload { dreg, base, offset, len }
}

fn meta(dreg: Register, key: MetaKey) -> Expr {
    Expr::Meta { dreg, key }
}

// Used by rules that look at one field only.
pub const SOURCE: PacketField = PacketField::Ip4Saddr;
