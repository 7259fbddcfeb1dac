//! A StatefulSet and its pods, with what the phases ask of them.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;
use stead_api::{LabelSelector, Object};

use crate::facts::{self, Availability};
use crate::plan::{Note, Plan, View};

/// On pods: the name of their revision (B-02).
pub const REVISION_LABEL: &str = "controller-revision-hash";

pub fn selector(set: &StatefulSet) -> LabelSelector {
    let selector = set.spec.as_ref().map(|spec| &spec.selector);
    LabelSelector::from_typed(selector).unwrap_or(LabelSelector::Nothing)
}

/// A StatefulSet with everything that its phases ask for.
pub struct Set<'a> {
    pub view: View<'a>,
    pub object: &'a Arc<Object>,
    pub typed: Arc<StatefulSet>,
    /// The JSON, for the template exactly as the user wrote it.
    pub value: Value,
    pub selector: LabelSelector,
}

impl<'a> Set<'a> {
    pub fn of(view: View<'a>, object: &'a Arc<Object>) -> Set<'a> {
        let typed = object.view::<StatefulSet>();
        let selector = selector(&typed);
        Set { view, object, value: object.value(), typed, selector }
    }

    pub fn name(&self) -> &'a str {
        &self.object.key.name
    }

    pub fn namespace(&self) -> &'a str {
        &self.object.key.namespace
    }

    pub fn owner_reference(&self) -> Value {
        facts::controller_reference("apps/v1", "StatefulSet", self.object)
    }

    pub fn spec(&self) -> Option<&StatefulSetSpec> {
        self.typed.spec.as_ref()
    }

    pub fn replicas(&self) -> i64 {
        i64::from(self.spec().and_then(|s| s.replicas).unwrap_or(1).max(0))
    }

    /// The first ordinal (S-12).
    pub fn start(&self) -> i64 {
        i64::from(self.spec().and_then(|s| s.ordinals.as_ref()).and_then(|o| o.start).unwrap_or(0))
    }

    pub fn has_ordinal(&self, ordinal: i64) -> bool {
        (self.start()..self.start() + self.replicas()).contains(&ordinal)
    }

    pub fn is_ordered(&self) -> bool {
        self.spec().and_then(|s| s.pod_management_policy.as_deref()) != Some("Parallel")
    }

    pub fn is_on_delete(&self) -> bool {
        let strategy = self.spec().and_then(|s| s.update_strategy.as_ref());
        strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete")
    }

    pub fn min_ready_seconds(&self) -> i32 {
        self.spec().and_then(|s| s.min_ready_seconds).unwrap_or(0)
    }
}

/// A pod of the set.
pub struct Member<'a> {
    pub object: &'a Arc<Object>,
    pub pod: Arc<Pod>,
    pub ordinal: i64,
    pub availability: Availability,
}

impl Member<'_> {
    pub fn is_terminating(&self) -> bool {
        self.object.meta.is_deleting()
    }

    pub fn is_running_and_ready(&self) -> bool {
        facts::phase(&self.pod) == "Running" && self.availability != Availability::NotReady
    }

    pub fn is_running_and_available(&self) -> bool {
        facts::phase(&self.pod) == "Running" && self.availability == Availability::Available
    }

    /// Running, ready and not on its way out.
    pub fn is_healthy(&self) -> bool {
        self.is_running_and_ready() && !self.is_terminating()
    }

    pub fn revision(&self) -> &str {
        self.object.meta.label(REVISION_LABEL).unwrap_or_default()
    }
}

pub fn wake_when_available(member: &Member, plan: &mut Plan) {
    if let Availability::At(at) = member.availability {
        plan.wake(at);
    }
}

/// An event about the set: `SuccessfulCreate` and its like (B-36).
pub fn note(set: &Set, is_success: bool, reason: &'static str, message: String) -> Note {
    match is_success {
        true => Note::normal(&set.object.key, reason, message),
        false => Note::warning(&set.object.key, reason, message),
    }
}
