//! Checks of a Service's ports (N-03, N-05).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ServiceSpec;
use serde_json::json;
use stead_api::Errors;
use stead_api::names::{dns1123_label, qualified_name};

use crate::check::{list, name, one_of, port, port_number, text};
use crate::path::Path;

const KUBELET_PORT: i32 = 10250;

pub fn validate(at: Path, spec: &ServiceSpec, is_headless: bool, errors: &mut Errors) {
    let ports = list(&spec.ports);
    let (mut names, mut numbers, mut node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (index, found) in ports.iter().enumerate() {
        let at = at.index(index);
        let (label, protocol) = (text(&found.name), text(&found.protocol));
        match label {
            "" if ports.len() > 1 => at.child("name").required(errors, ""),
            "" => {}
            label => {
                name(at.child("name"), label, dns1123_label, errors);
                if !names.insert(label) {
                    at.child("name").duplicate(errors, label);
                }
            }
        }
        port_number(at.child("port"), found.port.into(), errors);
        one_of(at.child("protocol"), protocol, &["SCTP", "TCP", "UDP"], false, errors);
        if let Some(target) = found.target_port.as_ref().filter(|_| !is_headless) {
            port(at.child("targetPort"), target, errors);
        }
        name(at.child("appProtocol"), text(&found.app_protocol), qualified_name, errors);
        if !numbers.insert((protocol, found.port)) {
            at.duplicate(errors, json!({"protocol": protocol, "port": found.port}));
        }
        if text(&spec.type_) == "LoadBalancer" && found.port == KUBELET_PORT {
            let detail = format!("may not expose port {KUBELET_PORT} externally since it is used by kubelet");
            at.invalid(errors, found.port, detail);
        }
        let node_port = found.node_port.unwrap_or(0);
        if node_port == 0 {
            continue;
        }
        let r#type = text(&spec.type_);
        if matches!(r#type, "ClusterIP" | "ExternalName") {
            let detail = format!("may not be used when `type` is '{type}'");
            at.child("nodePort").forbidden(errors, detail);
        }
        if !node_ports.insert((protocol, node_port)) {
            at.child("nodePort").duplicate(errors, node_port);
        }
    }
}
