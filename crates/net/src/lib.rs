//! Answers about the cluster's network: where does this packet go ([`proxy`]), what is this name ([`dns`]).
//!
//! Guarantees: pure. Both are functions of the objects of one snapshot (an index of them that is brought up to date from
//! changed objects); nothing here reads a clock, a socket or a file.
//! Source: behaviour rows D-01 to D-22 and N-01 to N-13.

pub mod catalog;
pub mod cidr;
pub mod dns;
pub mod proxy;

pub use cidr::Cidr;

#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
