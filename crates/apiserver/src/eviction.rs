//! Eviction: deletion that respects PodDisruptionBudgets.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};
use stead_api::{Cause, LabelSelector, Object, Remarks, Request, Status};
use stead_kinds::Kind;

use crate::attempt::Attempt;
use crate::condition::set_condition;
use crate::delete::{self, DeleteOptions};
use crate::draft::{Draft, time_text};
use crate::halt::Halt;
use crate::subresource::success;
use crate::{Context, Reply, admission, target, unstored};

const BUDGETS: &str = "poddisruptionbudgets.policy";
/// A budget that records more disrupted pods than this is refused until its controller has cleaned up.
const DISRUPTED_PODS_MAX: usize = 2000;
const RETRY_SECONDS: u32 = 10;
const EVICTION: (&str, &str, &str) = ("policy", "v1", "Eviction");

pub(crate) fn evict(ctx: &mut Context, request: &Request, kind: &Kind, remarks: &mut Remarks) -> Result<Reply, Halt> {
    let resource = request.resource().ok_or_else(Status::method_not_allowed)?;
    let given = request.body["metadata"]["name"].as_str().unwrap_or_default();
    if !given.is_empty() && given != resource.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object").into());
    }
    let namespace = target::namespace_of(kind, resource);
    let found = ctx.store.snapshot().find(kind.storage, namespace, &resource.name).cloned();
    let object = found.ok_or_else(|| Status::not_found(kind.group, kind.plural, &resource.name))?;
    admission::node::restrict_removal(request, kind, &object, "evict")?;
    let attempt = Attempt::of_subresource(request, *kind, "CREATE", (EVICTION, request.body.clone()))?;
    let body = unstored::admit(ctx.place(), attempt, remarks)?;
    let mut options = DeleteOptions::read(&body["deleteOptions"], request)?;
    // A refused eviction leaves no trace; and one that is granted makes a newer version of the pod itself.
    options.check(kind, &object)?;
    options.resource_version = None;
    let pod = object.view::<Pod>();
    let object = match ignores_budget(&pod) || options.dry_run {
        true => object,
        false => {
            spend_budget(ctx, request, &object, &pod)?;
            mark_disrupted(ctx, request, kind, object)?
        }
    };
    delete::delete(ctx, kind, object, &options)?;
    Ok(success(201))
}

/// Pods that do no work are not protected.
fn ignores_budget(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_some() || matches!(phase, "Pending" | "Succeeded" | "Failed")
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
}

/// The budgets whose selector picks this pod.
fn budgets_of(ctx: &Context, object: &Object) -> Vec<Arc<Object>> {
    let matches = |budget: &&Arc<Object>| {
        let view = budget.view::<PodDisruptionBudget>();
        let selector = view.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        LabelSelector::from_typed(selector).is_ok_and(|selector| selector.matches(&object.meta.labels))
    };
    ctx.store.snapshot().list(BUDGETS, &object.key.namespace).filter(matches).cloned().collect()
}

/// Takes one disruption from the pod's budget, if it has one.
fn spend_budget(ctx: &mut Context, request: &Request, object: &Arc<Object>, pod: &Pod) -> Result<(), Status> {
    let budgets = budgets_of(ctx, object);
    let budget = match budgets.as_slice() {
        [] => return Ok(()),
        [one] => Arc::clone(one),
        _ => {
            let why =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::new(500, "InternalError", why));
        }
    };
    let view = budget.view::<PodDisruptionBudget>();
    let status = view.status.clone().unwrap_or_default();
    let count = |number: Option<i32>| number.unwrap_or(0);
    let (current, desired) = (count(status.current_healthy), count(status.desired_healthy));
    let allowed = count(status.disruptions_allowed);
    if !is_ready(pod) {
        let policy = view.spec.as_ref().and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref());
        let is_healthy = current >= desired && desired > 0;
        if policy == Some("AlwaysAllow") || is_healthy {
            return Ok(());
        }
    }
    let name = &*budget.key.name;
    if status.observed_generation.unwrap_or(0) < budget.meta.generation {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(refused(why));
    }
    if status.disrupted_pods.as_ref().is_some_and(|pods| pods.len() > DISRUPTED_PODS_MAX) {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden("policy", "poddisruptionbudgets", name, why));
    }
    if allowed < 0 {
        return Err(Status::forbidden("policy", "poddisruptionbudgets", name, "pdb disruptions allowed is negative"));
    }
    if allowed == 0 {
        return Err(refused(format!(
            "The disruption budget {name} needs {desired} healthy pods and has {current} currently"
        )));
    }
    let mut value = budget.value();
    let now = time_text(ctx.now);
    let left = allowed - 1;
    value["status"]["disruptionsAllowed"] = json!(left);
    value["status"]["disruptedPods"][&*object.key.name] = json!(now);
    if left == 0 {
        let condition = json!({"type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods",
            "message": "", "lastTransitionTime": now, "observedGeneration": budget.meta.generation});
        set_condition(&mut value["status"], condition);
    }
    write(ctx, request, BUDGETS, budget, value).map(|_| ())
}

fn refused(why: String) -> Status {
    let cause = Cause { reason: "DisruptionBudget".into(), message: why, field: String::new() };
    Status::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", RETRY_SECONDS)
        .with_causes(vec![cause])
}

/// Says on the pod why it is going.
fn mark_disrupted(
    ctx: &mut Context,
    request: &Request,
    kind: &Kind,
    object: Arc<Object>,
) -> Result<Arc<Object>, Status> {
    let mut value = object.value();
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": time_text(ctx.now)});
    set_condition(&mut value["status"], condition);
    write(ctx, request, kind.storage, object, value)
}

fn write(
    ctx: &mut Context,
    request: &Request,
    storage: &'static str,
    old: Arc<Object>,
    new: Value,
) -> Result<Arc<Object>, Status> {
    let kind = ctx.registry.stored(storage).copied().ok_or_else(Status::no_such_path)?;
    let mut remarks = Remarks::default();
    let written = Draft::internal(kind, old, new).finish(ctx, request, &mut remarks).map_err(Halt::into_status)?;
    Ok(written.object)
}
