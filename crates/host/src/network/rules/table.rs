//! What a cluster's table is written with: the steps of a transaction, and the sets that all Service ports share.

use std::net::Ipv4Addr;

use nlink::netlink::nftables::{Chain, ChainName, Family, Rule, Set, SetElement};
use stead_net::proxy::Protocol;

pub const FAMILY: Family = Family::Ip;

/// One message of a transaction.
pub enum Step {
    AddTable,
    DeleteTable,
    AddChain(Box<Chain>),
    FlushChain(String),
    DeleteChain(String),
    AddRule(Box<Rule>),
    AddSet(Box<Set>),
    DeleteSet(String),
    AddElements(Box<Set>, Vec<SetElement>),
    DeleteElements(Box<Set>, Vec<SetElement>),
}

/// The sets that all Service ports share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedSet {
    /// Address, protocol, port → chain.
    Addresses,
    /// Protocol, port → chain, on every address of the machine.
    NodePorts,
    /// Addresses of Services without endpoints.
    RefusedAddresses,
    RefusedNodePorts,
    /// Endpoints, as pairs of equal addresses: who asks a Service and is chosen himself.
    Hairpin,
}

impl SharedSet {
    pub const ALL: [SharedSet; 5] = [
        SharedSet::Addresses,
        SharedSet::NodePorts,
        SharedSet::RefusedAddresses,
        SharedSet::RefusedNodePorts,
        SharedSet::Hairpin,
    ];

    pub fn name(self) -> &'static str {
        match self {
            SharedSet::Addresses => "addresses",
            SharedSet::NodePorts => "node-ports",
            SharedSet::RefusedAddresses => "refused-addresses",
            SharedSet::RefusedNodePorts => "refused-node-ports",
            SharedSet::Hairpin => "hairpin",
        }
    }
}

pub fn chain_name(name: &str) -> ChainName {
    ChainName::new(name).expect("chain names are short and without NUL")
}

/// The set that remembers which clients an endpoint has served lately (N-08).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AffinitySet {
    pub name: String,
    pub seconds: u32,
}

/// The key of an element of a shared set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SharedKey {
    Address(Ipv4Addr, Protocol, u16),
    NodePort(Protocol, u16),
    RefusedAddress(Ipv4Addr, Protocol, u16),
    RefusedNodePort(Protocol, u16),
    Hairpin(Ipv4Addr),
}

impl SharedKey {
    pub fn set(self) -> SharedSet {
        match self {
            SharedKey::Address(..) => SharedSet::Addresses,
            SharedKey::NodePort(..) => SharedSet::NodePorts,
            SharedKey::RefusedAddress(..) => SharedSet::RefusedAddresses,
            SharedKey::RefusedNodePort(..) => SharedSet::RefusedNodePorts,
            SharedKey::Hairpin(..) => SharedSet::Hairpin,
        }
    }

    pub fn element(self) -> SetElement {
        let end = |protocol: Protocol, port| [SetElement::inet_proto(protocol.number()), SetElement::port(port)];
        match self {
            SharedKey::Address(ip, protocol, port) | SharedKey::RefusedAddress(ip, protocol, port) => {
                SetElement::concat([SetElement::ipv4(ip)].into_iter().chain(end(protocol, port)))
            }
            SharedKey::NodePort(protocol, port) | SharedKey::RefusedNodePort(protocol, port) => {
                SetElement::concat(end(protocol, port))
            }
            SharedKey::Hairpin(ip) => SetElement::concat([SetElement::ipv4(ip), SetElement::ipv4(ip)]),
        }
    }
}
