//! The two sides of a placement: the pod that is wanted somewhere, and a node with what runs there.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use stead_api::{Key, Object};

use super::claims::Claims;
use super::resources::Amounts;
use crate::facts;
use crate::names::POD;
use crate::plan::View;

/// A pod to be placed, with what every node is asked about it.
#[derive(Clone)]
pub(crate) struct Wanted<'a> {
    pub view: View<'a>,
    pub object: &'a Arc<Object>,
    pub pod: Arc<Pod>,
    pub requests: Amounts,
    pub claims: Claims<'a>,
    /// Pods imagined gone: those whose place it may take.
    pub without: BTreeSet<Key>,
}

impl Wanted<'_> {
    /// Whether a pod counts: it is placed, holds something, and is not imagined gone.
    pub fn counts(&self, object: &Object, pod: &Pod) -> bool {
        !facts::is_finished(pod) && !self.without.contains(&object.key)
    }

    pub fn priority(&self) -> i32 {
        priority(&self.pod)
    }

    pub fn spec(&self) -> &PodSpec {
        self.pod.spec.as_ref().expect("checked at the start of reconcile")
    }
}

pub(crate) fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0)
}

/// The node that is being cleared for a pod.
pub(crate) fn nominated(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.nominated_node_name.as_deref().filter(|name| !name.is_empty())
}

/// A node with the pods on it that still hold something, and those for which it is being cleared.
pub(crate) struct Place<'a> {
    pub object: &'a Arc<Object>,
    pub node: Arc<Node>,
    pub pods: Vec<(&'a Arc<Object>, Arc<Pod>)>,
}

impl<'a> Place<'a> {
    /// As the wanted pod finds it: room that was made for another of its priority or a higher one is not free.
    pub fn of(wanted: &Wanted<'a>, object: &'a Arc<Object>) -> Place<'a> {
        let with = |field: &str| facts::with_field(&wanted.view, POD, field, &object.key.name).into_iter();
        let placed = with("spec.nodeName").map(|pod| (pod, pod.view::<Pod>()));
        let promised = with("status.nominatedNodeName").map(|pod| (pod, pod.view::<Pod>())).filter(|(other, pod)| {
            let is_placed = pod.spec.as_ref().is_some_and(|s| s.node_name.as_deref().is_some_and(|n| !n.is_empty()));
            other.key != wanted.object.key
                && !is_placed
                && !other.meta.is_deleting()
                && priority(pod) >= wanted.priority()
        });
        let pods = placed.chain(promised).filter(|(object, pod)| wanted.counts(object, pod)).collect();
        Place { object, node: object.view::<Node>(), pods }
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.object.meta.label(key)
    }
}
