//! ServiceCIDR and IPAddress: the ranges of Service addresses, and the addresses in use.

use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use serde_json::{Value, json};
use stead_api::names::dns1123_label;
use stead_api::object::Fields;
use stead_api::{Errors, Object};

use crate::check::{FIELD_IS_IMMUTABLE, list, name, required_name, text};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN};
use crate::names::{self, names};
use crate::networkpolicy::{NOT_A_CIDR, is_cidr};
use crate::path::Path;
use crate::{Behavior, Hooks, Kind, METADATA, Subresource};

const GROUP: &str = "networking.k8s.io";

pub const SERVICECIDR: Kind = Kind {
    namespaced: false,
    subresources: &[Subresource::Status],
    status_keeps: METADATA,
    columns: &[NAME_COLUMN, columns::text("CIDRs", cidrs, "The ranges."), AGE_COLUMN],
    hooks: Hooks::of::<ServiceCIDR>(),
    ..Kind::plain(
        "servicecidrs.networking.k8s.io",
        GROUP,
        "v1",
        names!("ServiceCIDR", "servicecidr", "servicecidrs"),
        "io.k8s.api.networking.v1.ServiceCIDR",
    )
};

pub const IPADDRESS: Kind = Kind {
    short: &["ip"],
    namespaced: false,
    name_rule: address_name,
    fields: Fields {
        selectable: &[
            "spec.parentRef.name",
            "spec.parentRef.namespace",
            "spec.parentRef.resource",
            "spec.parentRef.group",
        ],
        indexed: &[],
        labels_indexed: false,
        ..Fields::NONE
    },
    columns: &[NAME_COLUMN, columns::text("ParentRef", parent, "Who uses it."), AGE_COLUMN],
    hooks: Hooks::of::<IPAddress>(),
    ..Kind::plain(
        "ipaddresses.networking.k8s.io",
        GROUP,
        "v1",
        names!("IPAddress", "ipaddress", "ipaddresses"),
        "io.k8s.api.networking.v1.IPAddress",
    )
};

/// The address itself, as it is written in full agreement.
fn address_name(name: &str) -> Vec<String> {
    match name.parse::<std::net::IpAddr>() {
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
        Ok(address) if address.to_string() != name => vec![format!("must be in canonical form (\"{address}\")")],
        Ok(_) => Vec::new(),
    }
}

fn cidrs(object: &Object, _now: jiff::Timestamp) -> Value {
    let value = object.value();
    let all = value["spec"]["cidrs"].as_array().into_iter().flatten().filter_map(Value::as_str);
    all.collect::<Vec<_>>().join(",").into()
}

/// `services/default/kubernetes`.
fn parent(object: &Object, _now: jiff::Timestamp) -> Value {
    let value = object.value();
    let of = &value["spec"]["parentRef"];
    let parts = ["resource", "group", "namespace", "name"].map(|field| of[field].as_str().unwrap_or(""));
    let [resource, group, namespace, name] = parts;
    let resource = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    [resource.as_str(), namespace, name]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("/")
        .into()
}

impl Behavior for ServiceCIDR {
    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let at = Path::root("spec");
        let at = at.child("cidrs");
        let ranges = self.spec.as_ref().map_or(&[][..], |spec| list(&spec.cidrs));
        let before = old.map(|old| old.spec.as_ref().map_or(&[][..], |spec| list(&spec.cidrs)));
        match before {
            Some(before) if before == ranges => return,
            Some([one]) if ranges.len() == 2 && ranges[0] == *one => {}
            Some(_) => return at.invalid(errors, json!(ranges), FIELD_IS_IMMUTABLE),
            None => {}
        }
        if ranges.is_empty() {
            at.required(errors, "at least one CIDR required");
        }
        if ranges.len() > 2 {
            at.invalid(errors, json!(ranges), "may only hold up to 2 values");
            return;
        }
        for (index, range) in ranges.iter().enumerate() {
            if !is_cidr(range) {
                at.index(index).invalid(errors, range.as_str(), NOT_A_CIDR);
            }
        }
        if let [first, second] = ranges
            && first.contains(':') == second.contains(':')
        {
            let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96";
            at.invalid(errors, json!(ranges), detail);
        }
    }

    fn warn(&self, old: Option<&Self>) -> Vec<String> {
        let is_own = self.metadata.name.as_deref() == Some(OWN);
        if old.is_none() && !is_own { vec![NOT_USED.to_owned()] } else { Vec::new() }
    }
}

/// The range that the server was started with; the only one that Services get addresses of.
const OWN: &str = "kubernetes";
const NOT_USED: &str =
    "the range of Service addresses is fixed when the cluster starts: this range is stored and not used";

impl Behavior for IPAddress {
    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let at = Path::root("spec");
        let at = at.child("parentRef");
        let spec = &self.spec;
        let of = &spec.parent_ref;
        if old.is_some_and(|old| old.spec != *spec) {
            at.invalid(errors, json!(of), FIELD_IS_IMMUTABLE);
        }
        required_name(at.child("resource"), &of.resource, names::path_segment, errors);
        required_name(at.child("name"), &of.name, names::path_segment, errors);
        name(at.child("namespace"), text(&of.namespace), dns1123_label, errors);
        name(at.child("group"), text(&of.group), stead_api::names::dns1123_subdomain, errors);
    }
}
