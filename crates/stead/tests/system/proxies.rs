//! Proxy subresources: pods, Services and nodes seen through the API, with `kubectl get --raw` and `kubectl proxy` (N-20, K-24).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};

use crate::cluster::Cluster;

const WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: empty}
spec: {selector: {app: nobody}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: stead.local/demo:1
    args: [counter, --dir, /tmp]
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: host}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 0
  containers: [{name: web, image: 'stead.local/demo:1', args: [sleep, '3600']}]
";

const BUSY: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: busy}
spec:
  serviceName: busy
  selector: {matchLabels: {app: busy}}
  template:
    metadata: {labels: {app: busy}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: stead.local/demo:1
        args: [sleep, '3600']
        resources: {requests: {memory: 16Ki}}
";

const SCALER: &str = "
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: busy}
spec:
  maxReplicas: 2
  scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: busy}
  metrics:
  - {type: Resource, resource: {name: memory, target: {type: Utilization, averageUtilization: 50}}}
";

#[test]
fn pods_services_and_nodes_are_seen_through_the_api() {
    let cluster = Cluster::up("proxies");
    cluster.apply(WEB);
    cluster.kubectl("wait pod/web pod/host --for=condition=Ready --timeout=90s").ok();
    cluster.tells(&[
        ("raw", raw_requests_reach_pods),
        ("refusals", what_is_not_there_is_told),
        ("pages", pages_are_led_back),
        ("nodes", nodes_tell_of_themselves),
        ("top", use_is_told),
        ("autoscaling", use_makes_a_set_grow),
    ]);
}

fn raw_requests_reach_pods(cluster: &Cluster) {
    let pods = "/api/v1/namespaces/default/pods";
    let services = "/api/v1/namespaces/default/services";
    for path in [
        format!("{pods}/web/proxy/"),
        format!("{pods}/http:web:8080/proxy/"),
        format!("{services}/web:http/proxy/"),
        format!("{services}/web:80/proxy/"),
    ] {
        cluster.kubectl(&format!("get --raw {path}")).says("has counted");
    }
}

fn what_is_not_there_is_told(cluster: &Cluster) {
    let raw = |path: &str| cluster.kubectl(&format!("get --raw /api/v1/namespaces/default/{path}")).fails();
    let none = "Error from server (ServiceUnavailable): no endpoints available for service \"empty:http\"";
    assert_eq!(raw("services/empty:http/proxy/").trim(), none);
    let none = "Error from server (ServiceUnavailable): no service port 81 found for service \"web\"";
    assert_eq!(raw("services/web:81/proxy/").trim(), none);
    assert_eq!(raw("pods/absent/proxy/").trim(), "Error from server (NotFound): pods \"absent\" not found");
    let closed = raw("pods/web:1/proxy/");
    assert!(
        closed.contains("error trying to reach service: dial tcp ") && closed.contains("connection refused"),
        "{closed}"
    );
    let refused = raw("services/web:http/proxy/ --as=ann");
    assert!(refused.contains("User \"ann\" cannot get resource \"services/proxy\""), "{refused}");
}

/// `kubectl proxy`, and the address that it listens on.
fn start_proxy(cluster: &Cluster) -> (Child, String) {
    let mut proxy =
        cluster.shell("exec kubectl proxy --port 0").stdout(Stdio::piped()).spawn().expect("kubectl starts");
    let mut line = String::new();
    BufReader::new(proxy.stdout.take().expect("it is piped")).read_line(&mut line).expect("it tells its port");
    let address = line.trim().rsplit(' ').next().expect("a last word").to_owned();
    (proxy, address)
}

fn end(mut command: Child) {
    let id = command.id().to_string();
    std::process::Command::new("kill").args(["-TERM", &id]).status().expect("kill starts");
    command.wait().expect("it ends");
}

/// A web server on the machine, which a pod on the machine's network has too.
fn start_site() -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    port
}

fn answer(mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket is copied"));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let path = head.split(' ').nth(1).unwrap_or_default();
    let page = "<html><a href=\"/next\">next</a><img src='rel.png'></html>";
    let with_body = |kind: &str, body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let reply = match path {
        "/page?x=1" => with_body("text/html; charset=utf-8", page),
        "/moved" => {
            "HTTP/1.1 302 Found\r\nLocation: /next?y=2\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
        }
        "/socket" => {
            let _ = stream
                .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: capitals\r\n\r\n");
            let mut bytes = [0; 64];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                if stream.write_all(&bytes[..count].to_ascii_uppercase()).is_err() {
                    return;
                }
            }
            return;
        }
        _ => with_body("text/plain", &head),
    };
    let _ = stream.write_all(reply.as_bytes());
}

fn pages_are_led_back(cluster: &Cluster) {
    let port = start_site();
    let (proxy, address) = start_proxy(cluster);
    let prefix = format!("/api/v1/namespaces/default/pods/host:{port}/proxy");
    let curl = |more: &str| {
        cluster.sh(&format!("curl -s -i {}", more.replace("PROXY", &format!("http://{address}{prefix}")))).ok()
    };
    let page = curl("'PROXY/page?x=1'");
    assert!(page.contains(&format!("<html><a href=\"{prefix}/next\">next</a><img src='rel.png'></html>")), "{page}");
    let moved = curl("PROXY/moved");
    assert!(
        moved.starts_with("HTTP/1.1 302") && moved.contains(&format!("Location: {prefix}/next?y=2\r\n")),
        "{moved}"
    );
    let slashed = curl("'PROXY?a=b'");
    assert!(
        slashed.starts_with("HTTP/1.1 301") && slashed.contains(&format!("Location: {prefix}/?a=b\r\n")),
        "{slashed}"
    );
    let posted = curl(
        "-X POST -d hello -H 'Impersonate-User: kubernetes-admin' -H 'Impersonate-Group: system:masters' -H 'X-Mine: 1' PROXY/any/thing/",
    );
    let lower = posted.to_lowercase();
    assert!(posted.contains("POST /any/thing/ HTTP/1.1\r\n") && lower.contains("x-mine: 1"), "{posted}");
    assert!(lower.contains(&format!("x-forwarded-uri: {prefix}/any/thing/")), "{posted}");
    assert!(!lower.contains("authorization:") && !lower.contains("impersonate-"), "{posted}");
    let options = curl("-X OPTIONS PROXY/o");
    assert!(options.contains("OPTIONS /o HTTP/1.1"), "{options}");
    let mut stream = TcpStream::connect(&address).expect("it listens");
    write!(
        stream,
        "GET {prefix}/socket HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: capitals\r\n\r\n"
    )
    .unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    stream.write_all(b"hello").unwrap();
    let mut back = [0; 5];
    reader.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"HELLO");
    end(proxy);
}

fn nodes_tell_of_themselves(cluster: &Cluster) {
    let raw = |path: &str| cluster.kubectl(&format!("get --raw /api/v1/nodes/node-0/proxy/{path}"));
    assert_eq!(raw("healthz").ok(), "ok");
    raw("pods").says("\"kind\":\"PodList\"");
    let summary: serde_json::Value = serde_json::from_str(&raw("stats/summary").ok()).expect("JSON");
    let pods = summary["pods"].as_array().expect("a list");
    let web = pods.iter().find(|pod| pod["podRef"]["name"] == "web").expect("it runs");
    let container = &web["containers"][0];
    assert!(container["memory"]["workingSetBytes"].as_u64().expect("a number") > 100_000, "{summary}");
    assert!(container["cpu"]["usageCoreNanoSeconds"].as_u64().expect("a number") > 0, "{summary}");
    assert!(summary["node"]["memory"]["workingSetBytes"].as_u64().expect("a number") > 1_000_000, "{summary}");
    let metrics = raw("metrics").ok();
    assert!(metrics.contains("kubelet_node_name{node=\"node-0\"} 1"), "{metrics}");
    assert!(metrics.contains("kubelet_running_containers{container_state=\"running\"} 2"), "{metrics}");
    assert!(metrics.contains("kubelet_running_pods 2") && metrics.contains("process_open_fds "), "{metrics}");
    raw("metrics/resource")
        .says("container_memory_working_set_bytes{container=\"web\",namespace=\"default\",pod=\"web\"}");
    let logs = raw("logs/").fails();
    assert!(logs.contains("the server does not allow this method on the requested resource"), "{logs}");
}

/// `kubectl top` (K-20), for whom roles allow it.
fn use_is_told(cluster: &Cluster) {
    cluster.kubectl("get apiservice v1beta1.metrics.k8s.io").says("v1beta1.metrics.k8s.io Local True");
    cluster.kubectl("top pod").says("NAME CPU(cores) MEMORY(bytes)");
    let pods = cluster.kubectl("top pod web --containers --no-headers").ok();
    let words: Vec<&str> = pods.split_whitespace().collect();
    assert!(words[..2] == ["web", "web"] && words[2].ends_with('m') && words[3].ends_with("Mi"), "{pods}");
    cluster.kubectl("top node").says("node-0");
    assert_eq!(cluster.kubectl("top pod -l app=web --no-headers").ok().lines().count(), 1);
    cluster.kubectl("api-resources --api-group metrics.k8s.io").says("nodes metrics.k8s.io/v1beta1 false NodeMetrics");
    let absent = cluster.kubectl("top pod absent").fails();
    assert!(absent.contains("NotFound"), "{absent}");
    let list = "get --raw /apis/metrics.k8s.io/v1beta1/namespaces/default/pods --as=ann";
    assert!(cluster.kubectl(list).fails().contains("cannot list resource \"pods\" in API group \"metrics.k8s.io\""));
    cluster.kubectl("create rolebinding ann --clusterrole=view --user=ann").ok();
    cluster.kubectl(list).says("\"kind\":\"PodMetricsList\"");
}

/// A HorizontalPodAutoscaler scales by what `kubectl top` tells.
fn use_makes_a_set_grow(cluster: &Cluster) {
    cluster.apply(BUSY);
    cluster.kubectl("rollout status sts/busy --timeout=90s").ok();
    // Looks lie a second apart: one that was taken just before knows nothing of the pod.
    cluster.sh("for try in $(seq 30); do kubectl top pod busy-0 && exit; sleep 0.5; done; exit 1").ok();
    cluster.apply(SCALER);
    cluster.kubectl("wait hpa/busy --for=jsonpath={.status.desiredReplicas}=2 --timeout=90s").ok();
    cluster.kubectl("rollout status sts/busy --timeout=90s").ok();
    cluster.kubectl("get pod busy-1").says("busy-1 1/1 Running");
    let shown = cluster.kubectl("get hpa busy --no-headers").ok();
    let words: Vec<&str> = shown.split_whitespace().collect();
    assert!(words[1..3] == ["StatefulSet/busy", "memory:"] && words[3].ends_with("%/50%"), "{shown}");
    let reason = "New size: 2; reason: memory resource utilization (percentage of request) above target";
    cluster.kubectl("events --for hpa/busy").says(reason);
}
