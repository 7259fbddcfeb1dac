//! Which of the nodes that fit is best.
//!
//! A sum of 0…100 scores with upstream's weights: free resources (1), pods of the same owner spread over nodes (2), preferred node
//! affinity (2), preferred pod affinity (2), soft topology spread (2), PreferNoSchedule taints (3). The first of equals in the order of
//! the candidates wins; that order starts at a place that depends on the pod.

use super::affinity::{self, Surroundings};
use super::filter::used;
use super::place::{Place, Wanted};
use super::resources;
use super::terms::{self, tolerates};

pub fn best<'a>(wanted: &Wanted, mut feasible: Vec<Place<'a>>, surroundings: &Surroundings) -> Option<Place<'a>> {
    if feasible.len() <= 1 {
        return feasible.pop();
    }
    let mut total = vec![0; feasible.len()];
    let mut count = |weight: i64, is_better_higher: bool, score: &dyn Fn(&Place) -> i64| {
        let scores: Vec<i64> = feasible.iter().map(score).collect();
        let (low, high) = (scores.iter().min().copied().unwrap_or(0), scores.iter().max().copied().unwrap_or(0));
        for (sum, score) in total.iter_mut().zip(scores) {
            let from_worst = if is_better_higher { score - low } else { high - score };
            // All alike means nothing to choose by.
            *sum += weight * from_worst * 100 / (high - low).max(1);
        }
    };
    count(2, false, &|place| same_owner(wanted, place));
    count(2, true, &|place| preferred_nodes(wanted, place));
    count(2, true, &|place| {
        surroundings.preferred.iter().filter(|((k, v), _)| place.label(k) == Some(v)).map(|(_, weight)| weight).sum()
    });
    count(2, false, &|place| {
        let at = |spread: &affinity::Spread| {
            place.label(&spread.topology_key).and_then(|value| spread.counts.get(value)).copied().unwrap_or(0)
        };
        surroundings.soft_spread().map(at).sum()
    });
    count(3, false, &|place| soft_taints(wanted, place));
    for (sum, place) in total.iter_mut().zip(&feasible) {
        *sum += free(wanted, place);
    }
    let high = total.iter().max().copied()?;
    let index = total.iter().position(|score| *score == high)?;
    Some(feasible.swap_remove(index))
}

/// The mean of what would be left of cpu and memory, in percent.
fn free(wanted: &Wanted, place: &Place) -> i64 {
    let has = resources::allocatable(&place.node);
    let mut asked = used(place);
    resources::add(&mut asked, &wanted.requests);
    let left = |name: &str| {
        let has = has.get(name).copied().unwrap_or(0);
        let asked = asked.get(name).copied().unwrap_or(0);
        if has <= 0 { 0 } else { (i128::from(has - asked).max(0) * 100 / i128::from(has)) as i64 }
    };
    (left("cpu") + left("memory")) / 2
}

fn same_owner(wanted: &Wanted, place: &Place) -> i64 {
    let Some(owner) = wanted.object.meta.controller() else { return 0 };
    place.pods.iter().filter(|(pod, _)| pod.meta.controller().is_some_and(|o| o.uid == owner.uid)).count() as i64
}

fn preferred_nodes(wanted: &Wanted, place: &Place) -> i64 {
    let affinity = wanted.spec().affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let terms = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let fits = |t: &&k8s_openapi::api::core::v1::PreferredSchedulingTerm| {
        terms::node_term_matches(&t.preference, place.object)
    };
    terms.into_iter().flatten().filter(fits).map(|t| i64::from(t.weight)).sum()
}

fn soft_taints(wanted: &Wanted, place: &Place) -> i64 {
    let tolerations = wanted.spec().tolerations.as_deref().unwrap_or_default();
    let taints = place.node.spec.as_ref().and_then(|s| s.taints.as_ref());
    let counts = |t: &&k8s_openapi::api::core::v1::Taint| t.effect == "PreferNoSchedule" && !tolerates(tolerations, t);
    taints.into_iter().flatten().filter(counts).count() as i64
}
