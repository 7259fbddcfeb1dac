//! Pod affinity and anti-affinity, topology spread.
//!
//! `Surroundings` is made once per pod to be placed and holds what concerns the whole cluster: where the pods are that its terms speak
//! of, and whose terms speak against it. Pods without such terms cost one pass over the cluster's pods, with a cheap test each.
//! Upstream: plugins interpodaffinity, podtopologyspread.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Affinity, Pod, PodAffinityTerm, TopologySpreadConstraint};
use stead_api::selector::{Operator, Requirement};
use stead_api::{LabelSelector, Object};

use super::place::{Place, Wanted};
use super::terms::{matches, node_matches, selector, tolerates};
use crate::facts;
use crate::names::{NAMESPACE, NODE, POD};
use crate::plan::View;

pub const NO_AFFINITY: &str = "node(s) didn't match pod affinity rules";
const NO_ANTI_AFFINITY: &str = "node(s) didn't match pod anti-affinity rules";
const EXISTING_ANTI_AFFINITY: &str = "node(s) didn't satisfy existing pods anti-affinity rules";
const NO_SPREAD: &str = "node(s) didn't match pod topology spread constraints";
const NO_SPREAD_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";

/// A term with its selector parsed: which pods it speaks of, and in which domain.
struct Term<'t> {
    topology_key: &'t str,
    selector: LabelSelector,
    namespaces: Vec<&'t str>,
    namespace_selector: Option<LabelSelector>,
    own_namespace: String,
}

impl<'t> Term<'t> {
    fn of(term: &'t PodAffinityTerm, owner: &Object) -> Term<'t> {
        let mut selector = selector(term.label_selector.as_ref());
        for (keys, operator) in [(&term.match_label_keys, Operator::In), (&term.mismatch_label_keys, Operator::NotIn)] {
            selector = with_own_labels(selector, keys.as_deref().unwrap_or_default(), operator, owner);
        }
        Term {
            topology_key: &term.topology_key,
            selector,
            namespaces: term.namespaces.iter().flatten().map(String::as_str).collect(),
            namespace_selector: term.namespace_selector.as_ref().map(|s| self::selector(Some(s))),
            own_namespace: owner.key.namespace.to_string(),
        }
    }

    fn speaks_of(&self, view: &View, pod: &Object) -> bool {
        let namespace = &*pod.key.namespace;
        let in_namespace = if self.namespaces.is_empty() && self.namespace_selector.is_none() {
            namespace == self.own_namespace
        } else {
            self.namespaces.contains(&namespace)
                || self.namespace_selector.as_ref().is_some_and(|selector| {
                    view.get(NAMESPACE, "", namespace).is_some_and(|object| matches(selector, object))
                })
        };
        in_namespace && matches(&self.selector, pod)
    }
}

/// `matchLabelKeys`: the pod's own values of these labels join the selector.
fn with_own_labels(selector: LabelSelector, keys: &[String], operator: Operator, owner: &Object) -> LabelSelector {
    let own = keys.iter().filter_map(|key| Some((key, owner.meta.label(key)?)));
    let more = own.filter_map(|(key, value)| Requirement::new(key, operator, vec![value.to_owned()]).ok());
    match selector {
        LabelSelector::Nothing => LabelSelector::Nothing,
        other => LabelSelector::of(other.requirements().iter().cloned().chain(more).collect()),
    }
}

fn required(terms: Option<&Vec<PodAffinityTerm>>) -> &[PodAffinityTerm] {
    terms.map_or(&[], Vec::as_slice)
}

fn anti_affinity(affinity: Option<&Affinity>) -> &[PodAffinityTerm] {
    let anti = affinity.and_then(|a| a.pod_anti_affinity.as_ref());
    required(anti.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()))
}

fn pod_affinity(affinity: Option<&Affinity>) -> &[PodAffinityTerm] {
    let near = affinity.and_then(|a| a.pod_affinity.as_ref());
    required(near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()))
}

/// A topology domain: a label key and its value.
type Domain = (String, String);

pub struct Surroundings {
    /// For each required affinity term: the domains with a pod it speaks of. Empty list: no such pod anywhere.
    near: Vec<(String, BTreeSet<String>)>,
    /// The incoming pod matches its own affinity terms: the first of a group may go anywhere.
    may_be_first: bool,
    /// Domains that the incoming pod's anti-affinity forbids, and those that existing pods' does.
    forbidden: BTreeSet<Domain>,
    defended: BTreeSet<Domain>,
    spread: Vec<Spread>,
    /// By domain, the weight of preferred affinity (negative for anti-affinity).
    pub preferred: BTreeMap<Domain, i64>,
}

/// One topology spread constraint with the matching pods counted by domain.
pub struct Spread {
    pub topology_key: String,
    pub counts: BTreeMap<String, i64>,
    max_skew: i64,
    min: i64,
    counts_itself: i64,
    pub is_required: bool,
}

impl Surroundings {
    pub fn of(wanted: &Wanted, nodes: &[&Arc<Object>]) -> Surroundings {
        let view = &wanted.view;
        let affinity = wanted.spec().affinity.as_ref();
        let near: Vec<Term> = pod_affinity(affinity).iter().map(|t| Term::of(t, wanted.object)).collect();
        let apart: Vec<Term> = anti_affinity(affinity).iter().map(|t| Term::of(t, wanted.object)).collect();
        let mut found = Surroundings {
            may_be_first: !near.is_empty() && near.iter().all(|term| term.speaks_of(view, wanted.object)),
            near: near.iter().map(|term| (term.topology_key.to_owned(), BTreeSet::new())).collect(),
            forbidden: BTreeSet::new(),
            defended: BTreeSet::new(),
            spread: Vec::new(),
            preferred: BTreeMap::new(),
        };
        let preferences = preferences(wanted);
        for object in view.snapshot.list(POD, "") {
            let pod = object.view::<Pod>();
            let theirs = anti_affinity(pod.spec.as_ref().and_then(|s| s.affinity.as_ref()));
            if near.is_empty() && apart.is_empty() && theirs.is_empty() && preferences.is_empty() {
                continue;
            }
            let Some(node) = node_of(view, &pod).filter(|_| wanted.counts(object, &pod)) else { continue };
            let domain = |key: &str| node.meta.label(key).map(|value| (key.to_owned(), value.to_owned()));
            for (term, (_, domains)) in near.iter().zip(&mut found.near) {
                if term.speaks_of(view, object) {
                    domains.extend(domain(term.topology_key).map(|(_, value)| value));
                }
            }
            let meets = apart.iter().filter(|term| term.speaks_of(view, object));
            found.forbidden.extend(meets.filter_map(|term| domain(term.topology_key)));
            let theirs = theirs.iter().map(|t| Term::of(t, object)).filter(|t| t.speaks_of(view, wanted.object));
            found.defended.extend(theirs.filter_map(|term| domain(term.topology_key)));
            for (term, weight) in preferences.iter().filter(|(term, _)| term.speaks_of(view, object)) {
                if let Some(domain) = domain(term.topology_key) {
                    *found.preferred.entry(domain).or_insert(0) += weight;
                }
            }
        }
        let constraints = wanted.spec().topology_spread_constraints.iter().flatten();
        found.spread = constraints.map(|constraint| Spread::of(wanted, constraint, nodes)).collect();
        found
    }

    /// Whether it would be another without some of the pods.
    pub fn rest_on_pods(&self) -> bool {
        !(self.near.is_empty() && self.forbidden.is_empty() && self.defended.is_empty() && self.spread.is_empty())
    }

    pub fn check_affinity(&self, _wanted: &Wanted, place: &Place) -> Result<(), &'static str> {
        let is_in = |domains: &BTreeSet<Domain>| domains.iter().any(|(key, value)| place.label(key) == Some(value));
        if is_in(&self.defended) {
            return Err(EXISTING_ANTI_AFFINITY);
        }
        if is_in(&self.forbidden) {
            return Err(NO_ANTI_AFFINITY);
        }
        let nobody_anywhere = self.near.iter().all(|(_, domains)| domains.is_empty());
        for (key, domains) in &self.near {
            let Some(value) = place.label(key) else { return Err(NO_AFFINITY) };
            let is_first = self.may_be_first && nobody_anywhere;
            if !domains.contains(value) && !is_first {
                return Err(NO_AFFINITY);
            }
        }
        Ok(())
    }

    pub fn check_spread(&self, _wanted: &Wanted, place: &Place) -> Result<(), &'static str> {
        for spread in self.spread.iter().filter(|s| s.is_required) {
            let Some(value) = place.label(&spread.topology_key) else { return Err(NO_SPREAD_LABEL) };
            let count = spread.counts.get(value).copied().unwrap_or(0) + spread.counts_itself;
            if count - spread.min > spread.max_skew {
                return Err(NO_SPREAD);
            }
        }
        Ok(())
    }

    pub fn soft_spread(&self) -> impl Iterator<Item = &Spread> {
        self.spread.iter().filter(|s| !s.is_required)
    }
}

fn node_of<'a>(view: &View<'a>, pod: &Pod) -> Option<&'a Arc<Object>> {
    view.get(NODE, "", pod.spec.as_ref()?.node_name.as_deref().filter(|n| !n.is_empty())?)
}

fn preferences<'w>(wanted: &'w Wanted) -> Vec<(Term<'w>, i64)> {
    let affinity = wanted.spec().affinity.as_ref();
    let near = affinity.and_then(|a| a.pod_affinity.as_ref());
    let near = near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let apart = affinity.and_then(|a| a.pod_anti_affinity.as_ref());
    let apart = apart.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let weighted = near.into_iter().flatten().map(|t| (t, 1)).chain(apart.into_iter().flatten().map(|t| (t, -1)));
    weighted.map(|(t, sign)| (Term::of(&t.pod_affinity_term, wanted.object), sign * i64::from(t.weight))).collect()
}

impl Spread {
    fn of(wanted: &Wanted, constraint: &TopologySpreadConstraint, nodes: &[&Arc<Object>]) -> Spread {
        let view = &wanted.view;
        let key = &constraint.topology_key;
        let keys = constraint.match_label_keys.as_deref().unwrap_or_default();
        let selector = with_own_labels(selector(constraint.label_selector.as_ref()), keys, Operator::In, wanted.object);
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        for node in nodes.iter().filter(|node| counts_for(constraint, wanted, node)) {
            let Some(value) = node.meta.label(key) else { continue };
            let pods = facts::with_field(view, POD, "spec.nodeName", &node.key.name);
            let same = pods.iter().filter(|pod| {
                pod.key.namespace == wanted.object.key.namespace
                    && !pod.meta.is_deleting()
                    && wanted.counts(pod, &pod.view::<Pod>())
                    && matches(&selector, pod)
            });
            *counts.entry(value.to_owned()).or_insert(0) += same.count() as i64;
        }
        let enough = counts.len() as i64 >= i64::from(constraint.min_domains.unwrap_or(1));
        Spread {
            topology_key: key.clone(),
            min: if enough { counts.values().min().copied().unwrap_or(0) } else { 0 },
            counts,
            max_skew: i64::from(constraint.max_skew),
            counts_itself: i64::from(matches(&selector, wanted.object)),
            is_required: constraint.when_unsatisfiable != "ScheduleAnyway",
        }
    }
}

/// Which nodes a spread constraint looks at: by default those that node affinity allows, whatever their taints.
fn counts_for(constraint: &TopologySpreadConstraint, wanted: &Wanted, node: &Arc<Object>) -> bool {
    let honours_affinity = constraint.node_affinity_policy.as_deref() != Some("Ignore");
    let honours_taints = constraint.node_taints_policy.as_deref() == Some("Honor");
    let tolerations = wanted.spec().tolerations.as_deref().unwrap_or_default();
    let is_tolerated = || {
        let typed = node.view::<k8s_openapi::api::core::v1::Node>();
        let taints = typed.spec.as_ref().and_then(|s| s.taints.as_ref());
        taints.into_iter().flatten().all(|t| t.effect == "PreferNoSchedule" || tolerates(tolerations, t))
    };
    (!honours_affinity || node_matches(wanted.spec(), node)) && (!honours_taints || is_tolerated())
}
