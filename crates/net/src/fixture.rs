//! A cluster in a few lines of text, for tests (feature `fixture`): each call is one write to a store.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stead_api::{Key, KindName, Object};
use stead_kinds::Registry;
use stead_store::{Head, Store};

/// A store and the words to fill it.
pub struct Cluster {
    store: Store,
    registry: Registry,
    /// The slices written for each Service.
    slices: BTreeMap<String, usize>,
}

impl Default for Cluster {
    fn default() -> Cluster {
        Cluster::new()
    }
}

impl Cluster {
    pub fn new() -> Cluster {
        let mut cluster = Cluster { store: Store::default(), registry: Registry::with([]), slices: BTreeMap::new() };
        cluster.put("namespaces", "", "default", json!({}));
        cluster
    }

    pub fn head(&self) -> &Head {
        self.store.head()
    }

    pub fn put(&mut self, kind: KindName, namespace: &str, name: &str, body: Value) {
        let mut body = body;
        let meta = &mut body["metadata"];
        meta["name"] = name.into();
        meta["namespace"] = namespace.into();
        meta["resourceVersion"] = self.store.next_revision().to_string().into();
        let object = Object::of_value(Key::new(kind, namespace, name), &body, &self.registry.fields(kind));
        self.store.put(object.expect("the fixture writes objects"));
    }

    pub fn delete(&mut self, kind: KindName, namespace: &str, name: &str) {
        let old = self.store.snapshot().find(kind, namespace, name).expect("it exists").value();
        let mut last = old;
        last["metadata"]["resourceVersion"] = self.store.next_revision().to_string().into();
        let object = Object::of_value(Key::new(kind, namespace, name), &last, &self.registry.fields(kind));
        self.store.remove(object.expect("the fixture writes objects"));
    }

    /// A Service in namespace `default`: its `spec` and, if it has one, its `status`.
    pub fn service(&mut self, name: &str, spec: Value) {
        self.put("services", "default", name, json!({"spec": spec}));
    }

    /// The slice of a Service. Ports as `http:8080/TCP`, endpoints as `10.244.0.5 node=n1 hostname=web-0 unready serving
    /// terminating`, one a line.
    pub fn slice(&mut self, service: &str, ports: &str, endpoints: &str) {
        self.slice_named(&format!("{service}-1"), service, ports, endpoints);
    }

    pub fn slice_named(&mut self, slice: &str, service: &str, ports: &str, endpoints: &str) {
        *self.slices.entry(service.to_owned()).or_default() += 1;
        let ports: Vec<Value> = ports.split_whitespace().map(port).collect();
        let lines = endpoints.lines().map(str::trim).filter(|line| !line.is_empty());
        let endpoints: Vec<Value> = lines.map(endpoint).collect();
        let family = match endpoints.first().and_then(|e| e["addresses"][0].as_str()) {
            Some(address) if address.contains(':') => "IPv6",
            _ => "IPv4",
        };
        let body = json!({
            "metadata": {"labels": {"kubernetes.io/service-name": service}},
            "addressType": family,
            "ports": ports,
            "endpoints": endpoints,
        });
        self.put("endpointslices.discovery.k8s.io", "default", slice, body);
    }
}

fn port(text: &str) -> Value {
    let (name, rest) = text.split_once(':').expect("name:port/PROTOCOL");
    let (number, protocol) = rest.split_once('/').unwrap_or((rest, "TCP"));
    json!({"name": name, "port": number.parse::<i32>().expect("a number"), "protocol": protocol})
}

fn endpoint(line: &str) -> Value {
    let mut words = line.split_whitespace();
    let address = words.next().expect("a line begins with an address");
    let words: Vec<&str> = words.collect();
    let of = |key: &str| words.iter().find_map(|w| w.strip_prefix(key)?.strip_prefix('='));
    let has = |word: &str| words.contains(&word);
    json!({
        "addresses": [address],
        "nodeName": of("node"),
        "hostname": of("hostname"),
        "conditions": {
            "ready": !has("unready") && !has("terminating"),
            "serving": has("serving") || !has("unready"),
            "terminating": has("terminating"),
        },
    })
}
