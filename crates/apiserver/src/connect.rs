//! Streams to containers: which node, pod and container a log, exec, attach or port-forward request means (K-06, K-07).

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use stead_api::{Remarks, Request, Resource, Status};
use stead_kinds::Kind;

use crate::attempt::Attempt;
use crate::halt::Halt;
use crate::log_query::LogQuery;
use crate::reply::StreamPlan;
use crate::{Head, Reply, target, unstored};

/// Asks policies and webhooks about a connection; its options, if they are now others.
pub(crate) fn permit(
    head: &Head,
    request: &Request,
    kind: &Kind,
    remarks: &mut Remarks,
) -> Result<Option<Value>, Halt> {
    let Some(resource) = request.resource().filter(|_| unstored::is_concerned(&head.store.snapshot, request)) else {
        return Ok(None);
    };
    let Some(options) = options(kind, resource, request) else { return Ok(None) };
    let sent = options.1.clone();
    let attempt = Attempt::of_subresource(request, *kind, "CONNECT", options)?;
    let admitted = unstored::admit(head.place(), attempt, remarks)?;
    Ok((admitted != sent).then_some(admitted))
}

/// The request for a stream with other options.
pub(crate) fn with_options(request: &Request, options: &Value) -> Request {
    let mut request = request.clone();
    let all = &mut request.options.all;
    all.retain(|(name, _)| {
        !matches!(name.as_str(), "stdin" | "stdout" | "stderr" | "tty" | "container" | "command" | "ports")
    });
    for (name, value) in options.as_object().into_iter().flatten() {
        match value {
            Value::Bool(value) => all.push((name.clone(), value.to_string())),
            Value::String(value) if name == "container" => all.push((name.clone(), value.clone())),
            Value::Array(list) => {
                let texts = list.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned));
                all.extend(texts.map(|one| (name.clone(), one)));
            }
            _ => {}
        }
    }
    request
}

type Options = ((&'static str, &'static str, &'static str), Value);

/// The options of a connection as an object; None for what is only read.
fn options(kind: &Kind, resource: &Resource, request: &Request) -> Option<Options> {
    let is = |name: &str| matches!(request.options.param(name), Some("true" | "1"));
    let path = format!("/{}", resource.subpath.trim_start_matches('/'));
    let (name, own) = match (kind.storage, resource.subresource.as_str()) {
        ("pods", "exec" | "attach") => {
            let is_exec = resource.subresource == "exec";
            let mut own = json!({"stdin": is("stdin"), "stdout": is("stdout"), "stderr": is("stderr"), "tty": is("tty"),
                "container": request.options.param("container").unwrap_or_default()});
            if is_exec {
                own["command"] = request.options.params("command").collect();
            }
            if let Some(own) = own.as_object_mut() {
                own.retain(|_, value| value != &json!(false) && value != "");
            }
            (if is_exec { "PodExecOptions" } else { "PodAttachOptions" }, own)
        }
        ("pods", "portforward") => {
            let ports = request.options.params("ports").flat_map(|list| list.split(','));
            (
                "PodPortForwardOptions",
                json!({"ports": ports.filter_map(|one| one.parse::<u16>().ok()).collect::<Vec<_>>()}),
            )
        }
        ("pods", "proxy") => ("PodProxyOptions", json!({"path": path})),
        ("services", "proxy") => ("ServiceProxyOptions", json!({"path": path})),
        ("nodes", "proxy") => ("NodeProxyOptions", json!({"path": path})),
        _ => return None,
    };
    let mut value = json!({"kind": name, "apiVersion": "v1"});
    for (field, one) in own.as_object().into_iter().flatten() {
        value[field] = one.clone();
    }
    Some((("", "v1", name), value))
}

pub(crate) fn serve(head: &Head, request: &Request, kind: &Kind) -> Result<Reply, Status> {
    let resource = request.resource().ok_or_else(Status::no_such_path)?;
    if kind.storage != "pods" {
        return Err(Status::no_such_path());
    }
    if resource.subresource == "log" {
        LogQuery::of(request)?;
    }
    let object = target::find(head, kind, request)?;
    let pod = object.view::<Pod>();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    let container = match resource.subresource.as_str() {
        "log" | "exec" | "attach" => container(&pod, request.options.param("container").unwrap_or_default())?,
        _ => String::new(),
    };
    if node.is_empty() {
        return match resource.subresource.as_str() {
            // A pod that has not been placed has written nothing yet.
            "log" => Ok(Reply::text(200, "")),
            _ => Err(Status::bad_request(format!("pod {} does not have a host assigned", resource.name))),
        };
    }
    Ok(Reply::Stream(Box::new(StreamPlan {
        resource: resource.clone(),
        node,
        pod_uid: object.meta.uid.clone(),
        container,
        request: request.clone(),
        warnings: Vec::new(),
    })))
}

/// The container that the query names, or the only one.
fn container(pod: &Pod, asked: &str) -> Result<String, Status> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let Some(spec) = &pod.spec else { return Err(Status::bad_request(format!("pod {name} has no containers"))) };
    let mains: Vec<&str> = spec.containers.iter().map(|c| c.name.as_str()).collect();
    let inits: Vec<&str> = spec.init_containers.iter().flatten().map(|c| c.name.as_str()).collect();
    let ephemerals: Vec<&str> = spec.ephemeral_containers.iter().flatten().map(|c| c.name.as_str()).collect();
    if !asked.is_empty() {
        let is_known = mains.iter().chain(&inits).chain(&ephemerals).any(|one| *one == asked);
        let refuse = || Status::bad_request(format!("container {asked} is not valid for pod {name}"));
        return if is_known { Ok(asked.to_owned()) } else { Err(refuse()) };
    }
    if let [only] = mains[..] {
        return Ok(only.to_owned());
    }
    let annotations = pod.metadata.annotations.as_ref();
    let preferred = annotations.and_then(|all| all.get("kubectl.kubernetes.io/default-container"));
    if let Some(preferred) = preferred.filter(|one| mains.contains(&one.as_str())) {
        return Ok(preferred.clone());
    }
    let mut message =
        format!("a container name must be specified for pod {name}, choose one of: [{}]", mains.join(" "));
    if !inits.is_empty() {
        message.push_str(&format!(" or one of the init containers: [{}]", inits.join(" ")));
    }
    Err(Status::bad_request(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn chosen(containers: serde_json::Value, asked: &str) -> String {
        let pod = json!({"metadata": {"name": "web-0"}, "spec": containers});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        container(&pod, asked).unwrap_or_else(|status| status.message)
    }

    #[test]
    fn the_container_is_named_or_the_only_one() {
        let one = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]});
        let two = json!({"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]});
        assert_eq!(chosen(one.clone(), ""), "a");
        assert_eq!(chosen(one.clone(), "i"), "i");
        assert_eq!(chosen(one, "x"), "container x is not valid for pod web-0");
        assert_eq!(
            chosen(two, ""),
            "a container name must be specified for pod web-0, choose one of: [a b] or one of the init containers: [i]"
        );
    }
}
