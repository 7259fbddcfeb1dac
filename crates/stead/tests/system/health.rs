//! How the server is: its checks and its metrics, and who may see them.

use crate::cluster::Cluster;

#[test]
fn the_server_tells_how_it_is() {
    let cluster = Cluster::new("health");
    cluster.start("--no-node").says("stead is up");
    cluster.tells(&[("checks", checks_are_told), ("metrics", requests_are_counted), ("rights", only_some_may_look)]);
}

fn raw(cluster: &Cluster, path: &str) -> crate::cluster::Outcome {
    cluster.kubectl(&format!("get --raw '{path}'"))
}

fn checks_are_told(cluster: &Cluster) {
    assert_eq!(raw(cluster, "/livez").ok(), "ok");
    let verbose = "[+]ping ok\n[+]log ok\n[+]etcd ok\nreadyz check passed\n";
    assert_eq!(raw(cluster, "/readyz?verbose").ok(), verbose);
    let excluded = "[+]ping ok\n[+]log ok\n[+]etcd excluded: ok\nwarn: some health checks cannot be excluded: no matches for \
                    \"other\"\nhealthz check passed\n";
    assert_eq!(raw(cluster, "/healthz?verbose=1&exclude=etcd&exclude=other").ok(), excluded);
    assert_eq!(raw(cluster, "/readyz/etcd").ok(), "ok");
    assert!(raw(cluster, "/readyz/other").fails().contains("NotFound"));
}

/// The value of a series whose labels hold all these.
fn value(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    let mut lines = metrics.lines().filter(|line| !line.starts_with('#'));
    let found = lines.find(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|one| line.contains(one))
    });
    let line = found.unwrap_or_else(|| panic!("no {name} with {labels:?} in:\n{metrics}"));
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

fn requests_are_counted(cluster: &Cluster) {
    let lists = [r#"resource="configmaps""#, r#"verb="LIST""#, r#"code="200""#, r#"scope="namespace""#];
    cluster.kubectl("get configmaps").ok();
    let before = raw(cluster, "/metrics").ok();
    for _ in 0..3 {
        cluster.kubectl("get configmaps").ok();
    }
    cluster.kubectl("get configmap absent").fails();
    cluster.kubectl("create configmap counted").ok();
    let after = raw(cluster, "/metrics").ok();
    let name = "apiserver_request_total";
    assert_eq!(value(&after, name, &lists), value(&before, name, &lists) + 3.0);
    value(&after, name, &[r#"resource="configmaps""#, r#"verb="GET""#, r#"code="404""#]);
    let created = [r#"resource="configmaps""#, r#"verb="POST""#];
    assert_eq!(value(&after, "apiserver_request_duration_seconds_count", &created), 1.0);
    let all = [r#"resource="configmaps""#, r#"verb="POST""#, r#"le="+Inf""#];
    assert_eq!(value(&after, "apiserver_request_duration_seconds_bucket", &all), 1.0);
    let adds = r#"name="namespace-controller""#;
    assert!(value(&after, "workqueue_adds_total", &[adds]) >= 4.0 && value(&after, "workqueue_depth", &[adds]) == 0.0);
    // This very request is being answered.
    assert!(value(&after, "apiserver_current_inflight_requests", &[r#"request_kind="readOnly""#]) >= 1.0);
    assert!(value(&after, "process_resident_memory_bytes", &[]) > 1e6);
    assert!(value(&after, "apiserver_storage_objects", &[r#"resource="namespaces""#]) >= 4.0);
    // What nobody serves is counted, but under no name.
    cluster.kubectl("get --raw /apis/no.such.group/v1/namespaces/default/things").fails();
    let after = raw(cluster, "/metrics").ok();
    assert!(!after.contains("no.such.group"));
    assert!(value(&after, name, &[r#"code="404""#, r#"resource="""#]) >= 1.0);
}

fn only_some_may_look(cluster: &Cluster) {
    let refused = cluster.kubectl("get --raw /metrics --as=ann").fails();
    assert!(refused.contains("User \"ann\" cannot get path \"/metrics\""), "{refused}");
    cluster.kubectl("get --raw /metrics --as=ann --as-group=system:monitoring").says("apiserver_request_total");
    // How it is, in one word, is for everybody.
    let url = format!("https://127.0.0.1:{}", cluster.api_port);
    assert_eq!(cluster.sh(&format!("curl -sk {url}/readyz")).ok(), "ok");
    let code = cluster.sh(&format!("curl -sk -o /dev/null -w '%{{http_code}}' {url}/metrics")).ok();
    assert_eq!(code, "403");
}
