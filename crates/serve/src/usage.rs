//! `metrics.k8s.io/v1beta1`: what pods and nodes use now, for `kubectl top`. Served by this process for its own nodes, unless an
//! APIService hands the group version to a metrics server.
//!
//! The control plane asks in the same way, for its autoscalers. Nothing is measured while nobody asks. Use of processors is the
//! difference of two looks: the last one, if it was not long ago, or else one that is taken a moment before the answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response};
use serde_json::{Value, json};
use stead_api::{LabelSelector, Request, Resource, Status};
use stead_apiserver::{Extension, Known, Told};
use stead_control::{ContainerUsage, Measured, Usage as PodsUsage};
use stead_host::usage::Usage;

use crate::kubelet::{PodUsage, usage_of_node, usage_of_pods};
use crate::out::Out;
use crate::{Server, clock};

mod looks;

use looks::Look;
pub use looks::Meter;

const GROUP: &str = "metrics.k8s.io";
const VERSION: &str = "v1beta1";
const PATH: &str = "/apis/metrics.k8s.io/v1beta1";
/// Two looks lie at least so far apart, and no further.
const WINDOW_MIN: Duration = Duration::from_secs(1);
const WINDOW_MAX: Duration = Duration::from_secs(120);

fn look(server: &Server) -> Look {
    let mut look = Look { at: Instant::now(), time: clock::now(), nodes: Vec::new(), pods: Vec::new() };
    for (name, host) in server.hosts.get().into_iter().flatten() {
        let pods = usage_of_pods(server, host, name);
        look.nodes.push((name.clone(), usage_of_node(server, &pods)));
        look.pods.extend(pods);
    }
    look
}

async fn look_aside(server: &Arc<Server>) -> Result<Arc<Look>, Status> {
    let server = Arc::clone(server);
    let looked = tokio::task::spawn_blocking(move || look(&server)).await;
    looked.map(Arc::new).map_err(|error| Status::internal(error.to_string()))
}

/// Two looks with enough time between them.
async fn measure(server: &Arc<Server>) -> Result<(Arc<Look>, Arc<Look>), Status> {
    // Those who ask at the same time share what is found.
    let mut looks = server.meter.0.lock().await;
    if let (Some(old), Some(new)) = (looks.front(), looks.get(1))
        && new.at.elapsed() < WINDOW_MIN
    {
        return Ok((Arc::clone(old), Arc::clone(new)));
    }
    while looks.len() > 1 || looks.front().is_some_and(|old| old.at.elapsed() > WINDOW_MAX) {
        looks.pop_front();
    }
    if looks.is_empty() {
        looks.push_back(look_aside(server).await?);
    }
    let old = looks.front().cloned().ok_or_else(|| Status::internal("nothing was measured"))?;
    tokio::time::sleep(WINDOW_MIN.saturating_sub(old.at.elapsed())).await;
    let new = look_aside(server).await?;
    looks.push_back(Arc::clone(&new));
    Ok((old, new))
}

/// What pods use, for the control plane.
pub async fn measured(server: &Arc<Server>) -> Measured {
    if !has_nodes(server) {
        let why = "the server could not find the requested resource (get pods.metrics.k8s.io)".to_owned();
        return Measured { at: clock::now(), usage: Err(why) };
    }
    match measure(server).await {
        Ok((old, new)) => Measured { at: new.time, usage: Ok(of_plane(&old, &new)) },
        Err(status) => Measured { at: clock::now(), usage: Err(status.message) },
    }
}

fn of_plane(old: &Look, new: &Look) -> PodsUsage {
    let window = new.at - old.at;
    let pods = both(old, new).map(|(pod, containers)| {
        let containers = containers.into_iter().map(|(name, then, now)| ContainerUsage {
            name: name.to_owned(),
            cpu_nanos: cpu_nanos(then, now, window),
            memory_bytes: now.working_set,
        });
        (pod.pod.meta.uid.clone(), containers.collect())
    });
    PodsUsage { window: window.try_into().unwrap_or_default(), pods: pods.collect() }
}

/// A container's name, and what it had used at both looks.
type Twice<'a> = (&'a str, &'a Usage, &'a Usage);

/// The pods that were seen at both looks, with their containers that were.
fn both<'a>(old: &'a Look, new: &'a Look) -> impl Iterator<Item = (&'a PodUsage, Vec<Twice<'a>>)> {
    new.pods.iter().filter_map(|pod| {
        let before = old.pods.iter().find(|known| known.pod.meta.uid == pod.pod.meta.uid)?;
        let containers = pod.containers.iter().filter_map(|(name, now)| {
            let (_, then) = before.containers.iter().find(|(known, _)| known == name)?;
            Some((name.as_str(), then, now))
        });
        let containers: Vec<Twice> = containers.collect();
        (!containers.is_empty()).then_some((pod, containers))
    })
}

/// Whether a request is for this API.
pub fn is_asked(server: &Server, path: &str) -> bool {
    path.starts_with(PATH) && path[PATH.len()..].bytes().next().is_none_or(|byte| byte == b'/') && has_nodes(server)
}

fn has_nodes(server: &Server) -> bool {
    server.hosts.get().is_some_and(|hosts| !hosts.is_empty())
}

/// What discovery tells of it, as if it were another server's.
pub fn known(server: &Server) -> Option<Known> {
    if !has_nodes(server) {
        return None;
    }
    let extension = Extension {
        name: format!("{VERSION}.{GROUP}"),
        group: GROUP.into(),
        version: VERSION.into(),
        namespace: String::new(),
        service: String::new(),
        port: 0,
        ca_bundle: [].into(),
        trusts_anyone: false,
        group_priority: 100,
        version_priority: 100,
        is_available: true,
    };
    let resources = stead_apiserver::read_resources(&extension, &resources()).ok();
    Some((extension, Told { resources, ..Told::default() }))
}

fn resources() -> Value {
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/{VERSION}"), "resources": [
        {"name": "nodes", "singularName": "", "namespaced": false, "kind": "NodeMetrics", "verbs": ["get", "list"]},
        {"name": "pods", "singularName": "", "namespaced": true, "kind": "PodMetrics", "verbs": ["get", "list"]}]})
}

/// # Errors
/// 403 for those who may not, 404 for what does not run.
pub async fn serve(server: &Arc<Server>, request: &Request, method: &Method) -> Result<Response<Out>, Status> {
    stead_apiserver::authorize_request(&server.plane.head().store.snapshot, request)?;
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Status::method_not_allowed());
    }
    let Some(resource) = request.resource() else { return Ok(json_response(&resources())) };
    if !matches!(resource.plural.as_str(), "nodes" | "pods") || !resource.subresource.is_empty() {
        return Err(Status::no_such_path());
    }
    let selector = LabelSelector::parse(&request.options.label_selector);
    let selector = selector.map_err(|error| Status::bad_request(error.to_string()))?;
    let (old, new) = measure(server).await?;
    let of_nodes = resource.plural == "nodes";
    let mut items = if of_nodes { nodes(server, &old, &new) } else { pods(&old, &new, &resource.namespace) };
    items.retain(|item| selector.matches_value(item["metadata"].get("labels")));
    if !resource.name.is_empty() {
        return one(items, resource);
    }
    let kind = if of_nodes { "NodeMetricsList" } else { "PodMetricsList" };
    let list = json!({"kind": kind, "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": {}, "items": items});
    Ok(json_response(&list))
}

fn one(items: Vec<Value>, resource: &Resource) -> Result<Response<Out>, Status> {
    let missing = || Status::not_found(GROUP, &format!("{}metrics", resource.plural), &resource.name);
    let found = items.into_iter().find(|item| item["metadata"]["name"] == resource.name.as_str());
    found.map(|item| json_response(&item)).ok_or_else(missing)
}

fn nodes(server: &Server, old: &Look, new: &Look) -> Vec<Value> {
    let head = server.plane.head();
    let both = new.nodes.iter().filter_map(|(name, now)| {
        let (_, before) = old.nodes.iter().find(|(known, _)| known == name)?;
        Some((name, usage(before, now, new.at - old.at)))
    });
    let shown = both.map(|(name, usage)| {
        let labels = head.store.snapshot.find("nodes", "", name).map(|node| node.meta.labels.clone());
        let metadata = json!({"name": name, "creationTimestamp": new.time.to_string(), "labels": labels});
        item("NodeMetrics", metadata, ("usage", usage), (old, new))
    });
    shown.collect()
}

fn pods(old: &Look, new: &Look, namespace: &str) -> Vec<Value> {
    let wanted = both(old, new).filter(|(pod, _)| namespace.is_empty() || pod.pod.meta.namespace == namespace);
    let shown = wanted.map(|(pod, containers)| {
        let meta = &pod.pod.meta;
        let window = new.at - old.at;
        let containers: Vec<Value> = containers
            .into_iter()
            .map(|(name, then, now)| json!({"name": name, "usage": usage(then, now, window)}))
            .collect();
        let metadata = json!({"name": meta.name, "namespace": meta.namespace, "creationTimestamp": new.time.to_string(),
            "labels": meta.labels});
        item("PodMetrics", metadata, ("containers", json!(containers)), (old, new))
    });
    shown.collect()
}

/// An item with one field of its own.
fn item(kind: &str, metadata: Value, (field, value): (&str, Value), (old, new): (&Look, &Look)) -> Value {
    let window = format!("{:.3}s", (new.at - old.at).as_secs_f64());
    json!({"kind": kind, "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": metadata,
        "timestamp": new.time.to_string(), "window": window, field: value})
}

/// Processors in billionths, memory in kibibytes. A counter that fell began anew: what it counts now came after that.
fn usage(before: &Usage, now: &Usage, window: Duration) -> Value {
    let nanos = cpu_nanos(before, now, window);
    json!({"cpu": format!("{nanos}n"), "memory": format!("{}Ki", now.working_set / 1024)})
}

fn cpu_nanos(before: &Usage, now: &Usage, window: Duration) -> u64 {
    let spent = now.cpu.checked_sub(before.cpu).unwrap_or(now.cpu);
    (spent.as_secs_f64() / window.as_secs_f64() * 1e9).round() as u64
}

fn json_response(value: &Value) -> Response<Out> {
    let mut response = Response::new(Out::pieces(vec![Bytes::from(value.to_string())]));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_is_the_difference_over_the_time_between() {
        let at = |millis, bytes| Usage { cpu: Duration::from_millis(millis), working_set: bytes };
        let window = Duration::from_secs(2);
        assert_eq!(usage(&at(100, 0), &at(600, 2048), window), json!({"cpu": "250000000n", "memory": "2Ki"}));
        assert_eq!(usage(&at(600, 0), &at(100, 0), window), json!({"cpu": "50000000n", "memory": "0Ki"}));
    }
}
