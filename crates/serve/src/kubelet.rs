//! What a node's agent answers through `nodes/NAME/proxy`: its pods, their use of the machine, and that it lives.
//!
//! The agents of this process have no port of their own: they are asked directly, for what the kubelet's read-only endpoints tell.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use stead_api::{Object, Status};
use stead_host::Host;
use stead_host::usage::{self, Usage};

use crate::out::Out;
use crate::{Server, clock};

const NANOS: f64 = 1e9;

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
        "/metrics/resource" => Ok(text("text/plain; version=0.0.4; charset=utf-8", machine.resource_metrics())),
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

/// A pod that uses something, and each of its running containers.
pub struct PodUsage {
    pub pod: Arc<Object>,
    pub usage: Usage,
    pub containers: Vec<(String, Usage)>,
}

/// The pods of a node that run, with what they use.
pub fn usage_of_pods(server: &Server, host: &Host, node: &str) -> Vec<PodUsage> {
    let head = server.plane.head();
    let pods = head.store.snapshot.indexed("pods", &format!("spec.nodeName={node}"));
    let measured = pods.filter_map(|pod| {
        let uid = &pod.meta.uid;
        let usage = host.usage_of_pod(uid).ok()?;
        let typed = pod.view::<Pod>();
        let statuses = typed.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        let running = statuses.filter(|one| one.state.as_ref().is_some_and(|state| state.running.is_some()));
        let containers = running.filter_map(|one| {
            let usage = host.usage_of_container(&host.current(uid, &one.name)?).ok()?;
            Some((one.name.clone(), usage))
        });
        Some(PodUsage { pod: Arc::clone(pod), usage, containers: containers.collect() })
    });
    measured.collect()
}

/// What a node uses: all of the machine that it has for itself, or what its pods do on one that it shares.
pub fn usage_of_node(server: &Server, pods: &[PodUsage]) -> Usage {
    let is_alone = server.hosts.get().is_some_and(|hosts| hosts.len() == 1);
    if is_alone && let Ok(usage) = usage::of_machine() {
        return usage;
    }
    Usage {
        cpu: pods.iter().map(|pod| pod.usage.cpu).sum(),
        working_set: pods.iter().map(|pod| pod.usage.working_set).sum(),
    }
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

    /// In Prometheus' text, under the names of the kubelet's resource metrics.
    fn resource_metrics(&self) -> String {
        let pods = usage_of_pods(self.server, self.host, self.node);
        let node = usage_of_node(self.server, &pods);
        let seconds = |usage: &Usage| usage.cpu.as_nanos() as f64 / NANOS;
        let of_pod = |pod: &PodUsage| format!("namespace=\"{}\",pod=\"{}\"", pod.pod.meta.namespace, pod.pod.meta.name);
        let of_container = |pod: &PodUsage, name: &str| format!("container=\"{name}\",{}", of_pod(pod));
        let mut out = String::new();
        let mut family = |name: &str, kind: &str, help: &str, values: Vec<(String, f64)>| {
            out.push_str(&format!("# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}\n"));
            for (labels, value) in values {
                let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
                out.push_str(&format!("{name}{labels} {value}\n"));
            }
        };
        let containers = || pods.iter().flat_map(|pod| pod.containers.iter().map(move |one| (pod, one)));
        family(
            "container_cpu_usage_seconds_total",
            "counter",
            "Cumulative cpu time consumed by the container in core-seconds",
            containers().map(|(pod, (name, usage))| (of_container(pod, name), seconds(usage))).collect(),
        );
        family(
            "container_memory_working_set_bytes",
            "gauge",
            "Current working set of the container in bytes",
            containers().map(|(pod, (name, usage))| (of_container(pod, name), usage.working_set as f64)).collect(),
        );
        let of_node = |value: f64| vec![(String::new(), value)];
        let help = "Cumulative cpu time consumed by the node in core-seconds";
        family("node_cpu_usage_seconds_total", "counter", help, of_node(seconds(&node)));
        let help = "Current working set of the node in bytes";
        family("node_memory_working_set_bytes", "gauge", help, of_node(node.working_set as f64));
        family(
            "pod_cpu_usage_seconds_total",
            "counter",
            "Cumulative cpu time consumed by the pod in core-seconds",
            pods.iter().map(|pod| (of_pod(pod), seconds(&pod.usage))).collect(),
        );
        family(
            "pod_memory_working_set_bytes",
            "gauge",
            "Current working set of the pod in bytes",
            pods.iter().map(|pod| (of_pod(pod), pod.usage.working_set as f64)).collect(),
        );
        let help = "1 if there was an error while getting container metrics, 0 otherwise";
        family("resource_scrape_error", "gauge", help, of_node(0.0));
        out
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
