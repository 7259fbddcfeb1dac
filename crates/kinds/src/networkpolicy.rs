//! NetworkPolicy.

use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};
use stead_api::{Errors, Object};

use crate::check::{label_selector, list, one_of, port, text};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN};
use crate::fill::{each, object_or_new, set_text};
use crate::names::names;
use crate::path::Path;
use crate::workload::{self, view};
use crate::{Behavior, Hooks, Kind};

pub const NETWORKPOLICY: Kind = Kind {
    short: &["netpol"],
    has_generation: true,
    columns: &[NAME_COLUMN, columns::text("Pod-Selector", selector, "The pods that it is about."), AGE_COLUMN],
    hooks: Hooks::of::<NetworkPolicy>(),
    ..Kind::plain(
        "networkpolicies.networking.k8s.io",
        "networking.k8s.io",
        "v1",
        names!("NetworkPolicy", "networkpolicy", "networkpolicies"),
        "io.k8s.api.networking.v1.NetworkPolicy",
    )
};

fn selector(object: &Object, _now: jiff::Timestamp) -> Value {
    let policy = view::<NetworkPolicy>(object);
    let selector = policy.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref());
    selector.map_or("<none>".to_owned(), workload::selector_text).into()
}

impl Behavior for NetworkPolicy {
    fn default(new: &mut Value) {
        let Some(spec) = object_or_new(new, "spec") else { return };
        object_or_new(spec, "podSelector");
        let is_empty = |value: Option<&Value>| value.and_then(Value::as_array).is_none_or(Vec::is_empty);
        if is_empty(spec.get("policyTypes")) {
            let types: &[&str] = if is_empty(spec.get("egress")) { &["Ingress"] } else { &["Ingress", "Egress"] };
            spec["policyTypes"] = json!(types);
        }
        for direction in ["ingress", "egress"] {
            for rule in each(spec, direction) {
                for port in each(rule, "ports") {
                    set_text(port, "protocol", "TCP");
                }
            }
        }
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let Some(spec) = &self.spec else { return };
        if old.and_then(|old| old.spec.as_ref()) == Some(spec) {
            return;
        }
        let at = Path::root("spec");
        if let Some(selector) = &spec.pod_selector {
            label_selector(at.child("podSelector"), selector, errors);
        }
        for (index, rule) in list(&spec.ingress).iter().enumerate() {
            let all = at.child("ingress");
            let at = all.index(index);
            validate_rule(at, list(&rule.ports), at.child("from"), list(&rule.from), errors);
        }
        for (index, rule) in list(&spec.egress).iter().enumerate() {
            let all = at.child("egress");
            let at = all.index(index);
            validate_rule(at, list(&rule.ports), at.child("to"), list(&rule.to), errors);
        }
        let types = list(&spec.policy_types);
        if types.len() > 2 {
            at.child("policyTypes").invalid(errors, json!(types), "may not specify more than two policyTypes");
            return;
        }
        for (index, one) in types.iter().enumerate() {
            one_of(at.child("policyTypes").index(index), one, &["Egress", "Ingress"], false, errors);
        }
    }

    fn warn(&self, old: Option<&Self>) -> Vec<String> {
        if old.is_none() { vec![NOT_ENFORCED.to_owned()] } else { Vec::new() }
    }
}

/// Told until the nodes' rules know policies.
const NOT_ENFORCED: &str =
    "the network of this cluster does not enforce NetworkPolicies: the object is stored and changes nothing";

fn validate_rule(
    at: Path,
    ports: &[NetworkPolicyPort],
    at_peers: Path,
    peers: &[NetworkPolicyPeer],
    errors: &mut Errors,
) {
    for (index, port) in ports.iter().enumerate() {
        let all = at.child("ports");
        validate_port(all.index(index), port, errors);
    }
    for (index, peer) in peers.iter().enumerate() {
        validate_peer(at_peers.index(index), peer, errors);
    }
}

fn validate_port(at: Path, given: &NetworkPolicyPort, errors: &mut Errors) {
    one_of(at.child("protocol"), text(&given.protocol), &["SCTP", "TCP", "UDP"], true, errors);
    if let Some(number) = &given.port {
        port(at.child("port"), number, errors);
    }
    let Some(end) = given.end_port else { return };
    let at_end = at.child("endPort");
    match &given.port {
        None => at_end.invalid(errors, end, "may not be specified when `port` is not specified"),
        Some(IntOrString::String(_)) => at_end.invalid(errors, end, "may not be specified when `port` is non-numeric"),
        Some(IntOrString::Int(first)) => {
            if end < *first {
                at_end.invalid(errors, end, "must be greater than or equal to `port`");
            }
            crate::check::port_number(at_end, end.into(), errors);
        }
    }
}

fn validate_peer(at: Path, peer: &NetworkPolicyPeer, errors: &mut Errors) {
    let selectors = [("podSelector", &peer.pod_selector), ("namespaceSelector", &peer.namespace_selector)];
    for (field, selector) in selectors {
        if let Some(selector) = selector {
            label_selector(at.child(field), selector, errors);
        }
    }
    let has_selector = selectors.iter().any(|(_, selector)| selector.is_some());
    match (&peer.ip_block, has_selector) {
        (None, false) => at.required(errors, "must specify a peer"),
        (Some(_), true) => at.forbidden(errors, "may not specify both ipBlock and another peer"),
        (Some(block), false) => validate_block(at.child("ipBlock"), block, errors),
        (None, true) => {}
    }
}

/// An address range: its first address as bits of 128, and how many of them are fixed.
fn range(cidr: &str) -> Option<(bool, u128, u8)> {
    let (address, length) = cidr.split_once('/')?;
    let length: u8 = length.parse().ok()?;
    match address.parse::<IpAddr>().ok()? {
        IpAddr::V4(address) if length <= 32 => Some((false, u128::from(u32::from(address)) << 96, length)),
        IpAddr::V6(address) if length <= 128 => Some((true, u128::from(address), length)),
        _ => None,
    }
}

pub(crate) const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

pub(crate) fn is_cidr(text: &str) -> bool {
    range(text).is_some()
}

fn validate_block(at: Path, block: &IPBlock, errors: &mut Errors) {
    if block.cidr.is_empty() {
        at.child("cidr").required(errors, "");
        return;
    }
    let Some((family, first, length)) = range(&block.cidr) else {
        at.child("cidr").invalid(errors, block.cidr.as_str(), NOT_A_CIDR);
        return;
    };
    for (index, except) in list(&block.except).iter().enumerate() {
        let all = at.child("except");
        let at = all.index(index);
        let Some((its_family, its_first, its_length)) = range(except) else {
            at.invalid(errors, except.as_str(), NOT_A_CIDR);
            continue;
        };
        let mask = if length == 0 { 0 } else { u128::MAX << (128 - u32::from(length)) };
        let is_inside = family == its_family && its_length > length && (its_first & mask) == (first & mask);
        if !is_inside {
            at.invalid(errors, except.as_str(), "must be a strict subset of `cidr`");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: Value) -> (Value, Vec<String>) {
        let mut value = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": spec});
        (NETWORKPOLICY.hooks.default)(&mut value);
        let found = NETWORKPOLICY.check(&value, None).expect("decodes").errors;
        (value["spec"].clone(), found.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn types_and_protocols_are_filled_in() {
        let (spec, errors) = check(json!({"egress": [{"ports": [{"port": 53}]}]}));
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
        assert_eq!(spec["egress"][0]["ports"][0]["protocol"], "TCP");
    }

    #[test]
    fn peers_blocks_and_ports_are_checked() {
        let (_, errors) = check(json!({"ingress": [{"ports": [{"port": 80, "endPort": 70}],
            "from": [{}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "11.0.0.0/16", "10.0.0.0/8"]}},
                {"ipBlock": {"cidr": "x"}}]}]}));
        assert_eq!(
            errors,
            [
                "spec.ingress[0].ports[0].endPort: Invalid value: 70: must be greater than or equal to `port`",
                "spec.ingress[0].from[0]: Required value: must specify a peer",
                "spec.ingress[0].from[1].ipBlock.except[1]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
                "spec.ingress[0].from[1].ipBlock.except[2]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
                "spec.ingress[0].from[2].ipBlock.cidr: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ]
        );
    }
}
