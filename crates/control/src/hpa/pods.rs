//! The target's pods: what they use, what they request, and which of them count.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use stead_api::{Object, Quantity};

use super::replicas::Pods;
use crate::facts;
use crate::plan::View;
use crate::usage::{ContainerUsage, Usage};

/// For so long after its start what a pod's processor does may be its start alone.
const START_SECONDS: i64 = 300;
/// A pod that was never ready after this was ready first.
const FIRST_READY_SECONDS: i64 = 30;

/// What of a pod is looked at.
#[derive(Clone, Copy)]
pub struct Resource<'a> {
    pub name: &'a str,
    /// One container, or all of them.
    pub container: Option<&'a str>,
}

/// What the pods use, in thousandths, with those that do not count apart.
///
/// # Errors
/// Why that is not known.
pub fn used(view: &View, pods: &[&Arc<Object>], resource: Resource) -> Result<Pods, String> {
    let about = |why: &str| format!("unable to get metrics for resource {}: {why}", resource.name);
    let unfetched = |why: &str| about(&format!("unable to fetch metrics from resource metrics API: {why}"));
    let measured = view.measured.ok_or_else(|| unfetched("nothing was measured yet"))?;
    let usage = measured.usage.as_ref().map_err(|why| unfetched(why))?;
    let known = |pod: &Arc<Object>| usage.pods.get(&pod.meta.uid);
    if !pods.iter().any(|pod| known(pod).is_some()) {
        return Err(about("no metrics returned from resource metrics API"));
    }
    let mut found = Pods::default();
    for object in pods {
        let pod = object.view::<Pod>();
        let name = || object.key.name.to_string();
        if object.meta.is_deleting() || facts::phase(&pod) == "Failed" {
            continue;
        }
        if facts::phase(&pod) == "Pending" {
            found.unready.insert(name());
            continue;
        }
        let used = known(object).map(|containers| amount(object, containers, resource));
        match used.transpose().map_err(|why| about(&why))?.flatten() {
            None => found.missing.insert(name()),
            Some(_) if resource.name == "cpu" && is_starting(&pod, usage, measured.at, view.now) => {
                found.unready.insert(name())
            }
            Some(amount) => found.used.insert(name(), amount).is_none(),
        };
    }
    Ok(found)
}

/// What one pod uses; None when nobody measures this resource.
fn amount(pod: &Object, containers: &[ContainerUsage], resource: Resource) -> Result<Option<i64>, String> {
    let of = |one: &ContainerUsage| match resource.name {
        "cpu" => i64::try_from(one.cpu_nanos.div_ceil(1_000_000)).ok(),
        "memory" => i64::try_from(one.memory_bytes).ok()?.checked_mul(1000),
        _ => None,
    };
    let Some(container) = resource.container else { return Ok(containers.iter().map(of).sum()) };
    match containers.iter().find(|one| one.name == container) {
        Some(one) => Ok(of(one)),
        None => {
            let place = format!("{}/{}", pod.key.namespace, pod.key.name);
            Err(format!("container {container} not present in metrics for pod {place}"))
        }
    }
}

/// Whether what the pod's processor did tells nothing about its load.
fn is_starting(pod: &Pod, usage: &Usage, measured_at: Timestamp, now: Timestamp) -> bool {
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
    let (Some(ready), Some(started)) = (facts::pod_condition(pod, "Ready"), started) else { return true };
    let since = ready.last_transition_time.as_ref().map_or(started, |time| time.0);
    if facts::after(started, START_SECONDS) > now {
        let window_ends = since.checked_add(usage.window).unwrap_or(Timestamp::MAX);
        return ready.status == "False" || measured_at < window_ends;
    }
    ready.status == "False" && facts::after(started, FIRST_READY_SECONDS) > since
}

/// What the pods request, in thousandths.
///
/// # Errors
/// A container that requests nothing.
pub fn requests(pods: &[&Arc<Object>], resource: Resource) -> Result<BTreeMap<String, i64>, String> {
    pods.iter().map(|pod| Ok((pod.key.name.to_string(), requested(pod, resource)?))).collect()
}

fn requested(object: &Object, resource: Resource) -> Result<i64, String> {
    let milli = |text: &str| text.parse::<Quantity>().map_or(0, |quantity| quantity.milli_value());
    let pod = object.view::<Pod>();
    let Some(spec) = pod.spec.as_ref() else { return Ok(0) };
    let of_pod = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get(resource.name));
    if let Some(quantity) = of_pod.filter(|_| resource.container.is_none()) {
        return Ok(milli(&quantity.0));
    }
    let stays = |one: &&Container| one.restart_policy.as_deref() == Some("Always");
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(stays));
    let mut sum = 0i64;
    for one in all.filter(|one| resource.container.is_none_or(|name| name == one.name)) {
        let request = one.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get(resource.name));
        let request = request.ok_or_else(|| {
            format!("missing request for {} in container {} of Pod {}", resource.name, one.name, object.key.name)
        })?;
        sum = sum.saturating_add(milli(&request.0));
    }
    Ok(sum)
}
