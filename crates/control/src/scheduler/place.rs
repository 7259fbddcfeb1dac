//! The two sides of a placement: the pod that is wanted somewhere, and a node with what runs there.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use stead_api::Object;

use super::claims::Claims;
use super::resources::Amounts;
use crate::facts;
use crate::names::POD;
use crate::plan::View;

/// A pod to be placed, with what every node is asked about it.
pub(crate) struct Wanted<'a> {
    pub view: View<'a>,
    pub object: &'a Arc<Object>,
    pub pod: Arc<Pod>,
    pub requests: Amounts,
    pub claims: Claims<'a>,
}

impl Wanted<'_> {
    pub fn spec(&self) -> &PodSpec {
        self.pod.spec.as_ref().expect("checked at the start of reconcile")
    }
}

/// A node with the pods on it that still hold something.
pub(crate) struct Place<'a> {
    pub object: &'a Arc<Object>,
    pub node: Arc<Node>,
    pub pods: Vec<(&'a Arc<Object>, Arc<Pod>)>,
}

impl<'a> Place<'a> {
    pub fn of(view: &View<'a>, object: &'a Arc<Object>) -> Place<'a> {
        let pods = facts::with_field(view, POD, "spec.nodeName", &object.key.name)
            .into_iter()
            .map(|pod| (pod, pod.view::<Pod>()))
            .filter(|(_, pod)| !facts::is_finished(pod))
            .collect();
        Place { object, node: object.view::<Node>(), pods }
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.object.meta.label(key)
    }
}
