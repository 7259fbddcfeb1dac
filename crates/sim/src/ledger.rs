//! `Ledger`: the durable history, folded event by event, with what users asked for beside it.
//!
//! The simulator sees everything, so a commit that a crash kept is written down too, although nobody was told of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use stead_api::{Key, KindName, LabelSelector, Object, Revision};
use stead_apiserver::Head;
use stead_control::names::{CLAIM, DISRUPTION_BUDGET, NAMESPACE, NODE, POD, SERVICE, STATEFUL_SET, VOLUME};
use stead_store::Event;

use crate::checks::{self, Verdict, Violation, kept, order, owners, rollout, violated};

/// The taint by which a person says that a node will not come back.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

#[derive(Default)]
pub struct Ledger {
    pub revision: Revision,
    objects: BTreeMap<Key, Arc<Object>>,
    keys: BTreeMap<String, Key>,
    /// Uids of pods that a user removed without their node's consent: by force, or with the node.
    pub forced: BTreeSet<String>,
    /// Uids of objects that a user asked to delete or to evict.
    pub touched: BTreeSet<String>,
    /// Uids of objects that were going already, or that had an owner deleted too, when a user asked to delete them, perhaps in another
    /// way.
    pub reconsidered: BTreeSet<String>,
    /// Uids of the pods that the newest commit removed.
    pub just_removed: Vec<String>,
}

impl Ledger {
    pub fn find(&self, kind: KindName, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.objects.get(&Key::new(kind, namespace, name))
    }

    pub fn by_uid(&self, uid: &str) -> Option<&Arc<Object>> {
        self.objects.get(self.keys.get(uid)?)
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values()
    }

    pub fn list(&self, kind: KindName) -> impl Iterator<Item = &Arc<Object>> {
        let from = Key::new(kind, "", "");
        self.objects.range(from..).map(|(_, object)| object).take_while(move |object| object.key.kind == kind)
    }

    /// What names this object as an owner.
    pub fn owned<'a>(&'a self, uid: &'a str) -> impl Iterator<Item = &'a Arc<Object>> {
        self.all().filter(move |object| object.meta.owner_references.iter().any(|owner| owner.uid == uid))
    }

    pub fn is_touched(&self, object: &Object) -> bool {
        self.touched.contains(&object.meta.uid)
    }

    /// Writes down that a user asks to delete an object.
    pub fn touch(&mut self, object: &Object) {
        let is_going = self.by_uid(&object.meta.uid).is_some_and(|known| known.meta.is_deleting());
        let with_owner = object.meta.owner_references.iter().any(|owner| self.touched.contains(&owner.uid));
        if !self.touched.insert(object.meta.uid.clone()) || with_owner || is_going {
            self.reconsidered.insert(object.meta.uid.clone());
        }
    }

    pub fn is_namespace_going(&self, namespace: &str) -> bool {
        self.find(NAMESPACE, "", namespace).is_none_or(|found| found.meta.is_deleting())
    }

    /// Whether an object may go for reasons that lie outside the controller of its kind.
    pub fn is_excused(&self, object: &Object) -> bool {
        let is_expelled = object.key.kind == POD && is_expelled(object);
        is_expelled || self.is_touched(object) || self.is_namespace_going(&object.key.namespace)
    }

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

    /// What is new of some kinds, in order.
    pub fn news(&self, head: &Head, kinds: &BTreeSet<KindName>) -> Result<Vec<Arc<Event>>, Violation> {
        let mut events: Vec<Arc<Event>> = Vec::new();
        for kind in kinds {
            match head.store.history.since(kind, self.revision) {
                Ok(new) => events.extend(new.cloned()),
                Err(expired) => return violated(&checks::RELIABLE, format!("{kind}: {expired}")),
            }
        }
        events.sort_by_key(|event| event.revision());
        Ok(events)
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

    pub fn write(&mut self, event: &Event) {
        let object = &event.object;
        let node_of = |pod: &Object| pod.field("spec.nodeName").unwrap_or_default().to_owned();
        if !event.deleted {
            if event.old.is_none() {
                self.keys.insert(object.meta.uid.clone(), object.key.clone());
            }
            self.objects.insert(object.key.clone(), Arc::clone(object));
            return;
        }
        self.objects.remove(&object.key);
        self.keys.remove(&object.meta.uid);
        match object.key.kind {
            // With its Node a person gives up what runs there.
            NODE => {
                let pods = self.list(POD).filter(|pod| node_of(pod) == *object.key.name);
                let pods: Vec<String> = pods.map(|pod| pod.meta.uid.clone()).collect();
                self.forced.extend(pods);
            }
            POD => {
                let node = node_of(object);
                let given_up = match self.find(NODE, "", &node) {
                    Some(node) => node.json.windows(OUT_OF_SERVICE.len()).any(|part| part == OUT_OF_SERVICE.as_bytes()),
                    None => !node.is_empty(),
                };
                if given_up {
                    self.forced.insert(object.meta.uid.clone());
                }
                self.just_removed.push(object.meta.uid.clone());
            }
            _ => {}
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

/// Whether a pod may have to leave because of its node, its own end or an eviction.
fn is_expelled(object: &Object) -> bool {
    let pod = object.view::<Pod>();
    let mut conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    checks::is_finished(&pod) || conditions.any(|c| c.type_ == "DisruptionTarget")
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
