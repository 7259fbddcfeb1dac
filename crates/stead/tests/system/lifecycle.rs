//! `stead up`, `status`, `down`, `delete`: what they do, what they say, and one line for each thing that can be wrong.

use std::fs;
use std::net::TcpListener;

use crate::cluster::{Cluster, Outcome, repository};

/// A failure that a user understands: one line, no trace, and what to do.
#[track_caller]
pub fn one_line(outcome: Outcome, text: &str) {
    let shown = outcome.to_string();
    let err = outcome.fails();
    assert_eq!(err.lines().count(), 1, "more or less than one line:\n{shown}");
    assert!(err.starts_with("stead: ") && err.contains(text), "expected {text:?} in:\n{shown}");
}

#[test]
fn a_cluster_lives_stops_returns_and_is_forgotten() {
    let cluster = Cluster::new("life");
    one_line(cluster.stead("status"), "there is no cluster in");
    let theirs = "apiVersion: v1\nkind: Config\ncurrent-context: prod\nclusters:\n- name: prod\n  cluster: {server: https://prod}\n\
        users:\n- name: me\n  user: {token: abc}\ncontexts:\n- name: prod\n  context: {cluster: prod, user: me, namespace: x}\n";
    fs::write(cluster.kubeconfig(), theirs).unwrap();

    cluster.start("").says("(context stead, ");
    cluster.kubectl("config current-context").says("stead");
    cluster.kubectl("config get-contexts -o name").says("prod");
    cluster.kubectl("--context stead get namespaces -o name").says("namespace/kube-system");
    cluster.stead("status").says("nodes     1 of 1 ready");
    cluster.start("").says("stead is up already: ");

    let counter = repository().join("examples/counter/counter.yaml");
    cluster.kubectl(&format!("apply -f {}", counter.display())).ok();
    cluster.kubectl("rollout status statefulset/counter --timeout=90s").ok();
    cluster.stead("status").says("set       default/counter 3/3 ready");

    cluster.stead("down").says("its data is kept; `stead up` brings it back");
    one_line(cluster.stead("status"), "is down; `stead up` starts it");
    cluster.stead("down").says("is down already");
    cluster.kubectl("get pods --request-timeout=2s").fails();

    cluster.start("").says("stead is up: ");
    cluster.kubectl("rollout status statefulset/counter --timeout=90s").ok();

    cluster.stead(&format!("delete --kubeconfig {}", cluster.kubeconfig().display())).says("is forgotten");
    assert!(!cluster.data().exists(), "data is left");
    one_line(cluster.stead("status"), "there is no cluster in");
    one_line(cluster.stead("delete"), "holds no cluster");
    // The kubeconfig is as it was: nothing of ours is left, nothing of theirs is lost.
    assert_eq!(cluster.kubectl("config get-contexts -o name").ok(), "prod\n");
    cluster
        .kubectl("config view --raw -o jsonpath='{.contexts[0].context.namespace} {.users[0].user.token}'")
        .says("x abc");
    let left = cluster.sh("mount | grep $PWD; ls /sys/class/net; nft list tables 2>/dev/null").out;
    assert!(!left.contains(&cluster.dir.display().to_string()), "mounts are left:\n{left}");
}

#[test]
fn two_clusters_live_side_by_side() {
    let (one, two) = (Cluster::up("one"), Cluster::new("two"));
    // Both in one kubeconfig: the second gets a context of its own.
    let shared = two.flags().replace(&two.kubeconfig().display().to_string(), &one.kubeconfig().display().to_string());
    two.sh(&format!("stead up {shared}")).says("(context stead-data, ");
    one.kubectl("config get-contexts -o name").says("stead\nstead-data\n");
    let pod = "---\n{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, \
        image: 'stead.local/demo:1', args: [counter, --dir, /tmp]}]}}";
    for context in ["stead", "stead-data"] {
        one.kubectl(&format!("config use-context {context}")).ok();
        one.apply(pod);
    }
    for context in ["stead", "stead-data"] {
        one.kubectl(&format!("--context {context} wait pod/p --for=condition=Ready --timeout=90s")).ok();
        one.kubectl(&format!("--context {context} exec p -- /stead demo lookup kubernetes.default")).says(" A 10.");
        one.kubectl(&format!("--context {context} exec p -- /stead demo get http://localhost:8080/"))
            .says("p has counted 1\n");
    }
    // The end of one does not touch the other.
    two.sh(&format!("stead delete --data-dir {} --kubeconfig {}", two.data().display(), one.kubeconfig().display()))
        .ok();
    assert_eq!(one.kubectl("config get-contexts -o name").ok(), "stead\n");
    let get = "--context stead exec p -- /stead demo get http://localhost:8080/";
    one.kubectl(get).says("p has counted 2\n");
    let restarts = "--context stead get pod p -o jsonpath='{.status.containerStatuses[0].restartCount}'";
    assert_eq!(one.kubectl(restarts).ok(), "0");
}

#[test]
fn mistakes_are_answered_with_one_line_that_says_what_to_do() {
    let cluster = Cluster::new("mistakes");
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let up = format!("stead up --data-dir data --kubeconfig config --api-port {port}");
    one_line(cluster.sh(&up), &format!("port {port} is in use"));
    one_line(cluster.sh("stead up --data-dir data --api-port 70000"), "70000");
    one_line(cluster.sh("stead up --data-dir data --api-port none"), "none");
    one_line(cluster.sh("stead up --data-dir data --api-port 0"), "there is no port 0");
    one_line(cluster.sh("stead up --data-dir data --api-port -1"), "-1");
    one_line(cluster.sh("stead up --data-dir data --api-port"), "--api-port needs a value");
    one_line(cluster.sh("stead up --data-dir data --service-cidr 10.0.0.0"), "10.0.0.0");
    one_line(cluster.sh("stead up --data-dir data --colour red"), "there is no flag --colour");
    one_line(cluster.sh("stead fly"), "there is no verb \"fly\"");
    one_line(cluster.sh("stead up --data-dir /dev/null/data"), "/dev/null");
    // A full disk: said before the store is touched.
    cluster.sh("mkdir full && mount -t tmpfs -o size=1M tmpfs full").ok();
    let full = cluster.sh("stead up --data-dir full/data --kubeconfig config --no-node");
    cluster.sh("umount full").ok();
    one_line(full, "is full (");
    // Not root: before anything is touched.
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    cluster.sh("chmod 755 . bin; mkdir -m 777 free").ok();
    one_line(cluster.sh(&format!("{nobody} stead up --data-dir free/data --kubeconfig free/config")), "root");
    // A damaged or foreign kubeconfig stays as it is.
    fs::write(cluster.kubeconfig(), "clusters: [").unwrap();
    one_line(cluster.start(""), "is not a kubeconfig; it was left as it is");
    assert_eq!(fs::read_to_string(cluster.kubeconfig()).unwrap(), "clusters: [");
    // Flags that a cluster keeps for life.
    fs::remove_file(cluster.kubeconfig()).unwrap();
    cluster.stead("down").ok();
    one_line(cluster.start("--pod-cidr 10.9.0.0/16"), "--pod-cidr");
    // Two clusters cannot share a port.
    cluster.start("").says("stead is up: ");
    let other = Cluster::new("mistakes-other");
    let shared = other.flags().replace(&other.api_port.to_string(), &cluster.api_port.to_string());
    one_line(other.sh(&format!("stead up {shared}")), &format!("port {} is in use", cluster.api_port));
}
