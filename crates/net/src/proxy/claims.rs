//! Ports of the machine that a cluster asks for, and whom they are asked for by, so that it can be told when another asks, too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

use super::ruleset::Protocol;

/// A port of the machine: of one of its addresses, or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    pub port: u16,
    pub protocol: Protocol,
    pub address: Option<Ipv4Addr>,
}

/// A Service (its node port) or a pod (its host port).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claimant {
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
}

/// Who asks for what.
pub type Claims = BTreeMap<Claim, BTreeSet<Claimant>>;

/// A port that another asks for, too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    pub claim: Claim,
    pub claimant: Claimant,
    /// What the other goes by.
    pub other: String,
}

/// What of ours others ask for, too.
pub fn conflicts<'a>(
    ours: &Claims,
    others: impl Iterator<Item = (&'a str, &'a BTreeSet<Claim>)>,
) -> BTreeSet<Conflict> {
    let mut found = BTreeSet::new();
    for (other, theirs) in others {
        for (claim, claimants) in ours {
            if theirs.iter().any(|one| claim.meets(one)) {
                let conflict = |claimant: &Claimant| Conflict {
                    claim: *claim,
                    claimant: claimant.clone(),
                    other: other.to_owned(),
                };
                found.extend(claimants.iter().map(conflict));
            }
        }
    }
    found
}

impl Claim {
    fn meets(&self, other: &Claim) -> bool {
        let same_address = self.address.is_none() || other.address.is_none() || self.address == other.address;
        self.port == other.port && self.protocol == other.protocol && same_address
    }

    /// From what `Display` wrote.
    pub fn parse(text: &str) -> Option<Claim> {
        let (place, protocol) = text.split_once('/')?;
        let (address, port) = place.split_once(':')?;
        let address = if address == "*" { None } else { Some(address.parse().ok()?) };
        Some(Claim { port: port.parse().ok()?, protocol: Protocol::parse(protocol)?, address })
    }
}

/// `*:30080/TCP`
impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{address}:{}/{}", self.port, self.protocol.as_str()),
            None => write!(f, "*:{}/{}", self.port, self.protocol.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(text: &str) -> Claim {
        let claim = Claim::parse(text).expect("a claim");
        assert_eq!(claim.to_string(), text);
        claim
    }

    #[test]
    fn who_asks_for_the_same_port_is_found() {
        let web = Claimant { kind: "Service", namespace: "default".into(), name: "web".into() };
        let ours = |text: &str| Claims::from([(claim(text), BTreeSet::from([web.clone()]))]);
        let meet = |own: &str, other: &str| {
            let theirs = BTreeSet::from([claim(other)]);
            let found = conflicts(&ours(own), [("there", &theirs)].into_iter());
            assert!(found.iter().all(|one| one.claimant == web && one.other == "there"));
            found.len() == 1
        };
        assert!(meet("*:30080/TCP", "*:30080/TCP"));
        assert!(meet("*:8080/TCP", "127.0.0.1:8080/TCP") && meet("127.0.0.1:8080/TCP", "*:8080/TCP"));
        assert!(!meet("192.0.2.1:8080/TCP", "127.0.0.1:8080/TCP"));
        assert!(!meet("*:30080/TCP", "*:30080/UDP") && !meet("*:30080/TCP", "*:30081/TCP"));
        assert_eq!(Claim::parse("30080/TCP"), None);
    }
}
