//! The machine loses power: processes, namespaces, interfaces, rules, mounts, control groups and /run are gone, the data directory
//! is what is left. `stead up` brings everything back.
//!
//! Each boot is a mount namespace of its own with its own boot id: when its last process is killed, its mounts go as they do with
//! the machine. What the kernel keeps elsewhere is removed by hand, by the cluster's name.

use crate::cluster::{Cluster, repository};
use crate::stopping::{id, traces};

const COMPANY: &str = "---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {type: NodePort, selector: {app: counter}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {word: kept}
---
apiVersion: v1
kind: Pod
metadata: {name: alone}
spec:
  initContainers:
  - {name: setup, image: 'stead.local/demo:1', args: [cat, /words/word], volumeMounts: [{name: words, mountPath: /words}]}
  containers:
  - {name: main, image: 'stead.local/demo:1', args: [counter, --dir, /data], volumeMounts: [{name: data, mountPath: /data}]}
  volumes: [{name: data, emptyDir: {}}, {name: words, configMap: {name: words}}]
";

/// `stead up` on a machine that has just booted.
fn boot(cluster: &Cluster, boot_id: &str) {
    std::fs::write(cluster.dir.join("boot_id"), format!("{boot_id}\n")).unwrap();
    let up = format!(
        "unshare --mount --propagation private sh -c \
         'mount --bind boot_id /proc/sys/kernel/random/boot_id && exec stead up {}'",
        cluster.flags()
    );
    cluster.sh(&up).says("stead is up: ");
    // The API answers before the first node has come.
    cluster.wait("node/node-0", "create");
    cluster.wait("node/node-0", &format!("jsonpath={{.status.nodeInfo.bootID}}={boot_id}"));
}

/// Nobody gets to say a last word: the server first, then the shims, then the containers.
fn cut_power(cluster: &Cluster) {
    let id = id(cluster);
    let groups = format!("find /sys/fs/cgroup -path '*/stead-{id}*' -name cgroup.procs");
    let range = format!("10.{}.128.0/17", cluster.network);
    cluster
        .sh(&format!(
            "kill -9 {}; {groups} -path '*/shims/*' | xargs cat | sort -u | xargs -r kill -9; \
             while p=$({groups} | xargs cat | sort -u) && [ -n \"$p\" ]; do kill -9 $p 2>/dev/null; sleep 0.02; done; \
             ls /sys/class/net | grep {id} | xargs -r -n1 ip link delete; ip route delete unreachable {range}; \
             nft delete table ip stead-{id} 2>/dev/null || nft delete table inet stead-{id}; \
             find /sys/fs/cgroup -depth -type d -path '*/stead-{id}*' -exec rmdir {{}} +; rm -rf /run/stead/{id}",
            cluster.pid()
        ))
        .ok();
    assert_eq!(traces(cluster), "", "the power is off");
}

fn visit(cluster: &Cluster, from: &str, url: &str) -> String {
    cluster.kubectl(&format!("exec {from} -c main -- /stead demo get http://{url}/")).ok()
}

#[test]
fn a_reboot_brings_everything_back() {
    let cluster = Cluster::new("reboot");
    boot(&cluster, "11111111-1111-4111-8111-111111111111");
    cluster.kubectl(&format!("apply -f {}", repository().join("examples/counter/counter.yaml").display())).ok();
    cluster.apply(COMPANY);
    cluster.kubectl("rollout status statefulset/counter --timeout=90s").ok();
    cluster.wait("pod/alone", "condition=Ready");
    for pod in ["counter-0", "counter-1", "counter-2"] {
        let url = format!("{pod}.counter:8080");
        assert_eq!(visit(&cluster, "alone", &url), format!("{pod} has counted 1\n"));
    }
    assert_eq!(visit(&cluster, "alone", "localhost:8080"), "alone has counted 1\n");
    let uids = cluster.value("pods", "{.items[*].metadata.uid}");
    let volumes = cluster.value("pvc", "{.items[*].spec.volumeName}");

    for boot_number in 2..=3 {
        cut_power(&cluster);
        boot(&cluster, &format!("{boot_number}2222222-2222-4222-8222-222222222222"));
        let restarts = boot_number - 1;
        // Until the agent has looked, the statuses are those of the boot before.
        let restarted = format!("jsonpath={{.status.containerStatuses[0].restartCount}}={restarts}");
        cluster.kubectl(&format!("wait pod --all --for='{restarted}' --timeout=90s")).ok();
        cluster.kubectl("wait pod --all --for=condition=Ready --timeout=90s").ok();
        // The set is as it was: nobody was replaced, everybody was started again.
        cluster.kubectl("rollout status statefulset/counter --timeout=90s").ok();
        assert_eq!(cluster.value("pods", "{.items[*].metadata.uid}"), uids);
        assert_eq!(cluster.value("pvc", "{.items[*].spec.volumeName}"), volumes);
        let counts = cluster.value("pods", "{.items[*].status.containerStatuses[0].restartCount}");
        assert_eq!(counts, vec![restarts.to_string(); 4].join(" "));
        let setup = cluster.value("pod alone", "{.status.initContainerStatuses[0].restartCount}");
        assert_eq!(setup, restarts.to_string(), "init containers run again in the new sandbox");
        let reason = cluster.value("pod counter-0", "{.status.containerStatuses[0].lastState.terminated.reason}");
        assert_eq!(reason, "ContainerStatusUnknown");
        // Names, addresses and data.
        for pod in ["counter-0", "counter-1", "counter-2"] {
            let address = cluster.value(&format!("pod {pod}"), "{.status.podIP}");
            cluster
                .kubectl(&format!("exec alone -c main -- /stead demo lookup {pod}.counter"))
                .says(&format!(" A {address}\n"));
            let url = format!("{pod}.counter:8080");
            assert_eq!(visit(&cluster, "alone", &url), format!("{pod} has counted {boot_number}\n"));
        }
        assert_eq!(visit(&cluster, "alone", "localhost:8080"), format!("alone has counted {boot_number}\n"));
        visit_services(&cluster);
        assert!(!cluster.kubectl("events --for pod/alone").ok().contains("Back-off"), "nobody has failed");
        cluster.kubectl("events --for node/node-0").says("has been rebooted, boot id: ");
        cluster.kubectl("events --for pod/alone").says("Pod sandbox changed, it will be killed and re-created.");
    }
}

/// The ClusterIP from a pod and the node's port from the machine. Both count on one of the three, which is not told: hence healthz.
fn visit_services(cluster: &Cluster) {
    cluster.kubectl("exec alone -c main -- /stead demo get http://front/healthz").ok();
    let port = cluster.value("service front", "{.spec.ports[0].nodePort}");
    cluster.sh(&format!("curl -s --fail --max-time 5 http://127.0.0.1:{port}/healthz")).ok();
}

/// Containers of machines (LXC, for one) keep the kernel's boot id when they start again: what is gone is seen all the same.
#[test]
fn all_is_gone_although_the_boot_id_is_the_same() {
    let cluster = Cluster::new("same-boot");
    let boot_id = "33333333-3333-4333-8333-333333333333";
    boot(&cluster, boot_id);
    cluster.apply(COMPANY);
    cluster.wait("pod/alone", "condition=Ready");
    assert_eq!(visit(&cluster, "alone", "localhost:8080"), "alone has counted 1\n");
    cut_power(&cluster);
    boot(&cluster, boot_id);
    cluster.wait("pod/alone", "jsonpath={.status.containerStatuses[0].restartCount}=1");
    cluster.wait("pod/alone", "condition=Ready");
    assert_eq!(visit(&cluster, "alone", "localhost:8080"), "alone has counted 2\n");
}

/// What `stead install-service --print` gives is a unit that systemd takes, and the server does what the unit relies on.
#[test]
fn systemd_can_keep_it() {
    let cluster = Cluster::new("unit");
    let unit = cluster.stead("install-service --print").ok();
    for line in ["Type=notify", "KillMode=process", "Restart=on-failure"] {
        assert!(unit.lines().any(|l| l == line), "{line} in\n{unit}");
    }
    let verify = "if command -v systemd-analyze > /dev/null; then stead install-service --print > stead.service && \
                  systemd-analyze verify --man=no ./stead.service; fi";
    let told = cluster.sh(verify);
    assert!(told.code == 0 && !told.err.contains("stead.service:"), "{told}");
    // What an init system does: start, wait for READY=1, ask to end by SIGTERM; containers stay.
    let start = unit.lines().find_map(|l| l.strip_prefix("ExecStart=")).expect("a unit starts something");
    let flags = cluster.flags().replace("--kubeconfig ", "--x ");
    let rest: Vec<&str> = flags.split_whitespace().collect();
    let place = rest.iter().position(|word| *word == "--x").expect("the flags name a kubeconfig");
    let flags = [&rest[2..place], &rest[place + 2..]].concat().join(" ");
    let notify = cluster.dir.join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&notify).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let mut server = cluster.shell(&format!("exec {start} {flags}")).env("NOTIFY_SOCKET", &notify).spawn().unwrap();
    let mut word = [0; 16];
    let length = socket.recv(&mut word).expect("the server tells that it is ready");
    assert_eq!(&word[..length], b"READY=1");
    cluster.start("").says("stead is up already");
    cluster.apply(COMPANY);
    cluster.wait("pod/alone", "condition=Ready");
    cluster.sh(&format!("kill -TERM {}", cluster.pid())).ok();
    assert!(server.wait().unwrap().success(), "SIGTERM is no failure");
    assert_ne!(traces(&cluster), "", "containers outlive the service");
    cluster.start("").says("stead is up: ");
    cluster.wait("pod/alone", "condition=Ready");
    assert_eq!(cluster.value("pod alone", "{.status.containerStatuses[0].restartCount}"), "0");
    cluster.stead("down").says("stead is down");
}
