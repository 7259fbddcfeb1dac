//! Containers that run get other resources: what is granted, what is asked for, and why it is refused. `grant.rs` decides for the node.
//!
//! `PodState::spec` holds what is granted; what is asked for and not granted stands in `PodState::resize` until the node can give it.
//! All of it can be lost: what was granted is read again from the pod's status, what is asked for from its spec.
//! Upstream: `handlePodResourcesResize` and `doPodResizeAction` of the kubelet.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use serde_json::json;
use stead_api::Quantity;
use stead_kinds::pod::amounts::{self, Amounts, Side};

use crate::config::NodeConfig;

/// Resources by container, as granted.
pub type Granted = BTreeMap<String, ResourceRequirements>;

/// A resize that is asked for and not granted.
#[derive(Clone, Debug)]
pub struct Asked {
    pub pod: Arc<Pod>,
    /// Why it is not granted yet; `None` before it was looked at.
    pub refusal: Option<Refusal>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `Deferred` or `Infeasible`.
    pub reason: &'static str,
    pub message: String,
}

/// The containers whose resources may change.
fn resizable(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.as_ref();
    spec.into_iter().flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()))
}

fn of(container: &Container) -> ResourceRequirements {
    container.resources.clone().unwrap_or_default()
}

/// What is granted when a pod is first seen: what its status says of containers that were started, else what it asks for.
pub fn granted_at_first(pod: &Pod) -> Granted {
    let status = pod.status.as_ref();
    let lists = status.map(|s| [&s.container_statuses, &s.init_container_statuses]);
    let known = |name: &str| {
        let mut all = lists.into_iter().flatten().flatten().flatten();
        let one = all.find(|s| s.name == name && s.container_id.as_deref().is_some_and(|id| !id.is_empty()))?;
        one.resources.clone()
    };
    resizable(pod).map(|c| (c.name.clone(), known(&c.name).unwrap_or_else(|| of(c)))).collect()
}

pub fn granted_by(pod: &Pod) -> Granted {
    resizable(pod).map(|c| (c.name.clone(), of(c))).collect()
}

pub fn is_granted(pod: &Pod, granted: &Granted) -> bool {
    resizable(pod).all(|c| granted.get(&c.name).is_none_or(|resources| *resources == of(c)))
}

/// The pod with the resources that are granted.
pub fn with_granted(pod: &Pod, granted: &Granted) -> Pod {
    let mut pod = pod.clone();
    if let Some(spec) = &mut pod.spec {
        for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            if let Some(resources) = granted.get(&container.name) {
                container.resources = Some(resources.clone());
            }
        }
    }
    pod
}

/// Whether a container has to be restarted for what changed (`resizePolicy`).
pub fn needs_restart(container: &Container, applied: &ResourceRequirements) -> bool {
    let now = of(container);
    let amount = |of: &ResourceRequirements, name: &str| {
        let side = |list: &Option<BTreeMap<String, _>>| list.as_ref().and_then(|all| all.get(name).cloned());
        (side(&of.limits), side(&of.requests))
    };
    container.resize_policy.iter().flatten().any(|policy| {
        policy.restart_policy == "RestartContainer"
            && amount(&now, &policy.resource_name) != amount(applied, &policy.resource_name)
    })
}

pub fn requests(pod: &Pod) -> Amounts {
    amounts::of_pod(&json!(pod.spec), Side::Requests)
}

/// Why the node cannot give a pod what it asks for beside the others.
pub fn refusal(pod: &Pod, others: &Amounts, config: &NodeConfig) -> Option<Refusal> {
    let number = |name: &str, q: Quantity| if name == "cpu" { q.milli_value() } else { q.value() };
    for name in ["cpu", "memory"] {
        let Some(capacity) = config.allocatable(name) else { continue };
        let asked = requests(pod).get(name).copied().unwrap_or(Quantity::ZERO);
        let (asked_for, has) = (number(name, asked), number(name, capacity));
        if asked > capacity {
            let message = format!("Node didn't have enough capacity: {name}, requested: {asked_for}, capacity: {has}");
            return Some(Refusal { reason: "Infeasible", message });
        }
        let used = others.get(name).copied().unwrap_or(Quantity::ZERO);
        if asked + used > capacity {
            let used = number(name, used);
            let message = format!(
                "Node didn't have enough resource: {name}, requested: {asked_for}, used: {used}, capacity: {has}"
            );
            return Some(Refusal { reason: "Deferred", message });
        }
    }
    None
}
