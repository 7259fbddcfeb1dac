//! What a node may do, and what not: the node authorizer and NodeRestriction.

use std::sync::Arc;

use serde_json::{Value, json};
use stead_api::User;

use crate::bootstrap;
use crate::fixture::{CERTIFICATE_REQUEST, Server, pod};

const CORE: &str = "/api/v1/namespaces/default";
const AGAIN: &str = "User \"system:node:n1\" cannot";

/// Two nodes, a pod on each; that on n1 names a Secret, a ConfigMap and a claim. The node n1 asks.
fn cluster() -> Server {
    let mut server = Server::empty();
    let facts = crate::bootstrap::tests::facts(6443);
    bootstrap(&mut server.ctx(), &facts);
    server.make(&format!("{CORE}/serviceaccounts"), json!({"metadata": {"name": "default"}}));
    for node in ["n1", "n2"] {
        server.make("/api/v1/nodes", json!({"metadata": {"name": node}, "spec": {"taints": []}}));
    }
    for name in ["mine", "other"] {
        server.make(&format!("{CORE}/secrets"), json!({"metadata": {"name": name}}));
        server.make(&format!("{CORE}/configmaps"), json!({"metadata": {"name": name}}));
    }
    let mut a = pod("a");
    a["spec"]["nodeName"] = json!("n1");
    a["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "mine"}},
        {"name": "c", "persistentVolumeClaim": {"claimName": "data"}}]);
    a["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "mine"}}]);
    server.make(&format!("{CORE}/pods"), a);
    let mut b = pod("b");
    b["spec"]["nodeName"] = json!("n2");
    server.make(&format!("{CORE}/pods"), b);
    server.user = Arc::new(User {
        name: "system:node:n1".into(),
        groups: vec!["system:nodes".into(), "system:authenticated".into()],
        ..User::default()
    });
    server
}

#[test]
fn a_node_reads_what_its_pods_refer_to() {
    let mut server = cluster();
    for kind in ["secrets", "configmaps"] {
        server.get(&format!("{CORE}/{kind}/mine"));
        server.get(&format!("{CORE}/{kind}?fieldSelector=metadata.name=mine"));
        assert_eq!(
            server.refused(&format!("GET {CORE}/{kind}/other"), Value::Null),
            format!(
                "403 Forbidden {kind} \"other\" is forbidden: {AGAIN} get resource \"{kind}\" in API group \"\" in the namespace \"default\": no relationship found between node 'n1' and this object"
            )
        );
        let all = server.refused(&format!("GET {CORE}/{kind}"), Value::Null);
        assert!(all.ends_with(": No Object name found"), "{all}");
        let write = server.refused(&format!("DELETE {CORE}/{kind}/mine"), Value::Null);
        assert!(write.ends_with(": can only read resources of this type"), "{write}");
    }
    let everywhere = server.refused("GET /api/v1/secrets", Value::Null);
    assert!(everywhere.ends_with("at the cluster scope: can only read namespaced object of this type"), "{everywhere}");
    let claim = server.refused(&format!("GET {CORE}/persistentvolumeclaims/data"), Value::Null);
    assert!(claim.starts_with("404"), "it may look for the claim of its pod: {claim}");
    let claims = server.refused(&format!("GET {CORE}/persistentvolumeclaims"), Value::Null);
    assert!(claims.ends_with(": can only get individual resources of this type"), "{claims}");

    server.get(&format!("{CORE}/pods/a"));
    server.get("/api/v1/pods?fieldSelector=spec.nodeName=n1");
    let other = server.refused(&format!("GET {CORE}/pods/b"), Value::Null);
    assert!(other.ends_with(": no relationship found between node 'n1' and this object"), "{other}");
    let all = server.refused("GET /api/v1/pods", Value::Null);
    assert!(all.ends_with(": can only list/watch pods with spec.nodeName field selector"), "{all}");
    server.get("/api/v1/nodes/n1");
    server.get("/api/v1/nodes?fieldSelector=metadata.name=n1");
    let other = server.refused("GET /api/v1/nodes/n2", Value::Null);
    assert!(other.ends_with(": node 'n1' cannot read 'n2', only its own Node object"), "{other}");
    let all = server.refused("GET /api/v1/nodes", Value::Null);
    assert!(all.ends_with(": node 'n1' cannot read all nodes, only its own Node object"), "{all}");
    server.get("/api/v1/services");
    let roles = server.refused("GET /apis/rbac.authorization.k8s.io/v1/clusterroles", Value::Null);
    assert!(roles.ends_with("at the cluster scope"), "{roles}");
}

#[test]
fn a_node_writes_itself_and_its_pods() {
    let mut server = cluster();
    let forbidden = |what: &str, why: &str| format!("403 Forbidden {what} is forbidden: {why}");
    let status = json!({"status": {"phase": "Running"}});
    server.done(&format!("PATCH:strategic {CORE}/pods/a/status"), status.clone());
    assert_eq!(
        server.refused(&format!("PATCH:strategic {CORE}/pods/b/status"), status),
        forbidden("pods \"b\"", "node \"n1\" can only update pod status for pods with spec.nodeName set to itself")
    );
    assert_eq!(
        server.refused(&format!("PATCH:strategic {CORE}/pods/a/status"), json!({"metadata": {"labels": {"x": "y"}}})),
        forbidden("pods \"a\"", "node \"n1\" cannot update labels through pod status")
    );
    assert_eq!(
        server.refused(&format!("DELETE {CORE}/pods/b"), Value::Null),
        forbidden("pods \"b\"", "node \"n1\" can only delete pods with spec.nodeName set to itself")
    );
    let eviction = json!({"metadata": {"name": "b"}});
    assert_eq!(
        server.refused(&format!("POST {CORE}/pods/b/eviction"), eviction),
        forbidden("pods \"b\"", "node \"n1\" can only evict pods with spec.nodeName set to itself")
    );
    assert_eq!(
        server.refused(&format!("POST {CORE}/pods"), pod("c")),
        forbidden(
            "pods \"c\"",
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n1\" can only create mirror pods"
        )
    );
    let uid = server.get("/api/v1/nodes/n1")["metadata"]["uid"].clone();
    let mut mirror = pod("mirror");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    mirror["spec"]["nodeName"] = json!("n1");
    assert_eq!(
        server.refused(&format!("POST {CORE}/pods"), mirror.clone()),
        forbidden("pods \"mirror\"", "node \"n1\" can only create pods with an owner reference set to itself")
    );
    mirror["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": true}]);
    let mut greedy = mirror.clone();
    greedy["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "other"}}]);
    assert_eq!(
        server.refused(&format!("POST {CORE}/pods"), greedy),
        forbidden("pods \"mirror\"", "node \"n1\" can not create pods that reference secrets")
    );
    server.make(&format!("{CORE}/pods"), mirror);
    server.done(&format!("DELETE {CORE}/pods/mirror?gracePeriodSeconds=0"), Value::Null);

    let lease = |name: &str| json!({"metadata": {"name": name}, "spec": {}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    server.make(leases, lease("n1"));
    assert_eq!(
        server.refused(&format!("POST {leases}"), lease("n2")),
        forbidden(
            "leases.coordination.k8s.io \"n2\"",
            "can only access node lease with the same name as the requesting node"
        )
    );
}

#[test]
fn a_node_says_nothing_of_itself_that_others_rely_on() {
    let mut server = cluster();
    let node = "/api/v1/nodes/n1";
    let label = |name: &str| json!({"metadata": {"labels": {name: "x"}}});
    for fine in ["example.com/a", "a", "kubernetes.io/os", "node.kubernetes.io/anything", "sub.kubelet.kubernetes.io/a"]
    {
        server.done(&format!("PATCH:merge {node}"), label(fine));
    }
    for wrong in
        ["node-restriction.kubernetes.io/a", "a.node-restriction.kubernetes.io/b", "kubernetes.io/a", "x.k8s.io/a"]
    {
        assert_eq!(
            server.refused(&format!("PATCH:merge {node}"), label(wrong)),
            format!("403 Forbidden nodes \"n1\" is forbidden: node \"n1\" is not allowed to modify labels: {wrong}")
        );
    }
    let taints = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
    assert_eq!(
        server.refused(&format!("PATCH:merge {node}"), taints),
        "403 Forbidden nodes \"n1\" is forbidden: node \"n1\" is not allowed to modify taints"
    );
    assert_eq!(
        server.refused("PATCH:merge /api/v1/nodes/n2", label("a")),
        "403 Forbidden nodes \"n2\" is forbidden: node \"n1\" is not allowed to modify node \"n2\""
    );
    let other = json!({"metadata": {"name": "n3", "labels": {"kubernetes.io/a": "b"}}});
    assert_eq!(
        server.refused("POST /api/v1/nodes", other),
        "403 Forbidden nodes \"n3\" is forbidden: node \"n1\" is not allowed to set the following labels: kubernetes.io/a"
    );
    let csr = json!({"metadata": {"name": "c"}, "spec": {"request": CERTIFICATE_REQUEST, "usages": ["client auth"],
        "signerName": "kubernetes.io/kube-apiserver-client-kubelet"}});
    let csrs = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    server.make(csrs, csr.clone());
    server.user = Arc::new(User { name: "system:node:n2".into(), ..User::clone(&server.user) });
    assert_eq!(
        server.refused(&format!("POST {csrs}"), csr),
        "403 Forbidden certificatesigningrequests.certificates.k8s.io \"c\" is forbidden: can only create a node CSR with CN=system:node:n2"
    );
}

#[test]
fn a_nodes_tokens_are_of_its_own_pods() {
    let mut server = cluster();
    let token = format!("POST {CORE}/serviceaccounts/default/token");
    let refused = |why: &str| format!("403 Forbidden serviceaccounts \"default\" is forbidden: {why}");
    assert_eq!(server.refused(&token, json!({"spec": {}})), refused("node requested token not bound to a pod"));
    let uid = server.get(&format!("{CORE}/pods/a"))["metadata"]["uid"].clone();
    let bound = |pod: &str, uid: Value| json!({"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": uid});
    let ask = |reference: Value| json!({"spec": {"boundObjectRef": reference}});
    assert_eq!(
        server.refused(&token, ask(bound("a", Value::Null))),
        refused("node requested token with a pod binding without a uid")
    );
    let mut vault = ask(bound("a", uid.clone()));
    vault["spec"]["audiences"] = json!(["vault"]);
    assert_eq!(
        server.refused(&token, vault),
        refused(
            "audience \"vault\" not found in pod spec volume, system:node:n1 is not authorized to request tokens for this audience"
        )
    );
    assert!(matches!(server.reply(&token, &ask(bound("a", uid)).to_string()), crate::Reply::Sign(_)));
    let other = server.store.snapshot().find("pods", "default", "b").expect("a pod").meta.uid.clone();
    assert_eq!(
        server.refused(&token, ask(bound("b", json!(other)))),
        refused("node requested token bound to a pod scheduled on a different node")
    );
}
