//! The objects of an empty cluster.
//!
//! Contract: made through the same writes as everything else; what is there is left as it is, but for what the server itself
//! knows better: default roles (unless their autoupdate annotation is off) and the endpoints of Service `kubernetes`.

mod delegation;
mod facts;
mod joining;
mod maker;
mod services;

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde_json::{Value, json};
use stead_api::{User, Verb};

pub use delegation::FRONT_PROXY;
pub use facts::Bootstrap;

use crate::draft::time_text;
use crate::{Context, default_roles, legacy_use};
use maker::{AUTOUPDATE, Maker, RBAC};

/// Makes the initial objects that are missing. Called at every start.
///
/// # Panics
/// When an initial object is refused: they are constants of this file, so that is a mistake in it.
pub fn bootstrap(ctx: &mut Context, facts: &Bootstrap) {
    let mut maker = Maker { user: Arc::new(User::controller("stead-bootstrap")), ctx };
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        maker.missing("", "namespaces", "", json!({"metadata": {"name": name}}));
    }
    make_roles(&mut maker);
    make_classes(&mut maker);
    make_services(&mut maker, facts);
    make_ranges(&mut maker);
    make_cluster_info(&mut maker, facts);
    delegation::make(&mut maker, facts);
    maker.missing("", "configmaps", "kube-system", legacy_use::tracking(maker.ctx.now));
    let now = time_text(maker.ctx.now);
    for service in services::api_services(&now) {
        maker.with_status("apiregistration.k8s.io", "apiservices", service);
    }
    make_usage(&mut maker, facts, &now);
}

/// The APIService of what pods and nodes use, which clients look for; another server's stays.
fn make_usage(maker: &mut Maker, facts: &Bootstrap, now: &str) {
    let service = services::usage(now);
    if facts.tells_usage {
        return maker.with_status("apiregistration.k8s.io", "apiservices", service);
    }
    let stored = maker.stored("apiregistration.k8s.io", "apiservices", "", &service);
    if stored.is_some_and(|stored| stored["spec"]["service"].is_null()) {
        let gone = maker.ask(Verb::Delete, "apiregistration.k8s.io", "apiservices", "", service);
        gone.unwrap_or_else(|status| panic!("a local APIService stays: {status}"));
    }
}

fn make_roles(maker: &mut Maker) {
    let metadata = |name: &str| {
        json!({"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {AUTOUPDATE: "true"}})
    };
    for (name, rules) in default_roles::cluster_roles().into_iter().chain(joining::cluster_roles()) {
        let mut role = json!({"metadata": metadata(name), "rules": rules});
        if let Some(into) = default_roles::aggregated_into(name) {
            role["metadata"]["labels"][default_roles::aggregation_label(into)] = json!("true");
        }
        // The rules of a role that gathers others' are the aggregation controller's from then on.
        let field = if default_roles::AGGREGATED.contains(&name) {
            let selector = json!({"matchLabels": {default_roles::aggregation_label(name): "true"}});
            role["aggregationRule"] = json!({"clusterRoleSelectors": [selector]});
            "aggregationRule"
        } else {
            "rules"
        };
        maker.kept(RBAC, "clusterroles", "", field, role);
    }
    for (name, groups) in default_roles::BINDINGS {
        let subjects: Vec<Value> =
            groups.iter().map(|group| json!({"apiGroup": RBAC, "kind": "Group", "name": group})).collect();
        let binding = json!({"metadata": metadata(name), "subjects": subjects,
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name}});
        match groups.is_empty() {
            true => maker.kept(RBAC, "clusterrolebindings", "", "subjects", binding),
            false => maker.missing(RBAC, "clusterrolebindings", "", binding),
        }
    }
    let account = json!({"kind": "ServiceAccount", "name": "directory-provisioner", "namespace": "kube-system"});
    let binding = json!({"metadata": {"name": "stead:directory-provisioner"}, "subjects": [account],
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "stead:directory-provisioner"}});
    maker.missing(RBAC, "clusterrolebindings", "", binding);
    let name = "system:controller:certificate-controller";
    let account = json!({"kind": "ServiceAccount", "name": "certificate-controller", "namespace": "kube-system"});
    let binding = json!({"metadata": metadata(name), "subjects": [account],
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name}});
    maker.missing(RBAC, "clusterrolebindings", "", binding);
    for (name, role, group) in joining::CLUSTER_BINDINGS {
        let binding = json!({"metadata": {"name": name},
            "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": group}],
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}});
        maker.missing(RBAC, "clusterrolebindings", "", binding);
    }
    for local in joining::locals() {
        let mut role = json!({"metadata": metadata(local.name), "rules": local.rules});
        role["metadata"]["namespace"] = json!(local.namespace);
        maker.kept(RBAC, "roles", local.namespace, "rules", role.clone());
        let binding = json!({"metadata": role["metadata"], "subjects": [local.subject],
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": local.name}});
        maker.missing(RBAC, "rolebindings", local.namespace, binding);
    }
}

fn make_classes(maker: &mut Maker) {
    // A directory lives on one node, so a claim waits for its pod to be placed; growing it costs nothing.
    let standard = json!({"metadata": {"name": "standard",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "stead.local/directory", "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": true});
    maker.missing("storage.k8s.io", "storageclasses", "", standard);
    let critical = [
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ];
    for (name, value, description) in critical {
        let class = json!({"metadata": {"name": name}, "value": value, "description": description});
        maker.missing("scheduling.k8s.io", "priorityclasses", "", class);
    }
}

/// The range of Service addresses, for clients that ask which it is.
fn make_ranges(maker: &mut Maker) {
    let (base, length) = maker.ctx.cluster.service_cidr;
    let now = time_text(maker.ctx.now);
    let range = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": [format!("{base}/{length}")]},
        "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now, "reason": "",
            "message": "Kubernetes Service CIDR is ready"}]}});
    maker.with_status("networking.k8s.io", "servicecidrs", range);
}

/// By which machines that join trust the cluster, once a bootstrap token has signed it (as `kubeadm init` makes it).
fn make_cluster_info(maker: &mut Maker, facts: &Bootstrap) {
    use base64::Engine;
    let authority = base64::engine::general_purpose::STANDARD.encode(&maker.ctx.cluster.ca_pem);
    let kubeconfig = format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {authority}\n    server: \
         https://{}:{}\n  name: \"\"\ncontexts: null\ncurrent-context: \"\"\nkind: Config\npreferences: {{}}\nusers: null\n",
        facts.api_address, facts.api_port
    );
    let mut map = json!({"metadata": {"name": "cluster-info", "namespace": "kube-public"}, "data": {}});
    if let Some(stored) = maker.stored("", "configmaps", "kube-public", &map) {
        map["data"] = stored["data"].clone();
    }
    map["data"]["kubeconfig"] = json!(kubeconfig);
    maker.current("", "configmaps", "kube-public", &["data"], map);
}

fn make_services(maker: &mut Maker, facts: &Bootstrap) {
    let (base, _) = maker.ctx.cluster.service_cidr;
    let first = Ipv4Addr::from(u32::from(base) + 1).to_string();
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let kubernetes = json!({"metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {"type": "ClusterIP", "clusterIP": first,
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": facts.api_port}]}});
    maker.missing("", "services", "default", kubernetes);
    let address = facts.api_address.to_string();
    let slice = json!({"metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": facts.api_port, "protocol": "TCP"}]});
    maker.current("discovery.k8s.io", "endpointslices", "default", &["endpoints", "ports"], slice);
    let endpoints = json!({"metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": address}],
            "ports": [{"name": "https", "port": facts.api_port, "protocol": "TCP"}]}]});
    maker.current("", "endpoints", "default", &["subsets"], endpoints);
    // The nodes answer for this address themselves, so it has no endpoints.
    let dns = json!({"metadata": {"name": "kube-dns", "namespace": "kube-system",
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}},
        "spec": {"type": "ClusterIP", "clusterIP": facts.dns_ip.to_string(), "ports": [
            {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
            {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53}]}});
    maker.missing("", "services", "kube-system", dns);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fixture::Server;

    pub(crate) fn facts(port: u16) -> Bootstrap {
        Bootstrap {
            api_address: Ipv4Addr::new(192, 0, 2, 7),
            api_port: port,
            dns_ip: Ipv4Addr::new(10, 96, 0, 10),
            front_proxy_ca: "FRONT".into(),
            tells_usage: true,
        }
    }

    #[test]
    fn an_empty_cluster_gets_its_objects_once() {
        let mut server = Server::empty();
        bootstrap(&mut server.ctx(), &facts(6443));
        let revision = server.store.snapshot().revision();
        let service = server.get("/api/v1/namespaces/default/services/kubernetes");
        assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
        assert_eq!(server.get("/api/v1/namespaces/kube-system/services/kube-dns")["spec"]["clusterIP"], "10.96.0.10");
        assert_eq!(crate::admission::default_storage_class(server.store.snapshot()).as_deref(), Some("standard"));
        bootstrap(&mut server.ctx(), &facts(6443));
        assert_eq!(server.store.snapshot().revision(), revision, "a second start writes nothing");

        let edit = server.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/edit");
        assert_eq!(edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"], "true");
        let local = server.get("/apis/apiregistration.k8s.io/v1/apiservices/v1.apps");
        assert_eq!(local["status"]["conditions"][0]["reason"], "Local");
        let trust = server.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication");
        assert_eq!(trust["data"]["requestheader-client-ca-file"], "FRONT");
        assert_eq!(trust["data"]["requestheader-allowed-names"], r#"["front-proxy-client"]"#);
        let range = server.get("/apis/networking.k8s.io/v1/servicecidrs/kubernetes");
        assert_eq!(range["spec"]["cidrs"], json!(["10.96.0.0/16"]));

        let usage = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io";
        assert_eq!(server.get(usage)["status"]["conditions"][0]["reason"], "Local");
        let silent = Bootstrap { tells_usage: false, ..facts(6443) };
        bootstrap(&mut server.ctx(), &silent);
        assert_eq!(server.ask(&format!("GET {usage}"), Value::Null).0, 404, "nobody tells any more");
        let others = json!({"metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": {"group": "metrics.k8s.io", "version": "v1beta1",
            "groupPriorityMinimum": 100, "versionPriority": 100, "service": {"namespace": "default", "name": "metrics"}}});
        server.make("/apis/apiregistration.k8s.io/v1/apiservices", others);
        bootstrap(&mut server.ctx(), &silent);
        bootstrap(&mut server.ctx(), &facts(6443));
        assert_eq!(server.get(usage)["spec"]["service"]["name"], "metrics", "another server's stays");

        bootstrap(&mut server.ctx(), &facts(7443));
        let slice = server.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes");
        assert_eq!(slice["ports"][0]["port"], 7443);
    }
}
