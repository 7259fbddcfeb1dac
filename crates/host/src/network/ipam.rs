//! Which pod addresses of one node are free.
//!
//! Contract: an address is handed out in rising order and comes again only after the whole range went round, so nobody who
//! still knows a dead pod's address reaches a new pod at once. The range's first two addresses (network, node) and its last
//! one are never handed out. Nothing is kept on disk: what is in use is read back from the interfaces.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use stead_net::Cidr;

/// The pod addresses of one node.
#[derive(Debug)]
pub struct Pool {
    range: Cidr,
    used: BTreeSet<Ipv4Addr>,
    /// The address handed out last; the search goes on behind it.
    last: Ipv4Addr,
}

impl Pool {
    /// `None` when the range is too small to hold a node and a pod.
    pub fn new(range: Cidr) -> Option<Pool> {
        (range.prefix_len() <= 29).then(|| Pool { range, used: BTreeSet::new(), last: node_address(range) })
    }

    pub fn range(&self) -> Cidr {
        self.range
    }

    /// The node's own address: the range's first usable one.
    pub fn node(&self) -> Ipv4Addr {
        node_address(self.range)
    }

    /// Marks an address found in use; `false` when it cannot be a pod's or is taken.
    pub fn claim(&mut self, ip: Ipv4Addr) -> bool {
        let claimed = self.is_assignable(ip) && self.used.insert(ip);
        if claimed {
            self.last = self.last.max(ip);
        }
        claimed
    }

    /// The next free address; `None` when all are in use.
    pub fn allocate(&mut self) -> Option<Ipv4Addr> {
        let (low, high) = (u32::from(self.node()) + 1, u32::from(self.range.last()) - 1);
        let last = u32::from(self.last);
        let behind = (last + 1).max(low)..=high;
        let around = low..=last.min(high);
        let ip = behind.chain(around).map(Ipv4Addr::from).find(|ip| !self.used.contains(ip))?;
        self.used.insert(ip);
        self.last = ip;
        Some(ip)
    }

    pub fn release(&mut self, ip: Ipv4Addr) {
        self.used.remove(&ip);
    }

    fn is_assignable(&self, ip: Ipv4Addr) -> bool {
        self.range.contains(ip) && ip > self.node() && ip < self.range.last()
    }
}

fn node_address(range: Cidr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range.first()) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(range: &str) -> Pool {
        Pool::new(range.parse().unwrap()).unwrap()
    }

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_rise_and_a_freed_one_comes_last() {
        let mut pool = pool("10.244.1.0/29");
        assert_eq!(pool.node(), ip("10.244.1.1"));
        assert_eq!(pool.allocate(), Some(ip("10.244.1.2")));
        assert_eq!(pool.allocate(), Some(ip("10.244.1.3")));
        pool.release(ip("10.244.1.2"));
        for rest in ["10.244.1.4", "10.244.1.5", "10.244.1.6", "10.244.1.2"] {
            assert_eq!(pool.allocate(), Some(ip(rest)));
        }
        assert_eq!(pool.allocate(), None);
        pool.release(ip("10.244.1.4"));
        assert_eq!(pool.allocate(), Some(ip("10.244.1.4")));
    }

    #[test]
    fn addresses_found_in_use_are_not_handed_out_and_the_search_goes_on_behind_them() {
        let mut pool = pool("10.244.1.0/28");
        assert!(pool.claim(ip("10.244.1.7")));
        assert!(!pool.claim(ip("10.244.1.7")));
        for refused in ["10.244.1.0", "10.244.1.1", "10.244.1.15", "10.244.2.7"] {
            assert!(!pool.claim(ip(refused)), "{refused}");
        }
        assert_eq!(pool.allocate(), Some(ip("10.244.1.8")));
    }

    #[test]
    fn a_range_without_room_is_refused() {
        assert!(Pool::new("10.0.0.0/30".parse().unwrap()).is_none());
    }
}
