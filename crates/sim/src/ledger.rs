//! `Ledger`: the durable history, folded event by event, with what users asked for beside it.
//!
//! The simulator sees everything, so a commit that a crash kept is written down too, although nobody was told of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use stead_api::{Key, KindName, LabelSelector, Object, Revision};
use stead_apiserver::Head;
use stead_control::names::{CLAIM, DISRUPTION_BUDGET, NODE, POD, SERVICE, STATEFUL_SET, VOLUME};
use stead_store::Event;

use crate::checks::{self, Verdict, violated};

/// The kinds whose histories are judged.
const KINDS: &[KindName] = &[POD, NODE, STATEFUL_SET, CLAIM, VOLUME, SERVICE, DISRUPTION_BUDGET];

/// The taint by which a person says that a node will not come back.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

#[derive(Default)]
pub struct Ledger {
    pub revision: Revision,
    objects: BTreeMap<Key, Arc<Object>>,
    /// Uids of pods that a user removed without their node's consent: by force, or with the node.
    pub forced: BTreeSet<String>,
    /// Uids of objects that a user asked to delete.
    pub touched: BTreeSet<String>,
    /// Uids of the pods that the newest commit removed.
    pub just_removed: Vec<String>,
}

impl Ledger {
    pub fn find(&self, kind: KindName, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.objects.get(&Key::new(kind, namespace, name))
    }

    pub fn list(&self, kind: KindName) -> impl Iterator<Item = &Arc<Object>> {
        let from = Key::new(kind, "", "");
        self.objects.range(from..).map(|(_, object)| object).take_while(move |object| object.key.kind == kind)
    }

    pub fn is_touched(&self, object: &Object) -> bool {
        self.touched.contains(&object.meta.uid)
    }

    /// Whether a pod may have to leave because of its node, its own end or an eviction.
    pub fn is_expelled(&self, object: &Object) -> bool {
        let pod = object.view::<Pod>();
        let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
        matches!(phase, "Failed" | "Succeeded") || conditions.into_iter().any(|c| c.type_ == "DisruptionTarget")
    }

    /// Takes a commit's events in order, judging each against the state before it.
    pub fn advance(&mut self, head: &Head) -> Verdict {
        let mut events: Vec<Arc<Event>> = Vec::new();
        for kind in KINDS {
            match head.store.history.since(kind, self.revision) {
                Ok(new) => events.extend(new.cloned()),
                Err(expired) => return violated(&checks::RELIABLE, format!("{kind}: {expired}")),
            }
        }
        events.sort_by_key(|event| event.revision());
        self.just_removed.clear();
        let mut budgets = self.budgets();
        for event in &events {
            self.judge(event, &mut budgets)?;
            self.write(event);
        }
        self.revision = head.store.snapshot.revision();
        Ok(())
    }

    fn judge(&self, event: &Event, budgets: &mut [Budget]) -> Verdict {
        match event.key().kind {
            POD => {
                checks::order_of_creation(self, event)?;
                checks::order_of_removal(self, event)?;
                evicted(event, budgets)
            }
            CLAIM | VOLUME => checks::kept(self, event),
            SERVICE => checks::address(self, event),
            _ => Ok(()),
        }
    }

    fn write(&mut self, event: &Event) {
        let object = &event.object;
        let node_of = |pod: &Object| pod.field("spec.nodeName").unwrap_or_default().to_owned();
        if !event.deleted {
            self.objects.insert(object.key.clone(), Arc::clone(object));
            return;
        }
        self.objects.remove(&object.key);
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
            let k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(asked) = spec.min_available.clone()?
            else {
                return None;
            };
            let pods = self.list(POD).filter(|pod| pod.key.namespace == object.key.namespace);
            let pods = pods.filter(|pod| selector.matches(&pod.meta.labels) && !pod.meta.is_deleting());
            let healthy =
                pods.filter(|pod| checks::is_ready(&pod.view::<Pod>())).map(|pod| pod.meta.uid.clone()).collect();
            Some(Budget { key: object.key.clone(), asked: asked.max(0) as usize, healthy })
        };
        self.list(DISRUPTION_BUDGET).filter_map(budget).collect()
    }
}

struct Budget {
    key: Key,
    asked: usize,
    healthy: BTreeSet<String>,
}

/// Budget: of a pod that an eviction takes.
fn evicted(event: &Event, budgets: &mut [Budget]) -> Verdict {
    let pod = &event.object;
    let starts = pod.meta.is_deleting() && event.old.as_ref().is_some_and(|old| !old.meta.is_deleting());
    let view = pod.view::<Pod>();
    let by_eviction = view
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten())
        .any(|c| c.type_ == "DisruptionTarget" && c.reason.as_deref() == Some("EvictionByEvictionAPI"));
    if !starts || !by_eviction {
        return Ok(());
    }
    for budget in budgets {
        if budget.healthy.remove(&pod.meta.uid) && budget.healthy.len() < budget.asked {
            let left = budget.healthy.len();
            let (key, asked) = (&budget.key, budget.asked);
            return violated(
                &checks::BUDGET,
                format!("{} was evicted: {key} asks for {asked}, {left} are left", pod.key),
            );
        }
    }
    Ok(())
}
