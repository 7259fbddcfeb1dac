//! What a pod's specification says by itself, whatever state the pod is in.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{self as core, LifecycleHandler, Pod};
use k8s_openapi::apimachinery::pkg::api::resource;
use stead_api::Quantity;

pub fn post_start(container: &core::Container) -> Option<&LifecycleHandler> {
    container.lifecycle.as_ref()?.post_start.as_ref()
}

pub fn pre_stop(container: &core::Container) -> Option<&LifecycleHandler> {
    container.lifecycle.as_ref()?.pre_stop.as_ref()
}

/// A native sidecar: an init container with restartPolicy Always.
pub fn is_sidecar(container: &core::Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// `status.qosClass`.
pub fn qos_class(typed: &Pod) -> &'static str {
    let Some(spec) = &typed.spec else { return "BestEffort" };
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let (mut any, mut guaranteed) = (false, true);
    for container in all {
        let resources = container.resources.clone().unwrap_or_default();
        let of = |list: &Option<BTreeMap<String, _>>, name: &str| -> Option<Quantity> {
            list.as_ref()?.get(name).and_then(quantity).filter(|q| !q.is_zero())
        };
        for name in ["cpu", "memory"] {
            let (limit, request) = (of(&resources.limits, name), of(&resources.requests, name));
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

pub fn quantity(of: &resource::Quantity) -> Option<Quantity> {
    of.0.parse().ok()
}
