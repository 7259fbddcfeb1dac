//! Judges commits event by event against the ledger before them.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use stead_api::{Key, KindName, LabelSelector, Object};
use stead_apiserver::Head;
use stead_control::names::{CLAIM, DISRUPTION_BUDGET, POD, SERVICE, STATEFUL_SET, VOLUME};
use stead_store::Event;

use crate::checks::{self, Verdict, kept, order, owners, rollout, violated};
use crate::ledger::Ledger;

impl Ledger {
    /// Takes a commit's events in order, judging each against the state before it. `kinds` are those that it wrote.
    pub fn advance(&mut self, head: &Head, kinds: &BTreeSet<KindName>, now: Timestamp) -> Verdict {
        let events = self.news(head, kinds)?;
        self.just_removed.clear();
        let mut budgets = if kinds.contains(POD) { self.budgets() } else { Vec::new() };
        for event in &events {
            self.judge(event, now)?;
            evicted(event, &mut budgets)?;
            self.write(event);
        }
        self.revision = head.store.snapshot.revision();
        Ok(())
    }

    /// Judges the state after a commit that left the controllers nothing to do.
    pub fn rest(&self, kinds: &BTreeSet<KindName>) -> Verdict {
        let moves_sets = [POD, STATEFUL_SET, CLAIM].iter().any(|kind| kinds.contains(kind));
        if moves_sets { order::of_parallel(self) } else { Ok(()) }
    }

    pub fn judge(&self, event: &Event, now: Timestamp) -> Verdict {
        owners::of_finality(event)?;
        owners::of_namespace(self, event)?;
        owners::of_removal(self, event)?;
        owners::of_waiting(self, event)?;
        match event.key().kind {
            POD => {
                order::of_creation(self, event)?;
                order::of_removal(self, event)?;
                order::of_count(self, event)?;
                rollout::of_creation(self, event)?;
                rollout::of_removal(self, event, now)
            }
            CLAIM => {
                kept::of_binding(self, event)?;
                kept::of_removal(self, event)
            }
            VOLUME => kept::of_removal(self, event),
            SERVICE => owners::of_address(self, event),
            _ => Ok(()),
        }
    }

    /// The budgets and the pods under them before a commit.
    fn budgets(&self) -> Vec<Budget> {
        let budget = |object: &Arc<Object>| {
            let view = object.view::<PodDisruptionBudget>();
            let spec = view.spec.as_ref()?;
            let selector = LabelSelector::from_typed(spec.selector.as_ref()).ok()?;
            let pods = self.list(POD).filter(|pod| pod.key.namespace == object.key.namespace);
            let pods: Vec<_> = pods.filter(|pod| selector.matches(&pod.meta.labels)).collect();
            let asked = match (&spec.min_available, &spec.max_unavailable) {
                (Some(least), _) => count(least, || self.expected(&pods))?,
                (None, Some(most)) => self.expected(&pods)? - count(most, || self.expected(&pods))?,
                (None, None) => return None,
            };
            let healthy = pods.iter().filter(|pod| !pod.meta.is_deleting() && checks::is_ready(&pod.view::<Pod>()));
            let healthy = healthy.map(|pod| pod.meta.uid.clone()).collect();
            Some(Budget { key: object.key.clone(), asked: asked.max(0) as usize, healthy, broken: BTreeSet::new() })
        };
        self.list(DISRUPTION_BUDGET).filter_map(budget).collect()
    }

    /// How many pods the sets of these pods want; None when one has no set.
    fn expected(&self, pods: &[&Arc<Object>]) -> Option<i32> {
        let owner = |pod: &&Arc<Object>| pod.meta.controller().map(|owner| owner.uid.clone());
        let owners: Option<BTreeSet<String>> = pods.iter().map(owner).collect();
        let replicas = |uid: String| {
            let set = self.by_uid(&uid).filter(|set| set.key.kind == STATEFUL_SET)?;
            set.view::<StatefulSet>().spec.as_ref()?.replicas
        };
        owners?.into_iter().map(replicas).sum()
    }
}

/// A number, or a share of what is expected, rounded up.
fn count(limit: &IntOrString, expected: impl Fn() -> Option<i32>) -> Option<i32> {
    match limit {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(percent) => {
            let percent: i32 = percent.trim_end_matches('%').parse().ok()?;
            Some((percent * expected()? + 99) / 100)
        }
    }
}

struct Budget {
    key: Key,
    asked: usize,
    healthy: BTreeSet<String>,
    /// Those that the commit itself said to be broken; they may be evicted.
    broken: BTreeSet<String>,
}

/// Budget: of a pod that an eviction takes. What else the same commit took was not known yet when the eviction was granted.
fn evicted(event: &Event, budgets: &mut [Budget]) -> Verdict {
    let pod = &event.object;
    if pod.key.kind != POD || budgets.is_empty() {
        return Ok(());
    }
    let view = pod.view::<Pod>();
    let mut conditions = view.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let by_eviction =
        conditions.any(|c| c.type_ == "DisruptionTarget" && c.reason.as_deref() == Some("EvictionByEvictionAPI"));
    let goes = checks::begins_to_go(event);
    for budget in budgets {
        if !goes && !checks::is_ready(&view) {
            budget.broken.insert(pod.meta.uid.clone());
        }
        let counts = goes && by_eviction && !budget.broken.contains(&pod.meta.uid);
        if counts && budget.healthy.remove(&pod.meta.uid) && budget.healthy.len() < budget.asked {
            let left = budget.healthy.len();
            let (key, asked) = (&budget.key, budget.asked);
            let detail = format!("{} was evicted: {key} asks for {asked}, {left} are left", pod.key);
            return violated(&checks::BUDGET, detail);
        }
    }
    Ok(())
}
