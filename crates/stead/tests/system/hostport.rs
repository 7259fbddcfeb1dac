//! `hostPort`: a port of the machine that is one pod's, over TCP and UDP, on every address or on one; and two clusters that ask for one.

use crate::cluster::Cluster;
use crate::images;

const PODS: &str = "---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: stead.local/demo:1
    args: [counter, --dir, /tmp]
    ports: [{containerPort: 8080, hostPort: TCP}, {containerPort: 8080, hostPort: LOCAL, hostIP: 127.0.0.1}]
---
apiVersion: v1
kind: Pod
metadata: {name: deaf}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: deaf
    image: box:1
    command: [sleep, '3600']
    ports: [{containerPort: 9, hostPort: UDP, protocol: UDP}]
";

/// Of another cluster.
const OTHER: &str = "---
apiVersion: v1
kind: Pod
metadata: {name: other, labels: {app: other}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: stead.local/demo:1
    args: [counter, --dir, /tmp]
---
apiVersion: v1
kind: Service
metadata: {name: other}
spec:
  type: NodePort
  selector: {app: other}
  ports: [{port: 80, targetPort: 8080, nodePort: TCP}]
";

/// A port that nobody listens on, different for each test place.
fn ports(cluster: &Cluster) -> (u16, u16, u16) {
    // Ports that may be node ports, too.
    let base = 29400 + 10 * cluster.network;
    (base, base + 1, base + 2)
}

#[test]
fn host_ports_are_the_machines() {
    let cluster = Cluster::up("hostport");
    images::load(&cluster, &images::busybox("box:1"));
    let (tcp, local, udp) = ports(&cluster);
    let pods = PODS.replace("TCP}", &format!("{tcp}}}")).replace("LOCAL", &local.to_string());
    let pods = pods.replace("hostPort: UDP", &format!("hostPort: {udp}"));
    cluster.apply(&pods);
    cluster.kubectl("wait pod/web pod/deaf --for=condition=Ready --timeout=90s").ok();
    let own = cluster.sh("hostname -I").ok();
    let own = own
        .split_whitespace()
        .find(|ip| !ip.contains(':') && !ip.starts_with("10.1"))
        .expect("the machine has an address");
    // The rule follows the status: until it is there, the port is closed.
    let get = |address: &str, port: u16| {
        format!(
            "for i in $(seq 50); do curl -s --fail --max-time 3 http://{address}:{port}/healthz && exit 0; sleep 0.1; done; exit 1"
        )
    };
    cluster.sh(&get("127.0.0.1", tcp)).ok();
    cluster.sh(&get(own, tcp)).ok();
    cluster.sh(&get("127.0.0.1", local)).ok();
    cluster.sh(&format!("curl -s --max-time 2 http://{own}:{local}/healthz")).fails();
    // Nobody listens in the pod, so its kernel counts what came for nobody.
    let came = |cluster: &Cluster| {
        let counters = cluster.kubectl("exec deaf -- cat /proc/net/snmp").ok();
        let line = counters.lines().filter(|line| line.starts_with("Udp:")).nth(1).expect("the kernel counts UDP");
        line.split_whitespace().nth(2).and_then(|n| n.parse::<u64>().ok()).expect("NoPorts is a number")
    };
    let before = came(&cluster);
    cluster.sh(&format!("for i in $(seq 5); do echo hello > /dev/udp/{own}/{udp}; done; true")).ok();
    cluster.sh(&format!("for i in $(seq 5); do echo hello > /dev/udp/127.0.0.1/{udp}; done; true")).ok();
    assert!(came(&cluster) >= before + 2, "datagrams to the machine's port reach the pod");

    // Taken: the scheduler says so, and places it when the port is free.
    cluster.apply(&pods.split("---\n").nth(1).expect("two documents").replace("name: web}", "name: rival}"));
    cluster.wait("pod/rival", "jsonpath={.status.conditions[?(@.type==\"PodScheduled\")].reason}=Unschedulable");
    cluster.kubectl("events --for pod/rival").says("1 node(s) didn't have free ports for the requested pod ports");
    cluster.kubectl("delete pod web").ok();
    cluster.wait("pod/rival", "condition=Ready");
    cluster.sh(&get("127.0.0.1", tcp)).ok();
    // Another cluster asks for it: both are told, and it has the port when the first gives it up.
    let listener = std::net::TcpListener::bind(("0.0.0.0", tcp)).expect("nobody listens on the port itself");
    let second = Cluster::up("hostport-two");
    second.apply(&OTHER.replace("TCP", &tcp.to_string()));
    second.wait("pod/other", "condition=Ready");
    let says = |who: &Cluster, what: &str, other: &Cluster| {
        let words = format!(
            "Port *:{tcp}/TCP of this machine is asked for by the cluster in {} as well",
            other.data().display()
        );
        let look = format!("kubectl events --for {what} | grep -F '{words}'");
        who.sh(&format!("for i in $(seq 100); do {look} && exit; sleep 0.1; done; exit 1")).ok();
    };
    says(&second, "service/other", &cluster);
    says(&cluster, "pod/rival", &second);
    second
        .kubectl("events --for service/other")
        .says(&format!("A process of this machine listens on port *:{tcp}/TCP as well"));
    drop(listener);
    // Gone with its pod.
    cluster.kubectl("delete pod rival").ok();
    let look = format!("curl -s --max-time 3 http://127.0.0.1:{tcp}/ | grep 'other has counted'");
    cluster.sh(&format!("for i in $(seq 100); do {look} && exit; sleep 0.1; done; exit 1")).ok();
    second.stead("down").ok();
    let closed = format!(
        "for i in $(seq 50); do curl -s --max-time 1 http://127.0.0.1:{tcp}/ || exit 0; sleep 0.1; done; exit 1"
    );
    cluster.sh(&closed).ok();
}
