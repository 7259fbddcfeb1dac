//! Service + pods → EndpointSlices.
//!
//! Rows D-11 (hostnames), D-12 and D-13 (conditions), D-14 (who is an endpoint), D-18 (no ports), N-12 (hints), N-16 (100 a slice).
//! Services without a selector (the `kubernetes` Service among them) and ExternalName Services are left to whoever made them.
//!
//! Guarantees: an endpoint stays in its slice as long as it exists, so one pod's change writes one slice; names are a function of the
//! service and a number; a Service with a selector always has a slice per address family, empty at worst.
//! Upstream: pkg/controller/endpointslice and staging endpointslice/reconciler.go.

pub mod mirror;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};
use stead_api::{Key, LabelSelector, Object};
use stead_store::Event;

use crate::facts;
use crate::names::{ENDPOINT_SLICE, NODE, POD, SERVICE};
use crate::plan::{Controller, Plan, Settles, View, Watch};
use crate::statefulset::Fnv32;

pub const ENDPOINTS_PER_SLICE_MAX: usize = 100;
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGED_BY: &str = "endpointslice-controller.k8s.io";
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

pub const CONTROLLER: Controller = Controller {
    name: "endpointslice-controller",
    settles: Settles::Always,
    watches: &[
        Watch { kind: SERVICE, keys: |_, event| vec![event.key().clone()] },
        Watch { kind: POD, keys: services_of_pod },
        Watch { kind: ENDPOINT_SLICE, keys: service_of_slice },
    ],
    reconcile,
};

/// The Services that select a pod before or after a change that endpoints show.
pub fn services_of_pod(view: &View, event: &Event) -> Vec<Key> {
    let pod = &event.object;
    let same = |old: &Arc<Object>| {
        let (a, b) = (old.view::<Pod>(), pod.view::<Pod>());
        let ips = |p: &Pod| p.status.as_ref().map(|s| (s.pod_ip.clone(), s.pod_ips.clone()));
        let place = |p: &Pod| p.spec.as_ref().map(|s| (s.node_name.clone(), s.hostname.clone(), s.subdomain.clone()));
        facts::is_ready(&a) == facts::is_ready(&b)
            && facts::is_finished(&a) == facts::is_finished(&b)
            && ips(&a) == ips(&b)
            && place(&a) == place(&b)
            && old.meta.labels == pod.meta.labels
            && old.meta.is_deleting() == pod.meta.is_deleting()
    };
    if !event.deleted && event.old.as_ref().is_some_and(same) {
        return Vec::new();
    }
    let selects = |service: &&Arc<Object>| {
        let typed = service.view::<Service>();
        let selector = typed.spec.as_ref().and_then(|s| s.selector.as_ref()).filter(|s| !s.is_empty());
        selector.is_some_and(|selector| {
            let matches = |o: &Arc<Object>| selector.iter().all(|(k, v)| o.meta.label(k) == Some(v));
            matches(pod) || event.old.as_ref().is_some_and(matches)
        })
    };
    view.snapshot.list(SERVICE, &pod.key.namespace).filter(selects).map(|service| service.key.clone()).collect()
}

fn service_of_slice(_view: &View, event: &Event) -> Vec<Key> {
    let slice = &event.object;
    let is_ours = slice.meta.label(MANAGED_BY_LABEL) == Some(MANAGED_BY);
    let service = slice.meta.label(SERVICE_NAME_LABEL).filter(|_| is_ours);
    service.map(|name| Key::new(SERVICE, &slice.key.namespace, name)).into_iter().collect()
}

/// The pods that may be endpoints of a Service: they have an address and may still serve (D-14).
pub fn pods<'a>(view: &View<'a>, service: &Object, spec: &ServiceSpec) -> Vec<(&'a Arc<Object>, Arc<Pod>)> {
    let Some(selector) = &spec.selector else { return Vec::new() };
    let selector = LabelSelector::from_labels(selector);
    let pods = facts::select(view, POD, &service.key.namespace, &selector).into_iter();
    pods.map(|object| (object, object.view::<Pod>()))
        .filter(|(_, pod)| !facts::is_finished(pod) && !addresses(pod).is_empty())
        .collect()
}

pub fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let first = status.pod_ip.as_deref().filter(|_| status.pod_ips.as_ref().is_none_or(Vec::is_empty));
    all.chain(first).filter_map(|ip| ip.parse().ok()).collect()
}

/// Whether controllers fill in this Service's endpoints.
pub fn is_managed(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() != Some("ExternalName") && spec.selector.as_ref().is_some_and(|s| !s.is_empty())
}

/// The number of a Service's target port on a pod; None when the pod has no port of that name.
pub fn target_port(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            // Sidecars may serve too.
            let sidecars =
                spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
            let containers = spec.containers.iter().chain(sidecars);
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let is_it = |p: &&k8s_openapi::api::core::v1::ContainerPort| {
                p.name.as_deref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol
            };
            containers.flat_map(|c| c.ports.iter().flatten()).find(is_it).map(|p| p.container_port)
        }
    }
}

/// The hostname that an endpoint gets: the pod names this Service as its subdomain (D-11).
pub fn hostname<'p>(service: &Object, pod: &'p Pod) -> Option<&'p str> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_deref().filter(|name| !name.is_empty())?;
    (spec.subdomain.as_deref() == Some(&*service.key.name)).then_some(hostname)
}

pub fn target_reference(pod: &Object) -> Value {
    json!({"kind": "Pod", "namespace": &*pod.key.namespace, "name": &*pod.key.name, "uid": pod.meta.uid})
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let selector =
        [(SERVICE_NAME_LABEL.to_owned(), key.name.to_string()), (MANAGED_BY_LABEL.into(), MANAGED_BY.into())];
    let selector = LabelSelector::from_labels(selector.iter().map(|(k, v)| (k, v)));
    let slices = facts::select(view, ENDPOINT_SLICE, &key.namespace, &selector);
    let service = view.snapshot.get(key).filter(|service| !service.meta.is_deleting());
    let typed = service.map(|service| service.view::<Service>());
    let spec = typed.as_ref().and_then(|t| t.spec.as_ref()).filter(|spec| is_managed(spec));
    let (Some(service), Some(spec)) = (service, spec) else {
        // A Service that lost its selector keeps its slices: they are the user's now.
        if service.is_none() {
            slices.iter().for_each(|slice| plan.delete(slice));
        }
        return plan;
    };
    let families = spec.ip_families.clone().filter(|f| !f.is_empty()).unwrap_or_else(|| vec!["IPv4".into()]);
    let pods = pods(view, service, spec);
    let mut existing: Vec<Existing> = slices.iter().map(|slice| Existing::of(slice)).collect();
    for family in &families {
        let groups = endpoints_by_ports(view, service, spec, &pods, family == "IPv6");
        let (of_family, others): (Vec<_>, Vec<_>) =
            existing.into_iter().partition(|slice| slice.value["addressType"] == **family);
        existing = others;
        Writer { view, service, spec, family, plan: &mut plan }.write(groups, of_family);
    }
    existing.iter().for_each(|slice| plan.delete(slice.object));
    plan
}

/// Endpoints by the uid of their pod, grouped by what the Service's ports are on the pod (they differ when ports are named).
type Groups = BTreeMap<String, BTreeMap<String, Value>>;

fn endpoints_by_ports(
    view: &View,
    service: &Object,
    spec: &ServiceSpec,
    pods: &[(&Arc<Object>, Arc<Pod>)],
    is_v6: bool,
) -> Groups {
    let mut groups = Groups::new();
    for (object, pod) in pods {
        let Some(address) = addresses(pod).into_iter().find(|ip| ip.is_ipv6() == is_v6) else { continue };
        let ports: Vec<Value> = spec.ports.iter().flatten().filter_map(|port| slice_port(port, pod)).collect();
        let endpoint = endpoint(view, service, spec, object, pod, address);
        groups.entry(json!(ports).to_string()).or_default().insert(object.meta.uid.clone(), endpoint);
    }
    groups
}

fn slice_port(port: &ServicePort, pod: &Pod) -> Option<Value> {
    let number = target_port(port, pod)?;
    let mut value = json!({"name": port.name.as_deref().unwrap_or_default(),
        "protocol": port.protocol.as_deref().unwrap_or("TCP"), "port": number});
    if let Some(protocol) = &port.app_protocol {
        value["appProtocol"] = json!(protocol);
    }
    Some(value)
}

fn endpoint(view: &View, service: &Object, spec: &ServiceSpec, object: &Object, pod: &Pod, address: IpAddr) -> Value {
    let serving = facts::is_ready(pod);
    let terminating = object.meta.is_deleting();
    let ready = spec.publish_not_ready_addresses == Some(true) || (serving && !terminating);
    let mut value = json!({"addresses": [address.to_string()],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": target_reference(object)});
    if let Some(hostname) = hostname(service, pod) {
        value["hostname"] = json!(hostname);
    }
    let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default();
    if !node.is_empty() {
        value["nodeName"] = json!(node);
    }
    let zone = view.get(NODE, "", node).and_then(|node| node.meta.label(ZONE_LABEL));
    if let Some(zone) = zone {
        value["zone"] = json!(zone);
    }
    let mut hints = json!({});
    let prefers = spec.traffic_distribution.as_deref().unwrap_or_default();
    if let Some(zone) = zone.filter(|_| !prefers.is_empty()) {
        hints["forZones"] = json!([{"name": zone}]);
    }
    if prefers == "PreferSameNode" && !node.is_empty() {
        hints["forNodes"] = json!([{"name": node}]);
    }
    if hints != json!({}) {
        value["hints"] = hints;
    }
    value
}

/// A slice that is there, with its JSON.
struct Existing<'a> {
    object: &'a Arc<Object>,
    value: Value,
}

impl<'a> Existing<'a> {
    fn of(object: &'a Arc<Object>) -> Existing<'a> {
        Existing { object, value: object.value() }
    }

    fn ports(&self) -> String {
        match &self.value["ports"] {
            Value::Null => "[]".into(),
            ports => ports.to_string(),
        }
    }

    fn is_empty(&self) -> bool {
        facts::list(&self.value["endpoints"]).is_empty()
    }
}

struct Writer<'w, 'v> {
    view: &'w View<'v>,
    service: &'w Object,
    spec: &'w ServiceSpec,
    family: &'w str,
    plan: &'w mut Plan,
}

impl Writer<'_, '_> {
    fn write(&mut self, groups: Groups, mut existing: Vec<Existing>) {
        let mut created = 0;
        if groups.is_empty() {
            // A placeholder says that the Service has nobody.
            match existing.is_empty() {
                true => self.create("[]", Vec::new(), &mut created),
                false => self.update(&existing.swap_remove(0), None, Vec::new()),
            }
        }
        for (ports, mut endpoints) in groups {
            // Slices of the same ports first, then empty ones, which any group may take.
            let (mut mine, rest): (Vec<_>, Vec<_>) = existing.into_iter().partition(|s| s.ports() == ports);
            let (spare, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(Existing::is_empty);
            existing = others;
            mine.extend(spare);
            let mut kept: Vec<Vec<Value>> = mine
                .iter()
                .map(|slice| {
                    let uids =
                        facts::list(&slice.value["endpoints"]).iter().filter_map(|e| e["targetRef"]["uid"].as_str());
                    uids.filter_map(|uid| endpoints.remove(uid)).collect()
                })
                .collect();
            let mut new = endpoints.into_values();
            for list in &mut kept {
                let room = ENDPOINTS_PER_SLICE_MAX.saturating_sub(list.len());
                list.extend(new.by_ref().take(room));
            }
            for (slice, list) in mine.into_iter().zip(kept) {
                match list.is_empty() {
                    true => existing.push(slice),
                    false => self.update(&slice, Some(&ports), list),
                }
            }
            let mut rest: Vec<Value> = new.collect();
            while !rest.is_empty() {
                let tail = rest.split_off(rest.len().min(ENDPOINTS_PER_SLICE_MAX));
                self.create(&ports, std::mem::replace(&mut rest, tail), &mut created);
            }
        }
        for slice in existing {
            self.plan.delete(slice.object);
        }
    }

    fn labels(&self) -> Value {
        let mut labels: BTreeMap<&str, &str> =
            self.service.meta.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        labels.insert(SERVICE_NAME_LABEL, &self.service.key.name);
        labels.insert(MANAGED_BY_LABEL, MANAGED_BY);
        if self.spec.cluster_ip.as_deref() == Some("None") {
            labels.insert(HEADLESS_LABEL, "");
        }
        json!(labels)
    }

    fn create(&mut self, ports: &str, endpoints: Vec<Value>, created: &mut u32) {
        let name = loop {
            let name = slice_name(self.service, self.family, *created);
            *created += 1;
            if self.view.get(ENDPOINT_SLICE, &self.service.key.namespace, &name).is_none() {
                break name;
            }
        };
        let ports: Value = serde_json::from_str(ports).unwrap_or_default();
        let value = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": &*self.service.key.namespace, "labels": self.labels(),
                "ownerReferences": [facts::controller_reference("v1", "Service", self.service)]},
            "addressType": self.family, "endpoints": endpoints, "ports": ports});
        self.plan.create(ENDPOINT_SLICE, value);
    }

    fn update(&mut self, slice: &Existing, ports: Option<&str>, endpoints: Vec<Value>) {
        let mut value = slice.value.clone();
        value["metadata"]["labels"] = self.labels();
        value["endpoints"] = json!(endpoints);
        if let Some(ports) = ports.filter(|ports| slice.ports() != **ports) {
            value["ports"] = serde_json::from_str(ports).unwrap_or_default();
        }
        let same = facts::list(&slice.value["endpoints"]) == endpoints
            && value["ports"] == slice.value["ports"]
            && value["metadata"]["labels"] == slice.value["metadata"]["labels"];
        if !same {
            self.plan.update(ENDPOINT_SLICE, value);
        }
    }
}

/// `web-` and five letters that follow from the Service, the family and a number.
fn slice_name(service: &Object, family: &str, number: u32) -> String {
    let mut hash = Fnv32::default();
    for part in [service.meta.uid.as_str(), family, &number.to_string()] {
        hash.write(part.as_bytes());
    }
    let letters: String = hash.safe().chars().rev().take(5).collect();
    format!("{}-{letters}", service.key.name)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::fixture::{World, show};
    use crate::plan::Action;

    fn plan(world: &World) -> Plan {
        reconcile(&world.view(), &Key::new(SERVICE, "default", "web"))
    }

    /// The endpoints of the first slice written.
    fn check(text: &str, expected: Expect) {
        let world = World::of(text);
        let value = plan(&world).actions.into_iter().find_map(|action| match action {
            Action::Create { value, .. } | Action::Update { value, .. } => Some(value),
            _ => None,
        });
        let lines = |value: Value| -> String {
            let endpoints = facts::list(&value["endpoints"]).iter().map(|e| format!("{e}\n"));
            endpoints.chain([format!("ports {}\n", value["ports"])]).collect()
        };
        expected.assert_eq(&value.map(lines).unwrap_or_default());
    }

    const HEADLESS: &str = r#"svc web {"spec":{"clusterIP":"None"}}"#;

    #[test]
    fn a_ready_pod_is_an_endpoint_with_its_hostname_d11_d13() {
        check(
            &format!(
                r#"{HEADLESS}
                   node n label=topology.kubernetes.io/zone:z1
                   pod web-0 ready node=n ip=10.244.0.5 {{"spec":{{"hostname":"web-0","subdomain":"web"}}}}
                   pod web-1 running ip=10.244.0.6
                   pod web-2 ready deleting ip=10.244.0.7
                   pod web-3 phase=Failed ip=10.244.0.8
                   pod web-4 ready"#
            ),
            expect![[r#"
                {"addresses":["10.244.0.5"],"conditions":{"ready":true,"serving":true,"terminating":false},"targetRef":{"kind":"Pod","namespace":"default","name":"web-0","uid":"pod-web-0"},"hostname":"web-0","nodeName":"n","zone":"z1"}
                {"addresses":["10.244.0.6"],"conditions":{"ready":false,"serving":false,"terminating":false},"targetRef":{"kind":"Pod","namespace":"default","name":"web-1","uid":"pod-web-1"}}
                {"addresses":["10.244.0.7"],"conditions":{"ready":false,"serving":true,"terminating":true},"targetRef":{"kind":"Pod","namespace":"default","name":"web-2","uid":"pod-web-2"}}
                ports [{"name":"http","protocol":"TCP","port":8080}]
            "#]],
        );
    }

    #[test]
    fn publish_not_ready_makes_every_endpoint_ready_d12() {
        check(
            r#"svc web {"spec":{"publishNotReadyAddresses":true}}
               pod web-0 running deleting ip=10.244.0.5"#,
            expect![[r#"
                {"addresses":["10.244.0.5"],"conditions":{"ready":true,"serving":false,"terminating":true},"targetRef":{"kind":"Pod","namespace":"default","name":"web-0","uid":"pod-web-0"}}
                ports [{"name":"http","protocol":"TCP","port":8080}]
            "#]],
        );
    }

    #[test]
    fn a_service_without_pods_has_an_empty_slice_and_one_without_selector_none() {
        check(
            HEADLESS,
            expect![[r#"
            ports []
        "#]],
        );
        check(r#"svc web {"spec":{"selector":null}}"#, expect![""]);
        check(r#"svc web {"spec":{"type":"ExternalName"}}"#, expect![""]);
    }

    #[test]
    fn a_hundred_endpoints_a_slice_and_one_change_writes_one_slice_n16() {
        let pods: String = (0..150).map(|n| format!("pod web-{n} ready ip=10.244.1.{n}\n")).collect();
        let mut world = World::of(&format!("{HEADLESS}\n{pods}"));
        let sizes: Vec<usize> = plan(&world)
            .actions
            .iter()
            .map(|action| match action {
                Action::Create { value, .. } => facts::list(&value["endpoints"]).len(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(sizes, [100, 50]);
        for action in plan(&world).actions {
            if let Action::Create { kind, mut value, .. } = action {
                value["metadata"]["uid"] = value["metadata"]["name"].clone();
                world.put(kind, value);
            }
        }
        assert!(plan(&world).is_empty(), "a fixpoint plans nothing: {}", show(&world, &plan(&world)));
        let mut pod = world.view().get(POD, "default", "web-3").expect("a pod").value();
        pod["status"]["conditions"][0]["status"] = json!("False");
        world.put(POD, pod);
        assert_eq!(plan(&world).actions.len(), 1);
    }

    #[test]
    fn named_ports_are_looked_up_in_each_pod_n03() {
        let port = |n: u32| {
            format!(r#"{{"spec":{{"containers":[{{"name":"c","ports":[{{"name":"web","containerPort":{n}}}]}}]}}}}"#)
        };
        let world = World::of(&format!(
            "svc web {{\"spec\":{{\"ports\":[{{\"name\":\"http\",\"port\":80,\"targetPort\":\"web\",\"protocol\":\"TCP\"}}]}}}}\n pod web-0 ready ip=10.244.0.1 {}\n pod web-1 ready ip=10.244.0.2 {}",
            port(81),
            port(82)
        ));
        assert_eq!(plan(&world).actions.len(), 2, "{}", show(&world, &plan(&world)));
    }
}
