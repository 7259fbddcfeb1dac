//! What a node's agent answers through `nodes/NAME/proxy`: its pods, their use of the machine, and that it lives.
//!
//! The agents of this process have no port of their own: they are asked directly, for what the kubelet's read-only endpoints tell.

mod measure;
mod metrics;
mod used;

pub use measure::{usage_of_node, usage_of_pods};
pub use used::PodUsage;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use stead_api::Status;
use stead_host::Host;
use stead_host::usage::Usage;

use crate::out::Out;
use crate::{Server, clock};

/// Answers a path of a node's agent.
///
/// # Errors
/// 503 for a node that this process does not run.
pub fn serve(server: &Arc<Server>, node: &str, path: &str, parts: &Parts) -> Result<Response<Out>, Status> {
    let Some(host) = server.hosts.get().and_then(|hosts| hosts.get(node)) else {
        let why = format!("error trying to reach service: the agent of node \"{node}\" is not reachable from here");
        return Err(Status::unavailable(why));
    };
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"));
    }
    let machine = Machine { server, host, node };
    match path.trim_end_matches('/') {
        "/healthz" | "/healthz/ping" | "/healthz/log" | "/healthz/syncloop" => Ok(plain(StatusCode::OK, "ok")),
        "/pods" => Ok(json_response(machine.pods())),
        "/stats/summary" => Ok(json_response(machine.summary().to_string().into())),
        "/metrics" => Ok(text(metrics::CONTENT_TYPE, metrics::of_agent(server, host, node))),
        "/metrics/resource" => Ok(text(metrics::CONTENT_TYPE, metrics::of_resources(server, host, node))),
        path if path == "/logs" || path.starts_with("/logs/") => {
            Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "logs endpoint is disabled.\n"))
        }
        _ => Ok(plain(StatusCode::NOT_FOUND, "404 page not found\n")),
    }
}

/// A node and what runs on it.
struct Machine<'a> {
    server: &'a Server,
    host: &'a Host,
    node: &'a str,
}

impl Machine<'_> {
    /// The node's pods as a list, each as it is stored.
    fn pods(&self) -> Bytes {
        let head = self.server.plane.head();
        let pods = head.store.snapshot.indexed("pods", &format!("spec.nodeName={}", self.node));
        let mut out = br#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":["#.to_vec();
        for (n, pod) in pods.enumerate() {
            if n > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&pod.json);
        }
        out.extend_from_slice(b"]}\n");
        out.into()
    }

    fn summary(&self) -> Value {
        let now = clock::now().to_string();
        let measured = |usage: &Usage| {
            let cpu =
                json!({"time": now, "usageCoreNanoSeconds": u64::try_from(usage.cpu.as_nanos()).unwrap_or(u64::MAX)});
            (cpu, json!({"time": now, "workingSetBytes": usage.working_set}))
        };
        let pods = usage_of_pods(self.server, self.host, self.node);
        let shown: Vec<Value> = pods
            .iter()
            .map(|pod| {
                let value = pod.pod.value();
                let start = &value["status"]["startTime"];
                let containers: Vec<Value> = pod
                    .containers
                    .iter()
                    .map(|(name, usage)| {
                        let (cpu, memory) = measured(usage);
                        json!({"name": name, "startTime": started(&value, name), "cpu": cpu, "memory": memory})
                    })
                    .collect();
                let (cpu, memory) = measured(&pod.usage);
                let meta = &pod.pod.meta;
                json!({"podRef": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid}, "startTime": start,
                    "containers": containers, "cpu": cpu, "memory": memory})
            })
            .collect();
        let (cpu, memory) = measured(&usage_of_node(self.server, &pods));
        json!({"node": {"nodeName": self.node, "cpu": cpu, "memory": memory}, "pods": shown})
    }
}

/// When a container began to run.
fn started(pod: &Value, container: &str) -> Value {
    let mut statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let found = statuses.find(|status| status["name"] == container);
    found.map_or(Value::Null, |status| status["state"]["running"]["startedAt"].clone())
}

fn plain(code: StatusCode, body: &str) -> Response<Out> {
    let mut response = text("text/plain; charset=utf-8", body.to_owned());
    *response.status_mut() = code;
    response
}

fn json_response(body: Bytes) -> Response<Out> {
    let mut response = Response::new(Out::pieces(vec![body]));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text(content_type: &'static str, body: String) -> Response<Out> {
    let mut response = Response::new(Out::pieces(vec![Bytes::from(body)]));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
