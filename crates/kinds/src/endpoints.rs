//! Endpoints and EndpointSlice: the addresses behind a Service (N-16).

use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;
use stead_api::names::{dns1123_label, dns1123_subdomain, qualified_name};
use stead_api::object::Fields;
use stead_api::{Errors, Object};

use crate::check::{endpoint_ip, ip, list, name, one_of, port_number, text};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN};
use crate::fill::{each, set, set_text};
use crate::names::names;
use crate::path::Path;
use crate::{Behavior, Hooks, Kind};

pub const ENDPOINTS: Kind = Kind {
    short: &["ep"],
    create_on_update: true,
    columns: &[
        NAME_COLUMN,
        columns::text("Endpoints", |object, _| endpoints(&object.view()).into(), "Addresses that are ready."),
        AGE_COLUMN,
    ],
    hooks: Hooks::of::<Endpoints>(),
    ..Kind::plain("endpoints", "", "v1", names!("Endpoints", "endpoints", "endpoints"), "io.k8s.api.core.v1.Endpoints")
};

pub const ENDPOINTSLICE: Kind = Kind {
    has_generation: true,
    immutable: &["addressType"],
    fields: Fields { selectable: &[], indexed: &[], labels_indexed: true, ..Fields::NONE },
    columns: &[
        NAME_COLUMN,
        columns::path("AddressType", "addressType", "The family of its addresses."),
        columns::text("Ports", ports, "Ports of its endpoints."),
        columns::text("Endpoints", addresses, "Addresses of its endpoints."),
        AGE_COLUMN,
    ],
    hooks: Hooks::of::<EndpointSlice>(),
    ..Kind::plain(
        "endpointslices.discovery.k8s.io",
        "discovery.k8s.io",
        "v1",
        names!("EndpointSlice", "endpointslice", "endpointslices"),
        "io.k8s.api.discovery.v1.EndpointSlice",
    )
};

const ENDPOINTS_MAX: usize = 1000;
const PORTS_MAX: usize = 20_000;
const ADDRESSES_MAX: usize = 100;
/// How many entries a column shows before it only counts.
const SHOWN_MAX: usize = 3;

impl Behavior for Endpoints {
    fn default(new: &mut Value) {
        for subset in each(new, "subsets") {
            for port in each(subset, "ports") {
                set_text(port, "protocol", "TCP");
            }
        }
    }

    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        for (index, subset) in list(&self.subsets).iter().enumerate() {
            let all = Path::root("subsets");
            let at = all.index(index);
            let (ready, waiting) = (list(&subset.addresses), list(&subset.not_ready_addresses));
            if ready.is_empty() && waiting.is_empty() {
                at.required(errors, "must specify `addresses` or `notReadyAddresses`");
            }
            for (field, addresses) in [("addresses", ready), ("notReadyAddresses", waiting)] {
                let all = at.child(field);
                for (place, address) in addresses.iter().enumerate() {
                    let at = all.index(place);
                    address_of(at.child("ip"), &self.metadata, &address.ip, errors);
                    name(at.child("hostname"), text(&address.hostname), dns1123_label, errors);
                    name(at.child("nodeName"), text(&address.node_name), dns1123_subdomain, errors);
                }
            }
            let ports = list(&subset.ports);
            for (place, port) in ports.iter().enumerate() {
                let all = at.child("ports");
                let at = all.index(place);
                match text(&port.name) {
                    "" if ports.len() > 1 => at.child("name").required(errors, ""),
                    label => name(at.child("name"), label, dns1123_label, errors),
                }
                port_number(at.child("port"), port.port.into(), errors);
                one_of(at.child("protocol"), text(&port.protocol), &["SCTP", "TCP", "UDP"], false, errors);
                name(at.child("appProtocol"), text(&port.app_protocol), qualified_name, errors);
            }
        }
    }
}

impl Behavior for EndpointSlice {
    fn default(new: &mut Value) {
        for port in each(new, "ports") {
            set(port, "name", "");
            set_text(port, "protocol", "TCP");
        }
    }

    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        one_of(Path::root("addressType"), &self.address_type, &["FQDN", "IPv4", "IPv6"], false, errors);
        let endpoints = list(&self.endpoints);
        if endpoints.len() > ENDPOINTS_MAX {
            errors.too_many(&Path::root("endpoints").field(), endpoints.len(), ENDPOINTS_MAX);
        }
        for (index, endpoint) in endpoints.iter().enumerate() {
            let all = Path::root("endpoints");
            let at = all.index(index);
            let addresses = &endpoint.addresses;
            if addresses.is_empty() {
                at.child("addresses").required(errors, "must contain at least 1 address");
            } else if addresses.len() > ADDRESSES_MAX {
                errors.too_many(&at.child("addresses").field(), addresses.len(), ADDRESSES_MAX);
            }
            for (place, address) in addresses.iter().enumerate() {
                check_address(at.child("addresses").index(place), self, address, errors);
            }
            name(at.child("hostname"), text(&endpoint.hostname), dns1123_label, errors);
            name(at.child("nodeName"), text(&endpoint.node_name), dns1123_subdomain, errors);
        }
        let ports = list(&self.ports);
        if ports.len() > PORTS_MAX {
            errors.too_many(&Path::root("ports").field(), ports.len(), PORTS_MAX);
        }
        let mut seen = std::collections::BTreeSet::new();
        for (index, port) in ports.iter().enumerate() {
            let all = Path::root("ports");
            let at = all.index(index);
            name(at.child("name"), text(&port.name), dns1123_label, errors);
            if !seen.insert(text(&port.name)) {
                at.child("name").duplicate(errors, text(&port.name));
            }
            one_of(at.child("protocol"), text(&port.protocol), &["SCTP", "TCP", "UDP"], false, errors);
            name(at.child("appProtocol"), text(&port.app_protocol), qualified_name, errors);
        }
    }
}

/// An address is the same everywhere, but for that of the API server, which may serve its own machine alone.
fn address_of(at: Path, owner: &ObjectMeta, address: &str, errors: &mut Errors) {
    let is_servers = (text(&owner.namespace), text(&owner.name)) == ("default", "kubernetes");
    if is_servers { ip(at, address, errors) } else { endpoint_ip(at, address, errors) }
}

fn check_address(at: Path, slice: &EndpointSlice, address: &str, errors: &mut Errors) {
    let parsed = address.parse::<std::net::IpAddr>().ok();
    match slice.address_type.as_str() {
        "IPv4" if !parsed.is_some_and(|found| found.is_ipv4()) => {
            at.invalid(errors, address, "must be an IPv4 address");
        }
        "IPv6" if !parsed.is_some_and(|found| found.is_ipv6()) => {
            at.invalid(errors, address, "must be an IPv6 address");
        }
        "IPv4" | "IPv6" => address_of(at, &slice.metadata, address, errors),
        "FQDN" => domain(at, address, errors),
        _ => {}
    }
}

/// A full name of at least two parts; the dot at its end may be there.
fn domain(at: Path, text: &str, errors: &mut Errors) {
    let bare = text.strip_suffix('.').unwrap_or(text);
    if bare.is_empty() {
        return at.required(errors, "");
    }
    let found = dns1123_subdomain(bare);
    let is_name = found.is_empty();
    for message in found {
        at.invalid(errors, bare, message);
    }
    if is_name && !bare.contains('.') {
        at.invalid(errors, bare, "should be a domain with at least two segments separated by dots");
    }
}

/// The first few, and how many more.
fn shortened(all: Vec<String>, nothing: &str) -> String {
    match all.len() {
        0 => nothing.to_owned(),
        count if count <= SHOWN_MAX => all.join(","),
        count => format!("{} + {} more...", all[..SHOWN_MAX].join(","), count - SHOWN_MAX),
    }
}

fn endpoints(found: &Endpoints) -> String {
    let mut all = Vec::new();
    for subset in list(&found.subsets) {
        let addresses = list(&subset.addresses);
        if list(&subset.ports).is_empty() {
            all.extend(addresses.iter().map(|address| address.ip.clone()));
        }
        for port in list(&subset.ports) {
            all.extend(addresses.iter().map(|address| match address.ip.contains(':') {
                true => format!("[{}]:{}", address.ip, port.port),
                false => format!("{}:{}", address.ip, port.port),
            }));
        }
    }
    shortened(all, "<none>")
}

fn ports(object: &Object, _now: jiff::Timestamp) -> Value {
    let slice = object.view::<EndpointSlice>();
    let all = list(&slice.ports).iter().map(|port| match (port.port, text(&port.name)) {
        (Some(number), _) => number.to_string(),
        (None, "") => "*".to_owned(),
        (None, label) => label.to_owned(),
    });
    shortened(all.collect(), "<unset>").into()
}

fn addresses(object: &Object, _now: jiff::Timestamp) -> Value {
    let slice = object.view::<EndpointSlice>();
    let all = list(&slice.endpoints).iter().flat_map(|endpoint| endpoint.addresses.iter().cloned());
    shortened(all.collect(), "<unset>").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use stead_api::Key;

    #[test]
    fn long_lists_are_cut() {
        let value = json!({"metadata": {"name": "a", "namespace": "b", "resourceVersion": "1"}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.0.3"]},
                {"addresses": ["10.0.0.4"]}], "ports": [{"port": 80}]});
        let key = Key::new("endpointslices.discovery.k8s.io", "b", "a");
        let object = Object::of_value(key, &value, &ENDPOINTSLICE.stored_fields()).expect("an object");
        assert_eq!(addresses(&object, jiff::Timestamp::UNIX_EPOCH), "10.0.0.1,10.0.0.2,10.0.0.3 + 1 more...");
        assert_eq!(ports(&object, jiff::Timestamp::UNIX_EPOCH), "80");
        let empty = serde_json::from_value(json!({"metadata": {}})).expect("decodes");
        assert_eq!(endpoints(&empty), "<none>");
    }

    #[test]
    fn addresses_mean_the_same_everywhere() {
        let value = json!({"metadata": {"name": "a", "namespace": "b"}, "subsets": [{
            "addresses": [{"ip": "127.0.0.1"}, {"ip": "169.254.169.254"}, {"ip": "224.0.0.1"}, {"ip": "10.0.0.1", "nodeName": "n*"}],
            "ports": [{"port": 1, "protocol": "TCP", "appProtocol": "https"}]}]});
        let errors = ENDPOINTS.check(&value, None).expect("decodes").errors;
        let found: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        let at = "subsets[0].addresses";
        assert_eq!(
            found[..3],
            [
                format!(
                    "{at}[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)"
                ),
                format!(
                    "{at}[1].ip: Invalid value: \"169.254.169.254\": may not be in the link-local range (169.254.0.0/16, fe80::/10)"
                ),
                format!(
                    "{at}[2].ip: Invalid value: \"224.0.0.1\": may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
                ),
            ]
        );
        let own = json!({"metadata": {"name": "kubernetes", "namespace": "default"},
            "subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 1, "protocol": "TCP"}]}]});
        assert!(ENDPOINTS.check(&own, None).expect("decodes").errors.is_empty());
        assert!(found[3].starts_with("subsets[0].addresses[3].nodeName: Invalid value: \"n*\""), "{found:?}");
    }

    #[test]
    fn names_have_two_parts_and_may_end_in_a_dot() {
        let value = json!({"metadata": {"name": "a", "namespace": "b"}, "addressType": "FQDN",
            "endpoints": [{"addresses": ["example.com.", "example"]}], "ports": []});
        let errors = ENDPOINTSLICE.check(&value, None).expect("decodes").errors;
        assert_eq!(
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "endpoints[0].addresses[1]: Invalid value: \"example\": should be a domain with at least two segments separated by dots"
            ]
        );
    }

    #[test]
    fn addresses_are_of_the_slices_family() {
        let mut value = json!({"metadata": {"name": "a", "namespace": "b"}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["::1"]}, {"addresses": []}], "ports": [{"port": 80}, {"port": 81}]});
        (ENDPOINTSLICE.hooks.default)(&mut value);
        let errors = ENDPOINTSLICE.check(&value, None).expect("decodes").errors;
        assert_eq!(
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "endpoints[0].addresses[0]: Invalid value: \"::1\": must be an IPv4 address",
                "endpoints[1].addresses: Required value: must contain at least 1 address",
                "ports[1].name: Duplicate value: \"\"",
            ]
        );
    }
}
