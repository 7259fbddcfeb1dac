//! The rules that an autoscaler brings itself: windows, and policies about how fast a size may change.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};

use super::replicas::Tolerance;
use crate::facts;
use crate::memory::Scaling;

/// For how long another recommendation counts, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    pub up: i32,
    pub down: i32,
}

/// Unless the autoscaler says so itself.
const DOWN_WINDOW_SECONDS: i32 = 300;
const TOLERANCE: f64 = 0.1;

pub fn windows(rules: Option<&HorizontalPodAutoscalerBehavior>) -> Windows {
    let window = |rules: Option<&HPAScalingRules>| rules.and_then(|rules| rules.stabilization_window_seconds);
    Windows {
        up: window(rules.and_then(|rules| rules.scale_up.as_ref())).unwrap_or(0),
        down: window(rules.and_then(|rules| rules.scale_down.as_ref())).unwrap_or(DOWN_WINDOW_SECONDS),
    }
}

pub fn tolerance(rules: Option<&HorizontalPodAutoscalerBehavior>) -> Tolerance {
    let of = |rules: Option<&HPAScalingRules>| {
        let given = rules.and_then(|rules| rules.tolerance.as_ref()?.0.parse::<stead_api::Quantity>().ok());
        given.map_or(TOLERANCE, |given| given.milli_value() as f64 / 1000.0)
    };
    Tolerance {
        down: of(rules.and_then(|rules| rules.scale_down.as_ref())),
        up: of(rules.and_then(|rules| rules.scale_up.as_ref())),
    }
}

/// Changes that no policy counts any more are forgotten.
pub fn forget_old(rules: &HorizontalPodAutoscalerBehavior, memory: &mut Scaling, now: Timestamp) {
    let policies = rules.scale_up.iter().chain(&rules.scale_down).flat_map(|rules| rules.policies.iter().flatten());
    let longest = policies.map(|policy| policy.period_seconds).max().unwrap_or(0);
    let from = facts::after(now, -i64::from(longest));
    memory.changes.retain(|(at, _)| *at > from);
    memory.forgotten = memory.forgotten.filter(|at| *at > from);
}

/// How many pods there were when a policy's period began.
fn at_begin(current: i32, period: i32, memory: &Scaling, now: Timestamp) -> i32 {
    let from = facts::after(now, -i64::from(period));
    let changes = memory.changes.iter().filter(|(at, _)| *at > from);
    changes.fold(current, |size, (_, change)| size.saturating_sub(*change))
}

/// The most pods that there may be now.
pub fn most(rules: &HorizontalPodAutoscalerBehavior, current: i32, memory: &Scaling, now: Timestamp) -> i32 {
    let Some(rules) = &rules.scale_up else { return i32::MAX };
    let proposals = rules.policies.iter().flatten().map(|policy| {
        let begin = at_begin(current, policy.period_seconds, memory, now);
        if policy.type_ == "Pods" {
            return begin.saturating_add(policy.value);
        }
        // Rounded up: else a small target would never grow.
        (f64::from(begin) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32
    });
    match rules.select_policy.as_deref() {
        Some("Disabled") => current,
        Some("Min") => proposals.min().unwrap_or(current),
        _ => proposals.max().unwrap_or(current),
    }
}

/// The fewest.
pub fn fewest(rules: &HorizontalPodAutoscalerBehavior, current: i32, memory: &Scaling, now: Timestamp) -> i32 {
    let Some(rules) = &rules.scale_down else { return 0 };
    let proposals = rules.policies.iter().flatten().map(|policy| {
        // What an earlier life of the server took is not known: it may have been all that this policy allows.
        if memory.forgotten.is_some_and(|at| at > facts::after(now, -i64::from(policy.period_seconds))) {
            return current;
        }
        let begin = at_begin(current, policy.period_seconds, memory, now);
        if policy.type_ == "Pods" {
            return begin.saturating_sub(policy.value);
        }
        (f64::from(begin) * (1.0 - f64::from(policy.value) / 100.0)) as i32
    });
    match rules.select_policy.as_deref() {
        Some("Disabled") => current,
        Some("Min") => proposals.max().unwrap_or(current),
        _ => proposals.min().unwrap_or(current),
    }
}
