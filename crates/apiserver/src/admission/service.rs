//! Services: addresses and ports from the cluster's ranges (N-04, N-05).
//!
//! What is taken is read from the snapshot, so nothing can leak: a Service that is gone has freed what it had.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};
use stead_api::{Errors, FieldPath, Request, Status};

use crate::Context;
use crate::draft::Draft;

/// Addresses at the start of the range that are only given to those who ask for them, at most.
const STATIC_ADDRESSES_MAX: u32 = 256;

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn has_address(spec: &Value) -> bool {
    matches!(text(spec, "type"), "" | "ClusterIP" | "NodePort" | "LoadBalancer")
}

fn has_node_ports(spec: &Value) -> bool {
    match text(spec, "type") {
        "NodePort" => true,
        "LoadBalancer" => spec["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

fn ports(spec: &Value) -> impl Iterator<Item = &Value> {
    spec["ports"].as_array().into_iter().flatten()
}

/// Gives the Service its address and node ports.
pub(super) fn allocate(ctx: &mut Context, _: &Request, draft: &mut Draft) -> Result<(), Status> {
    let mut errors = Errors::default();
    if has_address(&draft.new["spec"]) {
        allocate_address(ctx, draft, &mut errors);
    }
    if has_node_ports(&draft.new["spec"]) {
        allocate_node_ports(ctx, draft, &mut errors);
    }
    if errors.is_empty() { Ok(()) } else { Err(draft.invalid(errors)) }
}

/// The Services of these types, other than this one.
fn others(ctx: &Context, draft: &Draft, types: &[&str]) -> Vec<std::sync::Arc<Service>> {
    let snapshot = ctx.store.snapshot();
    let services = types.iter().flat_map(|one| snapshot.indexed("services", &format!("spec.type={one}")));
    services.filter(|object| object.key != draft.key).map(|object| object.view::<Service>()).collect()
}

/// Whether another Service has this address.
fn is_taken(ctx: &Context, draft: &Draft, address: Ipv4Addr) -> bool {
    let mut holders = ctx.store.snapshot().indexed("services", &format!("spec.clusterIP={address}"));
    holders.any(|object| object.key != draft.key)
}

fn allocate_address(ctx: &mut Context, draft: &mut Draft, errors: &mut Errors) {
    let asked = text(&draft.new["spec"], "clusterIP").to_owned();
    let asked = match (asked.as_str(), draft.new["spec"]["clusterIPs"][0].as_str()) {
        ("", Some(first)) => first.to_owned(),
        _ => asked,
    };
    let families = || json!(["IPv4"]);
    if asked == "None" {
        let spec = &mut draft.new["spec"];
        spec["clusterIP"] = json!("None");
        spec["clusterIPs"] = json!(["None"]);
        set_missing(spec, "ipFamilies", families());
        set_missing(spec, "ipFamilyPolicy", json!("SingleStack"));
        return;
    }
    let kept = !draft.is_creation() && !asked.is_empty() && draft.old_value["spec"]["clusterIP"] == *asked;
    let address = if kept { Ok(asked.clone()) } else { pick_address(ctx, draft, &asked) };
    match address {
        Ok(address) => {
            let spec = &mut draft.new["spec"];
            spec["clusterIP"] = json!(address);
            spec["clusterIPs"] = json!([address]);
            set_missing(spec, "ipFamilies", families());
            set_missing(spec, "ipFamilyPolicy", json!("SingleStack"));
        }
        Err(why) => {
            let at = FieldPath::new("spec").child("clusterIPs");
            let shown = if asked.is_empty() { json!([]) } else { json!([asked]) };
            errors.invalid(&at, shown, why);
        }
    }
}

fn set_missing(spec: &mut Value, field: &str, value: Value) {
    if spec[field].is_null() {
        spec[field] = value;
    }
}

fn pick_address(ctx: &mut Context, draft: &Draft, asked: &str) -> Result<String, String> {
    let (base, length) = ctx.cluster.service_cidr;
    let size: u32 = 1u32.checked_shl(32 - u32::from(length)).unwrap_or(u32::MAX);
    let first = u32::from(base);
    if !asked.is_empty() {
        // What is no address at all is left for validation to name.
        let Ok(address) = asked.parse::<IpAddr>() else { return Ok(asked.to_owned()) };
        let IpAddr::V4(address) = address else {
            return Err(format!("failed to allocate IP {asked}: IPv6 is not configured on this cluster"));
        };
        let place = u32::from(address);
        // The first address is the network's, the last one the broadcast's.
        let is_inside = place > first && place - first < size - 1;
        return match (is_inside, is_taken(ctx, draft, address)) {
            (false, _) => Err(format!(
                "failed to allocate IP {asked}: the provided IP ({asked}) is not in the valid range. The range of valid IPs is {base}/{length}"
            )),
            (true, true) => Err(format!("failed to allocate IP {asked}: provided IP is already allocated")),
            (true, false) => Ok(asked.to_owned()),
        };
    }
    // The start of the range is kept for those who ask, as long as there is room after it.
    let reserved = (size / 16).clamp(1, STATIC_ADDRESSES_MAX).min(size.saturating_sub(2));
    let dynamic = size - 1 - reserved;
    let offset = if dynamic == 0 { 0 } else { (ctx.ids.next_u64() % u64::from(dynamic)) as u32 };
    let from_dynamic = (0..dynamic).map(|step| first + reserved + (offset + step) % dynamic);
    let from_static = (1..reserved).map(|step| first + step);
    from_dynamic
        .chain(from_static)
        .map(Ipv4Addr::from)
        .find(|address| !is_taken(ctx, draft, *address))
        .map(|address| address.to_string())
        .ok_or_else(|| "failed to allocate a serviceIP: range is full".to_owned())
}

fn allocate_node_ports(ctx: &mut Context, draft: &mut Draft, errors: &mut Errors) {
    let range = ctx.cluster.node_ports.clone();
    let (low, high) = (i64::from(*range.start()), i64::from(*range.end()));
    // One number may serve several protocols, so what is taken is a pair.
    let mut taken: BTreeSet<(i64, String)> = BTreeSet::new();
    for service in others(ctx, draft, &["NodePort", "LoadBalancer"]) {
        let spec = service.spec.iter();
        for port in spec.flat_map(|spec| spec.ports.iter().flatten()) {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            taken.extend(port.node_port.map(|number| (i64::from(number), protocol)));
        }
        let health = service.spec.as_ref().and_then(|spec| spec.health_check_node_port);
        taken.extend(health.filter(|n| *n != 0).map(|number| (i64::from(number), "TCP".to_owned())));
    }
    let kept: BTreeSet<i64> = ports(&draft.old_value["spec"]).filter_map(|port| port["nodePort"].as_i64()).collect();
    let Some(list) = draft.new["spec"]["ports"].as_array_mut() else { return };
    let protocol = |port: &Value| port["protocol"].as_str().unwrap_or("TCP").to_owned();
    for (index, port) in list.iter_mut().enumerate() {
        let number = port["nodePort"].as_i64().unwrap_or(0);
        if number == 0 {
            continue;
        }
        let at = FieldPath::new("spec").child("ports").index(index).child("nodePort");
        if !(low..=high).contains(&number) && !kept.contains(&number) {
            let why = format!("provided port is not in the valid range. The range of valid ports is {low}-{high}");
            errors.invalid(&at, number, why);
        } else if !taken.insert((number, protocol(port))) {
            errors.invalid(&at, number, "provided port is already allocated");
        }
    }
    let size = high - low + 1;
    for (index, port) in list.iter_mut().enumerate() {
        if port["nodePort"].as_i64().unwrap_or(0) != 0 {
            continue;
        }
        let offset = (ctx.ids.next_u64() % size.max(1) as u64) as i64;
        let mut candidates = (0..size).map(|step| low + (offset + step) % size);
        // Free for every protocol, so that a later port of this number stays possible.
        let is_free =
            |number: &i64| ["TCP", "UDP", "SCTP"].iter().all(|p| !taken.contains(&(*number, (*p).to_owned())));
        match candidates.find(is_free) {
            Some(number) => {
                taken.insert((number, protocol(port)));
                port["nodePort"] = json!(number);
            }
            None => {
                let at = FieldPath::new("spec").child("ports").index(index).child("nodePort");
                errors.invalid(&at, 0, "failed to allocate a nodePort: range is full");
            }
        }
    }
}
