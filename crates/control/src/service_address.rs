//! IPAddress objects: one for the address of each Service, so that clients see which are in use, and by whom.
//!
//! They follow what the Services say (`apiserver/admission/service.rs` gives the addresses); one that somebody else made stays.
//! Upstream: pkg/registry/core/service/ipallocator and pkg/controlplane/controller/defaultservicecidr.

use std::net::IpAddr;

use k8s_openapi::api::networking::v1::IPAddress;
use serde_json::{Value, json};
use stead_api::{Key, Object};
use stead_store::Event;

use crate::names::{IP_ADDRESS, SERVICE};
use crate::plan::{Controller, Plan, Settles, View, Watch};

const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator";
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";

pub const CONTROLLER: Controller = Controller {
    name: "service-ip-allocator",
    settles: Settles::Never,
    watches: &[
        Watch { kind: SERVICE, keys: of_service },
        Watch { kind: IP_ADDRESS, keys: |_, event| vec![event.key().clone()] },
    ],
    reconcile,
};

/// The addresses that a change of a Service is about; none when it keeps the one that it had.
fn of_service(_: &View, event: &Event) -> Vec<Key> {
    let address = |object: &Object| {
        object.field("spec.clusterIP").filter(|text| text.parse::<IpAddr>().is_ok()).map(str::to_owned)
    };
    let (old, new) = (event.old.as_deref().and_then(address), address(&event.object));
    if old == new && !event.deleted {
        return Vec::new();
    }
    old.into_iter().chain(new).map(|address| Key::new(IP_ADDRESS, "", &address)).collect()
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let holder = view.snapshot.indexed(SERVICE, &format!("spec.clusterIP={}", key.name)).next();
    let existing = view.snapshot.get(key);
    let ours = existing.filter(|object| object.meta.label(MANAGED_BY) == Some(ALLOCATOR));
    match (holder, existing) {
        (Some(service), None) => plan.create(IP_ADDRESS, address_of(&service.key, &key.name)),
        (None, _) => ours.into_iter().for_each(|object| plan.delete(object)),
        // It is made anew when it is gone.
        (Some(service), Some(_)) => {
            ours.filter(|one| !is_of(one, &service.key)).into_iter().for_each(|one| plan.delete(one))
        }
    }
    plan
}

fn address_of(service: &Key, address: &str) -> Value {
    let family = if address.contains(':') { "IPv6" } else { "IPv4" };
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {"name": address, "labels": {FAMILY: family, MANAGED_BY: ALLOCATOR}},
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": &*service.namespace, "name": &*service.name}}})
}

fn is_of(address: &Object, service: &Key) -> bool {
    let typed = address.view::<IPAddress>();
    let parent = &typed.spec.parent_ref;
    parent.name == *service.name && parent.namespace.as_deref() == Some(&*service.namespace)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::fixture::{World, show};

    const MINE: &str = r#"ip 10.96.0.7 label=ipaddress.kubernetes.io/managed-by:ipallocator {"spec":{"parentRef":{"resource":"services","namespace":"shop","name":"web"}}}"#;

    fn check(text: &str, expected: Expect) {
        let world = World::of(text);
        expected.assert_eq(&show(&world, &reconcile(&world.view(), &Key::new(IP_ADDRESS, "", "10.96.0.7"))));
    }

    #[test]
    fn an_address_comes_and_goes_with_its_service() {
        let service = r#"svc shop/web {"spec":{"clusterIP":"10.96.0.7"}}"#;
        check(
            service,
            expect![[r#"
            create IPAddress 10.96.0.7
        "#]],
        );
        check(&format!("{service}\n{MINE}"), expect![[""]]);
        check(
            MINE,
            expect![[r#"
            delete ipaddresses.networking.k8s.io/10.96.0.7
        "#]],
        );
    }

    #[test]
    fn an_address_of_another_service_is_replaced_and_one_of_somebody_else_stays() {
        let service = r#"svc other/web {"spec":{"clusterIP":"10.96.0.7"}}"#;
        check(
            &format!("{service}\n{MINE}"),
            expect![[r#"
            delete ipaddresses.networking.k8s.io/10.96.0.7
        "#]],
        );
        let theirs = r#"ip 10.96.0.7 {"spec":{"parentRef":{"resource":"gateways","name":"g"}}}"#;
        check(theirs, expect![[""]]);
        check(&format!("{service}\n{theirs}"), expect![[""]]);
    }
}
