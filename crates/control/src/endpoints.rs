//! Service + pods → the Endpoints object of old clients (N-16).
//!
//! Deprecated upstream but still made and tested there: ready addresses and others, grouped by ports. At most 1000 addresses.
//! Upstream: pkg/controller/endpoint.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service, ServiceSpec};
use serde_json::{Value, json};
use stead_api::{Key, Object};

use crate::endpointslice::{
    HEADLESS_LABEL, addresses, hostname, is_managed, pods, services_of_pod, target_port, target_reference,
};
use crate::facts;
use crate::names::{ENDPOINTS, POD, SERVICE};
use crate::plan::{Controller, Plan, Settles, View, Watch};

const ADDRESSES_MAX: usize = 1000;
/// Objects of more addresses than this are written at most once a second: a change of one pod writes them whole.
const ADDRESSES_AT_ONCE_MAX: usize = 50;
const WRITE_SECONDS: i64 = 1;
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const MANAGED_BY_LABEL: &str = "endpoints.kubernetes.io/managed-by";

pub const CONTROLLER: Controller = Controller {
    name: "endpoint-controller",
    settles: Settles::Always,
    watches: &[
        Watch { kind: SERVICE, keys: |_, event| vec![event.key().clone()] },
        Watch { kind: POD, keys: services_of_pod },
        Watch { kind: ENDPOINTS, keys: |_, event| vec![Key::new(SERVICE, &event.key().namespace, &event.key().name)] },
    ],
    reconcile,
};

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let existing = view.get(ENDPOINTS, &key.namespace, &key.name);
    let service = view.snapshot.get(key).filter(|service| !service.meta.is_deleting());
    let typed = service.map(|service| service.view::<Service>());
    let spec = typed.as_ref().and_then(|t| t.spec.as_ref()).filter(|spec| is_managed(spec));
    let (Some(service), Some(spec)) = (service, spec) else {
        if let Some(existing) = existing.filter(|e| service.is_none() && e.meta.label(MANAGED_BY_LABEL).is_some()) {
            plan.delete(existing);
        }
        return plan;
    };
    let subsets = subsets(view, service, spec);
    let mut labels: BTreeMap<&str, &str> = service.meta.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    labels.insert(MANAGED_BY_LABEL, "endpoint-controller");
    if spec.cluster_ip.as_deref() == Some("None") {
        labels.insert(HEADLESS_LABEL, "");
    }
    match existing {
        None => plan.create(
            ENDPOINTS,
            json!({"apiVersion": "v1", "kind": "Endpoints",
                "metadata": {"name": &*key.name, "namespace": &*key.namespace, "labels": labels}, "subsets": subsets}),
        ),
        Some(existing) => {
            let mut value = existing.value();
            let same = facts::list(&value["subsets"]) == subsets && value["metadata"]["labels"] == json!(labels);
            let is_large = pods(view, service, spec).len() > ADDRESSES_AT_ONCE_MAX;
            let written = existing.meta.annotation(TRIGGER_TIME).and_then(|at| at.parse::<Timestamp>().ok());
            let ready = written.map(|at| facts::after(at, WRITE_SECONDS)).filter(|at| is_large && *at > view.now);
            if let Some(ready) = ready.filter(|_| !same) {
                plan.wake(ready);
            } else if !same {
                if is_large {
                    value["metadata"]["annotations"][TRIGGER_TIME] = json!(view.now.to_string());
                }
                value["metadata"]["labels"] = json!(labels);
                value["subsets"] = json!(subsets);
                plan.update(ENDPOINTS, value);
            }
        }
    }
    plan
}

#[derive(Default)]
struct Subset {
    ready: BTreeMap<std::net::IpAddr, Value>,
    not_ready: BTreeMap<std::net::IpAddr, Value>,
    ports: Vec<Value>,
}

fn subsets(view: &View, service: &Object, spec: &ServiceSpec) -> Vec<Value> {
    let publishes = spec.publish_not_ready_addresses == Some(true);
    let is_v6 = spec.ip_families.iter().flatten().next().is_some_and(|family| family == "IPv6");
    let mut groups: BTreeMap<String, Subset> = BTreeMap::new();
    let candidates = pods(view, service, spec).into_iter().filter(|(o, _)| publishes || !o.meta.is_deleting());
    for (object, pod) in candidates.take(ADDRESSES_MAX) {
        let Some(address) = addresses(&pod).into_iter().find(|ip| ip.is_ipv6() == is_v6) else { continue };
        let ports: Vec<Value> = spec
            .ports
            .iter()
            .flatten()
            .filter_map(|port| {
                let mut value =
                    json!({"port": target_port(port, &pod)?, "protocol": port.protocol.as_deref().unwrap_or("TCP")});
                if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
                    value["name"] = json!(name);
                }
                Some(value)
            })
            .collect();
        if ports.is_empty() && spec.ports.iter().flatten().next().is_some() {
            continue;
        }
        let subset = groups.entry(json!(ports).to_string()).or_default();
        subset.ports = ports;
        let list = if publishes || facts::is_ready(&pod) { &mut subset.ready } else { &mut subset.not_ready };
        list.insert(address, entry(service, object, &pod, &address.to_string()));
    }
    groups.into_values().map(Subset::into_value).collect()
}

fn entry(service: &Object, object: &Object, pod: &Pod, address: &str) -> Value {
    let mut value = json!({"ip": address});
    if let Some(hostname) = hostname(service, pod) {
        value["hostname"] = json!(hostname);
    }
    if let Some(node) = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).filter(|n| !n.is_empty()) {
        value["nodeName"] = json!(node);
    }
    value["targetRef"] = target_reference(object);
    value
}

impl Subset {
    fn into_value(self) -> Value {
        let mut value = json!({});
        for (field, list) in [("addresses", self.ready), ("notReadyAddresses", self.not_ready)] {
            if !list.is_empty() {
                value[field] = list.into_values().collect();
            }
        }
        if !self.ports.is_empty() {
            value["ports"] = json!(self.ports);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::fixture::World;
    use crate::plan::Action;

    #[test]
    fn ready_and_other_addresses_are_listed_apart() {
        let world = World::of(
            "svc web\n pod web-0 ready ip=10.244.0.9\n pod web-1 running ip=10.244.0.8\n pod web-2 ready deleting ip=10.244.0.7",
        );
        let plan = reconcile(&world.view(), &Key::new(SERVICE, "default", "web"));
        let Some(Action::Create { value, .. }) = plan.actions.into_iter().next() else { panic!("no endpoints") };
        expect![[r#"[{"addresses":[{"ip":"10.244.0.9","targetRef":{"kind":"Pod","namespace":"default","name":"web-0","uid":"pod-web-0"}}],"notReadyAddresses":[{"ip":"10.244.0.8","targetRef":{"kind":"Pod","namespace":"default","name":"web-1","uid":"pod-web-1"}}],"ports":[{"port":8080,"protocol":"TCP","name":"http"}]}]"#]]
        .assert_eq(&value["subsets"].to_string());
    }
}
