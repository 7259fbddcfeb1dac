//! An IPv4 address range in CIDR form.
//!
//! Contract: the address of a [`Cidr`] is always its lowest one, so equal ranges are equal values.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 range such as `10.244.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    base: u32,
    len: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an IPv4 range: {0:?}")]
pub struct BadCidr(pub String);

impl Cidr {
    /// The range of `len` leading bits around `addr`; `None` when `len` is over 32.
    pub fn new(addr: Ipv4Addr, len: u8) -> Option<Cidr> {
        (len <= 32).then(|| Cidr { base: u32::from(addr) & mask(len), len })
    }

    /// The range that holds one address.
    pub fn host(addr: Ipv4Addr) -> Cidr {
        Cidr { base: addr.into(), len: 32 }
    }

    pub fn first(self) -> Ipv4Addr {
        self.base.into()
    }

    pub fn last(self) -> Ipv4Addr {
        (self.base | !mask(self.len)).into()
    }

    pub fn prefix_len(self) -> u8 {
        self.len
    }

    pub fn mask(self) -> Ipv4Addr {
        mask(self.len).into()
    }

    pub fn contains(self, addr: Ipv4Addr) -> bool {
        u32::from(addr) & mask(self.len) == self.base
    }

    pub fn overlaps(self, other: Cidr) -> bool {
        let shorter = mask(self.len.min(other.len));
        self.base & shorter == other.base & shorter
    }

    /// The address `index` after the first; `None` outside the range.
    pub fn nth(self, index: u32) -> Option<Ipv4Addr> {
        let addr = Ipv4Addr::from(self.base.checked_add(index)?);
        self.contains(addr).then_some(addr)
    }
}

fn mask(len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)
}

impl FromStr for Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Cidr, BadCidr> {
        let parse = || {
            let (addr, len) = text.split_once('/')?;
            Cidr::new(addr.parse().ok()?, len.parse().ok()?)
        };
        parse().ok_or_else(|| BadCidr(text.to_owned()))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first(), self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_is_normalised_and_knows_its_ends() {
        let range = cidr("10.244.3.7/24");
        assert_eq!(range.to_string(), "10.244.3.0/24");
        assert_eq!(range.last(), Ipv4Addr::new(10, 244, 3, 255));
        assert!(range.contains(Ipv4Addr::new(10, 244, 3, 200)));
        assert!(!range.contains(Ipv4Addr::new(10, 244, 4, 0)));
        assert_eq!(range.nth(256), None);
        assert_eq!(cidr("0.0.0.0/0").last(), Ipv4Addr::BROADCAST);
    }

    #[test]
    fn ranges_overlap_when_one_holds_the_other() {
        assert!(cidr("10.0.0.0/8").overlaps(cidr("10.244.0.0/16")));
        assert!(cidr("10.244.0.5/32").overlaps(cidr("10.244.0.0/16")));
        assert!(!cidr("10.244.0.0/24").overlaps(cidr("10.244.1.0/24")));
        assert!(cidr("0.0.0.0/0").overlaps(cidr("10.96.0.0/16")));
    }

    #[test]
    fn bad_text_is_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "fd00::/8", "10.0.0.0/-1"] {
            assert_eq!(text.parse::<Cidr>(), Err(BadCidr(text.into())));
        }
    }
}
