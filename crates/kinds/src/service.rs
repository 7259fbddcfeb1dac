//! Service: defaults, what is carried over on update, and the checks of its declaration (N-01 … N-21).

mod columns;
mod ports;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use serde_json::{Value, json};
use stead_api::Errors;
use stead_api::names::dns1123_subdomain;
use stead_api::object::Fields;

use crate::check::{endpoint_ip, ip, label_map, list, name, one_of, text};
use crate::fill::{each, object, object_or_new, put, set, set_number, set_text};
use crate::names::{self, names};
use crate::path::Path;
use crate::{Behavior, Hooks, Kind, Subresource};

pub const SERVICE: Kind = Kind {
    short: &["svc"],
    categories: &["all"],
    name_rule: names::dns1123_label,
    create_on_update: true,
    subresources: &[Subresource::Status, Subresource::Named("proxy")],
    fields: Fields {
        selectable: &["spec.clusterIP", "spec.type"],
        indexed: &["spec.clusterIP", "spec.type"],
        labels_indexed: false,
        ..Fields::NONE
    },
    columns: columns::COLUMNS,
    hooks: Hooks::of::<Service>(),
    ..Kind::plain("services", "", "v1", names!("Service", "service", "services"), "io.k8s.api.core.v1.Service")
};

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
/// How long a client stays with one pod when it asks for affinity and names no time (N-08).
const AFFINITY_SECONDS: i64 = 10_800;
const AFFINITY_SECONDS_MAX: i32 = 86_400;
const NONE: &str = "None";

fn field<'a>(spec: &'a Value, name: &str) -> &'a str {
    spec.get(name).and_then(Value::as_str).unwrap_or("")
}

impl Behavior for Service {
    fn default(new: &mut Value) {
        if let Some(spec) = object_or_new(new, "spec") {
            default_spec(spec);
        }
        if let Some(status) = object_or_new(new, "status") {
            object_or_new(status, "loadBalancer");
        }
    }

    /// What the server gave a Service stays with it when a client leaves it out, and goes when the type no longer has it (N-04).
    fn prepare(new: &mut Value, old: Option<&Value>) {
        let Some(spec) = object_or_new(new, "spec") else { return };
        let Some(old) = old.and_then(|old| old.get("spec")) else { return };
        drop_what_the_type_lost(spec, old);
        carry_over(spec, old);
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let at = Path::root("spec");
        let empty = ServiceSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&empty);
        let old = old.and_then(|old| old.spec.as_ref());
        if old == Some(spec) {
            return;
        }
        validate_spec(at, spec, errors);
        if let Some(old) = old {
            validate_update(at, spec, old, errors);
        }
    }

    fn warn(&self, _old: Option<&Self>) -> Vec<String> {
        let Some(spec) = &self.spec else { return Vec::new() };
        let mut warnings = Vec::new();
        if text(&spec.cluster_ip) == NONE && text(&spec.session_affinity) == "ClientIP" {
            warnings.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
        if text(&spec.type_) == "ExternalName" && !list(&spec.external_ips).is_empty() {
            warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
        }
        if text(&spec.type_) != "ExternalName" && !text(&spec.external_name).is_empty() {
            warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
        }
        warnings
    }
}

fn default_spec(spec: &mut Value) {
    set_text(spec, "sessionAffinity", NONE);
    set_text(spec, "type", "ClusterIP");
    if field(spec, "sessionAffinity") == "ClientIP"
        && let Some(config) = object_or_new(spec, "sessionAffinityConfig")
        && let Some(client) = object_or_new(config, "clientIP")
    {
        set(client, "timeoutSeconds", AFFINITY_SECONDS);
    }
    if field(spec, "sessionAffinity") == NONE {
        put(spec, "sessionAffinityConfig", None);
    }
    for port in each(spec, "ports") {
        set_text(port, "protocol", "TCP");
        let same = port.get("port").cloned().unwrap_or_default();
        if port.get("targetPort").is_none_or(|target| target.is_null() || *target == 0 || target == "") {
            put(port, "targetPort", Some(same));
        }
    }
    let has_external_ips = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty());
    let r#type = field(spec, "type").to_owned();
    if matches!(r#type.as_str(), "NodePort" | "LoadBalancer") || (r#type == "ClusterIP" && has_external_ips) {
        set_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(r#type.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        set(spec, "internalTrafficPolicy", "Cluster");
        pair_addresses(spec);
        default_families(spec);
    }
    if r#type == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
    }
}

/// `clusterIP` is the first of `clusterIPs`.
fn pair_addresses(spec: &mut Value) {
    let first = spec.get("clusterIPs").and_then(|all| all.get(0)).and_then(Value::as_str).map(str::to_owned);
    let one = field(spec, "clusterIP").to_owned();
    match (one.as_str(), first) {
        ("", Some(first)) => put(spec, "clusterIP", Some(first.into())),
        (one, None) if !one.is_empty() => put(spec, "clusterIPs", Some(json!([one]))),
        _ => {}
    }
}

/// One family, but both for a headless Service whose endpoints are made by hand (N-19).
fn default_families(spec: &mut Value) {
    let has_selector = object(spec, "selector").is_some_and(|s| s.as_object().is_some_and(|map| !map.is_empty()));
    let is_v6 = field(spec, "clusterIP").contains(':');
    let is_unset = field(spec, "ipFamilyPolicy").is_empty();
    if field(spec, "clusterIP") == NONE && !has_selector && is_unset && spec.get("ipFamilies").is_none() {
        put(spec, "ipFamilies", Some(json!(["IPv4", "IPv6"])));
        put(spec, "ipFamilyPolicy", Some("RequireDualStack".into()));
        return;
    }
    set_text(spec, "ipFamilyPolicy", "SingleStack");
    if spec.get("ipFamilies").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        put(spec, "ipFamilies", Some(json!([if is_v6 { "IPv6" } else { "IPv4" }])));
    }
}

fn needs_address(spec: &Value) -> bool {
    field(spec, "type") != "ExternalName"
}

fn needs_node_port(spec: &Value) -> bool {
    match field(spec, "type") {
        "NodePort" => true,
        "LoadBalancer" => spec.get("allocateLoadBalancerNodePorts") != Some(&Value::Bool(false)),
        _ => false,
    }
}

fn ports_of(spec: &Value) -> impl Iterator<Item = &Value> {
    spec.get("ports").and_then(Value::as_array).into_iter().flatten()
}

fn number(port: &Value, name: &str) -> i64 {
    port.get(name).and_then(Value::as_i64).unwrap_or(0)
}

/// A changed type takes away what it does not have, when the client has only left it as it was.
fn drop_what_the_type_lost(spec: &mut Value, old: &Value) {
    if needs_address(old) && !needs_address(spec) && field(spec, "clusterIP") == field(old, "clusterIP") {
        for lost in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            put(spec, lost, None);
        }
    }
    if needs_node_port(old) && !needs_node_port(spec) {
        let had: Vec<i64> = ports_of(old).map(|port| number(port, "nodePort")).collect();
        for port in each(spec, "ports") {
            if had.contains(&number(port, "nodePort")) {
                put(port, "nodePort", None);
            }
        }
    }
    let is_external = |spec: &Value| matches!(field(spec, "type"), "NodePort" | "LoadBalancer");
    let has_external_ips = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty());
    if is_external(old) && !is_external(spec) && !has_external_ips {
        put(spec, "externalTrafficPolicy", None);
    }
    if field(old, "type") == "LoadBalancer" && field(spec, "type") != "LoadBalancer" {
        put(spec, "allocateLoadBalancerNodePorts", None);
        put(spec, "loadBalancerClass", None);
    }
    if field(old, "type") == "ExternalName" && field(spec, "type") != "ExternalName" {
        let same = field(spec, "externalName") == field(old, "externalName");
        if same {
            put(spec, "externalName", None);
        }
    }
}

fn carry_over(spec: &mut Value, old: &Value) {
    if needs_address(old) && needs_address(spec) {
        if field(spec, "clusterIP").is_empty() {
            put(spec, "clusterIP", old.get("clusterIP").cloned());
            put(spec, "clusterIPs", old.get("clusterIPs").cloned());
        }
        for kept in ["ipFamilies", "ipFamilyPolicy"] {
            if let Some(value) = old.get(kept) {
                set(spec, kept, value.clone());
            }
        }
    }
    if needs_node_port(old) && needs_node_port(spec) {
        let taken: Vec<i64> = each(spec, "ports").map(|port| number(port, "nodePort")).filter(|p| *p != 0).collect();
        for port in each(spec, "ports") {
            let twin = ports_of(old).find(|before| {
                number(before, "port") == number(port, "port") && field(before, "protocol") == field(port, "protocol")
            });
            let kept = twin.map_or(0, |before| number(before, "nodePort"));
            if kept != 0 && !taken.contains(&kept) {
                set_number(port, "nodePort", kept);
            }
        }
    }
    let has_health_port =
        |spec: &Value| field(spec, "type") == "LoadBalancer" && field(spec, "externalTrafficPolicy") == "Local";
    if has_health_port(old)
        && has_health_port(spec)
        && let Some(port) = old.get("healthCheckNodePort")
    {
        set(spec, "healthCheckNodePort", port.clone());
    }
}

fn validate_spec(at: Path, spec: &ServiceSpec, errors: &mut Errors) {
    let r#type = text(&spec.type_);
    let is_headless = text(&spec.cluster_ip) == NONE;
    if list(&spec.ports).is_empty() && !is_headless && r#type != "ExternalName" {
        at.child("ports").required(errors, "");
    }
    one_of(at.child("type"), r#type, TYPES, false, errors);
    match r#type {
        "LoadBalancer" | "NodePort" if is_headless => {
            let detail = format!("may not be set to 'None' for {type} services");
            at.child("clusterIPs").index(0).invalid(errors, NONE, detail);
        }
        "ExternalName" => {
            if list(&spec.cluster_ips).iter().any(|address| !address.is_empty()) {
                at.child("clusterIPs").forbidden(errors, "may not be set for ExternalName services");
            }
            let host = text(&spec.external_name);
            let host = host.strip_suffix('.').unwrap_or(host);
            match host {
                "" => at.child("externalName").required(errors, ""),
                _ => name(at.child("externalName"), host, dns1123_subdomain, errors),
            }
        }
        _ => {}
    }
    ports::validate(at.child("ports"), spec, is_headless, errors);
    label_map(at.child("selector"), spec.selector.as_ref(), errors);
    validate_affinity(at, spec, errors);
    validate_addresses(at, spec, errors);
    validate_policies(at, spec, errors);
}

fn validate_affinity(at: Path, spec: &ServiceSpec, errors: &mut Errors) {
    one_of(at.child("sessionAffinity"), text(&spec.session_affinity), &["ClientIP", "None"], false, errors);
    let config_at = at.child("sessionAffinityConfig");
    let seconds = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    match (text(&spec.session_affinity), &spec.session_affinity_config) {
        (NONE, Some(_)) => {
            config_at.forbidden(errors, "must not be set when session affinity is None");
        }
        ("ClientIP", _) => match seconds {
            None => config_at.required(errors, "when session affinity type is ClientIP"),
            Some(seconds) if !(1..=AFFINITY_SECONDS_MAX).contains(&seconds) => {
                let detail = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
                config_at.child("clientIP").child("timeoutSeconds").invalid(errors, seconds, detail);
            }
            Some(_) => {}
        },
        _ => {}
    }
}

fn validate_addresses(at: Path, spec: &ServiceSpec, errors: &mut Errors) {
    let all = list(&spec.cluster_ips);
    let ips_at = at.child("clusterIPs");
    let one = text(&spec.cluster_ip);
    if let Some(first) = all.first()
        && first != one
    {
        ips_at.invalid(errors, json!(all), "first value must match `clusterIP`");
    }
    if all.len() > 2 {
        ips_at.invalid(errors, json!(all), "may only hold up to 2 values");
    }
    for (index, address) in all.iter().enumerate() {
        match address.as_str() {
            NONE if all.len() > 1 => ips_at.invalid(errors, json!(all), "'None' must be the first and only value"),
            NONE | "" => {}
            address => ip(ips_at.index(index), address, errors),
        }
    }
    for (index, address) in list(&spec.external_ips).iter().enumerate() {
        endpoint_ip(at.child("externalIPs").index(index), address, errors);
    }
    let families = list(&spec.ip_families);
    for (index, family) in families.iter().enumerate() {
        let all = at.child("ipFamilies");
        one_of(all.index(index), family, &["IPv4", "IPv6"], false, errors);
        if families[..index].contains(family) {
            all.index(index).duplicate(errors, family.as_str());
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    one_of(at.child("ipFamilyPolicy"), text(&spec.ip_family_policy), &policies, true, errors);
}

fn validate_policies(at: Path, spec: &ServiceSpec, errors: &mut Errors) {
    let r#type = text(&spec.type_);
    let external = text(&spec.external_traffic_policy);
    let is_external = matches!(r#type, "NodePort" | "LoadBalancer")
        || (r#type == "ClusterIP" && !list(&spec.external_ips).is_empty());
    if is_external {
        one_of(at.child("externalTrafficPolicy"), external, &["Cluster", "Local"], false, errors);
    } else if !external.is_empty() {
        let detail = "may only be set for externally-accessible services";
        at.child("externalTrafficPolicy").invalid(errors, external, detail);
    }
    if r#type != "ExternalName" {
        let internal = text(&spec.internal_traffic_policy);
        one_of(at.child("internalTrafficPolicy"), internal, &["Cluster", "Local"], false, errors);
    }
    validate_ranges(at.child("loadBalancerSourceRanges"), list(&spec.load_balancer_source_ranges), errors);
    let distributions = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    one_of(at.child("trafficDistribution"), text(&spec.traffic_distribution), &distributions, true, errors);
    if r#type != "LoadBalancer" {
        for (field, is_set) in [
            ("loadBalancerClass", spec.load_balancer_class.is_some()),
            ("allocateLoadBalancerNodePorts", spec.allocate_load_balancer_node_ports.is_some()),
            ("loadBalancerSourceRanges", !list(&spec.load_balancer_source_ranges).is_empty()),
        ] {
            if is_set {
                at.child(field).forbidden(errors, "may only be used when `type` is 'LoadBalancer'");
            }
        }
    }
    let health = spec.health_check_node_port.unwrap_or(0);
    if health < 0 {
        at.child("healthCheckNodePort").invalid(errors, health, "must be greater than or equal to 0");
    }
    if health != 0 && !(r#type == "LoadBalancer" && external == "Local") {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        at.child("healthCheckNodePort").invalid(errors, health, detail);
    }
}

/// Networks from which a load balancer takes connections.
fn validate_ranges(at: Path, ranges: &[String], errors: &mut Errors) {
    for (index, range) in ranges.iter().enumerate() {
        if !crate::check::is_cidr(range.trim()) {
            let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            at.index(index).invalid(errors, range.trim(), detail);
        }
    }
}

/// An address is for life, but for the change to and from ExternalName (N-04).
fn validate_update(at: Path, new: &ServiceSpec, old: &ServiceSpec, errors: &mut Errors) {
    let has_address = |spec: &ServiceSpec| text(&spec.type_) != "ExternalName" && !text(&spec.cluster_ip).is_empty();
    if has_address(old) && has_address(new) && new.cluster_ip != old.cluster_ip {
        at.child("clusterIPs").index(0).invalid(errors, json!(list(&new.cluster_ips)), "may not change once set");
    }
    let is_balancer = |spec: &ServiceSpec| text(&spec.type_) == "LoadBalancer";
    if is_balancer(old) && is_balancer(new) && new.load_balancer_class != old.load_balancer_class {
        let class = text(&new.load_balancer_class);
        at.child("loadBalancerClass").invalid(errors, class, "may not change once set");
    }
}

#[cfg(test)]
mod tests;
