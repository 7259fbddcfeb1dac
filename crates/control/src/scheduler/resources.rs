//! What a pod asks for and what a node has.
//!
//! Upstream: `PodRequests` (sidecars add to the sum, ordinary init containers count by their maximum, pod-level resources win).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Node, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use stead_api::Quantity;

/// By resource name; cpu in thousandths, everything else in units.
pub type Amounts = BTreeMap<String, i64>;

fn amount(name: &str, text: &Text) -> i64 {
    let quantity: Quantity = text.0.parse().unwrap_or(Quantity::ZERO);
    if name == "cpu" { quantity.milli_value() } else { quantity.value() }
}

fn amounts(list: Option<&BTreeMap<String, Text>>) -> Amounts {
    list.into_iter().flatten().map(|(name, text)| (name.clone(), amount(name, text))).collect()
}

pub fn add(into: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = into.entry(name.clone()).or_insert(0);
        *sum = sum.saturating_add(*amount);
    }
}

fn raise(into: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let highest = into.entry(name.clone()).or_insert(0);
        *highest = (*highest).max(*amount);
    }
}

fn of_container(container: &Container) -> Amounts {
    amounts(container.resources.as_ref().and_then(|r| r.requests.as_ref()))
}

pub fn requests(spec: &PodSpec) -> Amounts {
    let mut total = Amounts::new();
    spec.containers.iter().for_each(|container| add(&mut total, &of_container(container)));
    let mut sidecars = Amounts::new();
    let mut starting = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let mut at_once = of_container(container);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, &at_once);
            raise(&mut starting, &sidecars);
        } else {
            add(&mut at_once, &sidecars);
            raise(&mut starting, &at_once);
        }
    }
    add(&mut total, &sidecars);
    raise(&mut total, &starting);
    let whole_pod = amounts(spec.resources.as_ref().and_then(|r| r.requests.as_ref()));
    total.extend(whole_pod);
    add(&mut total, &amounts(spec.overhead.as_ref()));
    total
}

pub fn allocatable(node: &Node) -> Amounts {
    amounts(node.status.as_ref().and_then(|s| s.allocatable.as_ref()))
}
