//! `stead down` as the kubelet shuts a node down, also when the server was killed before: hooks, signals, grace, order; and
//! nothing of the cluster is left on the machine but its data.

use crate::cluster::Cluster;
use crate::images;

/// Every container writes down when it is told to end; the sidecar has to be last.
const ORDERLY: &str = "---
apiVersion: v1
kind: Pod
metadata: {name: orderly}
spec:
  terminationGracePeriodSeconds: 20
  initContainers:
  - name: side
    image: box:1
    restartPolicy: Always
    command: [sh, -c, \"trap 'echo side >> /told/ends; exit 0' TERM; while :; do sleep 0.05; done\"]
    volumeMounts: [{name: told, mountPath: /told}]
  containers:
  - name: main
    image: box:1
    command: [sh, -c, \"trap 'sleep 0.3; echo main >> /told/ends; exit 0' TERM; echo begun >> /told/ends; while :; do sleep 0.05; done\"]
    lifecycle: {preStop: {exec: {command: [sh, -c, 'echo hook >> /told/ends']}}}
    volumeMounts: [{name: told, mountPath: /told}]
  volumes: [{name: told, hostPath: {path: TOLD, type: DirectoryOrCreate}}]
---
apiVersion: v1
kind: Pod
metadata: {name: deaf}
spec:
  terminationGracePeriodSeconds: 600
  containers:
  - {name: main, image: box:1, command: [sh, -c, \"trap '' TERM; while :; do sleep 0.05; done\"]}
";

fn told(cluster: &Cluster) -> String {
    std::fs::read_to_string(cluster.dir.join("told/ends")).unwrap_or_default()
}

/// A running cluster with both pods.
fn start(name: &str) -> Cluster {
    let cluster = Cluster::up(name);
    images::load(&cluster, &images::busybox("box:1"));
    cluster.apply(&ORDERLY.replace("TOLD", &cluster.dir.join("told").display().to_string()));
    cluster.kubectl("wait pod/orderly pod/deaf --for=condition=Ready --timeout=90s").ok();
    assert!(!traces(&cluster).is_empty(), "a running cluster leaves traces, else this test could not fail");
    cluster
}

/// The six digits that name the cluster's things on the machine.
pub fn id(cluster: &Cluster) -> String {
    let config = std::fs::read_to_string(cluster.data().join("cluster.json")).expect("a cluster has a description");
    let config: serde_json::Value = serde_json::from_str(&config).expect("it is JSON");
    config["id"].as_str().expect("a cluster has a name").to_owned()
}

/// What carries the cluster's name, path or addresses on the machine, outside its directory.
pub fn traces(cluster: &Cluster) -> String {
    let id = id(cluster);
    let look = format!(
        "ls /sys/class/net | grep {id}; nft list tables 2>/dev/null | grep {id}; \
         find /sys/fs/cgroup -maxdepth 2 -name 'stead-{id}'; ls -d /run/stead/{id} 2>/dev/null; \
         grep -e {dir} -e stead/{id} /proc/self/mountinfo; ip route show table all | grep -F ' 10.{network}.'; \
         for p in /proc/[0-9]*; do grep -qs stead-{id} $p/cgroup && echo $p; done; true",
        dir = cluster.data().display(),
        network = cluster.network
    );
    cluster.sh(&look).ok()
}

#[test]
fn down_stops_pods_in_order_and_leaves_nothing_behind() {
    let cluster = start("stopping");
    let uid = cluster.value("pod orderly", "{.metadata.uid}");
    // The deaf one is killed at the bound, long before its own grace is over.
    cluster.stead("down --grace-period 3").says("its data is kept; `stead up` brings it back");
    assert_eq!(told(&cluster), "begun\nhook\nmain\nside\n");
    assert_eq!(traces(&cluster), "");
    cluster.stead("down").says("is down already");

    cluster.start("").says("stead is up: ");
    cluster.kubectl("wait pod/orderly pod/deaf --for=condition=Ready --timeout=90s").ok();
    assert_eq!(cluster.value("pod orderly", "{.metadata.uid}"), uid, "the same pod");
    assert_eq!(cluster.value("pod orderly", "{.status.containerStatuses[0].restartCount}"), "1");
    assert_eq!(cluster.value("pod orderly", "{.status.containerStatuses[0].lastState.terminated.exitCode}"), "0");
    assert_eq!(cluster.value("pod deaf", "{.status.containerStatuses[0].lastState.terminated.exitCode}"), "137");
    cluster.kubectl("events --for pod/orderly").says("Stopping container main");
    cluster.stead("down --grace-period 1").ok();
}

#[test]
fn down_after_a_crash_stops_what_the_server_left() {
    let cluster = start("crashed");
    cluster.sh(&format!("kill -9 {}", cluster.pid())).ok();
    assert_ne!(traces(&cluster), "", "containers survive their server");
    cluster.stead("down --keep-containers").says("is down already");
    cluster.stead("down --grace-period 3").says("had left containers: they are stopped");
    assert_eq!(told(&cluster), "begun\nhook\nmain\nside\n");
    assert_eq!(traces(&cluster), "");
    cluster.stead("down").says("is down already");
    cluster.start("").says("stead is up: ");
    cluster.kubectl("wait pod/orderly --for=condition=Ready --timeout=90s").ok();
    // With a store that cannot be read nobody knows the hooks; the containers end all the same.
    cluster.sh(&format!("kill -9 {}", cluster.pid())).ok();
    cluster.sh("for file in data/store/*; do printf rubbish > $file; done").ok();
    cluster.stead("down").says("had left containers: they are stopped");
    assert_eq!(traces(&cluster), "");
}

#[test]
fn delete_after_a_crash_leaves_nothing() {
    let cluster = start("crashed-away");
    cluster.sh(&format!("kill -9 {}", cluster.pid())).ok();
    let id = id(&cluster);
    cluster.stead(&format!("delete --kubeconfig {}", cluster.kubeconfig().display())).says("is forgotten");
    let left = cluster.sh(&format!(
        "ls /sys/class/net | grep {id}; nft list tables 2>/dev/null | grep {id}; find /sys/fs/cgroup -maxdepth 2 -name 'stead-{id}'; \
         ls -d /run/stead/{id} 2>/dev/null; grep stead-crashed-away /proc/self/mountinfo; true"
    ));
    assert_eq!(left.ok(), "");
}
