//! Which pods of a StatefulSet to replace next.
//!
//! Guarantees: highest ordinal first (B-16); never below the partition (S-08, B-21); at most `maxUnavailable` pods, rounded down but at
//! least one (S-09, X-02), are unavailable because of the rollout.
//! Assumes: replicas are complete and condemned pods are gone; under OrderedReady every replica is Available, because the phase before
//! waits for that (B-17: a broken pod there stops the rollout).
//!
//! One path for every limit: pods that are unavailable at the new revision, or terminating, use up the budget; a broken pod of an old
//! revision does not, since replacing it can only help. With the default limit of one that is upstream's walk from the
//! top (B-18: under Parallel a broken pod is replaced after the template was mended).

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use stead_api::IntOrPercent;

use super::replica;
use super::revision::Revisions;
use super::set::{Member, Set, wake_when_available};
use crate::plan::Plan;

pub fn replace(set: &Set, replicas: &[Option<&Member>], revisions: &Revisions, plan: &mut Plan) {
    let is_old = |member: &Member| member.revision() != revisions.update && !member.is_terminating();
    if !replicas.iter().flatten().any(|member| is_old(member)) {
        return;
    }
    let mut budget = max_unavailable(set);
    for member in replicas.iter() {
        match member {
            Some(member) if is_old(member) => {}
            Some(member) if member.is_running_and_available() && !member.is_terminating() => {}
            Some(member) => {
                wake_when_available(member, plan);
                budget = budget.saturating_sub(1);
            }
            None => budget = budget.saturating_sub(1),
        }
    }
    let candidates = replicas.iter().enumerate().skip(partition(set)).rev();
    for member in candidates.filter_map(|(_, member)| *member).filter(|member| is_old(member)).take(budget) {
        replica::delete(set, member, plan);
    }
}

fn partition(set: &Set) -> usize {
    let rolling = set.spec().and_then(|s| s.update_strategy.as_ref()).and_then(|s| s.rolling_update.as_ref());
    usize::try_from(rolling.and_then(|r| r.partition).unwrap_or(0)).unwrap_or(0)
}

fn max_unavailable(set: &Set) -> usize {
    let rolling = set.spec().and_then(|s| s.update_strategy.as_ref()).and_then(|s| s.rolling_update.as_ref());
    let given = rolling.and_then(|r| r.max_unavailable.as_ref());
    let one = IntOrString::Int(1);
    let limit = IntOrPercent::try_from(given.unwrap_or(&one)).unwrap_or(IntOrPercent::Int(1));
    let replicas = i32::try_from(set.replicas()).unwrap_or(i32::MAX);
    usize::try_from(limit.of(replicas, false)).unwrap_or(0).max(1)
}
