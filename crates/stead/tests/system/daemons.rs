//! A pod on every node, and a new template for all of them.

use crate::cluster::Cluster;

const LOGGER: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: logger}
spec:
  selector: {matchLabels: {app: logger}}
  template:
    metadata: {labels: {app: logger}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: c
        image: stead.local/demo:1
        args: [logger, --dir, /tmp]
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
";

#[test]
fn every_node_has_its_daemon() {
    let cluster = Cluster::new("daemons");
    cluster.start("--nodes 2").says("stead is up: ");
    cluster.kubectl("wait node --all --for=condition=Ready --timeout=60s").ok();
    cluster.apply(LOGGER);
    cluster.kubectl("rollout status daemonset/logger --timeout=90s").says("successfully rolled out");
    let nodes = |cluster: &Cluster| {
        let text = cluster.value("pods -l app=logger", "{.items[*].spec.nodeName}");
        let mut nodes: Vec<String> = text.split(' ').map(str::to_owned).collect();
        nodes.sort();
        nodes
    };
    assert_eq!(nodes(&cluster), ["node-0", "node-1"]);
    cluster.kubectl("set env daemonset/logger COLOR=blue").ok();
    cluster.kubectl("rollout status daemonset/logger --timeout=90s").says("successfully rolled out");
    assert_eq!(nodes(&cluster), ["node-0", "node-1"]);
    cluster.kubectl("rollout undo daemonset/logger").ok();
    cluster.kubectl("rollout status daemonset/logger --timeout=90s").says("successfully rolled out");
    assert_eq!(cluster.value("daemonset logger", "{.spec.template.spec.containers[0].env}"), "");
    cluster.kubectl("get daemonset logger").says("logger 2 2 2 2 2 <none>");
    cluster.kubectl("drain node-1 --ignore-daemonsets --timeout=60s").says("drained");
    assert_eq!(nodes(&cluster), ["node-0", "node-1"], "daemons stay on a drained node");
}
