//! Manifests that others wrote, applied unchanged: the StatefulSet tutorial of kubernetes.io and the Stateful Service of the book
//! "Kubernetes Patterns". Their images are made here, from Debian packages, and loaded under their names.
//!
//! The manifests are not part of the repository: they are expected beside the checkout, and the stories are skipped without.

use std::path::PathBuf;

use crate::cluster::{Cluster, repository};
use crate::images;

/// A folder of manifests, if it is there.
fn folder(name: &str) -> Option<PathBuf> {
    let folder = repository().join("../shared/manifests").join(name);
    if !folder.is_dir() {
        println!("skipped: {} does not exist", folder.display());
        return None;
    }
    folder.canonicalize().ok()
}

#[test]
fn the_tutorial_of_kubernetes_io_runs_unchanged() {
    let Some(folder) = folder("kubernetes-website-web") else { return };
    let cluster = Cluster::up("tutorial");
    images::load(&cluster, &images::nginx(&["registry.k8s.io/nginx-slim:0.7", "registry.k8s.io/nginx-slim:0.24"]));
    let apply = |file: &str| cluster.kubectl(&format!("apply -f {}", folder.join(file).display())).ok();
    assert_eq!(apply("web.yaml"), "service/nginx created\nstatefulset.apps/web created\n");
    cluster.kubectl("rollout status statefulset/web --timeout=90s").ok();
    tutorial_identity_and_storage(&cluster);
    tutorial_scaling_and_updates(&cluster);
    // The second file has another policy and selector, which a set cannot change.
    cluster.kubectl("delete statefulset web --cascade=foreground").ok();
    cluster.kubectl("delete service nginx").ok();
    cluster.kubectl("delete pvc -l app=nginx").ok();
    assert_eq!(apply("web-parallel.yaml"), "service/nginx created\nstatefulset.apps/web created\n");
    cluster.kubectl("rollout status statefulset/web --timeout=90s").ok();
    assert_eq!(cluster.value("pods", "{.items[*].metadata.name}"), "web-0 web-1");
    assert_eq!(cluster.value("pod web-0", "{.spec.containers[0].image}"), "registry.k8s.io/nginx-slim:0.24");
}

/// As the tutorial has it: each pod's host name in its own index page, which it still serves after it was replaced.
fn tutorial_identity_and_storage(cluster: &Cluster) {
    assert_eq!(cluster.sh("for i in 0 1; do kubectl exec web-$i -- sh -c hostname; done").ok(), "web-0\nweb-1\n");
    cluster
        .sh("for i in 0 1; do kubectl exec web-$i -- sh -c 'echo $(hostname) > /usr/share/nginx/html/index.html'; done")
        .ok();
    let pages = "for i in 0 1; do kubectl exec -i web-$i -- wget -q -O - http://localhost/; done";
    assert_eq!(cluster.sh(pages).ok(), "web-0\nweb-1\n");
    assert_eq!(cluster.value("pvc -l app=nginx", "{.items[*].metadata.name}"), "www-web-0 www-web-1");
    cluster
        .kubectl("exec web-0 -- nslookup web-1.nginx.default.svc.cluster.local")
        .says(&cluster.value("pod web-1", "{.status.podIP}"));
    cluster.kubectl("delete pod -l app=nginx").ok();
    cluster.kubectl("rollout status statefulset/web --timeout=90s").ok();
    cluster.kubectl("wait pod/web-0 pod/web-1 --for=condition=Ready --timeout=60s").ok();
    assert_eq!(cluster.sh(pages).ok(), "web-0\nweb-1\n");
    assert_eq!(cluster.kubectl("exec web-0 -- wget -q -O - http://web-1.nginx/").ok(), "web-1\n");
}

/// Scaling, a staged update by partition (S-08, B-21) and the rest of the update.
fn tutorial_scaling_and_updates(cluster: &Cluster) {
    cluster.kubectl("scale sts web --replicas=4").ok();
    cluster.kubectl("rollout status statefulset/web --timeout=90s").ok();
    cluster.kubectl("patch sts web -p '{\"spec\":{\"replicas\":3}}'").ok();
    cluster.kubectl("wait pod/web-3 --for=delete --timeout=60s").ok();
    cluster
        .kubectl("patch statefulset web -p '{\"spec\":{\"updateStrategy\":{\"rollingUpdate\":{\"partition\":2}}}}'")
        .ok();
    let image = "[{\"op\": \"replace\", \"path\": \"/spec/template/spec/containers/0/image\", \"value\": \"registry.k8s.io/nginx-slim:0.24\"}]";
    cluster.kubectl(&format!("patch statefulset web --type=json -p '{image}'")).ok();
    cluster
        .kubectl("rollout status statefulset/web --timeout=90s")
        .says("partitioned roll out complete: 1 new pods have been updated");
    let images = "{.items[*].spec.containers[0].image}";
    let of = |versions: [&str; 3]| versions.map(|v| format!("registry.k8s.io/nginx-slim:{v}")).join(" ");
    assert_eq!(cluster.value("pods -l app=nginx", images), of(["0.7", "0.7", "0.24"]));
    cluster
        .kubectl("patch statefulset web -p '{\"spec\":{\"updateStrategy\":{\"rollingUpdate\":{\"partition\":0}}}}'")
        .ok();
    cluster.kubectl("rollout status statefulset/web --timeout=90s").ok();
    assert_eq!(cluster.value("pods -l app=nginx", images), of(["0.24", "0.24", "0.24"]));
}

#[test]
fn the_stateful_service_of_the_book_runs_unchanged() {
    let Some(folder) = folder("k8spatterns-stateful-service") else { return };
    let cluster = Cluster::up("book");
    images::load(&cluster, &images::random_generator("k8spatterns/random-generator:1.0"));
    for file in ["pvs.yml", "service.yml", "statefulset.yml", "service-nodeport.yml"] {
        cluster.kubectl(&format!("apply -f {}", folder.join(file).display())).ok();
    }
    cluster.kubectl("rollout status statefulset/rg --timeout=90s").ok();
    // The claims took the volumes that were there rather than new ones (smallest fit, class by name).
    let volumes = cluster.value("pvc", "{.items[*].spec.volumeName}");
    assert!(volumes.split(' ').count() == 2 && volumes.split(' ').all(|name| name.starts_with("log-")), "{volumes}");
    let port = cluster.value("service random-generator-np", "{.spec.ports[0].nodePort}");
    cluster.sh(&format!("curl -s --fail http://127.0.0.1:{port}/")).says("\"id\":\"rg-");
    let full = "rg-1.random-generator.default.svc.cluster.local";
    cluster.kubectl(&format!("exec rg-0 -- /stead demo get http://{full}:8080/")).says("\"id\":\"rg-1\"");
    cluster.kubectl("exec rg-1 -- /stead demo cat /opt/logs/random.log").says(",rg-1,");
    let address = cluster.value("pod rg-0", "{.status.podIP}");
    cluster.kubectl("exec rg-1 -- /stead demo lookup rg-0.random-generator").says(&address);
    cluster
        .kubectl("exec rg-1 -- /stead demo lookup _http._tcp.random-generator.default.svc.cluster.local. SRV")
        .says(full);
    cluster.sh("rm -rf /tmp/example").ok();
}
