//! Which pod has to go when the disk is short and no image is left to remove.
//!
//! First those that use more than they asked for, then the lower priority, then who uses most beyond what it asked for. Pods that
//! the cluster cannot do without stay.
//! Upstream: `rankDiskPressureFunc` and `evictionMessage` of pkg/kubelet/eviction.

use std::cmp::Reverse;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use stead_api::Quantity;

use crate::action::{PodDisk, PodUid, Room};
use crate::config::Threshold;
use crate::facts::{is_sidecar, quantity};
use crate::pod;
use crate::state::PodState;

const RESOURCE: &str = "ephemeral-storage";
/// From here on a pod is critical (`SystemCriticalPriority`).
const CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// What was seen when a pod had to go.
#[derive(Clone, Copy, Debug)]
pub struct Shortage {
    wanted_bytes: u64,
    free_bytes: u64,
}

impl Shortage {
    pub fn of(threshold: Threshold, room: &Room) -> Shortage {
        Shortage { wanted_bytes: threshold.bytes_of(room.total_bytes), free_bytes: room.free_bytes }
    }
}

fn spec(pod: &PodState) -> Option<&PodSpec> {
    pod.spec.as_ref()?.spec.as_ref()
}

fn priority(pod: &PodState) -> i32 {
    spec(pod).and_then(|s| s.priority).unwrap_or(0)
}

/// Whether a pod holds something, goes on, and is not critical.
pub fn may_go(pod: &PodState, now: Timestamp) -> bool {
    let goes_on = pod.object.as_ref().is_some_and(|object| !object.meta.is_deleting());
    let has_ended = pod.spec.as_ref().is_some_and(|typed| pod::outcome(pod, typed, now).is_some());
    goes_on && !has_ended && pod.sandbox.is_some() && priority(pod) < CRITICAL_PRIORITY
}

fn requested(container: &Container) -> u64 {
    let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    let amount = requests.and_then(|all| all.get(RESOURCE)).and_then(quantity).unwrap_or(Quantity::ZERO);
    u64::try_from(amount.value()).unwrap_or(0)
}

/// Containers that run as long as the pod does.
fn lasting(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(|c| is_sidecar(c)))
}

/// The pod that goes, and what is said of it.
pub fn choose<'p>(
    pods: impl Iterator<Item = (&'p PodState, &'p PodDisk)>,
    shortage: &Shortage,
    now: Timestamp,
) -> Option<(PodUid, String)> {
    let rank = |(pod, disk): &(&PodState, &PodDisk)| {
        let used = disk.containers.values().sum::<u64>() + disk.volumes;
        let asked: u64 = spec(pod).into_iter().flat_map(lasting).map(requested).sum();
        let beyond = i128::from(used) - i128::from(asked);
        (beyond <= 0, priority(pod), Reverse(beyond))
    };
    let (pod, disk) = pods.filter(|(pod, _)| may_go(pod, now)).min_by_key(rank)?;
    Some((pod.pod.uid.clone(), message(pod, disk, shortage)))
}

fn message(pod: &PodState, disk: &PodDisk, shortage: &Shortage) -> String {
    let bytes = |amount: u64| Quantity::from_bytes(i64::try_from(amount).unwrap_or(i64::MAX));
    let mut text = format!(
        "The node was low on resource: {RESOURCE}. Threshold quantity: {}, available: {}. ",
        bytes(shortage.wanted_bytes),
        bytes(shortage.free_bytes)
    );
    for container in spec(pod).into_iter().flat_map(lasting) {
        let used = disk.containers.get(&container.name).copied().unwrap_or(0);
        if used > requested(container) {
            let (name, used, asked) = (&container.name, bytes(used), bytes(requested(container)));
            text.push_str(&format!(
                "Container {name} was using {used}, request is {asked}, has larger consumption of {RESOURCE}. "
            ));
        }
    }
    text
}
