//! Roles for machines that join and for what they join with: certificate requests, bootstrap tokens, the ConfigMap `cluster-info`.
//!
//! The roles are Kubernetes' own; the bindings of bootstrap tokens are those that `kubeadm init` makes.

use serde_json::{Value, json};

use crate::default_roles::{rule, rules};

/// The group of tokens that machines join with.
const BOOTSTRAPPERS: &str = "system:bootstrappers:kubeadm:default-node-token";
const READ: &str = "get list watch";
const CSRS: &str = "certificatesigningrequests";
const NODE_CLIENT: &str = "system:certificates.k8s.io:certificatesigningrequests:nodeclient";
const SELF_NODE_CLIENT: &str = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient";

/// Name and rules of ClusterRoles.
pub(super) fn cluster_roles() -> Vec<(&'static str, Value)> {
    let certificates = "certificates.k8s.io";
    let approver = |signer: &str| json!([{"apiGroups": [certificates], "resources": ["signers"], "resourceNames": [signer], "verbs": ["approve"]}]);
    vec![
        (NODE_CLIENT, rules([(certificates, "certificatesigningrequests/nodeclient", "create")])),
        (SELF_NODE_CLIENT, rules([(certificates, "certificatesigningrequests/selfnodeclient", "create")])),
        ("system:certificates.k8s.io:legacy-unknown-approver", approver("kubernetes.io/legacy-unknown")),
        ("system:certificates.k8s.io:kubelet-serving-approver", approver("kubernetes.io/kubelet-serving")),
        ("system:certificates.k8s.io:kube-apiserver-client-approver", approver("kubernetes.io/kube-apiserver-client")),
        (
            "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
            approver("kubernetes.io/kube-apiserver-client-kubelet"),
        ),
        ("system:controller:certificate-controller", certificate_controller()),
        ("system:node-bootstrapper", rules([(certificates, CSRS, "create get list watch")])),
        (
            "system:kubelet-api-admin",
            rules([
                ("core", "nodes", "get list watch"),
                ("core", "nodes", "proxy"),
                ("core", "nodes/log nodes/metrics nodes/proxy nodes/stats", "*"),
            ]),
        ),
    ]
}

/// What approves, signs and forgets certificate requests.
fn certificate_controller() -> Value {
    let signers = |verb: &str, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| format!("kubernetes.io/{name}")).collect();
        json!({"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": names, "verbs": [verb]})
    };
    let own = ["legacy-unknown", "kube-apiserver-client", "kube-apiserver-client-kubelet", "kubelet-serving"];
    let parts = "certificatesigningrequests/approval certificatesigningrequests/status";
    json!([
        rule(("certificates.k8s.io", CSRS, "get list watch delete")),
        rule(("certificates.k8s.io", parts, "update")),
        signers("approve", &["kube-apiserver-client-kubelet"]),
        signers("sign", &own),
        rule(("authorization.k8s.io", "subjectaccessreviews", "create")),
        rule(("core", "events", "create patch update")),
    ])
}

/// Name, role and group of ClusterRoleBindings.
pub(super) const CLUSTER_BINDINGS: &[(&str, &str, &str)] = &[
    ("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", BOOTSTRAPPERS),
    ("kubeadm:node-autoapprove-bootstrap", NODE_CLIENT, BOOTSTRAPPERS),
    ("kubeadm:node-autoapprove-certificate-rotation", SELF_NODE_CLIENT, "system:nodes"),
];

/// A Role and its RoleBinding in one namespace, both of one name.
pub(super) struct Local {
    pub namespace: &'static str,
    pub name: &'static str,
    pub rules: Value,
    pub subject: Value,
}

pub(super) fn locals() -> Vec<Local> {
    let account = |name: &str| json!({"kind": "ServiceAccount", "name": name, "namespace": "kube-system"});
    let anonymous = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:anonymous"});
    let mut sign = vec![rule(("core", "configmaps", READ)), rule(("core", "configmaps", "update"))];
    sign[1]["resourceNames"] = json!(["cluster-info"]);
    sign.push(rule(("core", "events", "create patch update")));
    let mut read = rule(("core", "configmaps", "get"));
    read["resourceNames"] = json!(["cluster-info"]);
    let local = |namespace, name, rules, subject| Local { namespace, name, rules, subject };
    let (signer, cleaner) = ("system:controller:bootstrap-signer", "system:controller:token-cleaner");
    vec![
        local("kube-public", signer, json!(sign), account("bootstrap-signer")),
        local("kube-system", signer, rules([("core", "secrets", READ)]), account("bootstrap-signer")),
        local(
            "kube-system",
            cleaner,
            rules([("core", "secrets", "delete get list watch"), ("core", "events", "create patch update")]),
            account("token-cleaner"),
        ),
        local("kube-public", "kubeadm:bootstrap-signer-clusterinfo", json!([read]), anonymous),
    ]
}
