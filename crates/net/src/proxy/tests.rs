//! Objects in, rules out.

use std::net::Ipv4Addr;

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;
use crate::fixture::Cluster;

fn proxy() -> Proxy {
    Proxy::new(["n1".to_owned(), "n2".to_owned()], [Ipv4Addr::new(10, 96, 0, 10)])
}

fn check(cluster: &Cluster, expected: Expect) {
    let mut proxy = proxy();
    proxy.follow(cluster.head());
    expected.assert_eq(&proxy.ruleset().to_string());
}

#[test]
fn n_01_n_03_a_cluster_ip_leads_to_the_ready_endpoints_of_each_port() {
    let mut cluster = Cluster::new();
    cluster.service(
        "web",
        json!({"clusterIP": "10.96.3.4", "ports": [
            {"name": "http", "port": 80, "targetPort": "http"}, {"name": "dns", "port": 53, "protocol": "UDP"}]}),
    );
    cluster.slice(
        "web",
        "http:8080 dns:5353/UDP",
        "10.244.0.6 node=n1
         10.244.0.5 node=n2
         10.244.0.7 node=n2 unready",
    );
    check(
        &cluster,
        expect![[r#"
            default/web:dns/UDP 10.96.3.4:53 -> 10.244.0.5:5353 10.244.0.6:5353
            default/web:http/TCP 10.96.3.4:80 -> 10.244.0.5:8080 10.244.0.6:8080
        "#]],
    );
}

#[test]
fn n_02_n_07_headless_and_external_name_and_the_machines_own_have_no_rules() {
    let mut cluster = Cluster::new();
    cluster.service("hs", json!({"clusterIP": "None", "ports": [{"port": 80}]}));
    cluster.service("ext", json!({"type": "ExternalName", "externalName": "db.example.com", "ports": [{"port": 80}]}));
    cluster.service("kube-dns", json!({"clusterIP": "10.96.0.10", "ports": [{"port": 53, "protocol": "UDP"}]}));
    cluster.service("six", json!({"clusterIP": "fd00::7", "ports": [{"port": 80}]}));
    cluster.service("dual", json!({"clusterIPs": ["fd00::8", "10.96.0.8"], "ports": [{"port": 80}]}));
    for service in ["hs", "kube-dns", "dual"] {
        cluster.slice(service, ":80", "10.244.0.5");
    }
    check(
        &cluster,
        expect![[r#"
            default/dual:/TCP 10.96.0.8:80 -> 10.244.0.5:80
        "#]],
    );
}

#[test]
fn n_05_n_06_n_08_node_ports_load_balancers_external_addresses_and_affinity() {
    let mut cluster = Cluster::new();
    let body = json!({
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.3.4", "externalIPs": ["203.0.113.9"],
            "sessionAffinity": "ClientIP", "ports": [{"port": 80, "nodePort": 30080}]},
        "status": {"loadBalancer": {"ingress": [
            {"ip": "203.0.113.7"}, {"ip": "203.0.113.8", "ipMode": "Proxy"}, {"hostname": "lb.example.com"}]}},
    });
    cluster.put("services", "default", "lb", body);
    cluster.service(
        "plain",
        json!({"clusterIP": "10.96.3.5", "sessionAffinity": "ClientIP", "ports": [{"port": 80, "nodePort": 30081}],
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}),
    );
    check(
        &cluster,
        expect![[r#"
            default/lb:/TCP 10.96.3.4:80 203.0.113.7:80 203.0.113.9:80 *:30080 affinity=10800s -> refuse
            default/plain:/TCP 10.96.3.5:80 affinity=60s -> refuse
        "#]],
    );
}

#[test]
fn n_09_n_11_n_13_local_policies_judge_each_node_and_the_cluster_apart() {
    let mut cluster = Cluster::new();
    cluster.service(
        "web",
        json!({"type": "NodePort", "clusterIP": "10.96.3.4", "externalTrafficPolicy": "Local",
            "internalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30080}]}),
    );
    cluster.slice(
        "web",
        ":8080",
        "10.244.0.5 node=n1 serving terminating
         10.244.0.6 node=n1 unready
         10.244.9.7 node=elsewhere",
    );
    check(
        &cluster,
        expect![[r#"
            default/web:/TCP 10.96.3.4:80 *:30080 -> 10.244.9.7:8080 internal=local external=local n1: 10.244.0.5:8080 n2: drop
        "#]],
    );
}

#[test]
fn n_13_endpoints_that_serve_while_terminating_are_the_last_resort() {
    let mut cluster = Cluster::new();
    cluster.service("web", json!({"clusterIP": "10.96.3.4", "ports": [{"port": 80}]}));
    cluster.slice("web", ":8080", "10.244.0.5 serving terminating\n10.244.0.6 unready terminating");
    check(
        &cluster,
        expect![[r#"
            default/web:/TCP 10.96.3.4:80 -> 10.244.0.5:8080
        "#]],
    );
}

#[test]
fn following_changes_gives_what_reading_the_whole_gives() {
    let mut cluster = Cluster::new();
    let mut followed = proxy();
    let spec = |ip: &str| json!({"clusterIP": ip, "ports": [{"port": 80}]});
    let steps: [&dyn Fn(&mut Cluster); 8] = [
        &|c| c.service("web", spec("10.96.3.4")),
        &|c| c.slice("web", ":8080", "10.244.0.5"),
        &|c| c.slice_named("web-2", "web", ":8080", "10.244.0.6\n10.244.0.5"),
        &|c| c.service("other", spec("10.96.3.5")),
        &|c| c.slice_named("web-2", "other", ":8080", "10.244.0.6"),
        &|c| c.service("web", json!({"type": "ExternalName", "externalName": "a.b", "ports": []})),
        &|c| c.delete("services", "default", "other"),
        &|c| c.delete("endpointslices.discovery.k8s.io", "default", "web-2"),
    ];
    for (i, step) in steps.iter().enumerate() {
        step(&mut cluster);
        let before = followed.ruleset().clone();
        let differs = followed.follow(cluster.head());
        let mut whole = proxy();
        whole.follow(cluster.head());
        assert_eq!(followed.ruleset(), whole.ruleset(), "after step {i}");
        assert_eq!(differs, &before != followed.ruleset(), "step {i} says whether it changed something");
    }
    assert!(!followed.follow(cluster.head()));
}

#[test]
fn a_change_that_does_not_matter_to_the_rules_is_none() {
    let mut cluster = Cluster::new();
    cluster.service("web", json!({"clusterIP": "10.96.3.4", "ports": [{"port": 80}]}));
    cluster.slice("web", ":8080", "10.244.0.5 node=n1");
    let mut proxy = proxy();
    assert!(proxy.follow(cluster.head()));
    cluster.slice("web", ":8080", "10.244.0.5 node=n2 hostname=web-0");
    assert!(!proxy.follow(cluster.head()));
}

#[test]
fn host_ports_lead_to_their_pod_from_its_address_to_its_end() {
    let mut cluster = Cluster::new();
    let pod = |node: &str, ip: &str, phase: &str, ports: serde_json::Value| {
        json!({"spec": {"nodeName": node, "containers": [{"name": "c", "ports": ports}]},
            "status": {"phase": phase, "podIP": ip}})
    };
    let web = json!([{"containerPort": 8080, "hostPort": 80}, {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "127.0.0.1"}]);
    cluster.put("pods", "default", "one", pod("n1", "10.244.0.5", "Running", web.clone()));
    cluster.put(
        "pods",
        "default",
        "two",
        pod("n2", "10.244.1.5", "Pending", json!([{"containerPort": 8081, "hostPort": 80}])),
    );
    cluster.put("pods", "default", "over", pod("n1", "10.244.0.6", "Succeeded", web.clone()));
    cluster.put("pods", "default", "elsewhere", pod("n9", "10.244.9.6", "Running", web.clone()));
    cluster.put("pods", "default", "plain", pod("n1", "10.244.0.7", "Running", json!([{"containerPort": 8080}])));
    check(
        &cluster,
        expect![[r#"
            /hostPort:*:80/TCP *:80 -> 10.244.0.5:8080 10.244.1.5:8081 external=local n1: 10.244.0.5:8080 n2: 10.244.1.5:8081
            /hostPort:127.0.0.1:53/UDP 127.0.0.1:53 -> 10.244.0.5:53 external=local n1: 10.244.0.5:53
        "#]],
    );
    // Followed event by event it is the same as read whole.
    let mut follower = proxy();
    assert!(follower.follow(cluster.head()));
    assert!(!follower.follow(cluster.head()), "nothing is new");
    cluster.put("pods", "default", "one", pod("n1", "10.244.0.5", "Failed", web));
    assert!(follower.follow(cluster.head()));
    let mut fresh = proxy();
    fresh.follow(cluster.head());
    assert_eq!(follower.ruleset(), fresh.ruleset());
    assert_eq!(
        fresh.ruleset().to_string(),
        "/hostPort:*:80/TCP *:80 -> 10.244.1.5:8081 external=local n2: 10.244.1.5:8081\n"
    );
}

#[test]
fn node_ports_and_host_ports_are_claims_of_the_machine() {
    let mut cluster = Cluster::new();
    let ports =
        json!([{"port": 80, "nodePort": 30080}, {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053}]);
    cluster.service("web", json!({"type": "NodePort", "clusterIP": "10.96.3.4", "ports": ports}));
    cluster.service("inner", json!({"clusterIP": "10.96.3.5", "ports": [{"port": 80}]}));
    let mut proxy = proxy();
    proxy.follow(cluster.head());
    let shown = proxy
        .claims()
        .into_iter()
        .map(|(claim, by)| format!("{claim} {} {}", by.len(), by.into_iter().next().map_or("", |one| one.kind)));
    assert_eq!(shown.collect::<Vec<_>>(), ["*:30053/UDP 1 Service", "*:30080/TCP 1 Service"]);
}
