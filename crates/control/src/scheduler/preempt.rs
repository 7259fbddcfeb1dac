//! Room for a pod, taken from pods of lower priority.
//!
//! On each node that might do, all pods of lower priority are imagined gone, then taken back one by one, the more important first, as
//! long as the pod still fits: what is left are the victims. Of the nodes, the one whose victims are least is taken: the fewest
//! protected by a disruption budget, then the lowest highest priority, the lowest sum, the fewest, the one whose most important
//! victim started last.
//!
//! Guarantees: nobody of the same or a higher priority goes; a pod that is on its way out is preferred to one that is not and is not
//! counted as a victim, so planning again while victims end takes no more of them, whatever is remembered.
//! Upstream: pkg/scheduler/framework/preemption and the plugin defaultpreemption.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};
use stead_api::{LabelSelector, Object};

use super::affinity::Surroundings;
use super::filter;
use super::place::{Place, Wanted, nominated, priority};
use crate::facts;
use crate::names::{DISRUPTION_BUDGET, NODE, POD};
use crate::plan::{Note, Plan};

/// On how many nodes victims are looked for.
const NODES_MAX: usize = 32;

pub enum Outcome<'a> {
    Victims(Victims<'a>),
    /// Room is being made already, or may not be made: why.
    Waits(String),
    /// No victims would help: the reasons with the number of nodes each.
    InVain(BTreeMap<String, usize>),
}

/// What has to go from a node for the pod to fit; empty when all of it is going already.
pub struct Victims<'a> {
    pub node: &'a Arc<Object>,
    pods: Vec<Victim<'a>>,
    violations: usize,
}

#[derive(Clone)]
struct Victim<'a> {
    object: &'a Arc<Object>,
    pod: Arc<Pod>,
}

impl Victim<'_> {
    fn priority(&self) -> i32 {
        priority(&self.pod)
    }

    fn started(&self) -> Option<Timestamp> {
        self.pod.status.as_ref()?.start_time.as_ref().map(|t| t.0)
    }

    /// Sorts the pods that are to be kept first before the others.
    fn rank(&self) -> (bool, Reverse<i32>, Timestamp) {
        (self.object.meta.is_deleting(), Reverse(self.priority()), self.started().unwrap_or(Timestamp::MAX))
    }
}

/// What would make room for a pod on one of the nodes on which pods stand in its way.
pub fn find<'a>(wanted: &Wanted<'a>, nodes: &[&'a Arc<Object>]) -> Outcome<'a> {
    if wanted.spec().preemption_policy.as_deref() == Some("Never") {
        return Outcome::Waits("not eligible due to preemptionPolicy=Never.".into());
    }
    if is_being_cleared(wanted) {
        return Outcome::Waits("not eligible due to a terminating pod on the nominated node.".into());
    }
    let all: Vec<&Arc<Object>> = wanted.view.snapshot.list(NODE, "").collect();
    let present = Surroundings::of(wanted, &all);
    let trials = Trials { present: (!present.rest_on_pods()).then_some(present), all };
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut best: Option<Victims> = None;
    for node in nodes.iter().take(NODES_MAX) {
        match trials.victims(wanted, node) {
            Ok(found) if best.as_ref().is_none_or(|best| found.cost() < best.cost()) => best = Some(found),
            Ok(_) => {}
            Err(why) => why.into_iter().for_each(|reason| *reasons.entry(reason).or_insert(0) += 1),
        }
    }
    match best {
        Some(victims) => Outcome::Victims(victims),
        None => Outcome::InVain(reasons),
    }
}

/// Whether victims of this pod are still ending.
fn is_being_cleared(wanted: &Wanted) -> bool {
    let Some(node) = nominated(&wanted.pod).and_then(|name| wanted.view.get(NODE, "", name)) else { return false };
    let ends = |(object, pod): &(&Arc<Object>, Arc<Pod>)| {
        let condition = facts::pod_condition(pod, "DisruptionTarget");
        object.meta.is_deleting()
            && priority(pod) < wanted.priority()
            && condition.is_some_and(|c| c.status == "True" && c.reason.as_deref() == Some("PreemptionByScheduler"))
    };
    Place::of(wanted, node).pods.iter().any(ends)
}

impl Victims<'_> {
    /// By what nodes are compared, the least first.
    fn cost(&self) -> (usize, i32, i64, usize, Reverse<Option<Timestamp>>) {
        let highest = self.pods.iter().map(Victim::priority).max().unwrap_or(i32::MIN);
        // Each counts, also those of negative priority.
        let sum = self.pods.iter().map(|v| i64::from(v.priority()) - i64::from(i32::MIN)).sum();
        let of_highest = self.pods.iter().filter(|v| v.priority() == highest);
        let earliest = of_highest.map(|v| v.started().unwrap_or(Timestamp::MAX)).min();
        (self.violations, highest, sum, self.pods.len(), Reverse(earliest))
    }
}

/// What fits where, were some pods gone.
struct Trials<'a> {
    all: Vec<&'a Arc<Object>>,
    /// Holds in every trial, if no rule about other pods concerns the wanted one.
    present: Option<Surroundings>,
}

impl<'a> Trials<'a> {
    /// The least that has to go from one node.
    ///
    /// # Errors
    /// Why nothing that may go would help.
    fn victims(&self, wanted: &Wanted<'a>, node: &'a Arc<Object>) -> Result<Victims<'a>, Vec<String>> {
        let mut lower: Vec<Victim> = Place::of(wanted, node)
            .pods
            .into_iter()
            .map(|(object, pod)| Victim { object, pod })
            .filter(|victim| victim.priority() < wanted.priority())
            .collect();
        if lower.is_empty() {
            return Err(vec!["No preemption victims found for incoming pod".into()]);
        }
        lower.sort_by_key(Victim::rank);
        let mut trial = wanted.clone();
        trial.without.extend(lower.iter().map(|victim| victim.object.key.clone()));
        self.fits(&trial, node)?;
        let protected = protected(wanted, &lower);
        let (guarded, free): (Vec<&Victim>, Vec<&Victim>) =
            lower.iter().partition(|victim| protected.contains(victim.object.meta.uid.as_str()));
        let (mut gone, mut violations) = (Vec::new(), 0);
        for victim in guarded.iter().chain(&free) {
            trial.without.remove(&victim.object.key);
            if self.fits(&trial, node).is_ok() {
                continue;
            }
            trial.without.insert(victim.object.key.clone());
            if !victim.object.meta.is_deleting() {
                violations += usize::from(protected.contains(victim.object.meta.uid.as_str()));
                gone.push((*victim).clone());
            }
        }
        Ok(Victims { node, pods: gone, violations })
    }

    fn fits(&self, trial: &Wanted<'a>, node: &'a Arc<Object>) -> Result<(), Vec<String>> {
        let place = Place::of(trial, node);
        let found = match &self.present {
            Some(present) => filter::check(trial, &place, present),
            None => filter::check(trial, &place, &Surroundings::of(trial, &self.all)),
        };
        found.map_err(|refusal| refusal.reasons)
    }
}

/// The uids of the pods that a budget would miss.
fn protected<'v>(wanted: &Wanted, pods: &'v [Victim]) -> BTreeSet<&'v str> {
    let budgets: Vec<_> = wanted.view.snapshot.list(DISRUPTION_BUDGET, "").collect();
    let typed: Vec<Arc<PodDisruptionBudget>> = budgets.iter().map(|budget| budget.view()).collect();
    let allowed =
        |budget: &PodDisruptionBudget| budget.status.as_ref().and_then(|s| s.disruptions_allowed).unwrap_or(0);
    let mut left: Vec<i32> = typed.iter().map(|budget| allowed(budget)).collect();
    let mut protected = BTreeSet::new();
    for victim in pods.iter().filter(|victim| !victim.object.meta.is_deleting()) {
        for ((object, budget), left) in budgets.iter().zip(&typed).zip(&mut left) {
            let disrupted = budget.status.as_ref().and_then(|s| s.disrupted_pods.as_ref());
            let is_granted = disrupted.is_some_and(|all| all.contains_key(&*victim.object.key.name));
            if object.key.namespace != victim.object.key.namespace || is_granted || !guards(budget, victim.object) {
                continue;
            }
            *left -= 1;
            if *left < 0 {
                protected.insert(victim.object.meta.uid.as_str());
            }
        }
    }
    protected
}

/// A selector that is empty guards nothing here, as upstream.
fn guards(budget: &PodDisruptionBudget, pod: &Object) -> bool {
    let selector = LabelSelector::from_typed(budget.spec.as_ref().and_then(|s| s.selector.as_ref()));
    let selector = selector.unwrap_or(LabelSelector::Nothing);
    !selector.requirements().is_empty() && selector.matches(&pod.meta.labels)
}

/// Takes the victims away, and the promise of the node from those of lower priority that wait for it.
pub fn evict(wanted: &Wanted, victims: &Victims) -> Plan {
    let mut plan = Plan::none();
    let (uid, node) = (&wanted.object.meta.uid, &victims.node.key.name);
    for victim in &victims.pods {
        let mut value = victim.object.value();
        let mut conditions = facts::list(&value["status"]["conditions"]).to_vec();
        let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
            "message": format!("{}: preempting to accommodate a higher priority pod", super::NAME),
            "lastTransitionTime": facts::time(wanted.view.now)});
        if facts::set_condition(&mut conditions, condition) {
            value["status"]["conditions"] = json!(conditions);
            plan.update_status(POD, value);
        }
        let message = format!("Preempted by pod {uid} on node {node}");
        plan.delete_noted(victim.object, Some(Note::normal(&victim.object.key, "Preempted", message)), None);
    }
    for other in facts::with_field(&wanted.view, POD, "status.nominatedNodeName", node) {
        if priority(&other.view::<Pod>()) < wanted.priority() {
            let mut value = other.value();
            nominate(&mut value, "");
            plan.update_status(POD, value);
        }
    }
    plan
}

/// Sets `status.nominatedNodeName`; empty takes it away.
pub fn nominate(pod: &mut Value, node: &str) {
    let Some(status) = pod["status"].as_object_mut() else { return };
    match node {
        "" => status.shift_remove("nominatedNodeName"),
        node => status.insert("nominatedNodeName".into(), json!(node)),
    };
}
