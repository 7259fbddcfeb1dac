//! What a write may look at and change, and what a read may look at.

use std::net::Ipv4Addr;
use std::sync::Arc;

use jiff::Timestamp;
use stead_kinds::Registry;
use stead_store::{Snapshot, Store};

/// What readers hold: the published objects and history with the kinds that were served then. Cloned in constant time.
#[derive(Clone, Default)]
pub struct Head {
    pub store: stead_store::Head,
    pub registry: Arc<Registry>,
}

/// Facts of the cluster that are fixed at start.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// First address and prefix length of the service range.
    pub service_cidr: (Ipv4Addr, u8),
    pub node_ports: std::ops::RangeInclusive<u16>,
    pub domain: String,
    /// PEM of the cluster CA, published as the ConfigMap kube-root-ca.crt.
    pub ca_pem: String,
}

/// The writer's surroundings during one step.
pub struct Context<'a> {
    pub now: Timestamp,
    pub store: &'a mut Store,
    pub registry: &'a mut Arc<Registry>,
    pub ids: &'a mut Ids,
    pub cluster: &'a Cluster,
}

/// Where something is decided that changes nothing.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub snapshot: &'a Snapshot,
    pub registry: &'a Registry,
}

impl Context<'_> {
    pub(crate) fn place(&self) -> Place<'_> {
        Place { snapshot: self.store.snapshot(), registry: self.registry }
    }
}

impl Head {
    pub(crate) fn place(&self) -> Place<'_> {
        Place { snapshot: &self.store.snapshot, registry: &self.registry }
    }
}

/// Uids and name suffixes from a seed given at construction: the same seed gives the same cluster.
#[derive(Clone, Debug)]
pub struct Ids {
    state: u64,
}

impl Ids {
    pub fn seeded(seed: u64) -> Ids {
        Ids { state: seed }
    }

    /// SplitMix64.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A version 4 UUID.
    pub fn uid(&mut self) -> String {
        let (a, b) = (self.next_u64(), self.next_u64());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            0x8000 | ((b >> 48) & 0x3fff),
            b & 0xffff_ffff_ffff
        )
    }

    /// The five characters that generateName appends; no vowels and no look-alikes.
    pub fn suffix(&mut self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        (0..5).map(|_| ALPHABET[(self.next_u64() % ALPHABET.len() as u64) as usize] as char).collect()
    }
}
