//! Looks at what the pods of a node use of its machine, and the node itself.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use stead_host::Host;
use stead_host::usage::{self, Usage};

use super::used::PodUsage;
use crate::Server;

/// The pods of a node that run, with what they use.
pub fn usage_of_pods(server: &Server, host: &Host, node: &str) -> Vec<PodUsage> {
    let head = server.plane.head();
    let pods = head.store.snapshot.indexed("pods", &format!("spec.nodeName={node}"));
    let measured = pods.filter_map(|pod| {
        let uid = &pod.meta.uid;
        let usage = host.usage_of_pod(uid).ok()?;
        let typed = pod.view::<Pod>();
        let statuses = typed.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        let running = statuses.filter(|one| one.state.as_ref().is_some_and(|state| state.running.is_some()));
        let containers = running.filter_map(|one| {
            let usage = host.usage_of_container(&host.current(uid, &one.name)?).ok()?;
            Some((one.name.clone(), usage))
        });
        Some(PodUsage { pod: Arc::clone(pod), usage, containers: containers.collect() })
    });
    measured.collect()
}

/// What a node uses: all of the machine that it has for itself, or what its pods do on one that it shares.
pub fn usage_of_node(server: &Server, pods: &[PodUsage]) -> Usage {
    let is_alone = server.hosts.get().is_some_and(|hosts| hosts.len() == 1);
    if is_alone && let Ok(usage) = usage::of_machine() {
        return usage;
    }
    Usage {
        cpu: pods.iter().map(|pod| pod.usage.cpu).sum(),
        working_set: pods.iter().map(|pod| pod.usage.working_set).sum(),
    }
}
