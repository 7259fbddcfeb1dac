//! The Services' rules in the kernel: one nftables table per cluster, changed by one transaction per [`Ruleset`].
//!
//! Contract: the table `stead-<cluster id>` forwards as the last applied ruleset says; the kernel never works with half of
//! one. Only Service ports that differ from the last ruleset are sent; sets that remember clients (session affinity) of
//! endpoints that stay are kept. After a restart the old table works on until the first ruleset replaces it whole.
//! A transaction that the kernel refuses changes nothing; the next one replaces the table whole.
//! Source: behaviour rows N-01 to N-13, N-22.

mod base;
mod port;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nlink::netlink::netfilter::{ConntrackFilter, ConntrackStatus, IpProtocol};
use nlink::netlink::nftables::Verdict;
use nlink::netlink::{Connection, Netfilter, Nftables};
use stead_net::proxy::{Endpoint, PortId, Protocol, Ruleset, ServicePort};

use super::config::{NetworkConfig, NetworkError};
use base::Base;
use port::Rendered;
use table::{AffinitySet, FAMILY, SharedKey, Step};

/// As many elements as surely fit into one netlink attribute (64 KiB).
const ELEMENTS_PER_MESSAGE: usize = 256;
/// Room for some 50,000 Service ports in one transaction.
const SEND_BUFFER_BYTES: usize = 64 << 20;

pub struct Rules {
    nft: Connection<Nftables>,
    base: Base,
    /// What the kernel has; `None` when that is not known and the table must be made anew.
    applied: Option<Applied>,
}

/// The ruleset in the kernel.
#[derive(Default)]
struct Applied {
    ruleset: Ruleset,
    claims: Claims,
}

/// Who wants which element of the shared sets, with the chain it leads to. The first port in order has it, so that two
/// Services that ask for one address do not fight.
type Claims = BTreeMap<SharedKey, BTreeMap<PortId, Option<String>>>;

impl Rules {
    pub async fn open(config: &NetworkConfig) -> Result<Rules, NetworkError> {
        let nft = Connection::<Nftables>::new().map_err(|e| fail("open netlink socket for", "nftables", e))?;
        // A whole table of a large cluster goes in one message; the usual limit on what may be sent is 200 KiB.
        rustix::net::sockopt::set_socket_send_buffer_size_force(nft.socket(), SEND_BUFFER_BYTES)
            .map_err(|e| NetworkError::new("size send buffer for", "nftables", e))?;
        let mut rules = Rules { nft, base: Base::new(config), applied: None };
        if !rules.table_exists().await? {
            rules.apply(Ruleset::default()).await?;
        }
        Ok(rules)
    }

    pub async fn apply(&mut self, wanted: Ruleset) -> Result<(), NetworkError> {
        let mut steps = Vec::new();
        let known = match self.applied.take() {
            Some(known) => known,
            None => {
                if self.table_exists().await? {
                    steps.push(Step::DeleteTable);
                }
                steps.push(Step::AddTable);
                self.base.create(&mut steps);
                Applied::default()
            }
        };
        let abandoned = abandoned_flows(&known.ruleset, &wanted);
        let next = change(&self.base, known, wanted, &mut steps);
        if !steps.is_empty() {
            self.commit(steps).await?;
        }
        self.applied = Some(next);
        self.forget_flows(abandoned).await
    }

    /// A client of UDP never notices that its endpoint is gone: the kernel goes on translating for as long as it sends. So
    /// those flows are forgotten, and the next packet chooses anew.
    async fn forget_flows(&self, endpoints: BTreeSet<Endpoint>) -> Result<(), NetworkError> {
        if endpoints.is_empty() {
            return Ok(());
        }
        let failed = |e| fail("forget flows of", "removed endpoints", e);
        let flows = Connection::<Netfilter>::new().map_err(failed)?;
        for endpoint in endpoints {
            let translated = ConntrackFilter::new()
                .proto(IpProtocol::Udp)
                .reply_src(endpoint.ip)
                .reply_src_port(endpoint.port)
                .status(ConntrackStatus::DST_NAT, ConntrackStatus::DST_NAT);
            flows.flush_conntrack_matching(&translated).await.map_err(failed)?;
        }
        Ok(())
    }

    pub async fn remove_all(&mut self) -> Result<(), NetworkError> {
        self.applied = None;
        let table = self.base.table.as_str();
        let deleted = self.nft.del_table_if_exists(table, FAMILY).await;
        deleted.map_err(|e| fail("delete table", table, e))?;
        Ok(())
    }

    async fn table_exists(&self) -> Result<bool, NetworkError> {
        let table = self.base.table.as_str();
        let tables = self.nft.list_tables_in(FAMILY).await;
        let tables = tables.map_err(|e| fail("look for table", table, e))?;
        Ok(tables.iter().any(|t| t.name == table))
    }

    async fn commit(&self, steps: Vec<Step>) -> Result<(), NetworkError> {
        let table = self.base.table.as_str();
        let mut batch = self.nft.transaction();
        for step in steps {
            batch = match step {
                Step::AddTable => batch.add_table(table, FAMILY),
                Step::DeleteTable => batch.del_table(table, FAMILY),
                Step::AddChain(chain) => batch.add_chain(*chain),
                Step::FlushChain(name) => batch.flush_chain(table, &name, FAMILY),
                Step::DeleteChain(name) => batch.del_chain(table, &name, FAMILY),
                Step::AddRule(rule) => batch.add_rule(*rule),
                Step::AddSet(set) => batch.add_set(*set),
                Step::DeleteSet(name) => batch.del_set(table, &name, FAMILY),
                Step::AddElements(set, elements) => {
                    elements.chunks(ELEMENTS_PER_MESSAGE).fold(batch, |batch, some| batch.add_set_elements(&set, some))
                }
                Step::DeleteElements(set, elements) => {
                    elements.chunks(ELEMENTS_PER_MESSAGE).fold(batch, |batch, some| batch.del_set_elements(&set, some))
                }
            };
        }
        let committed = batch.commit(&self.nft).await;
        committed.map_err(|e| fail("change table", table, e))
    }
}

/// The steps from `known` to `wanted`. Everything that refers to a chain or set goes before it and comes after it.
fn change(base: &Base, known: Applied, wanted: Ruleset, steps: &mut Vec<Step>) -> Applied {
    let Applied { ruleset, mut claims } = known;
    let changed = |id: &PortId, port: &Arc<ServicePort>, other: &Ruleset| {
        let same = |o: &Arc<ServicePort>| Arc::ptr_eq(o, port) || o == port;
        !other.ports.get(id).is_some_and(same)
    };
    let going = render(base, &ruleset, |id, port| changed(id, port, &wanted));
    let coming = render(base, &wanted, |id, port| changed(id, port, &ruleset));
    if going.is_empty() && coming.is_empty() {
        return Applied { ruleset: wanted, claims };
    }

    let elements = move_claims(&mut claims, &going, &coming);
    let kept = |in_: &BTreeMap<PortId, Rendered>, id: &PortId, set: &AffinitySet| {
        in_.get(id).is_some_and(|r| r.affinity.contains(set))
    };
    for (key, _) in &elements.removed {
        steps.push(Step::DeleteElements(Box::new(base.shared(*key)), vec![key.element()]));
    }
    for old in going.values() {
        steps.extend(old.chains.iter().map(|(name, _)| Step::FlushChain(name.clone())));
    }
    for (id, old) in &going {
        steps.extend(old.maps.iter().map(|(map, _)| Step::DeleteSet(map.name().to_owned())));
        let gone = old.affinity.iter().filter(|set| !kept(&coming, id, set));
        steps.extend(gone.map(|set| Step::DeleteSet(set.name.clone())));
        steps.extend(old.chains.iter().map(|(name, _)| Step::DeleteChain(name.clone())));
    }
    for (id, new) in &coming {
        steps.extend(new.chains.iter().map(|(name, _)| Step::AddChain(Box::new(base.chain(name)))));
        let fresh = new.affinity.iter().filter(|set| !kept(&going, id, set));
        steps.extend(fresh.map(|set| Step::AddSet(Box::new(base.affinity_set(set)))));
    }
    for new in coming.into_values() {
        for (map, elements) in new.maps {
            steps.push(Step::AddSet(Box::new(map.clone())));
            steps.push(Step::AddElements(Box::new(map), elements));
        }
        let rules = new.chains.into_iter().flat_map(|(_, rules)| rules);
        steps.extend(rules.map(|rule| Step::AddRule(Box::new(rule))));
    }
    for (key, chain) in elements.added {
        let element = match chain {
            Some(name) => key.element().verdict(Verdict::GotoTo(table::chain_name(&name))),
            None => key.element(),
        };
        steps.push(Step::AddElements(Box::new(base.shared(key)), vec![element]));
    }
    Applied { ruleset: wanted, claims }
}

/// The UDP endpoints that some Service had and has no more.
fn abandoned_flows(known: &Ruleset, wanted: &Ruleset) -> BTreeSet<Endpoint> {
    let mut gone = BTreeSet::new();
    for (id, old) in known.ports.iter().filter(|(id, _)| id.protocol == Protocol::Udp) {
        match wanted.ports.get(id) {
            Some(new) if Arc::ptr_eq(new, old) => {}
            Some(new) => gone.extend(old.endpoints.iter().filter(|e| !new.endpoints.contains(e))),
            None => gone.extend(&old.endpoints),
        }
    }
    gone
}

fn render(
    base: &Base,
    ruleset: &Ruleset,
    is_changed: impl Fn(&PortId, &Arc<ServicePort>) -> bool,
) -> BTreeMap<PortId, Rendered> {
    let changed = ruleset.ports.iter().filter(|(id, port)| is_changed(id, port));
    changed.map(|(id, port)| (id.clone(), port::render(base, id, port))).collect()
}

/// Elements of the shared sets that go and come, each with the chain it leads to.
struct Moved {
    removed: Vec<(SharedKey, Option<String>)>,
    added: Vec<(SharedKey, Option<String>)>,
}

/// An element whose chain is made anew has to be set again, for it would lead to the old one.
fn move_claims(claims: &mut Claims, going: &BTreeMap<PortId, Rendered>, coming: &BTreeMap<PortId, Rendered>) -> Moved {
    let mut touched: BTreeMap<SharedKey, Option<(PortId, Option<String>)>> = BTreeMap::new();
    let winner = |claims: &Claims, key: &SharedKey| {
        let first = claims.get(key)?.first_key_value()?;
        Some((first.0.clone(), first.1.clone()))
    };
    for key in going.values().chain(coming.values()).flat_map(|r| r.shared.keys()) {
        touched.entry(*key).or_insert_with(|| winner(claims, key));
    }
    for (id, old) in going {
        for key in old.shared.keys() {
            if let Some(claimants) = claims.get_mut(key) {
                claimants.remove(id);
            }
        }
    }
    for (id, new) in coming {
        for (key, chain) in &new.shared {
            let claimants = claims.entry(*key).or_default();
            claimants.insert(id.clone(), chain.clone());
        }
    }
    claims.retain(|_, claimants| !claimants.is_empty());

    let mut moved = Moved { removed: Vec::new(), added: Vec::new() };
    for (key, before) in touched {
        let after = winner(claims, &key);
        let is_remade = |(id, chain): &(PortId, Option<String>)| chain.is_some() && going.contains_key(id);
        let same = match (&before, &after) {
            (Some(b), Some(a)) => b.1 == a.1 && !is_remade(b),
            (None, None) => true,
            _ => false,
        };
        if !same {
            moved.removed.extend(before.map(|(_, chain)| (key, chain)));
            moved.added.extend(after.map(|(_, chain)| (key, chain)));
        }
    }
    moved
}

fn fail(op: &'static str, target: &str, source: nlink::Error) -> NetworkError {
    NetworkError::new(op, target, source)
}
