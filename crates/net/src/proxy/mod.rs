//! Which packets of a Service go where: the rules of a node as plain data.
//!
//! Contract: a [`Ruleset`] says, for every Service port, under which addresses it is reached and which endpoints answer,
//! with the policies already applied. How the kernel is told is the host's matter.
//! Source: behaviour rows N-01 to N-14.

mod claims;
mod host_ports;
mod rules;
mod ruleset;

pub use claims::{Claim, Claimant, Claims, Conflict, conflicts};
pub use rules::Proxy;
pub use ruleset::{Endpoint, PortId, Protocol, Ruleset, ServicePort};

#[cfg(test)]
mod tests;
