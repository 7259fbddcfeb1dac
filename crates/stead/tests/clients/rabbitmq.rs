//! RabbitMQ finds its peers through the API, keeps its name and data over restarts, and a quorum queue over the loss of a member.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::{debian, install};

const MEMBERS: [&str; 3] = ["rabbitmq-0", "rabbitmq-1", "rabbitmq-2"];
/// Members start one after the other, each an Erlang machine of its own.
const SECONDS_MAX: u64 = 120;

#[test]
fn rabbitmq_forms_a_cluster_and_keeps_its_queues() {
    let cluster = Cluster::up("rabbitmq");
    let settings = json!({"Env": ["PATH=/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin", "LANG=C.UTF-8", "HOME=/tmp"]});
    debian::load(&cluster, "test/rabbitmq:1", &["rabbitmq-server"], settings);
    let manifest = install::sources("rabbitmq").join("rabbitmq.yaml");
    cluster.apply(&std::fs::read_to_string(manifest).expect("it is in the repository"));
    cluster.kubectl("rollout status statefulset/rabbitmq --timeout=150s").ok();
    assert_eq!(running(&cluster, MEMBERS[0]), MEMBERS, "one cluster, found through the API");
    let told = cluster.value("events", "{.items[*].source.component}");
    assert!(told.split(' ').any(|source| source.starts_with("rabbitmq")), "the plugin posts events: {told}");

    numbers(&cluster, "put", MEMBERS[0], "0 500");
    a_member_restarts(&cluster);
    a_member_dies(&cluster);
    let all: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    assert_eq!(numbers(&cluster, "take", MEMBERS[1], ""), all.join(" ") + "\n");
}

/// A pod is deleted: it comes back under its name, joins again and has its part of the queue.
fn a_member_restarts(cluster: &Cluster) {
    let before = cluster.value("pod rabbitmq-1", "{.metadata.uid}");
    cluster.kubectl("delete pod rabbitmq-1").ok();
    cluster.kubectl("rollout status statefulset/rabbitmq --timeout=90s").ok();
    assert_ne!(cluster.value("pod rabbitmq-1", "{.metadata.uid}"), before);
    settled(cluster);
}

/// The queue's leader is killed: the others go on, and it comes back.
fn a_member_dies(cluster: &Cluster) {
    let status = queue(cluster).expect("the queue is there");
    let leader = status.iter().find(|member| member["Raft State"] == "leader").expect("a queue has a leader");
    let name = member_name(&leader["Node Name"]);
    cluster.kubectl(&format!("exec {name} -c rabbitmq -- pkill -9 beam.smp")).ok();
    let other = MEMBERS.into_iter().find(|member| *member != name).expect("three are more than one");
    numbers(cluster, "put", other, "500 1000");
    cluster
        .kubectl(&format!(
            "wait pod/{name} --for=jsonpath='{{.status.containerStatuses[0].restartCount}}'=1 --timeout=60s"
        ))
        .ok();
    settled(cluster);
}

fn control(cluster: &Cluster, member: &str, command: &str) -> Result<Value, String> {
    let said = cluster.kubectl(&format!("exec {member} -c rabbitmq -- {command} --longnames --formatter json -n rabbit@{member}.rabbitmq.default.svc.cluster.local"));
    if said.code != 0 {
        return Err(said.to_string());
    }
    serde_json::from_str(&said.out).map_err(|error| format!("{error}: {said}"))
}

fn member_name(node: &Value) -> String {
    let name = node.as_str().and_then(|name| name.strip_prefix("rabbit@"));
    name.and_then(|name| name.split('.').next()).unwrap_or_default().to_owned()
}

/// The members that a member sees running.
fn running(cluster: &Cluster, member: &str) -> Vec<String> {
    let status = control(cluster, member, "rabbitmqctl cluster_status").expect("a member tells its status");
    let mut names: Vec<String> = status["running_nodes"].as_array().into_iter().flatten().map(member_name).collect();
    names.sort();
    names
}

fn queue(cluster: &Cluster) -> Result<Vec<Value>, String> {
    let status = control(cluster, MEMBERS[0], "rabbitmq-queues quorum_status numbers")?;
    status.as_array().cloned().ok_or_else(|| status.to_string())
}

/// Waits until all run and the queue has a leader and followers that are up to date with it.
#[track_caller]
fn settled(cluster: &Cluster) {
    let end = Instant::now() + Duration::from_secs(SECONDS_MAX);
    loop {
        let state = queue(cluster);
        let roles = |role: &str| state.iter().flatten().filter(|member| member["Raft State"] == role).count();
        if roles("leader") == 1 && roles("follower") == 2 && running(cluster, MEMBERS[0]) == MEMBERS {
            return;
        }
        let logs = || cluster.sh("for i in 0 1 2; do kubectl logs rabbitmq-$i -c rabbitmq --tail=20; done");
        assert!(Instant::now() < end, "the queue is not whole: {state:?}\n{}", logs());
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// What the client of the queue printed.
fn numbers(cluster: &Cluster, verb: &str, member: &str, range: &str) -> String {
    let address = cluster.value(&format!("pod {member}"), "{.status.podIP}");
    let script = install::sources("python").join("queue_of_numbers.py");
    cluster.sh(&format!("{} {} {verb} {address} {range}", install::python().display(), script.display())).ok()
}
