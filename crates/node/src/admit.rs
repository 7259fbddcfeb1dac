//! Whether a node takes a pod that was given to it: the scheduler looked, but a pod may name its node itself.
//!
//! Asked once, before anything of the pod is made: what has started is never thrown out by it. A pod that is not taken ends as Failed, and
//! who made it may make another. Upstream: `canAdmitPod` of the kubelet, its predicates and its list of safe sysctls.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use stead_api::{Object, Quantity};
use stead_kinds::pod::amounts::{self, Amounts};
use stead_kinds::pod::placement::{HostPort, SAFE_SYSCTLS, host_ports, node_matches, ports_meet, tolerates};
use stead_store::Snapshot;

use crate::agent::NodeAgent;
use crate::event::Note;
use crate::resize::requests;
use crate::state::{PodState, Rejection};

/// What the pods that were taken hold.
#[derive(Default)]
struct Held {
    pods: i64,
    amounts: Amounts,
    ports: BTreeSet<HostPort>,
}

impl NodeAgent {
    /// Decides on a pod that was not decided on.
    pub(crate) fn admit(&mut self, uid: &str, snapshot: &Snapshot, now: Timestamp) {
        let Some(state) = self.pods.get(uid).filter(|state| !state.is_admitted && state.rejected.is_none()) else {
            return;
        };
        let (Some(object), Some(typed)) = (&state.object, &state.spec) else { return };
        let is_over = object.meta.is_deleting() || crate::pod::outcome(state, typed, now).is_some();
        let node = snapshot.find("nodes", "", &self.config.name).filter(|_| !is_over && !has_started(state, typed));
        let rejection = node.and_then(|node| rejection(typed, node, &self.held(now)));
        let Some(state) = self.pods.get_mut(uid) else { return };
        state.is_admitted = rejection.is_none();
        if let Some(why) = rejection {
            let note = Note::warning(&why.reason, why.message.clone());
            state.rejected = Some(why);
            self.tell(uid, &note, now);
        }
    }

    fn held(&self, now: Timestamp) -> Held {
        let known = self.pods.values().filter(|pod| pod.object.is_some());
        let typed = known.filter_map(|pod| Some((pod, pod.spec.as_ref()?)));
        let is_taken = |pod: &PodState, typed: &Pod| pod.is_admitted || has_started(pod, typed);
        let goes_on = |pod: &PodState, typed: &Pod| crate::pod::outcome(pod, typed, now).is_none();
        let mut held = Held::default();
        for (_, typed) in typed.filter(|(pod, typed)| is_taken(pod, typed) && goes_on(pod, typed)) {
            held.pods += 1;
            amounts::add(&mut held.amounts, &requests(typed));
            held.ports.extend(host_ports(typed));
        }
        held
    }
}

/// Whether an agent has taken the pod before: this one, or one before a restart.
fn has_started(state: &PodState, typed: &Pod) -> bool {
    state.sandbox.is_some() || typed.status.as_ref().is_some_and(|status| status.start_time.is_some())
}

fn rejection(pod: &Pod, node: &Object, held: &Held) -> Option<Rejection> {
    let spec = pod.spec.as_ref()?;
    forbidden_sysctl(spec).or_else(|| insufficient(pod, node, held)).or_else(|| {
        let ports = host_ports(pod);
        if !node_matches(spec, node) {
            Some(Rejection::predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"))
        } else if ports_meet(&ports, &held.ports) {
            Some(Rejection::predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports"))
        } else if is_driven_off(spec, &node.view::<Node>()) {
            Some(Rejection::predicate("TaintToleration", "node(s) had untolerated taint(s)"))
        } else {
            None
        }
    })
}

fn forbidden_sysctl(spec: &PodSpec) -> Option<Rejection> {
    let sysctls = spec.security_context.as_ref()?.sysctls.as_ref()?;
    let name =
        sysctls.iter().map(|one| one.name.replace('/', ".")).find(|name| !SAFE_SYSCTLS.contains(&name.as_str()))?;
    Some(Rejection::of("SysctlForbidden", format!("forbidden sysctl: \"{name}\" not allowlisted")))
}

fn insufficient(pod: &Pod, node: &Object, held: &Held) -> Option<Rejection> {
    let has = amounts::of_map(&node.value()["status"]["allocatable"]);
    let lacks = |name: &str, wanted: i64, used: i64, has: i64| {
        let message =
            format!("Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {has}");
        (wanted > 0 && wanted + used > has).then(|| Rejection::of(format!("OutOf{name}"), message))
    };
    let pods = has.get("pods").and_then(|most| lacks("pods", 1, held.pods, most.value()));
    pods.or_else(|| {
        requests(pod).iter().find_map(|(name, wanted)| {
            let number = |amount: Quantity| if name == "cpu" { amount.milli_value() } else { amount.value() };
            let used = held.amounts.get(name).copied().unwrap_or(Quantity::ZERO);
            // What the node does not tell of at all is not the node's to give.
            has.get(name).and_then(|has| lacks(name, number(*wanted), number(used), number(*has)))
        })
    })
}

/// A taint with NoExecute would end the pod at once.
fn is_driven_off(spec: &PodSpec, node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    taints.filter(|taint| taint.effect == "NoExecute").any(|taint| !tolerates(tolerations, taint))
}
