//! What a rolling update may do (S-08, S-09, B-15 … B-21, X-02).

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{RollingUpdateStatefulSetStrategy, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use stead_api::Object;
use stead_control::names::POD;
use stead_store::Event;

use super::{ROLLOUT, Verdict, begins_to_go, first_ordinal, is_finished, is_ready, replicas, violated};
use crate::ledger::Ledger;

const REVISION: &str = "controller-revision-hash";

/// Rollout: of a pod in its set's range that the set takes away; it has no other reason to.
pub fn of_removal(ledger: &Ledger, event: &Event, now: Timestamp) -> Verdict {
    let pod = &event.object;
    if !begins_to_go(event) || ledger.is_excused(pod) || is_finished(&pod.view::<Pod>()) {
        return Ok(());
    }
    let Some((set, ordinal)) = ledger.set_of(pod) else { return Ok(()) };
    let index = ordinal - first_ordinal(&set);
    if set.metadata.deletion_timestamp.is_some() || !(0..replicas(&set)).contains(&index) {
        return Ok(());
    }
    let newest = newest(&set);
    if pod.meta.label(REVISION) == Some(newest) {
        return violated(&ROLLOUT, format!("{} goes and is not outdated", pod.key));
    }
    let Some(rolling) = rolling(&set) else {
        return violated(&ROLLOUT, format!("{} goes under OnDelete", pod.key));
    };
    let partition = rolling.partition.unwrap_or(0);
    if index < partition {
        return violated(&ROLLOUT, format!("{} goes, below the partition of {partition}", pod.key));
    }
    let down = (0..replicas(&set)).filter(|other| is_down(ledger, &set, pod, *other, now)).count() as i32;
    let most = max_unavailable(&rolling, replicas(&set));
    if down >= most {
        return violated(&ROLLOUT, format!("{} goes, {down} are down and maxUnavailable is {most}", pod.key));
    }
    Ok(())
}

/// Rollout: of a pod that a set makes.
pub fn of_creation(ledger: &Ledger, event: &Event) -> Verdict {
    let pod = &event.object;
    if event.old.is_some() || event.deleted {
        return Ok(());
    }
    let Some((set, ordinal)) = ledger.set_of(pod) else { return Ok(()) };
    let Some(partition) = rolling(&set).and_then(|rolling| rolling.partition) else { return Ok(()) };
    let is_below = ordinal - first_ordinal(&set) < partition;
    let status = set.status.as_ref();
    let current = status.and_then(|s| s.current_revision.as_deref()).unwrap_or_default();
    let wanted = if is_below { current } else { newest(&set) };
    if pod.meta.label(REVISION) != Some(wanted) {
        let has = pod.meta.label(REVISION);
        return violated(&ROLLOUT, format!("{} is made as {has:?}, not {wanted}; partition {partition}", pod.key));
    }
    Ok(())
}

fn newest(set: &StatefulSet) -> &str {
    set.status.as_ref().and_then(|s| s.update_revision.as_deref()).unwrap_or_default()
}

/// None: OnDelete.
fn rolling(set: &StatefulSet) -> Option<RollingUpdateStatefulSetStrategy> {
    let strategy = set.spec.as_ref().and_then(|s| s.update_strategy.as_ref());
    let is_on_delete = strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete");
    (!is_on_delete).then(|| strategy.and_then(|s| s.rolling_update.clone()).unwrap_or_default())
}

/// Rounded down, and at least one.
fn max_unavailable(rolling: &RollingUpdateStatefulSetStrategy, replicas: i32) -> i32 {
    let most = match &rolling.max_unavailable {
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(percent)) => {
            percent.trim_end_matches('%').parse::<i32>().unwrap_or(0) * replicas / 100
        }
        None => 1,
    };
    most.max(1)
}

/// Missing, terminating, or at the newest revision and not available. One that is outdated and broken does not count: to replace
/// it can only help.
fn is_down(ledger: &Ledger, set: &StatefulSet, like: &Object, index: i32, now: Timestamp) -> bool {
    let name = format!("{}-{}", set.metadata.name.as_deref().unwrap_or_default(), first_ordinal(set) + index);
    let Some(pod) = ledger.find(POD, &like.key.namespace, &name) else { return true };
    let is_outdated = pod.meta.label(REVISION) != Some(newest(set));
    pod.meta.is_deleting() || (!is_outdated && !is_available(set, &pod.view::<Pod>(), now))
}

fn is_available(set: &StatefulSet, pod: &Pod, now: Timestamp) -> bool {
    let seconds = set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0);
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let since =
        conditions.into_iter().flatten().find(|c| c.type_ == "Ready").and_then(|c| c.last_transition_time.as_ref());
    let until = |since: Timestamp| since.checked_add(SignedDuration::from_secs(i64::from(seconds)));
    is_ready(pod) && (seconds == 0 || since.is_some_and(|since| until(since.0).is_ok_and(|until| until <= now)))
}
