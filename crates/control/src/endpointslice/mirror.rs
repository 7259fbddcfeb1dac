//! Endpoints that a user wrote → EndpointSlices, so that readers need to know slices only.
//!
//! For Services without a selector. Endpoints with the label `endpointslice.kubernetes.io/skip-mirror: "true"`, and those that are
//! somebody's leader lock, are left alone. A slice's name is a function of the Endpoints, the subset and a number.
//! Upstream: pkg/controller/endpointslicemirroring.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};
use stead_api::{Key, LabelSelector, Object};
use stead_store::Event;

use super::{ENDPOINTS_PER_SLICE_MAX, MANAGED_BY_LABEL, SERVICE_NAME_LABEL, is_managed};
use crate::facts;
use crate::names::{ENDPOINT_SLICE, ENDPOINTS, SERVICE};
use crate::plan::{Controller, Plan, Settles, View, Watch};
use crate::statefulset::Fnv32;

const MANAGED_BY: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Upstream's --mirroring-max-endpoints-per-subset.
const ADDRESSES_PER_SUBSET_MAX: usize = 1000;

pub const CONTROLLER: Controller = Controller {
    name: "endpointslicemirroring-controller",
    settles: Settles::Always,
    watches: &[
        Watch { kind: ENDPOINTS, keys: |_, event| vec![event.key().clone()] },
        Watch { kind: SERVICE, keys: |_, event| vec![Key::new(ENDPOINTS, &event.key().namespace, &event.key().name)] },
        Watch { kind: ENDPOINT_SLICE, keys: endpoints_of_slice },
    ],
    reconcile,
};

fn endpoints_of_slice(_: &View, event: &Event) -> Vec<Key> {
    let slice = &event.object;
    let is_ours = slice.meta.label(MANAGED_BY_LABEL) == Some(MANAGED_BY);
    let name = slice.meta.label(SERVICE_NAME_LABEL).filter(|_| is_ours);
    name.map(|name| Key::new(ENDPOINTS, &slice.key.namespace, name)).into_iter().collect()
}

fn is_mirrored(view: &View, endpoints: &Object) -> bool {
    let service = view.get(SERVICE, &endpoints.key.namespace, &endpoints.key.name);
    let has_no_selector = service.is_some_and(|service| {
        let typed = service.view::<Service>();
        !service.meta.is_deleting()
            && typed.spec.as_ref().is_some_and(|s| !is_managed(s) && s.type_.as_deref() != Some("ExternalName"))
    });
    has_no_selector
        && !endpoints.meta.is_deleting()
        && endpoints.meta.label(SKIP) != Some("true")
        && endpoints.meta.annotation(LEADER).is_none()
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let selector =
        [(SERVICE_NAME_LABEL.to_owned(), key.name.to_string()), (MANAGED_BY_LABEL.into(), MANAGED_BY.into())];
    let selector = LabelSelector::from_labels(selector.iter().map(|(k, v)| (k, v)));
    let existing = facts::select(view, ENDPOINT_SLICE, &key.namespace, &selector);
    let endpoints = view.snapshot.get(key).filter(|endpoints| is_mirrored(view, endpoints));
    let wanted = endpoints.map(slices).unwrap_or_default();
    for slice in &existing {
        if wanted.iter().all(|wanted| wanted["metadata"]["name"] != *slice.key.name) {
            plan.delete(slice);
        }
    }
    for wanted in wanted {
        let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
        let Some(slice) = existing.iter().find(|slice| *slice.key.name == *name) else {
            if view.get(ENDPOINT_SLICE, &key.namespace, name).is_none() {
                plan.create(ENDPOINT_SLICE, wanted);
            }
            continue;
        };
        let mut value = slice.value();
        let same = ["endpoints", "ports"].iter().all(|field| value[*field] == wanted[*field])
            && value["metadata"]["labels"] == wanted["metadata"]["labels"];
        if !same {
            for field in ["endpoints", "ports"] {
                value[field] = wanted[field].clone();
            }
            value["metadata"]["labels"] = wanted["metadata"]["labels"].clone();
            plan.update(ENDPOINT_SLICE, value);
        }
    }
    plan
}

fn slices(object: &Arc<Object>) -> Vec<Value> {
    let endpoints = object.value();
    let mut slices = Vec::new();
    for subset in facts::list(&endpoints["subsets"]) {
        let ready = facts::list(&subset["addresses"]).iter().map(|address| (address, true));
        let not_ready = facts::list(&subset["notReadyAddresses"]).iter().map(|address| (address, false));
        let all: Vec<(&Value, bool)> = ready.chain(not_ready).take(ADDRESSES_PER_SUBSET_MAX).collect();
        for family in ["IPv4", "IPv6"] {
            let is_of = |(address, _): &&(&Value, bool)| {
                let ip = address["ip"].as_str().and_then(|ip| ip.parse::<IpAddr>().ok());
                ip.is_some_and(|ip| ip.is_ipv6() == (family == "IPv6"))
            };
            let list: Vec<Value> = all.iter().filter(is_of).map(|(address, ready)| endpoint(address, *ready)).collect();
            for chunk in list.chunks(ENDPOINTS_PER_SLICE_MAX) {
                let number = slices.len();
                slices.push(slice(object, family, &subset["ports"], chunk, number));
            }
        }
    }
    slices
}

fn endpoint(address: &Value, ready: bool) -> Value {
    let mut value = json!({"addresses": [address["ip"]], "conditions": {"ready": ready}});
    for field in ["hostname", "nodeName", "targetRef"] {
        if !address[field].is_null() {
            value[field] = address[field].clone();
        }
    }
    value
}

fn slice(object: &Object, family: &str, ports: &Value, endpoints: &[Value], number: usize) -> Value {
    let ports: Vec<Value> = facts::list(ports)
        .iter()
        .map(|port| {
            let mut port = port.clone();
            if port["name"].is_null() {
                port["name"] = json!("");
            }
            if port["protocol"].is_null() {
                port["protocol"] = json!("TCP");
            }
            port
        })
        .collect();
    let mut hash = Fnv32::default();
    for part in [object.meta.uid.as_str(), family, &number.to_string()] {
        hash.write(part.as_bytes());
    }
    let letters: String = hash.safe().chars().rev().take(5).collect();
    let mut labels: std::collections::BTreeMap<&str, &str> =
        object.meta.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    labels.insert(SERVICE_NAME_LABEL, &object.key.name);
    labels.insert(MANAGED_BY_LABEL, MANAGED_BY);
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("{}-{letters}", object.key.name), "namespace": &*object.key.namespace,
            "labels": labels, "ownerReferences": [facts::controller_reference("v1", "Endpoints", object)]},
        "addressType": family, "endpoints": endpoints, "ports": ports})
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::fixture::{World, show};
    use crate::plan::Action;

    const DB: &str = r#"ep db {"subsets":[{"addresses":[{"ip":"192.0.2.9"}],"notReadyAddresses":[{"ip":"192.0.2.8"}],"ports":[{"port":5432}]}]}"#;

    fn check(text: &str, expected: Expect) {
        let world = World::of(text);
        expected.assert_eq(&show(&world, &reconcile(&world.view(), &Key::new(ENDPOINTS, "default", "db"))));
    }

    #[test]
    fn endpoints_of_a_service_without_selector_are_mirrored() {
        let world = World::of(&format!("svc db {{\"spec\":{{\"selector\":null}}}}\n {DB}"));
        let plan = reconcile(&world.view(), &Key::new(ENDPOINTS, "default", "db"));
        let Some(Action::Create { value, .. }) = plan.actions.into_iter().next() else { panic!("no slice") };
        expect![[r#"[{"addresses":["192.0.2.9"],"conditions":{"ready":true}},{"addresses":["192.0.2.8"],"conditions":{"ready":false}}] [{"port":5432,"name":"","protocol":"TCP"}]"#]]
        .assert_eq(&format!("{} {}", value["endpoints"], value["ports"]));
    }

    #[test]
    fn others_are_not() {
        check(&format!("svc db\n {DB}"), expect![""]);
        check(DB, expect![""]);
        let skipped = DB.replace("ep db", "ep db label=endpointslice.kubernetes.io/skip-mirror:true");
        check(&format!("svc db {{\"spec\":{{\"selector\":null}}}}\n {skipped}"), expect![""]);
    }
}
