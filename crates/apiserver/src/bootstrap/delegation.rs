//! What extension API servers need to know to believe requests that are passed on to them: the ConfigMap
//! `extension-apiserver-authentication` and the role to read it.
//!
//! Upstream: pkg/controlplane/controller/clusterauthenticationtrust.

use serde_json::json;

use super::facts::Bootstrap;
use super::maker::{AUTOUPDATE, Maker, RBAC};

const CONFIG_MAP: &str = "extension-apiserver-authentication";
const READER: &str = "extension-apiserver-authentication-reader";
/// The name in the certificate that requests are passed on with.
pub const FRONT_PROXY: &str = "front-proxy-client";

pub(super) fn make(maker: &mut Maker, facts: &Bootstrap) {
    let list = |name: &str| json!([name]).to_string();
    let trust = json!({"metadata": {"name": CONFIG_MAP, "namespace": "kube-system"}, "data": {
        "client-ca-file": maker.ctx.cluster.ca_pem,
        "requestheader-allowed-names": list(FRONT_PROXY),
        "requestheader-client-ca-file": facts.front_proxy_ca,
        "requestheader-extra-headers-prefix": list("X-Remote-Extra-"),
        "requestheader-group-headers": list("X-Remote-Group"),
        "requestheader-uid-headers": list("X-Remote-Uid"),
        "requestheader-username-headers": list("X-Remote-User"),
    }});
    maker.current("", "configmaps", "kube-system", &["data"], trust);
    let metadata = |name: &str| {
        json!({"name": name, "namespace": "kube-system", "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {AUTOUPDATE: "true"}})
    };
    let role = json!({"metadata": metadata(READER), "rules": [{"apiGroups": [""], "resources": ["configmaps"],
        "resourceNames": [CONFIG_MAP], "verbs": ["get", "list", "watch"]}]});
    maker.kept(RBAC, "roles", "kube-system", "rules", role);
    let users = ["system:kube-controller-manager", "system:kube-scheduler"];
    let subjects = users.map(|name| json!({"apiGroup": RBAC, "kind": "User", "name": name}));
    let binding = json!({"metadata": metadata("system::extension-apiserver-authentication-reader"),
        "subjects": subjects, "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": READER}});
    maker.missing(RBAC, "rolebindings", "kube-system", binding);
}
