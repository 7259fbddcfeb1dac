//! Does a pod fit on a node? If not, why, in upstream's words.

use k8s_openapi::api::core::v1::{Node, Taint, Toleration};
use stead_kinds::pod::placement::{host_ports, ports_meet};

use super::affinity::{self, Surroundings};
use super::place::{Place, Wanted};
use super::resources::{self, Amounts};
use super::terms::{node_matches, tolerates};
use super::volumes;

pub struct Refusal {
    pub reasons: Vec<String>,
    /// Whether other pods on the node stand in the way, rather than the node itself.
    pub is_resolvable: bool,
}

impl Refusal {
    fn node(reason: impl Into<String>) -> Refusal {
        Refusal { reasons: vec![reason.into()], is_resolvable: false }
    }

    fn pods(reasons: Vec<String>) -> Refusal {
        Refusal { reasons, is_resolvable: true }
    }
}

/// The first filter that refuses, in upstream's order.
pub fn check(wanted: &Wanted, place: &Place, surroundings: &Surroundings) -> Result<(), Refusal> {
    let spec = place.node.spec.as_ref();
    let tolerations = wanted.spec().tolerations.as_deref().unwrap_or_default();
    if spec.and_then(|s| s.unschedulable) == Some(true) && !tolerates(tolerations, &taint("unschedulable")) {
        return Err(Refusal::node("node(s) were unschedulable"));
    }
    if let Some(taint) = untolerated(&place.node, tolerations) {
        let value = taint.value.as_deref().unwrap_or_default();
        return Err(Refusal::node(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key)));
    }
    if !node_matches(wanted.spec(), place.object) {
        return Err(Refusal::node("node(s) didn't match Pod's node affinity/selector"));
    }
    if has_port_conflict(wanted, place) {
        return Err(Refusal::pods(vec!["node(s) didn't have free ports for the requested pod ports".into()]));
    }
    let missing = insufficient(wanted, place);
    if !missing.is_empty() {
        return Err(Refusal::pods(missing));
    }
    if volumes::is_exclusive_in_use(wanted) {
        let why = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
        return Err(Refusal::pods(vec![why.into()]));
    }
    volumes::check(wanted, place).map_err(Refusal::node)?;
    surroundings.check_spread(wanted, place).map_err(|why| Refusal::pods(vec![why.into()]))?;
    surroundings
        .check_affinity(wanted, place)
        .map_err(|why| Refusal { is_resolvable: why != affinity::NO_AFFINITY, reasons: vec![why.into()] })
}

pub fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

fn taint(name: &str) -> Taint {
    Taint { key: format!("node.kubernetes.io/{name}"), effect: "NoSchedule".into(), ..Taint::default() }
}

/// The first taint that keeps the pod away. A node that is not ready counts as tainted even before its taint is written.
fn untolerated(node: &Node, tolerations: &[Toleration]) -> Option<Taint> {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_ref());
    let keeps_away = |t: &&Taint| t.effect != "PreferNoSchedule" && !tolerates(tolerations, t);
    let given = taints.into_iter().flatten().find(keeps_away).cloned();
    given.or_else(|| Some(taint("not-ready")).filter(|t| !is_ready(node) && !tolerates(tolerations, t)))
}

fn has_port_conflict(wanted: &Wanted, place: &Place) -> bool {
    let ports = host_ports(&wanted.pod);
    !ports.is_empty() && place.pods.iter().any(|(_, pod)| ports_meet(&ports, &host_ports(pod)))
}

/// What all pods on a node ask for.
pub fn used(place: &Place) -> Amounts {
    let mut used = Amounts::new();
    for (_, pod) in &place.pods {
        if let Some(spec) = &pod.spec {
            resources::add(&mut used, &resources::requests(spec));
        }
    }
    used
}

fn insufficient(wanted: &Wanted, place: &Place) -> Vec<String> {
    let has = resources::allocatable(&place.node);
    let mut missing = Vec::new();
    if has.get("pods").is_some_and(|max| place.pods.len() as i64 >= *max) {
        missing.push("Too many pods".to_owned());
    }
    if wanted.requests.values().all(|amount| *amount == 0) {
        return missing;
    }
    let used = used(place);
    for (name, amount) in wanted.requests.iter().filter(|(_, amount)| **amount > 0) {
        let free = has.get(name).copied().unwrap_or(0) - used.get(name).copied().unwrap_or(0);
        if *amount > free {
            missing.push(format!("Insufficient {name}"));
        }
    }
    missing
}
