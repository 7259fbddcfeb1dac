//! The columns of `kubectl get services` (N-21).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use serde_json::Value;
use stead_api::Object;

use crate::Column;
use crate::check::{list, text};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN, wide};

pub const COLUMNS: &[Column] = &[
    NAME_COLUMN,
    columns::path("Type", "spec.type", "How the Service is reached."),
    columns::text("Cluster-IP", |object, _| of(object, |spec| or_none(text(&spec.cluster_ip))), "Its address."),
    columns::text("External-IP", external, "Addresses outside the cluster."),
    columns::text("Port(s)", |object, _| of(object, ports), "Its ports, with node ports."),
    AGE_COLUMN,
    wide(columns::text("Selector", |object, _| of(object, selector), "Labels of the pods behind it.")),
];

fn or_none(text: &str) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text.to_owned() }
}

fn of(object: &Object, print: fn(&ServiceSpec) -> String) -> Value {
    let service = object.view::<Service>();
    service.spec.as_ref().map_or(String::new(), print).into()
}

fn external(object: &Object, _now: Timestamp) -> Value {
    let service = object.view::<Service>();
    let Some(spec) = &service.spec else { return "<none>".into() };
    let own = list(&spec.external_ips).join(",");
    match text(&spec.type_) {
        "ExternalName" => or_none(text(&spec.external_name)).into(),
        "LoadBalancer" => {
            let ingress = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
            let ingress = ingress.map_or(&[][..], |balancer| list(&balancer.ingress));
            let mut all: Vec<&str> = ingress
                .iter()
                .map(|point| if text(&point.ip).is_empty() { text(&point.hostname) } else { text(&point.ip) })
                .filter(|address| !address.is_empty())
                .collect();
            all.extend(list(&spec.external_ips).iter().map(String::as_str));
            if all.is_empty() { "<pending>".into() } else { all.join(",").into() }
        }
        _ => or_none(&own).into(),
    }
}

/// `80/TCP,443:30443/TCP`.
fn ports(spec: &ServiceSpec) -> String {
    let each = list(&spec.ports).iter().map(|port| match port.node_port.unwrap_or(0) {
        0 => format!("{}/{}", port.port, text(&port.protocol)),
        node_port => format!("{}:{node_port}/{}", port.port, text(&port.protocol)),
    });
    or_none(&each.collect::<Vec<_>>().join(","))
}

fn selector(spec: &ServiceSpec) -> String {
    let pairs = spec.selector.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    or_none(&pairs.collect::<Vec<_>>().join(","))
}
