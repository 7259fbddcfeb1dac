//! A custom resource in two versions, converted by a real webhook and used with the real kubectl.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::hook::HookServer;

/// In v1 a host is `spec.address`, in v2 `spec.host` and `spec.port`.
fn play(_: &str, request: &Value) -> Option<Value> {
    let wanted = request["desiredAPIVersion"].as_str()?;
    let objects = request["objects"].as_array()?.iter().map(|object| {
        let mut object = object.clone();
        let spec = &object["spec"];
        let text = |field: &str| spec[field].as_str().unwrap_or_default();
        let converted = match (wanted, text("address").split_once(':')) {
            ("example.com/v2", Some((host, port))) => json!({"host": host, "port": port}),
            ("example.com/v2", None) => json!({"host": text("address")}),
            _ => json!({"address": format!("{}:{}", text("host"), text("port"))}),
        };
        object["spec"] = converted;
        object["apiVersion"] = json!(wanted);
        object
    });
    Some(json!({"result": {"status": "Success"}, "convertedObjects": objects.collect::<Vec<_>>()}))
}

fn define(cluster: &Cluster, server: &HookServer, storage: &str) {
    let (port, ca_bundle) = (server.port, &server.ca_bundle);
    let (v1, v2) = (storage == "v1", storage == "v2");
    cluster.apply(&format!(
        "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: hosts.example.com}}
spec:
  group: example.com
  scope: Namespaced
  names: {{plural: hosts, singular: host, kind: Host}}
  conversion:
    strategy: Webhook
    webhook:
      conversionReviewVersions: [v1]
      clientConfig: {{url: 'https://127.0.0.1:{port}/convert', caBundle: {ca_bundle}}}
  versions:
  - name: v1
    served: true
    storage: {v1}
    schema: {{openAPIV3Schema: {{type: object, properties: {{spec: {{type: object, properties: {{address: {{type: string}}}}}}}}}}}}
  - name: v2
    served: true
    storage: {v2}
    additionalPrinterColumns: [{{name: Port, type: string, jsonPath: .spec.port}}]
    schema: {{openAPIV3Schema: {{type: object, properties: {{spec: {{type: object, properties: {{host: {{type: string}}, port: {{type: string}}}}}}}}}}}}
"
    ));
    cluster.kubectl("wait crd/hosts.example.com --for=condition=Established --timeout=30s").ok();
}

#[test]
fn custom_resources_are_converted() {
    let cluster = Cluster::new("conversion");
    cluster.start("--no-node").says("stead is up");
    let server = HookServer::start(&[], play);
    define(&cluster, &server, "v1");
    cluster.apply("---\n{apiVersion: example.com/v1, kind: Host, metadata: {name: db}, spec: {address: 'db:5432'}}");
    cluster.tells(&[
        ("reads", both_versions_are_read),
        ("writes", both_versions_are_written),
        ("applies", an_apply_is_of_its_version),
        ("watches", a_watch_shows_its_version),
    ]);
    define(&cluster, &server, "v2");
    assert_eq!(cluster.value("crd/hosts.example.com", "{.status.storedVersions}"), "[\"v1\",\"v2\"]");
    assert_eq!(cluster.value("hosts.v1.example.com/db", "{.spec.address}"), "db:7777");
    assert_eq!(cluster.value("hosts.v2.example.com/db", "{.spec.port}"), "7777");
    cluster.sh("kubectl get hosts -o json | kubectl replace -f -").ok();
    cluster.kubectl("delete hosts --all").ok();
    cluster.apply("---\n{apiVersion: example.com/v1, kind: Host, metadata: {name: last}, spec: {address: 'last:1'}}");
    drop(server);
    let told = cluster.kubectl("get hosts.v1.example.com last").fails();
    assert!(
        told.contains("conversion webhook for example.com/v2, Kind=Host failed: Post \"https://127.0.0.1:"),
        "{told}"
    );
    assert_eq!(cluster.value("hosts.v2.example.com/last", "{.spec.host}"), "last", "nobody is needed for this version");
}

fn both_versions_are_read(cluster: &Cluster) {
    assert_eq!(cluster.value("hosts.v1.example.com/db", "{.spec.address}"), "db:5432");
    assert_eq!(
        cluster.value("hosts.v2.example.com/db", "{.apiVersion} {.spec.host} {.spec.port}"),
        "example.com/v2 db 5432"
    );
    cluster.kubectl("get hosts.v2.example.com").says("NAME PORT\ndb 5432");
}

fn both_versions_are_written(cluster: &Cluster) {
    cluster
        .apply("---\n{apiVersion: example.com/v2, kind: Host, metadata: {name: web}, spec: {host: web, port: '80'}}");
    assert_eq!(cluster.value("hosts.v1.example.com/web", "{.spec.address}"), "web:80");
    cluster.kubectl("patch hosts.v2.example.com web --type=merge -p '{\"spec\":{\"port\":\"81\"}}'").ok();
    assert_eq!(cluster.value("hosts.v1.example.com/web", "{.spec.address}"), "web:81");
    let list = cluster.kubectl("get hosts.v2.example.com -o jsonpath='{.items[*].spec.port}'").ok();
    assert_eq!(list, "5432 81");
}

fn an_apply_is_of_its_version(cluster: &Cluster) {
    let apply = |manager: &str, port: &str| {
        let manifest = format!(
            "---\n{{apiVersion: example.com/v2, kind: Host, metadata: {{name: ssa}}, spec: {{host: ssa, port: '{port}'}}}}"
        );
        cluster.feed(&format!("kubectl apply --server-side --field-manager={manager} -f -"), &manifest)
    };
    apply("one", "1").ok();
    apply("one", "2").ok();
    assert_eq!(cluster.value("hosts.v1.example.com/ssa", "{.spec.address}"), "ssa:2");
    let told = apply("other", "3").fails();
    assert!(told.contains("conflict with \"one\""), "{told}");
}

fn a_watch_shows_its_version(cluster: &Cluster) {
    let command =
        "kubectl get hosts.v2.example.com --watch -o jsonpath='{.metadata.name} {.apiVersion} {.spec.port}{\"\\n\"}'";
    let mut watch = cluster.shell(&format!("exec {command}")).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "db example.com/v2 5432"));
    cluster.kubectl("patch hosts.v1.example.com db --type=merge -p '{\"spec\":{\"address\":\"db:7777\"}}'").ok();
    assert!(lines.any(|line| line == "db example.com/v2 7777"));
    watch.kill().unwrap();
    watch.wait().unwrap();
}
