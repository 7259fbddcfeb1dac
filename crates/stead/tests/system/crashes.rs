//! Crash-only: killed at any moment, Stead loses no acknowledged write and stops no container (I1, I13, F-12).

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::cluster::Cluster;

/// Kills during a stream of writes.
const KILLS: usize = 5;

#[test]
fn no_kill_loses_what_was_acknowledged() {
    let cluster = Cluster::new("crashes");
    cluster.start("--no-node").says("stead is up: ");
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..KILLS {
        // Writes in the background, each told when it is acknowledged, until the server is gone.
        let write = format!(
            "for i in $(seq 1000); do kubectl create configmap r{round}-$i --request-timeout=5s --from-literal=a=$i -o name || exit 0; done"
        );
        let mut writer = cluster.shell(&write).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut told = BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok);
        // A few are through, others on their way: each round at another point.
        acknowledged.extend(told.by_ref().take(3 + round));
        cluster.sh(&format!("kill -9 {}", cluster.pid())).ok();
        acknowledged.extend(told);
        writer.wait().unwrap();
        cluster.start("").says("stead is up: ");
        let there = cluster.kubectl("get configmaps -o name").ok();
        for name in &acknowledged {
            assert!(there.lines().any(|line| line == name), "{name} was acknowledged and is lost:\n{there}");
        }
    }
    assert!(acknowledged.len() > KILLS * 3);
}

const STAYS: &str = "---
apiVersion: v1
kind: Pod
metadata: {name: stays}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: 'stead.local/demo:1', args: [counter, --dir, /data], volumeMounts: [{name: data, mountPath: /data}],
     livenessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}}
  volumes: [{name: data, emptyDir: {}}]
";

#[test]
fn a_container_that_dies_is_started_again_even_while_the_server_is_away() {
    let cluster = Cluster::up("deaths");
    cluster.apply(STAYS);
    cluster.wait("pod/stays", "condition=Ready");
    let visit = || cluster.kubectl("exec stays -- /stead demo get http://localhost:8080/").ok();
    assert_eq!(visit(), "stays has counted 1\n");
    let kill = |cluster: &Cluster| {
        let address = cluster.value("pod stays", "{.status.podIP}");
        cluster.sh(&format!("kill -9 {}", main_process(cluster, &address))).ok();
    };
    kill(&cluster);
    cluster.wait("pod/stays", "jsonpath={.status.containerStatuses[0].restartCount}=1");
    cluster.wait("pod/stays", "condition=Ready");
    assert_eq!(cluster.value("pod stays", "{.status.containerStatuses[0].lastState.terminated.exitCode}"), "137");
    // The volume outlives the container.
    assert_eq!(visit(), "stays has counted 2\n");
    // Server and container gone at once: the next server sees it and goes on.
    let address = cluster.value("pod stays", "{.status.podIP}");
    let process = main_process(&cluster, &address);
    cluster.sh(&format!("kill -9 {} {process}", cluster.pid())).ok();
    cluster.start("").says("stead is up: ");
    cluster.wait("pod/stays", "jsonpath={.status.containerStatuses[0].restartCount}=2");
    cluster.wait("pod/stays", "condition=Ready");
    assert_eq!(visit(), "stays has counted 3\n");
    cluster.kubectl("delete pod stays --wait").ok();
}

/// The host's number of the process that has the pod's address and runs the counter.
fn main_process(cluster: &Cluster, address: &str) -> String {
    let find = format!(
        "for p in $(pgrep -f 'demo counter --dir /data'); do nsenter -t $p -n hostname -I 2>/dev/null | grep -qw {address} && echo $p; done"
    );
    let found = cluster.sh(&find).out;
    let first = found.lines().next().unwrap_or_else(|| panic!("no process has {address}"));
    first.to_owned()
}
