//! What a node's agent tells Prometheus, under the kubelet's names: what pods use, how many run, and the process.

use std::fmt::Write;

use k8s_openapi::api::core::v1::{ContainerState, Pod};
use stead_host::Host;

use super::measure::{usage_of_node, usage_of_pods};
use super::used::PodUsage;
use crate::Server;
use crate::metrics::{family, process_facts};

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const NANOS: f64 = 1e9;

/// `/metrics`
pub fn of_agent(server: &Server, host: &Host, node: &str) -> String {
    let mut out = String::new();
    let running = usage_of_pods(server, host, node).len();
    let states = containers(server, node);
    let of_state = |(state, count): (&str, usize)| (format!("container_state=\"{state}\""), count as f64);
    let name = vec![(format!("node=\"{node}\""), 1.0)];
    add(&mut out, "kubelet_node_name", "gauge", "[ALPHA] The node's name. The count is always 1.", name);
    let help = "[ALPHA] Number of containers currently running";
    add(&mut out, "kubelet_running_containers", "gauge", help, states.into_iter().map(of_state).collect());
    let help = "[ALPHA] Number of pods that have a running pod sandbox";
    add(&mut out, "kubelet_running_pods", "gauge", help, alone(running as f64));
    for (name, kind, help, value) in process_facts() {
        add(&mut out, name, kind, help, alone(value));
    }
    out
}

/// The node's containers by their states, as their pods tell.
fn containers(server: &Server, node: &str) -> [(&'static str, usize); 2] {
    let head = server.plane.head();
    let mut counts = [("exited", 0), ("running", 0)];
    for pod in head.store.snapshot.indexed("pods", &format!("spec.nodeName={node}")) {
        let pod = pod.view::<Pod>();
        let status = pod.status.iter();
        let all = status.flat_map(|one| {
            let lists = [&one.init_container_statuses, &one.container_statuses, &one.ephemeral_container_statuses];
            lists.into_iter().flatten().flatten()
        });
        for state in all.filter_map(|one| one.state.as_ref()) {
            match state {
                ContainerState { running: Some(_), .. } => counts[1].1 += 1,
                ContainerState { terminated: Some(_), .. } => counts[0].1 += 1,
                _ => {}
            }
        }
    }
    counts
}

/// `/metrics/resource`
pub fn of_resources(server: &Server, host: &Host, node: &str) -> String {
    let pods = usage_of_pods(server, host, node);
    let node = usage_of_node(server, &pods);
    let seconds = |usage: &stead_host::usage::Usage| usage.cpu.as_nanos() as f64 / NANOS;
    let of_pod = |pod: &PodUsage| format!("namespace=\"{}\",pod=\"{}\"", pod.pod.meta.namespace, pod.pod.meta.name);
    let of_container = |pod: &PodUsage, name: &str| format!("container=\"{name}\",{}", of_pod(pod));
    let mut out = String::new();
    let mut stable = |name: &str, kind: &str, help: &str, values: Vec<(String, f64)>| {
        add(&mut out, name, kind, &format!("[STABLE] {help}"), values);
    };
    let containers = || pods.iter().flat_map(|pod| pod.containers.iter().map(move |one| (pod, one)));
    stable(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
        containers().map(|(pod, (name, usage))| (of_container(pod, name), seconds(usage))).collect(),
    );
    stable(
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set of the container in bytes",
        containers().map(|(pod, (name, usage))| (of_container(pod, name), usage.working_set as f64)).collect(),
    );
    let help = "Cumulative cpu time consumed by the node in core-seconds";
    stable("node_cpu_usage_seconds_total", "counter", help, alone(seconds(&node)));
    let help = "Current working set of the node in bytes";
    stable("node_memory_working_set_bytes", "gauge", help, alone(node.working_set as f64));
    stable(
        "pod_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the pod in core-seconds",
        pods.iter().map(|pod| (of_pod(pod), seconds(&pod.usage))).collect(),
    );
    stable(
        "pod_memory_working_set_bytes",
        "gauge",
        "Current working set of the pod in bytes",
        pods.iter().map(|pod| (of_pod(pod), pod.usage.working_set as f64)).collect(),
    );
    let help = "1 if there was an error while getting container metrics, 0 otherwise";
    stable("resource_scrape_error", "gauge", help, alone(0.0));
    out
}

/// A value without labels.
fn alone(value: f64) -> Vec<(String, f64)> {
    vec![(String::new(), value)]
}

/// A family with its values by their labels.
fn add(out: &mut String, name: &str, kind: &str, help: &str, values: Vec<(String, f64)>) {
    family(out, name, kind, help);
    for (labels, value) in values {
        let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
        let _ = writeln!(out, "{name}{labels} {value}");
    }
}
