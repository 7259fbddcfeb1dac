//! Unmodified kubectl: every verb used with stateful work (rows K-01 to K-24), with its own words as the expectation.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use crate::cluster::Cluster;
use crate::images;

const WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web, labels: {app: web}}
spec:
  serviceName: web
  replicas: 2
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: web
        image: stead.local/demo:1
        args: [counter, --dir, /tmp]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
";

/// Two containers with a shell; the second ends once and is started again.
const TOOLS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: tools, labels: {app: tools}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: shell, image: 'test/busybox:1', command: [sh, -c, 'echo first; echo second; exec sleep 3600']}
  - name: ends
    image: test/busybox:1
    command: [sh, -c, 'if [ -e /shared/once ]; then echo again; exec sleep 3600; fi; echo once; touch /shared/once; exit 3']
    volumeMounts: [{name: shared, mountPath: /shared}]
  volumes: [{name: shared, emptyDir: {}}]
";

#[test]
fn every_verb_of_kubectl_works() {
    let cluster = Cluster::up("kubectl");
    images::load(&cluster, &images::busybox("test/busybox:1"));
    cluster.apply(WEB);
    cluster.apply(TOOLS);
    cluster.kubectl("rollout status statefulset/web --timeout=90s").ok();
    cluster.tells(&[
        ("about the cluster", about_the_cluster),
        ("apply and diff", applies_and_tells_differences),
        ("get", gets_in_every_form),
        ("describe", describes),
        ("create and change", creates_and_changes),
        ("logs", reads_logs),
        ("exec", runs_commands),
        ("cp", copies_files),
        ("port-forward", forwards_ports),
        ("rollout", rolls_out),
        ("delete", deletes),
    ]);
}

/// K-22 to K-24.
fn about_the_cluster(cluster: &Cluster) {
    cluster.kubectl("create service clusterip brief --tcp 80").ok();
    let address = cluster.value("service/brief", "{.spec.clusterIP}");
    cluster.kubectl(&format!("wait ipaddress/{address} --for create --timeout 20s")).ok();
    cluster.kubectl(&format!("get ipaddress {address}")).says(&format!("{address} services/default/brief"));
    cluster.kubectl("delete service brief").ok();
    cluster.kubectl(&format!("wait ipaddress/{address} --for delete --timeout 20s")).ok();
    cluster.kubectl("version").says("Server Version: v1.36");
    cluster.kubectl("cluster-info").says("Kubernetes control plane");
    cluster.kubectl("api-resources").says("statefulsets sts apps/v1");
    cluster.kubectl("api-resources --namespaced=false -o name").says("persistentvolumes\n");
    cluster.kubectl("api-versions").says("apps/v1\n");
    cluster.kubectl("explain statefulset.spec.serviceName").says("FIELD: serviceName <string>");
    cluster.kubectl("explain pod.spec --recursive").says("terminationGracePeriodSeconds");
    cluster.kubectl("auth can-i create statefulsets").says("yes\n");
    let denied = cluster.kubectl("auth can-i create statefulsets --as=nobody");
    assert_eq!((denied.code, denied.out.trim()), (1, "no"));
    cluster.kubectl("auth can-i --list").says("*.*");
    cluster.kubectl("auth whoami").says("Username");
    let forbidden = cluster.kubectl("get pods --as=nobody").fails();
    let text = "Error from server (Forbidden): pods is forbidden: User \"nobody\" cannot list resource \"pods\" in API group \"\" \
        in the namespace \"default\"";
    assert_eq!(forbidden.trim(), text);
}

/// K-01 to K-03.
fn applies_and_tells_differences(cluster: &Cluster) {
    let again = cluster.feed("kubectl apply -f -", WEB).ok();
    assert_eq!(again, "service/web unchanged\nstatefulset.apps/web unchanged\n");
    assert_eq!(cluster.feed("kubectl diff -f -", WEB).ok(), "");
    let more = WEB
        .replace("labels: {app: web}}\nspec:\n  serviceName", "labels: {app: web, tier: front}}\nspec:\n  serviceName");
    let diff = cluster.feed("kubectl diff -f -", &more);
    assert!(diff.code == 1 && diff.out.contains("+    tier: front"), "{diff}");
    cluster.feed("kubectl apply -f - --dry-run=server", &more).says("statefulset.apps/web configured (server dry run)");
    assert_eq!(cluster.value("statefulset web", "{.metadata.labels.tier}"), "");
    cluster.feed("kubectl apply -f -", &more).says("statefulset.apps/web configured");

    let map =
        |value: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: owned}}\ndata: {{key: {value}}}\n");
    cluster.feed("kubectl apply --server-side -f -", &map("one")).says("configmap/owned serverside-applied");
    let conflict = cluster.feed("kubectl apply --server-side --field-manager=other -f -", &map("two")).fails();
    assert!(conflict.contains("conflict with \"kubectl\"") && conflict.contains(".data.key"), "{conflict}");
    cluster.feed("kubectl apply --server-side --field-manager=other --force-conflicts -f -", &map("two")).ok();
    assert_eq!(cluster.value("configmap owned", "{.data.key}"), "two");
    let unknown =
        cluster.feed("kubectl apply -f -", &WEB.replace("serviceName: web", "serviceName: web\n  colour: red")).fails();
    assert!(unknown.contains("unknown field \"spec.colour\""), "{unknown}");
}

/// K-04.
fn gets_in_every_form(cluster: &Cluster) {
    cluster.kubectl("get statefulsets").says("NAME   READY   AGE\nweb    2/2");
    cluster.kubectl("get sts web -o wide").says("CONTAINERS   IMAGES");
    cluster.kubectl("get pods -l app=web -o wide").says("node-0");
    cluster.kubectl("get all -A").says("statefulset.apps/web");
    cluster.kubectl("get pod web-0 -o yaml").says("\nkind: Pod\n");
    cluster.kubectl("get pod web-0 -o json").says("\"kind\": \"Pod\"");
    assert_eq!(cluster.kubectl("get pods -l app=web -o name").ok(), "pod/web-0\npod/web-1\n");
    assert_eq!(cluster.kubectl("get pods --field-selector metadata.name=web-1 -o name").ok(), "pod/web-1\n");
    assert_eq!(
        cluster.kubectl("get pods -l 'app in (web),app!=tools' --no-headers -o custom-columns=N:.metadata.name").ok(),
        "web-0\nweb-1\n"
    );
    assert_eq!(
        cluster.kubectl("get pods --sort-by=.metadata.name -l app=web --chunk-size=1 -o name").ok().lines().count(),
        2
    );
    cluster.kubectl("get --raw /readyz").says("ok");
    assert_eq!(
        cluster.kubectl("get pod absent").fails().trim(),
        "Error from server (NotFound): pods \"absent\" not found"
    );
    assert_eq!(cluster.kubectl("get pods -n absent").err.trim(), "No resources found in absent namespace.");
    cluster.kubectl("get nodes").says("Ready");
    cluster.kubectl("get storageclass").says("standard (default)");
    // A watch shows what is there, and then what changes.
    let mut watch = cluster.shell("kubectl get configmap watched --watch --output-watch-events --no-headers");
    cluster.kubectl("create configmap watched --from-literal=a=1").ok();
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut next = || lines.next().unwrap();
    assert!(next().starts_with("ADDED"));
    cluster.kubectl("delete configmap watched").ok();
    assert!(next().starts_with("DELETED"));
    watch.kill().unwrap();
    watch.wait().unwrap();
}

/// K-05.
fn describes(cluster: &Cluster) {
    let set = cluster.kubectl("describe statefulset web").ok();
    for text in [
        "Replicas:           2 desired | 2 total",
        "Pods Status:        2 Running",
        "Partition:",
        "Create Pod web-0 in StatefulSet web",
    ] {
        assert!(set.contains(text), "{text:?} in\n{set}");
    }
    let pod = cluster.kubectl("describe pod web-0").ok();
    for text in ["Controlled By:  StatefulSet/web", "Readiness:", "QoS Class:", "Started"] {
        assert!(pod.contains(text), "{text:?} in\n{pod}");
    }
    cluster.kubectl("describe node node-0").says("Allocated resources");
    cluster.kubectl("describe service web").says("Endpoints:");
    cluster.kubectl("events --types=Normal").says("Scheduled");
}

/// K-19: create, edit, patch of every type, label, annotate, replace, expose, set.
fn creates_and_changes(cluster: &Cluster) {
    cluster.kubectl("create namespace other").says("namespace/other created");
    cluster.kubectl("create configmap settings --from-literal=colour=red").says("configmap/settings created");
    cluster.kubectl("create secret generic password --from-literal=password=hunter2").ok();
    assert_eq!(cluster.value("secret password", "{.data.password}"), "aHVudGVyMg==");
    let twice = cluster.kubectl("create configmap settings").fails();
    assert_eq!(twice.trim(), "error: failed to create configmap: configmaps \"settings\" already exists");
    cluster.sh("EDITOR='sed -i s/red/blue/' kubectl edit configmap settings").says("configmap/settings edited");
    assert_eq!(cluster.value("configmap settings", "{.data.colour}"), "blue");
    let patches = [
        ("merge", "{\"data\":{\"colour\":\"green\"}}", "green"),
        ("json", "[{\"op\":\"replace\",\"path\":\"/data/colour\",\"value\":\"black\"}]", "black"),
        ("strategic", "{\"data\":{\"colour\":\"white\"}}", "white"),
    ];
    for (kind, patch, colour) in patches {
        cluster
            .kubectl(&format!("patch configmap settings --type={kind} -p '{patch}'"))
            .says("configmap/settings patched");
        assert_eq!(cluster.value("configmap settings", "{.data.colour}"), colour);
    }
    cluster.kubectl("label configmap settings tier=back").says("labeled");
    cluster.kubectl("label configmap settings tier-").says("unlabeled");
    cluster.kubectl("annotate configmap settings note=hello").says("annotated");
    assert_eq!(cluster.value("configmap settings", "{.metadata.annotations.note}"), "hello");
    cluster.sh("kubectl get configmap settings -o yaml | sed s/white/grey/ | kubectl replace -f -").says("replaced");
    cluster
        .kubectl("create deployment extra --image=stead.local/demo:1 --replicas=1 -- /stead demo counter --dir /tmp")
        .ok();
    cluster.kubectl("rollout status deployment/extra --timeout=90s").ok();
    cluster.kubectl("expose deployment extra --port=80 --target-port=8080").says("service/extra exposed");
    cluster.kubectl("run one --image=stead.local/demo:1 --restart=Never -- id").says("pod/one created");
    cluster.wait("pod/one", "jsonpath={.status.phase}=Succeeded");
    cluster.kubectl("logs one").says("Uid: 0");
    let wrong = cluster.kubectl("patch statefulset web --type=merge -p '{\"spec\":{\"serviceName\":\"x\"}}'").fails();
    assert!(
        wrong.contains("updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template'"),
        "{wrong}"
    );
}

/// K-06.
fn reads_logs(cluster: &Cluster) {
    cluster.wait("pod/tools", "condition=Ready");
    assert_eq!(cluster.kubectl("logs tools -c shell").ok(), "first\nsecond\n");
    assert_eq!(cluster.kubectl("logs tools -c shell --tail=1").ok(), "second\n");
    assert_eq!(cluster.kubectl("logs tools -c shell --since=1h --timestamps").ok().matches("Z ").count(), 2);
    cluster.kubectl("logs tools").says("first");
    cluster.wait("pod/tools", "jsonpath={.status.containerStatuses[?(@.name==\"ends\")].restartCount}=1");
    cluster.wait("pod/tools", "condition=Ready");
    assert_eq!(cluster.kubectl("logs tools -c ends -p").ok(), "once\n");
    assert_eq!(cluster.kubectl("logs tools -c ends").ok(), "again\n");
    let code = "{.status.containerStatuses[?(@.name==\"ends\")].lastState.terminated.exitCode}";
    assert_eq!(cluster.value("pod tools", code), "3");
    cluster.kubectl("logs -l app=web --prefix").says("[pod/web-0/web] web-0 listens");
    let wrong = cluster.kubectl("logs tools -c absent").fails();
    assert!(wrong.contains("container absent is not valid for pod tools"), "{wrong}");
    // Followed: what is written later arrives, and the end of the container ends it.
    let follow = "{apiVersion: v1, kind: Pod, metadata: {name: speaks}, spec: {restartPolicy: Never, containers: [{name: c, \
        image: 'test/busybox:1', command: [sh, -c, 'echo one; while [ ! -e /go ]; do sleep 0.1; done; echo two']}]}}";
    cluster.apply(&format!("---\n{follow}"));
    cluster.wait("pod/speaks", "condition=Ready");
    let mut logs = cluster.shell("kubectl logs -f speaks").stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(logs.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "one\n");
    cluster.kubectl("exec speaks -- touch /go").ok();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "two\n");
    assert!(logs.wait().unwrap().success());
}

/// K-07.
fn runs_commands(cluster: &Cluster) {
    assert_eq!(cluster.kubectl("exec tools -c shell -- echo hello").ok(), "hello\n");
    let code = cluster.kubectl("exec tools -c shell -- sh -c 'echo out; echo err >&2; exit 42'");
    assert_eq!((code.code, code.out.as_str()), (42, "out\n"), "{code}");
    assert!(code.err.starts_with("err\n") && code.err.contains("exit code 42"), "{code}");
    assert_eq!(cluster.feed("kubectl exec -i tools -c shell -- cat", "fed\n").ok(), "fed\n");
    let bytes = cluster.sh(
        "head -c 3000000 /dev/urandom > blob; kubectl exec -i tools -c shell -- cat < blob | cmp - blob && echo same",
    );
    assert_eq!(bytes.ok(), "same\n");
    let absent = cluster.kubectl("exec tools -c shell -- /absent");
    assert!(absent.code != 0 && absent.err.contains("/absent"), "{absent}");
    // A terminal: kubectl gets one from `script`, the command one from the node.
    let terminal =
        cluster.sh("script -qec \"kubectl exec -it tools -c shell -- sh -c 'tty; stty size'\" /dev/null").ok();
    assert!(terminal.contains("/dev/pts/"), "{terminal}");
    // The older protocol still serves.
    cluster.sh("KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false kubectl exec tools -c shell -- echo spdy").says("spdy");
}

/// K-08.
fn copies_files(cluster: &Cluster) {
    cluster.sh("mkdir -p tree/sub; echo deep > tree/sub/file; kubectl cp tree tools:/tmp/tree -c shell").ok();
    assert_eq!(cluster.kubectl("exec tools -c shell -- cat /tmp/tree/sub/file").ok(), "deep\n");
    cluster.sh("kubectl cp -c shell tools:/tmp/tree back 2>/dev/null").ok();
    assert_eq!(std::fs::read_to_string(cluster.dir.join("back/sub/file")).unwrap(), "deep\n");
}

/// K-09.
fn forwards_ports(cluster: &Cluster) {
    for protocol in ["true", "false"] {
        let command = format!("KUBECTL_PORT_FORWARD_WEBSOCKETS={protocol} kubectl port-forward pod/web-1 :8080");
        let mut forward = cluster.shell(&command).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        // Kept open: kubectl goes on telling what it handles.
        let mut told = BufReader::new(forward.stdout.take().unwrap());
        told.read_line(&mut line).unwrap();
        let port = line.split(':').nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_else(|| panic!("{line}"));
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("web-1 has counted"), "{answer}");
        forward.kill().unwrap();
        forward.wait().unwrap();
    }
}

/// K-10 to K-15, with B-16 and B-22 behind them.
fn rolls_out(cluster: &Cluster) {
    cluster.kubectl("scale statefulset web --replicas=3 --current-replicas=2").says("statefulset.apps/web scaled");
    assert!(
        cluster
            .kubectl("scale statefulset web --replicas=1 --current-replicas=9")
            .fails()
            .contains("Expected replicas to be 9, was 3")
    );
    cluster.kubectl("rollout status statefulset/web --timeout=90s").ok();
    cluster.kubectl("set env statefulset/web COLOUR=red").says("env updated");
    cluster.kubectl("rollout status statefulset/web --timeout=90s").ok();
    cluster.kubectl("exec web-0 -- /stead demo env").says("COLOUR=red");
    let history = cluster.kubectl("rollout history statefulset/web").ok();
    assert!(history.contains("REVISION  CHANGE-CAUSE") && history.contains("2 "), "{history}");
    cluster.kubectl("rollout history statefulset/web --revision=2").says("COLOUR");
    cluster.kubectl("rollout undo statefulset/web").says("statefulset.apps/web rolled back");
    cluster.kubectl("rollout status statefulset/web --timeout=90s").ok();
    assert!(!cluster.kubectl("exec web-0 -- /stead demo env").ok().contains("COLOUR"));
    cluster.kubectl("rollout restart statefulset/web").says("statefulset.apps/web restarted");
    cluster.kubectl("rollout status statefulset/web --timeout=90s").ok();
    cluster
        .kubectl("wait statefulset/web --for=jsonpath='{.status.readyReplicas}'=3 --timeout=60s")
        .says("condition met");
    cluster.kubectl("wait pod/absent --for=condition=Ready --timeout=1s").fails();
}

/// K-17: background, foreground, orphan, now, force.
fn deletes(cluster: &Cluster) {
    cluster.kubectl("delete statefulset web --cascade=orphan").says("deleted");
    assert_eq!(cluster.value("pods -l app=web", "{.items[*].metadata.name}"), "web-0 web-1 web-2");
    let uid = cluster.value("pod web-0", "{.metadata.uid}");
    // B-28: the new set adopts the pods that are left, and then has one too many. Their template is older than the set's.
    let on_delete = WEB.replace("serviceName: web", "serviceName: web\n  updateStrategy: {type: OnDelete}");
    cluster.feed("kubectl apply -f -", &on_delete).ok();
    cluster.kubectl("wait pod/web-2 --for=delete --timeout=60s").ok();
    assert_eq!(cluster.value("pod web-0", "{.metadata.uid}"), uid);
    cluster.apply(WEB);
    cluster.kubectl("delete pod web-1 --force --grace-period=0").says("force deleted");
    cluster.kubectl("rollout status statefulset/web --timeout=90s").ok();
    cluster.kubectl("delete pod tools --now").ok();
    cluster.kubectl("delete statefulset web --cascade=foreground").ok();
    assert_eq!(cluster.value("pods -l app=web", "{.items[*].metadata.name}"), "");
    cluster.kubectl("delete deployment extra").ok();
    cluster.kubectl("wait pod -l app=extra --for=delete --timeout=60s").ok();
    cluster.kubectl("create configmap inside -n other").ok();
    cluster.kubectl("delete namespace other").ok();
    cluster.kubectl("get namespace other").fails();
    cluster.kubectl("delete configmap absent --ignore-not-found").ok();
}
