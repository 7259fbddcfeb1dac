//! Limits, weights and the order of killing in the kernel's units.
//!
//! Upstream: pkg/kubelet/cm (cgroup values) and pkg/kubelet/qos (the OOM score).

use k8s_openapi::api::core::v1::{self as core, Pod, PodSpec};
use stead_api::Quantity;

use crate::action::Resources;
use crate::facts::{is_sidecar, qos_class, quantity};

const CPU_PERIOD_US: i64 = 100_000;

const CPU_QUOTA_US_MIN: i64 = 1_000;

const CPU_SHARES_MIN: u64 = 2;

fn amount(resources: Option<&core::ResourceRequirements>, side: Side, name: &str) -> Option<Quantity> {
    let resources = resources?;
    let list = match side {
        Side::Limits => &resources.limits,
        Side::Requests => &resources.requests,
    };
    list.as_ref()?.get(name).and_then(quantity)
}

#[derive(Clone, Copy)]
enum Side {
    Limits,
    Requests,
}

/// Limits and weights in the kernel's units.
pub fn resources(of: Option<&core::ResourceRequirements>) -> Resources {
    let cpu_limit = amount(of, Side::Limits, "cpu");
    let cpu_request = amount(of, Side::Requests, "cpu").or(cpu_limit);
    Resources {
        cpu_shares: Some(shares(cpu_request.map_or(0, |q| q.milli_value()))),
        cpu_quota_us: cpu_limit.filter(|q| !q.is_zero()).map(|q| quota(q.milli_value())),
        cpu_period_us: None,
        memory_bytes: amount(of, Side::Limits, "memory").map(|q| q.value().unsigned_abs()).filter(|b| *b > 0),
        pids: None,
    }
}

fn shares(milli: i64) -> u64 {
    (milli.max(0).unsigned_abs() * 1024 / 1000).max(CPU_SHARES_MIN)
}

fn quota(milli: i64) -> i64 {
    (milli * CPU_PERIOD_US / 1000).max(CPU_QUOTA_US_MIN)
}

/// Limits of the whole pod: the sum over its main containers and sidecars, none when one of them has none.
pub fn pod_resources(spec: &PodSpec) -> Resources {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
    let all: Vec<&core::Container> = spec.containers.iter().chain(sidecars).collect();
    let inits = spec.init_containers.iter().flatten().filter(|c| !is_sidecar(c));
    let largest_init = |name: &str, side: Side| {
        inits.clone().filter_map(|c| amount(c.resources.as_ref(), side, name)).max().unwrap_or(Quantity::ZERO)
    };
    let sum = |name: &str| -> Option<Quantity> {
        let each: Option<Vec<Quantity>> =
            all.iter().map(|c| amount(c.resources.as_ref(), Side::Limits, name).filter(|q| !q.is_zero())).collect();
        if inits.clone().any(|c| amount(c.resources.as_ref(), Side::Limits, name).is_none()) {
            return None;
        }
        let sum = each?.into_iter().fold(Quantity::ZERO, |a, b| a + b);
        Some(sum.max(largest_init(name, Side::Limits)))
    };
    let requested: i64 =
        all.iter().filter_map(|c| amount(c.resources.as_ref(), Side::Requests, "cpu")).map(|q| q.milli_value()).sum();
    Resources {
        cpu_shares: Some(shares(requested.max(largest_init("cpu", Side::Requests).milli_value()))),
        cpu_quota_us: sum("cpu").map(|q| quota(q.milli_value())),
        cpu_period_us: None,
        memory_bytes: sum("memory").map(|q| q.value().unsigned_abs()),
        pids: None,
    }
}

/// Which container the kernel kills first when memory runs out: the less it asked for, the sooner.
pub fn oom_score_adj(typed: &Pod, container: &core::Container, memory_bytes: u64) -> i32 {
    let spec = typed.spec.as_ref();
    if spec.and_then(|s| s.priority_class_name.as_deref()) == Some("system-node-critical") {
        return -997;
    }
    match qos_class(typed) {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let request = amount(container.resources.as_ref(), Side::Requests, "memory").map_or(0, |q| q.value());
            let share = 1000 * i128::from(request) / i128::from(memory_bytes.max(1));
            (1000 - i32::try_from(share).unwrap_or(1000)).clamp(3, 999)
        }
    }
}
