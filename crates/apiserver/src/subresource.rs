//! Binding a pod to a node.

use serde_json::json;
use stead_api::{Remarks, Request, Status};
use stead_kinds::Kind;

use crate::attempt::Attempt;
use crate::condition::set_condition;
use crate::draft::{Draft, time_text};
use crate::halt::Halt;
use crate::{Context, Reply, target, unstored};

const BINDING: (&str, &str, &str) = ("", "v1", "Binding");

/// POST bindings: the older way, which names the pod in the body.
pub(crate) fn bind_by_body(ctx: &mut Context, request: &Request, remarks: &mut Remarks) -> Result<Reply, Halt> {
    let pods = *ctx.registry.find("", "v1", "pods").ok_or_else(Status::no_such_path)?;
    let bindings = *ctx.registry.find("", "v1", "bindings").ok_or_else(Status::no_such_path)?;
    let name = request.body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    bind(ctx, request, (&bindings, &pods), &name, remarks)
}

/// POST pods/{name}/binding: the only way a pod gets a node. `asked` is the kind that the request names.
pub(crate) fn bind(
    ctx: &mut Context,
    request: &Request,
    (asked, kind): (&Kind, &Kind),
    name: &str,
    remarks: &mut Remarks,
) -> Result<Reply, Halt> {
    let resource = request.resource().ok_or_else(Status::method_not_allowed)?;
    let namespace = target::namespace_of(kind, resource);
    let found = ctx.store.snapshot().find(kind.storage, namespace, name).cloned();
    let pod = found.ok_or_else(|| Status::not_found(kind.group, kind.plural, name))?;
    let attempt = Attempt::of_subresource(request, *asked, "CREATE", (BINDING, request.body.clone()))?;
    let body = &unstored::admit(ctx.place(), attempt, remarks)?;
    let node = body["target"]["name"].as_str().unwrap_or_default();
    if node.is_empty() {
        return Err(Status::bad_request("Required value: target.name").into());
    }
    let conflict = |why: String| Halt::from(Status::conflict("", "pods/binding", name, &why));
    let uid = body["metadata"]["uid"].as_str().unwrap_or_default();
    if !uid.is_empty() && uid != pod.meta.uid {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", pod.meta.uid);
        return Err(conflict(why));
    }
    if pod.meta.is_deleting() {
        return Err(conflict(format!("pod {name} is being deleted, cannot be assigned to a host")));
    }
    let mut new = pod.value();
    if let Some(current) = new["spec"]["nodeName"].as_str().filter(|current| !current.is_empty()) {
        return Err(conflict(format!("pod {name} is already assigned to node \"{current}\"")));
    }
    new["spec"]["nodeName"] = json!(node);
    for (key, value) in body["metadata"]["annotations"].as_object().into_iter().flatten() {
        new["metadata"]["annotations"][key] = value.clone();
    }
    let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": time_text(ctx.now)});
    set_condition(&mut new["status"], condition);
    // It has its place: none is kept free for it any more.
    if let Some(status) = new["status"].as_object_mut() {
        status.shift_remove("nominatedNodeName");
    }
    Draft::internal(*kind, pod, new).finish(ctx, request, remarks)?;
    Ok(success(201))
}

/// A Status of success.
pub(crate) fn success(code: u16) -> Reply {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code});
    Reply::json(code, body.to_string())
}
