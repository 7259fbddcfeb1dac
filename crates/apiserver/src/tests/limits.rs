//! Limits of namespaces: LimitRange, ResourceQuota, PodSecurity; certificates; owners.

use std::sync::Arc;

use serde_json::{Value, json};
use stead_api::User;

use crate::Reply;
use crate::fixture::{Server, pod};

const PODS: &str = "/api/v1/namespaces/default/pods";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";

fn sized(name: &str, resources: Value) -> Value {
    let mut body = pod(name);
    body["spec"]["containers"][0]["resources"] = resources;
    body
}

#[test]
fn containers_get_a_ranges_defaults_and_keep_its_bounds() {
    let mut server = Server::new();
    server.make(
        "/api/v1/namespaces/default/limitranges",
        json!({"metadata": {"name": "r"}, "spec": {"limits": [
            {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"},
             "min": {"cpu": "50m"}, "maxLimitRequestRatio": {"cpu": "10"}},
            {"type": "PersistentVolumeClaim", "max": {"storage": "2Gi"}, "min": {"storage": "1Gi"}}]}}),
    );
    let made = server.make(PODS, pod("a"));
    let resources = &made["spec"]["containers"][0]["resources"];
    assert_eq!(*resources, json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "500m"}}));
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    assert_eq!(made["status"]["qosClass"], "Burstable");
    let refused =
        |server: &mut Server, resources: Value| server.refused(&format!("POST {PODS}"), sized("b", resources));
    assert_eq!(
        refused(&mut server, json!({"requests": {"cpu": "10m"}})),
        "403 Forbidden pods \"b\" is forbidden: [minimum cpu usage per Container is 50m, but request is 10m, \
         cpu max limit to request ratio per Container is 10, but provided ratio is 50.000000]"
    );
    assert_eq!(
        refused(&mut server, json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}})),
        "403 Forbidden pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
    );
    let claim = |size: &str| {
        json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}}}})
    };
    assert_eq!(
        server.refused(&format!("POST {CLAIMS}"), claim("3Gi")),
        "403 Forbidden persistentvolumeclaims \"c\" is forbidden: maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"
    );
    server.make(CLAIMS, claim("1Gi"));
}

#[test]
fn a_quota_counts_and_refuses_in_upstreams_words() {
    let mut server = Server::new();
    let hard = json!({"pods": "2", "requests.cpu": "1", "count/configmaps": "1", "services.nodeports": "1"});
    server.make(QUOTAS, json!({"metadata": {"name": "q"}, "spec": {"hard": hard}}));
    assert_eq!(
        server.refused(&format!("POST {PODS}"), pod("a")),
        "403 Forbidden pods \"a\" is forbidden: failed quota: q: must specify requests.cpu for: c"
    );
    server.make(PODS, sized("a", json!({"requests": {"cpu": "600m"}})));
    let used = server.get(&format!("{QUOTAS}/q"))["status"]["used"].clone();
    assert_eq!(used, json!({"pods": "1", "requests.cpu": "600m", "count/configmaps": "0", "services.nodeports": "0"}));
    assert_eq!(
        server.refused(&format!("POST {PODS}"), sized("b", json!({"requests": {"cpu": "500m"}}))),
        "403 Forbidden pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1"
    );
    let maps = "/api/v1/namespaces/default/configmaps";
    server.done(&format!("POST {maps}?dryRun=All"), json!({"metadata": {"name": "tried"}}));
    server.make(maps, json!({"metadata": {"name": "a"}}));
    assert_eq!(
        server.refused(&format!("POST {maps}"), json!({"metadata": {"name": "b"}})),
        "403 Forbidden configmaps \"b\" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=1, limited: count/configmaps=1"
    );
    // An object that is there already is no second one.
    assert!(server.refused(&format!("POST {maps}"), json!({"metadata": {"name": "a"}})).starts_with("409"));
    let services = "/api/v1/namespaces/default/services";
    server.make(
        services,
        json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}}),
    );
    let line = format!("PATCH:merge {services}/s");
    assert_eq!(
        server.refused(&line, json!({"spec": {"type": "NodePort"}})),
        "403 Forbidden services \"s\" is forbidden: exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=0, limited: services.nodeports=1"
    );
}

#[test]
fn quotas_with_scopes_are_about_some_pods() {
    let mut server = Server::new();
    let quota = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    server.make(QUOTAS, quota("effort", json!({"hard": {"pods": "1"}, "scopes": ["BestEffort"]})));
    server.make(QUOTAS, quota("short", json!({"hard": {"pods": "0"}, "scopes": ["Terminating"]})));
    let term = json!({"scopeName": "PriorityClass", "operator": "In", "values": ["high"]});
    server.make(QUOTAS, quota("high", json!({"hard": {"pods": "0"}, "scopeSelector": {"matchExpressions": [term]}})));
    server.make("/apis/scheduling.k8s.io/v1/priorityclasses", json!({"metadata": {"name": "high"}, "value": 7}));
    server.make(PODS, pod("a"));
    assert!(server.refused(&format!("POST {PODS}"), pod("b")).contains("exceeded quota: effort"));
    server.make(PODS, sized("b", json!({"requests": {"cpu": "1"}})));
    let mut short = sized("c", json!({"requests": {"cpu": "1"}}));
    short["spec"]["activeDeadlineSeconds"] = json!(5);
    assert!(server.refused(&format!("POST {PODS}"), short).contains("exceeded quota: short"));
    let mut high = sized("d", json!({"requests": {"cpu": "1"}}));
    high["spec"]["priorityClassName"] = json!("high");
    assert!(server.refused(&format!("POST {PODS}"), high).contains("exceeded quota: high"));
}

fn warnings(reply: &Reply) -> Vec<String> {
    match reply {
        Reply::Body(body) => body.warnings.clone(),
        Reply::Failure { warnings, .. } => warnings.clone(),
        _ => Vec::new(),
    }
}

#[test]
fn a_namespace_says_what_its_pods_may_do() {
    let mut server = Server::new();
    let namespace = "PATCH:merge /api/v1/namespaces/default";
    let label = |name: &str, value: &str| json!({"metadata": {"labels": {format!("pod-security.kubernetes.io/{name}"): value}}});
    assert_eq!(
        server.refused(namespace, label("enforce", "none")),
        "422 Invalid Namespace \"default\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"none\": must be one of privileged, baseline, restricted"
    );
    let mut host = pod("host");
    host["spec"]["hostNetwork"] = json!(true);
    server.make(PODS, host.clone());
    let reply = server.reply(namespace, &label("enforce", "baseline").to_string());
    assert_eq!(
        warnings(&reply),
        [
            "existing pods in namespace \"default\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "host: host namespaces",
        ]
    );
    host["metadata"]["name"] = json!("again");
    assert_eq!(
        server.refused(&format!("POST {PODS}"), host),
        "403 Forbidden pods \"again\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"
    );
    server.done(namespace, label("warn", "restricted"));
    server.done(namespace, label("warn-version", "v1.30"));
    let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": pod("x")["spec"]});
    let deployment =
        json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template}});
    let reply = server.reply("POST /apis/apps/v1/namespaces/default/deployments", &deployment.to_string());
    let told = warnings(&reply);
    assert!(
        told[0].starts_with("would violate PodSecurity \"restricted:v1.30\": allowPrivilegeEscalation != false"),
        "{told:?}"
    );
}

#[test]
fn runtimes_bring_their_overhead_and_place() {
    let mut server = Server::new();
    let class = json!({"metadata": {"name": "vm"}, "handler": "vm", "overhead": {"podFixed": {"cpu": "250m"}},
        "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]}});
    server.make("/apis/node.k8s.io/v1/runtimeclasses", class);
    let mut body = pod("a");
    body["spec"]["runtimeClassName"] = json!("vm");
    let made = server.make(PODS, body.clone());
    assert_eq!(
        (&made["spec"]["overhead"], &made["spec"]["nodeSelector"]),
        (&json!({"cpu": "250m"}), &json!({"vm": "yes"}))
    );
    body["metadata"]["name"] = json!("b");
    body["spec"]["nodeSelector"] = json!({"vm": "no"});
    assert_eq!(
        server.refused(&format!("POST {PODS}"), body.clone()),
        "403 Forbidden pods \"b\" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no"
    );
    body["spec"]["runtimeClassName"] = json!("none");
    assert_eq!(
        server.refused(&format!("POST {PODS}"), body),
        "403 Forbidden pods \"b\" is forbidden: pod rejected: RuntimeClass \"none\" not found"
    );
}

#[test]
fn ingresses_get_the_default_class() {
    let mut server = Server::new();
    let annotations = json!({"ingressclass.kubernetes.io/is-default-class": "true"});
    let class = json!({"metadata": {"name": "x", "annotations": annotations}, "spec": {"controller": "example.com/x"}});
    server.make("/apis/networking.k8s.io/v1/ingressclasses", class);
    let body = json!({"metadata": {"name": "a"}, "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}});
    let made = server.make("/apis/networking.k8s.io/v1/namespaces/default/ingresses", body);
    assert_eq!(made["spec"]["ingressClassName"], "x");
}

fn grant(server: &mut Server, name: &str, user: &str, rules: Value) {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    server.make(&format!("{rbac}/clusterroles"), json!({"metadata": {"name": name}, "rules": rules}));
    let group = "rbac.authorization.k8s.io";
    server.make(
        &format!("{rbac}/clusterrolebindings"),
        json!({"metadata": {"name": name}, "roleRef": {"kind": "ClusterRole", "name": name, "apiGroup": group},
            "subjects": [{"kind": "User", "name": user, "apiGroup": group}]}),
    );
}

#[test]
fn certificates_are_approved_and_signed_by_those_who_may() {
    let mut server = Server::new();
    let csr = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let rule = json!([{"apiGroups": ["certificates.k8s.io"], "verbs": ["get", "create", "update", "patch"],
        "resources": ["certificatesigningrequests", "certificatesigningrequests/approval", "certificatesigningrequests/status"]}]);
    grant(&mut server, "ask", "eve", rule);
    let admin = Arc::clone(&server.user);
    let eve = Arc::new(User { name: "eve".into(), groups: vec!["system:authenticated".into()], ..User::default() });
    let request = crate::fixture::CERTIFICATE_REQUEST;
    let body = json!({"metadata": {"name": "a"}, "spec": {"request": request, "signerName": "example.com/x",
        "usages": ["client auth"], "username": "somebody else", "groups": ["system:masters"]},
        "status": {"conditions": [{"type": "Approved", "status": "True"}]}});
    server.user = Arc::clone(&eve);
    let made = server.make(csr, body);
    assert_eq!((&made["spec"]["username"], &made["spec"]["groups"]), (&json!("eve"), &json!(["system:authenticated"])));
    assert!(made["status"].get("conditions").is_none());
    let approval =
        json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "r", "message": "m"}]}});
    assert_eq!(
        server.refused(&format!("PATCH:merge {csr}/a/approval"), approval.clone()),
        "403 Forbidden certificatesigningrequests.certificates.k8s.io \"a\" is forbidden: user not permitted to approve requests with signerName \"example.com/x\""
    );
    server.user = admin;
    let approved = server.done(&format!("PATCH:merge {csr}/a/approval"), approval);
    assert_eq!(server.get(&format!("{csr}/a/approval")), approved);
    assert_eq!(approved["status"]["conditions"][0]["lastUpdateTime"], "2026-01-01T00:00:00Z");
    server.user = eve;
    let issue = json!({"status": {"certificate": "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg=="}});
    assert!(
        server.refused(&format!("PATCH:merge {csr}/a/status"), issue).contains("user not permitted to sign requests")
    );
}

#[test]
fn owners_are_named_by_those_who_may() {
    let mut server = Server::new();
    let owner = server.make(PODS, pod("owner"));
    let rule = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "get", "update", "patch"]}]);
    grant(&mut server, "maps", "eve", rule);
    server.user = Arc::new(User { name: "eve".into(), ..User::default() });
    let reference = |blocks: bool| json!([{"apiVersion": "v1", "kind": "Pod", "name": "owner", "uid": owner["metadata"]["uid"], "blockOwnerDeletion": blocks}]);
    let maps = "/api/v1/namespaces/default/configmaps";
    assert!(
        server
            .refused(&format!("POST {maps}"), json!({"metadata": {"name": "a", "ownerReferences": reference(true)}}))
            .contains(
                "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on"
            )
    );
    server.make(maps, json!({"metadata": {"name": "a", "ownerReferences": reference(false)}}));
    assert!(
        server
            .refused(&format!("PATCH:merge {maps}/a"), json!({"metadata": {"ownerReferences": null}}))
            .contains("cannot set an ownerRef on a resource you can't delete")
    );
}

#[test]
fn a_pod_has_the_preemption_of_its_class() {
    let mut server = Server::new();
    let class = json!({"metadata": {"name": "meek"}, "value": 7, "preemptionPolicy": "Never"});
    server.make("/apis/scheduling.k8s.io/v1/priorityclasses", class);
    let mut body = pod("a");
    body["spec"]["priorityClassName"] = json!("meek");
    let made = server.make(PODS, body.clone());
    assert_eq!((&made["spec"]["priority"], &made["spec"]["preemptionPolicy"]), (&json!(7), &json!("Never")));
    body["metadata"]["name"] = json!("b");
    body["spec"]["preemptionPolicy"] = json!("PreemptLowerPriority");
    assert_eq!(
        server.refused(&format!("POST {PODS}"), body),
        "403 Forbidden pods \"b\" is forbidden: the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod spec; priority admission controller computed Never from the given PriorityClass name"
    );
}
