//! A node's rights with the real kubectl, on a node that runs a pod: its own agent works within them.

use crate::cluster::Cluster;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: reads}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: stead.local/demo:1
    args: [counter, --dir, /tmp]
    envFrom: [{secretRef: {name: mine}}]
";

#[test]
fn a_node_sees_no_more_than_its_pods_need() {
    let cluster = Cluster::up("noderights");
    cluster.kubectl("create secret generic mine --from-literal a=b").ok();
    cluster.kubectl("create secret generic other --from-literal a=b").ok();
    cluster.apply(POD);
    cluster.wait("pod/reads", "condition=Ready");
    let node =
        |arguments: &str| cluster.kubectl(&format!("--as system:node:node-0 --as-group system:nodes {arguments}"));
    node("get secret mine").ok();
    let refused = node("get secret other").fails();
    let why = "cannot get resource \"secrets\" in API group \"\" in the namespace \"default\": no relationship found between node 'node-0' and this object";
    assert!(refused.contains(why), "{refused}");
    node("get pods -A --field-selector spec.nodeName=node-0").says("reads");
    assert!(node("get pods -A").fails().contains("can only list/watch pods with spec.nodeName field selector"));
    node("label node node-0 example.com/rack=1").ok();
    let refused = node("label node node-0 node-restriction.kubernetes.io/trusted=yes").fails();
    assert!(refused.contains("is not allowed to modify labels: node-restriction.kubernetes.io/trusted"), "{refused}");
    assert!(node("taint node node-0 a=b:NoSchedule").fails().contains("is not allowed to modify taints"));
    // What the pod named, its node may read only for as long as the pod is there.
    cluster.kubectl("delete pod reads").ok();
    node("get secret mine").fails();
    // RBAC may still give a node more.
    cluster.kubectl("create clusterrolebinding more --clusterrole view --group system:nodes").ok();
    node("get pods -A").ok();
    // The agent itself was refused nothing.
    let log = cluster.sh("cat data/stead.log").ok();
    assert!(!log.contains("forbidden"), "{log}");
}
