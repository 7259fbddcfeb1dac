//! Admission webhooks: a real HTTPS server is asked about what kubectl and controllers write.

use base64::Engine;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::hook::HookServer;

fn play(path: &str, request: &Value) -> Option<Value> {
    match path {
        "/mark" => {
            let operations = match request["object"]["metadata"]["annotations"].is_object() {
                true => json!([{"op": "add", "path": "/metadata/annotations/seen", "value": "yes"}]),
                false => json!([{"op": "add", "path": "/metadata/annotations", "value": {"seen": "yes"}}]),
            };
            let patch = base64::engine::general_purpose::STANDARD.encode(operations.to_string());
            Some(json!({"allowed": true, "patchType": "JSONPatch", "patch": patch}))
        }
        "/deny" => {
            Some(json!({"allowed": false, "status": {"code": 403, "reason": "Forbidden", "message": "not here"}}))
        }
        "/warn" => Some(json!({"allowed": true, "warnings": [format!("dry run: {}", request["dryRun"])]})),
        _ => None,
    }
}

/// Asks a path of the server about ConfigMaps of a namespace.
fn guard(cluster: &Cluster, server: &HookServer, namespace: &str, url: &str, more: &str) {
    let ca_bundle = &server.ca_bundle;
    cluster.apply(&format!(
        "
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{name: {namespace}}}
webhooks:
- name: {namespace}.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  clientConfig: {{url: '{url}', caBundle: {ca_bundle}}}
  namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}
  rules: [{{apiGroups: [''], apiVersions: [v1], operations: [CREATE, DELETE], resources: [configmaps]}}]
  {more}
"
    ));
}

#[test]
fn webhooks_are_asked() {
    let cluster = Cluster::up("webhooks");
    let server = HookServer::start(&["hooks.default.svc"], play);
    pods_of_a_set_are_changed(&cluster, &server);
    let url = |path: &str| format!("https://127.0.0.1:{}{path}", server.port);
    guard(&cluster, &server, "denied", &url("/deny"), "");
    guard(&cluster, &server, "warned", &url("/warn"), "");
    guard(&cluster, &server, "late", &url("/never"), "timeoutSeconds: 1");
    guard(&cluster, &server, "ignored", "https://127.0.0.1:1/", "failurePolicy: Ignore");
    guard(&cluster, &server, "gone", "https://127.0.0.1:1/", "timeoutSeconds: 5");
    guard(
        &cluster,
        &server,
        "risky",
        &url("/warn"),
        "matchConditions: [{name: named, expression: \"object != null\"}]",
    );
    tokens_of_pods_are_asked_about(&cluster, &url, &server.ca_bundle);
    cluster.tells(&[
        ("denial", denials_are_told),
        ("warnings", warnings_and_dry_runs),
        ("failures", failures_count_as_their_policy_says),
        ("restart", the_server_may_die),
    ]);
}

/// What an agent asks for: a pod starts once its token is not refused any more.
fn tokens_of_pods_are_asked_about(cluster: &Cluster, url: &dyn Fn(&str) -> String, ca_bundle: &str) {
    let about_tokens = |path: &str| {
        let url = url(path);
        cluster.apply(&format!(
            "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{name: tokens}}
webhooks:
- name: tokens.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  clientConfig: {{url: '{url}', caBundle: {ca_bundle}}}
  rules: [{{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [serviceaccounts/token]}}]
"
        ));
    };
    about_tokens("/deny");
    cluster.kubectl("create token default").fails();
    cluster.kubectl("run asks --image stead.local/demo:1 -- sleep 3600").ok();
    cluster.sh("for i in $(seq 100); do kubectl get events | grep asks | grep 'not here' && exit 0; sleep 0.2; done; exit 1").ok();
    about_tokens("/warn");
    cluster.kubectl("wait pod/asks --for condition=Ready --timeout 60s").ok();
    cluster.sh("kubectl create token default 2>&1").says("Warning: dry run: false");
    cluster.kubectl("delete pod asks --grace-period 0 --force").ok();
    cluster.kubectl("delete validatingwebhookconfiguration tokens").ok();
}

/// A controller's writes, by a Service with endpoints that somebody wrote.
fn pods_of_a_set_are_changed(cluster: &Cluster, server: &HookServer) {
    let (address, port, ca_bundle) = (HookServer::machine_address().ip(), server.port, &server.ca_bundle);
    cluster.apply(&format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: hooks}}
spec: {{ports: [{{name: https, port: 443}}]}}
---
apiVersion: v1
kind: Endpoints
metadata: {{name: hooks}}
subsets: [{{addresses: [{{ip: {address}}}], ports: [{{name: https, port: {port}}}]}}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {{name: mark}}
webhooks:
- name: mark.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  clientConfig: {{service: {{namespace: default, name: hooks, path: /mark}}, caBundle: {ca_bundle}}}
  objectSelector: {{matchLabels: {{app: web}}}}
  rules: [{{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods]}}]
"
    ));
    cluster.sh("until kubectl get endpointslices -l kubernetes.io/service-name=hooks -o name | grep -q hooks; do sleep 0.2; done").ok();
    cluster.apply(
        "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: web
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: 'stead.local/demo:1', args: [counter, --dir, /tmp]}]}
",
    );
    cluster.kubectl("rollout status statefulset/web --timeout=90s").ok();
    for pod in ["pod/web-0", "pod/web-1"] {
        assert_eq!(cluster.value(pod, "{.metadata.annotations.seen}"), "yes");
    }
}

fn denials_are_told(cluster: &Cluster) {
    let told = cluster.kubectl("create configmap -n denied a").fails();
    assert!(told.contains("admission webhook \"denied.example.com\" denied the request: not here"), "{told}");
    cluster.kubectl("create configmap -n default a").ok();
}

fn warnings_and_dry_runs(cluster: &Cluster) {
    let made = cluster.kubectl("create configmap -n warned a --dry-run=server");
    assert!(made.err.contains("Warning: dry run: true"), "{made}");
    made.ok();
    cluster.kubectl("get configmap -n warned a").fails();
    let made = cluster.kubectl("create configmap -n warned a");
    assert!(made.err.contains("Warning: dry run: false"), "{made}");
    let deleted = cluster.kubectl("delete configmap -n warned a");
    assert!(deleted.err.contains("Warning: dry run: false"), "{deleted}");
    // The condition asks for an object, and a deletion has none.
    let quiet = cluster.sh("kubectl create configmap -n risky a && kubectl delete configmap -n risky a");
    assert_eq!(quiet.err.matches("Warning: ").count(), 1, "{quiet}");
}

fn failures_count_as_their_policy_says(cluster: &Cluster) {
    cluster.kubectl("create configmap -n ignored a").ok();
    let told = cluster.kubectl("create configmap -n gone a").fails();
    let why = "Internal error occurred: failed calling webhook \"gone.example.com\": failed to call webhook: \
               Post \"https://127.0.0.1:1/?timeout=5s\": dial tcp 127.0.0.1:1: connect: connection refused";
    assert!(told.contains(why), "{told}");
    let told = cluster.kubectl("create configmap -n late a").fails();
    assert!(told.contains("failed calling webhook \"late.example.com\""), "{told}");
    assert!(told.contains("/never?timeout=1s\": context deadline exceeded"), "{told}");
}

/// What a controller waits for is asked again by the next server.
fn the_server_may_die(cluster: &Cluster) {
    cluster.sh(&format!("kubectl scale statefulset/web --replicas=3 && kill -9 {}", cluster.pid())).ok();
    cluster.start("").ok();
    cluster.kubectl("rollout status statefulset/web --timeout=90s").ok();
    assert_eq!(cluster.value("pod/web-2", "{.metadata.annotations.seen}"), "yes");
}
