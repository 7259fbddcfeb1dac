//! HorizontalPodAutoscalers: how many pods a target shall have, by what its pods use.
//!
//! Each is looked at every 15 seconds, and when its spec changes. What pods use is asked for when it is needed (`usage.rs`), so nothing
//! is measured in a cluster without autoscalers. Recommendations and changes of the last minutes are kept in memory alone: after a
//! start the size found counts as recommended, so that no load that was forgotten takes pods away.
//! Metrics of other API servers (Pods, Object, External) are not asked for, and the condition says so.
//! Upstream: pkg/controller/podautoscaler.

mod behavior;
mod metric;
mod pods;
mod replicas;
mod size;
mod target;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde_json::{Value, json};
use stead_api::{Key, Object};

use crate::facts;
use crate::memory::{Memory, Scaling};
use crate::names::AUTOSCALER;
use crate::plan::{Action, Blame, Controller, Note, Plan, Settles, View, Watch};

use target::Target;

/// How often an autoscaler is looked at, and for how long what was measured is good.
const PERIOD_SECONDS: i64 = 15;

pub const CONTROLLER: Controller = Controller {
    name: "horizontal-pod-autoscaler",
    settles: Settles::Always,
    watches: &[Watch { kind: AUTOSCALER, keys: |_, event| vec![event.key().clone()] }],
    reconcile,
};

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let Some(object) = view.snapshot.get(key) else { return plan };
    let scaler = object.view::<HorizontalPodAutoscaler>();
    let before = match view.memory {
        Some(Memory::Scaling(scaling)) => Some(scaling),
        _ => None,
    };
    let same = before.filter(|before| before.generation == object.meta.generation);
    if let Some(due) = same.map(|same| facts::after(same.looked_at, PERIOD_SECONDS)).filter(|due| *due > view.now) {
        plan.wake(due);
        return plan;
    }
    plan.wake(facts::after(view.now, PERIOD_SECONDS));
    if metric::needs_usage(&scaler) && !is_fresh(view, same.map(|same| same.looked_at)) {
        plan.measure = true;
        return plan;
    }
    let mut memory = before.cloned().unwrap_or_else(|| forgotten(view, &scaler));
    memory.looked_at = view.now;
    memory.generation = object.meta.generation;
    let mut told = Told::of(view, object);
    match Target::find(view, &key.namespace, &scaler.spec.scale_target_ref) {
        Ok(target) => scale(view, (object, &scaler), &target, &mut memory, &mut told, &mut plan),
        Err(why) => {
            plan.note(Note::warning(key, "FailedGetScale", why.clone()));
            let message = format!("the HPA controller was unable to get the target's current scale: {why}");
            told.condition("AbleToScale", "False", "FailedGetScale", message);
        }
    }
    plan.remember = Some(Memory::Scaling(memory));
    if let Some(value) = told.news(object) {
        plan.update_status(AUTOSCALER, value);
    }
    plan
}

/// Whether what was measured is newer than the last look, and not old.
fn is_fresh(view: &View, looked_at: Option<Timestamp>) -> bool {
    view.measured.is_some_and(|measured| {
        facts::after(measured.at, PERIOD_SECONDS) > view.now
            && looked_at.is_none_or(|looked_at| measured.at > looked_at)
    })
}

/// What is known at the first look of a life.
fn forgotten(view: &View, scaler: &HorizontalPodAutoscaler) -> Scaling {
    let last = scaler.status.as_ref().and_then(|status| status.last_scale_time.as_ref());
    Scaling {
        looked_at: view.now,
        generation: 0,
        recommendations: Vec::new(),
        changes: Vec::new(),
        forgotten: last.map(|last| last.0.min(view.now)),
    }
}

fn scale(
    view: &View,
    (object, scaler): (&Arc<Object>, &HorizontalPodAutoscaler),
    target: &Target,
    memory: &mut Scaling,
    told: &mut Told,
    plan: &mut Plan,
) {
    let message = "the HPA controller was able to get the target's current scale";
    told.condition("AbleToScale", "True", "SucceededGetScale", message);
    let current = target.replicas;
    if memory.recommendations.is_empty() {
        memory.recommendations.push((view.now, current));
    }
    let low = scaler.spec.min_replicas.unwrap_or(1);
    let (mut wanted, mut reason) = (current, String::new());
    told.status["currentReplicas"] = json!(current);
    told.status["currentMetrics"] = Value::Null;
    if current == 0 && low != 0 {
        let message = "scaling is disabled since the replica count of the target is zero";
        told.condition("ScalingActive", "False", "ScalingDisabled", message);
    } else if current > scaler.spec.max_replicas {
        wanted = scaler.spec.max_replicas;
        reason = "Current number of replicas above Spec.MaxReplicas".into();
    } else if current < low {
        wanted = low;
        reason = "Current number of replicas below Spec.MinReplicas".into();
    } else {
        let found = metric::of_all(view, object, scaler, target, plan);
        told.status["currentMetrics"] = json!(found.current);
        let (status, why, message) = found.condition;
        told.condition("ScalingActive", status, why, message);
        let Some((recommended, metric)) = found.recommended else {
            let failure = found.failure.unwrap_or_default();
            return plan.note(Note::warning(&object.key, "FailedComputeMetricsReplicas", failure));
        };
        if recommended > current {
            reason = format!("{metric} above target");
        } else if recommended < current {
            reason = "All metrics below target".into();
        }
        let sizes = size::Sizes { current, recommended, low, high: scaler.spec.max_replicas };
        let size = size::settle(scaler.spec.behavior.as_ref(), sizes, memory, view.now);
        let (why, message) = size.able;
        told.condition("AbleToScale", "True", why, message);
        let (status, why, message) = size.limited;
        told.condition("ScalingLimited", status, why, message);
        wanted = size.wanted;
    }
    told.status["desiredReplicas"] = json!(wanted);
    if wanted != current {
        told.status["lastScaleTime"] = facts::time(view.now);
        let message = format!("the HPA controller was able to update the target scale to {wanted}");
        told.condition("AbleToScale", "True", "SucceededRescale", message);
        if scaler.spec.behavior.is_some() {
            memory.changes.push((view.now, wanted - current));
        }
        resize(&object.key, target, wanted, &reason, plan);
    }
}

fn resize(key: &Key, target: &Target, wanted: i32, reason: &str, plan: &mut Plan) {
    let message = format!("New size: {wanted}; reason: {reason}");
    plan.blame = Some(Blame {
        about: key.clone(),
        condition: "AbleToScale",
        status: "False",
        reason: "FailedUpdateScale",
        prefix: "the HPA controller was unable to update the target scale: ",
        replaces: true,
    });
    plan.actions.push(Action::UpdateSubresource {
        kind: target.kind,
        subresource: "scale",
        value: target.resized(wanted),
        on_failure: Some(Note::warning(key, "FailedRescale", format!("{message}; error: {{error}}"))),
        on_success: Some(Note::normal(key, "SuccessfulRescale", message)),
    });
}

/// The status as it shall be told.
struct Told {
    status: Value,
    conditions: Vec<Value>,
    now: Value,
}

impl Told {
    fn of(view: &View, object: &Object) -> Told {
        let mut status = object.value()["status"].take();
        if !status.is_object() {
            status = json!({"currentMetrics": null, "desiredReplicas": 0});
        }
        status["observedGeneration"] = json!(object.meta.generation);
        let conditions = facts::list(&status["conditions"]).to_vec();
        Told { status, conditions, now: facts::time(view.now) }
    }

    fn condition(&mut self, kind: &str, status: &str, reason: &str, message: impl Into<String>) {
        let condition = json!({"type": kind, "status": status, "lastTransitionTime": self.now, "reason": reason,
            "message": message.into()});
        facts::set_condition(&mut self.conditions, condition);
    }

    /// The object with the status, if that is another than before.
    fn news(mut self, object: &Object) -> Option<Value> {
        self.status["conditions"] = json!(self.conditions);
        let mut value = object.value();
        if value["status"] == self.status {
            return None;
        }
        value["status"] = self.status;
        Some(value)
    }
}
