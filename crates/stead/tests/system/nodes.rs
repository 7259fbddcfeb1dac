//! More than one node, nodes that only pretend, and none at all.

use crate::cluster::Cluster;

/// Each pod is kept away from nodes that have one already.
const SPREAD: &str = "
apiVersion: v1
kind: Service
metadata: {name: spread}
spec: {clusterIP: None, selector: {app: spread}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: any}
spec: {selector: {app: spread}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: spread}
spec:
  serviceName: spread
  replicas: 2
  selector: {matchLabels: {app: spread}}
  template:
    metadata: {labels: {app: spread}}
    spec:
      terminationGracePeriodSeconds: 5
      affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [
        {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: spread}}}]}}
      containers:
      - name: c
        image: stead.local/demo:1
        args: [counter, --dir, /data]
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
";

#[test]
fn pods_of_two_nodes_reach_each_other() {
    let cluster = Cluster::new("nodes");
    cluster.start("--nodes 2").says("stead is up: ");
    cluster.kubectl("wait node --all --for=condition=Ready --timeout=60s").ok();
    assert_eq!(cluster.value("nodes", "{.items[*].metadata.name}"), "node-0 node-1");
    cluster.apply(SPREAD);
    cluster.kubectl("rollout status statefulset/spread --timeout=90s").ok();
    let mut nodes: Vec<String> =
        cluster.value("pods", "{.items[*].spec.nodeName}").split(' ').map(str::to_owned).collect();
    nodes.sort();
    assert_eq!(nodes, ["node-0", "node-1"]);
    for (from, to) in [("spread-0", "spread-1"), ("spread-1", "spread-0")] {
        let get = format!("exec {from} -- /stead demo get http://{to}.spread:8080/");
        cluster.kubectl(&get).says(&format!("{to} has counted "));
        cluster.kubectl(&format!("exec {from} -- /stead demo get http://any/")).says("has counted");
    }
    // A pod stays with its volume: it comes back on the node that has it.
    let node = cluster.value("pod spread-1", "{.spec.nodeName}");
    cluster.kubectl("delete pod spread-1").ok();
    cluster.kubectl("rollout status statefulset/spread --timeout=90s").ok();
    cluster.wait("pod/spread-1", "condition=Ready");
    assert_eq!(cluster.value("pod spread-1", "{.spec.nodeName}"), node);
    // Drained: the set's pod cannot go elsewhere, since its volume cannot, and returns when it may.
    cluster.kubectl(&format!("drain {node} --ignore-daemonsets --delete-emptydir-data --timeout=60s")).says("drained");
    cluster.wait("pod/spread-1", "condition=PodScheduled=false");
    cluster.kubectl(&format!("uncordon {node}")).says("uncordoned");
    cluster.wait("pod/spread-1", "condition=Ready");
}

#[test]
fn fake_nodes_report_pods_as_running_and_no_node_runs_none() {
    let cluster = Cluster::new("fake");
    cluster.start("--nodes 0 --fake-nodes 3").says("stead is up: ");
    cluster.kubectl("wait node --all --for=condition=Ready --timeout=60s").ok();
    assert_eq!(cluster.value("nodes", "{.items[*].metadata.name}").split(' ').count(), 3);
    cluster.apply(SPREAD);
    cluster.kubectl("rollout status statefulset/spread --timeout=90s").ok();
    cluster.kubectl("scale statefulset spread --replicas=3").ok();
    cluster.kubectl("rollout status statefulset/spread --timeout=90s").ok();
    cluster.kubectl("delete statefulset spread --cascade=foreground").ok();

    let alone = Cluster::new("alone");
    alone.start("--no-node").says("stead is up: ");
    alone.kubectl("get nodes").ok();
    assert_eq!(alone.value("nodes", "{.items[*].metadata.name}"), "");
    alone.apply(SPREAD);
    alone.wait("pod/spread-0", "condition=PodScheduled=false");
    assert_eq!(alone.value("pod spread-0", "{.status.phase}"), "Pending");
}
