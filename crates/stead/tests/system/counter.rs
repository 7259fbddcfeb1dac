//! The README's example through everything that can happen to it: names, order, volumes, addresses, crashes.

use std::process::Stdio;

use crate::cluster::{Cluster, repository};

fn manifest() -> String {
    repository().join("examples/counter/counter.yaml").display().to_string()
}

/// What each of the pods tells of itself: container id, restarts.
fn containers(cluster: &Cluster) -> String {
    let path = "{range .items[*]}{.metadata.name} {.metadata.uid} {.status.containerStatuses[0].containerID} \
        {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
    cluster.value("pods -l app=counter", path)
}

fn visit(cluster: &Cluster, from: &str, to: &str) -> String {
    cluster.kubectl(&format!("exec {from} -- /stead demo get http://{to}:8080/")).ok()
}

#[test]
fn three_counters_keep_their_names_volumes_and_addresses() {
    let cluster = Cluster::up("counter");
    cluster.tells(&[
        ("start in order", starts_in_order),
        ("names and volumes", has_names_and_volumes),
        ("addresses", is_found_by_name),
        ("a pod is deleted", comes_back_with_its_data),
        ("scaled down and up", stops_in_reverse_order),
        ("the server is killed", survives_a_crash_of_the_server),
        ("down and up", survives_down_and_up),
        ("the set is deleted", claims_survive_the_set),
    ]);
}

/// B-10: each pod only after the one before is ready; seen live, as a user sees it.
fn starts_in_order(cluster: &Cluster) {
    let watched = cluster.dir.join("watched");
    let mut watch = cluster
        .shell("kubectl get pods -l app=counter --watch --output-watch-events --no-headers")
        .stdout(std::fs::File::create(&watched).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    cluster.kubectl(&format!("apply -f {}", manifest())).says("statefulset.apps/counter created");
    cluster.kubectl("rollout status statefulset/counter --timeout=90s").says("roll out complete: 3 new pods");
    // The watch has told all when the last pod is ready in it.
    cluster.sh("timeout 20 tail -n +1 -F watched | grep -m 1 -E 'counter-2 +1/1'; true").says("counter-2");
    watch.kill().unwrap();
    watch.wait().unwrap();
    let text = std::fs::read_to_string(watched).unwrap();
    let at = |pod: &str, state: &str| {
        text.lines()
            .position(|l| l.split_whitespace().any(|w| w == pod) && l.contains(state))
            .unwrap_or_else(|| panic!("{pod} {state}:\n{text}"))
    };
    for (before, after) in [("counter-0", "counter-1"), ("counter-1", "counter-2")] {
        assert!(at(before, "1/1") < at(after, "ADDED"), "{after} did not wait for {before}:\n{text}");
    }
}

/// B-01, B-02, B-06, B-36 and the identity inside the container (B-03).
fn has_names_and_volumes(cluster: &Cluster) {
    let names = cluster.value("pods", "{.items[*].metadata.name}");
    assert_eq!(names, "counter-0 counter-1 counter-2");
    let labels = cluster.value("pod counter-1", "{.metadata.labels}");
    for label in [
        "\"statefulset.kubernetes.io/pod-name\":\"counter-1\"",
        "\"apps.kubernetes.io/pod-index\":\"1\"",
        "\"controller-revision-hash\":\"counter-",
    ] {
        assert!(labels.contains(label), "{label} in {labels}");
    }
    assert_eq!(cluster.value("pvc", "{.items[*].metadata.name}"), "data-counter-0 data-counter-1 data-counter-2");
    assert_eq!(cluster.value("pvc", "{.items[*].status.phase}"), "Bound Bound Bound");
    cluster.kubectl("get statefulset counter").says("counter   3/3");
    let events = cluster.kubectl("events --for statefulset/counter").ok();
    for text in [
        "Create Claim data-counter-2 Pod counter-2 in StatefulSet counter success",
        "Create Pod counter-2 in StatefulSet counter successful",
    ] {
        assert!(events.contains(text), "{text:?} in\n{events}");
    }
    cluster
        .kubectl("exec counter-2 -- /stead demo cat /etc/hosts")
        .says("counter-2.counter.default.svc.cluster.local\tcounter-2");
}

/// D-05 and its neighbours: A and SRV records of the headless Service, and HTTP through them.
fn is_found_by_name(cluster: &Cluster) {
    let address = cluster.value("pod counter-1", "{.status.podIP}");
    let look = |what: &str| cluster.kubectl(&format!("exec counter-0 -- /stead demo lookup {what}"));
    assert_eq!(look("counter-1.counter").ok(), format!("counter-1.counter.default.svc.cluster.local. A {address}\n"));
    assert_eq!(look("counter").ok().lines().count(), 3);
    let services = look("_http._tcp.counter.default.svc.cluster.local. SRV").ok();
    for pod in 0..3 {
        assert!(services.contains(&format!(" 8080 counter-{pod}.counter.default.svc.cluster.local.")), "{services}");
    }
    assert!(look("counter-7.counter").fails().contains("has no A records"));
    for pod in 0..3 {
        assert_eq!(
            visit(cluster, "counter-0", &format!("counter-{pod}.counter")),
            format!("counter-{pod} has counted 1\n")
        );
    }
}

/// The data stays with the name (B-08, B-29), and only the deleted pod is replaced.
fn comes_back_with_its_data(cluster: &Cluster) {
    let uid = cluster.value("pod counter-1", "{.metadata.uid}");
    cluster.kubectl("delete pod counter-1").says("pod \"counter-1\" deleted");
    cluster.kubectl("rollout status statefulset/counter --timeout=90s").ok();
    cluster.wait("pod/counter-1", "condition=Ready");
    assert_ne!(cluster.value("pod counter-1", "{.metadata.uid}"), uid);
    assert_eq!(visit(cluster, "counter-0", "counter-1.counter"), "counter-1 has counted 2\n");
}

/// B-11: from the top, one at a time; the claims stay.
fn stops_in_reverse_order(cluster: &Cluster) {
    cluster.kubectl("scale statefulset counter --replicas=1").says("statefulset.apps/counter scaled");
    cluster.kubectl("wait pod/counter-2 pod/counter-1 --for=delete --timeout=60s").ok();
    let path = "{range .items[*]}{.metadata.resourceVersion} {.message}{\"\\n\"}{end}";
    let events = cluster.value("events --field-selector reason=SuccessfulDelete", path);
    let revision = |pod: &str| {
        let line = events.lines().find(|line| line.contains(&format!("Delete Pod {pod} ")));
        let line = line.unwrap_or_else(|| panic!("no deletion of {pod}:\n{events}"));
        line.split(' ').next().and_then(|first| first.parse::<u64>().ok()).expect("a revision is a number")
    };
    assert!(revision("counter-2") < revision("counter-1"), "{events}");
    assert_eq!(cluster.value("pvc", "{.items[*].status.phase}"), "Bound Bound Bound");
    cluster.kubectl("scale statefulset counter --replicas=3").ok();
    cluster.kubectl("rollout status statefulset/counter --timeout=90s").ok();
    cluster.wait("pod/counter-2", "condition=Ready");
    assert_eq!(visit(cluster, "counter-0", "counter-2.counter"), "counter-2 has counted 2\n");
}

/// The server dies without a word: containers run on, are adopted, and everything works on them.
fn survives_a_crash_of_the_server(cluster: &Cluster) {
    let before = containers(cluster);
    // A write that was acknowledged is never lost.
    cluster.kubectl("label pod counter-0 acknowledged=yes").ok();
    cluster.sh(&format!("kill -9 {}", cluster.pid())).ok();
    cluster.kubectl("get pods --request-timeout=2s").fails();
    cluster.start("").says("stead is up: ");
    assert_eq!(cluster.value("pod counter-0", "{.metadata.labels.acknowledged}"), "yes");
    cluster.kubectl("wait pod --all --for=condition=Ready --timeout=60s").ok();
    assert_eq!(containers(cluster), before, "the containers are the same");
    assert_eq!(visit(cluster, "counter-1", "counter-2.counter"), "counter-2 has counted 3\n");
    cluster.kubectl("logs counter-0").says("counter-0 listens on port 8080");
    // Still in its hands: a deletion stops the container, and the set replaces the pod.
    cluster.kubectl("delete pod counter-0").ok();
    cluster.kubectl("rollout status statefulset/counter --timeout=90s").ok();
    cluster.wait("pod/counter-0", "condition=Ready");
    assert_eq!(visit(cluster, "counter-1", "counter-0.counter"), "counter-0 has counted 2\n");
}

fn survives_down_and_up(cluster: &Cluster) {
    let before = containers(cluster);
    cluster.stead("down --keep-containers").says("its containers run on");
    cluster.start("").says("stead is up: ");
    cluster.kubectl("wait pod --all --for=condition=Ready --timeout=60s").ok();
    assert_eq!(containers(cluster), before, "the containers are the same");
    cluster.stead("down").says("its data is kept");
    cluster.start("").says("stead is up: ");
    cluster.kubectl("rollout status statefulset/counter --timeout=90s").ok();
    cluster.kubectl("wait pod --all --for=condition=Ready --timeout=60s").ok();
    assert_eq!(visit(cluster, "counter-0", "counter-2.counter"), "counter-2 has counted 4\n");
}

/// B-29: the set is deleted, its claims are not, and a new set finds them.
fn claims_survive_the_set(cluster: &Cluster) {
    cluster.kubectl("delete statefulset counter --cascade=foreground").ok();
    assert_eq!(cluster.value("pods", "{.items[*].metadata.name}"), "");
    assert_eq!(cluster.value("pvc", "{.items[*].metadata.name}"), "data-counter-0 data-counter-1 data-counter-2");
    cluster.kubectl(&format!("apply -f {}", manifest())).ok();
    cluster.kubectl("rollout status statefulset/counter --timeout=90s").ok();
    assert_eq!(visit(cluster, "counter-0", "counter-2.counter"), "counter-2 has counted 5\n");
}
