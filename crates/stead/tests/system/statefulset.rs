//! The StatefulSet's API as kubectl and controllers see it, on nodes that only say that pods run.

use crate::cluster::{Cluster, Part, squeezed};

const SET: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web, annotations: {kubernetes.io/change-cause: first}}
spec:
  serviceName: web
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: 'stead.local/demo:1'}]}
";

const PARTS: &[Part] = &[
    ("generation and status", generation_and_status_s17_s18_st01_st09_st12),
    ("updates without a version", updates_without_a_version_s19),
    ("warnings", warnings_s20_b40),
    ("scale", scale_st11),
    ("tables", tables_st13),
    ("revisions", revisions_cr02_cr03_cr04_cr06),
    ("history and undo", history_and_undo_b22_cr07_k10_k11_k12_k13_k14),
    ("phased rollout", phased_rollout_b21),
    ("evicted pods", evicted_pods_b14),
    ("orphans", orphans_b24_b28),
];

#[test]
fn the_api_of_stateful_sets() {
    let cluster = Cluster::new("sets");
    cluster.start("--nodes 0 --fake-nodes 2").says("stead is up: ");
    cluster.apply(SET);
    rolled_out(&cluster);
    cluster.tells(PARTS);
}

fn rolled_out(cluster: &Cluster) {
    cluster.kubectl("rollout status statefulset/web --timeout=60s").ok();
}

/// Deletes a pod and waits for the next one of its name. kubectl's own waiting asks for the pod and then for a list: a pod that
/// comes back between the two, as on a node that has nothing to stop, is to it the old one, and it waits for ever.
fn replace(cluster: &Cluster, pod: &str) {
    let old = cluster.value(&format!("pod {pod}"), "{.metadata.uid}");
    cluster.kubectl(&format!("delete pod {pod} --wait=false")).ok();
    let uid = format!("kubectl get pod {pod} --ignore-not-found -o jsonpath='{{.metadata.uid}}'");
    cluster
        .sh(&format!(
            "for i in $(seq 600); do new=$({uid}); [ -n \"$new\" ] && [ \"$new\" != {old} ] && exit 0; done; exit 1"
        ))
        .ok();
}

fn set(cluster: &Cluster, path: &str) -> String {
    cluster.value("statefulset web", path)
}

fn generation_and_status_s17_s18_st01_st09_st12(cluster: &Cluster) {
    let generation: u32 = set(cluster, "{.metadata.generation}").parse().expect("a number");
    cluster.kubectl("annotate statefulset web note=x").ok();
    assert_eq!(set(cluster, "{.metadata.generation}"), generation.to_string(), "S-17");
    // S-18: what belongs to the other half is dropped.
    cluster.kubectl("patch statefulset web --type=merge -p '{\"status\":{\"replicas\":9}}'").ok();
    assert_eq!(set(cluster, "{.status.replicas}"), "2");
    let patch =
        r#"{"spec":{"replicas":9},"status":{"conditions":[{"type":"StatusUpdate","status":"True","reason":"E2E"}]}}"#;
    cluster.kubectl(&format!("patch statefulset web --subresource=status --type=merge -p '{patch}'")).ok();
    assert_eq!(set(cluster, "{.spec.replicas} {.status.conditions[0].reason}"), "2 E2E");
    // S-17, ST-01: a change of the spec counts, and the controller says which it has seen.
    cluster.kubectl("patch statefulset web --type=merge -p '{\"spec\":{\"minReadySeconds\":1}}'").ok();
    let next = (generation + 1).to_string();
    assert_eq!(set(cluster, "{.metadata.generation}"), next);
    cluster.wait("statefulset/web", &format!("jsonpath={{.status.observedGeneration}}={next}"));
    cluster.kubectl("patch statefulset web --type=merge -p '{\"spec\":{\"minReadySeconds\":0}}'").ok();
    rolled_out(cluster);
}

fn updates_without_a_version_s19(cluster: &Cluster) {
    let strip = "kubectl get statefulset web -o yaml | sed '/^  resourceVersion:/d;/^  uid:/d'";
    cluster.sh(&format!("{strip} | kubectl replace -f -")).says("statefulset.apps/web replaced");
    let missing = cluster.sh(&format!("{strip} | sed 's/^  name: web/  name: gone/' | kubectl replace -f -"));
    assert!(missing.fails().contains("\"gone\" not found"), "PUT never creates");
}

fn warnings_s20_b40(cluster: &Cluster) {
    let bad = SET.replace("name: web,", "name: odd,").replace("serviceName: web", "revisionHistoryLimit: -1");
    let answer = cluster.feed("kubectl create -f - --dry-run=server", &bad);
    assert!(answer.err.contains("Warning: spec.revisionHistoryLimit: a negative value retains all"), "{answer}");
    // B-40: unsafe, but a person may ask for it; the default is thirty seconds.
    assert_eq!(set(cluster, "{.spec.template.spec.terminationGracePeriodSeconds}"), "30");
}

fn scale_st11(cluster: &Cluster) {
    let path = "/apis/apps/v1/namespaces/default/statefulsets/web/scale";
    let scale = cluster.kubectl(&format!("get --raw {path}")).ok();
    for part in
        ["\"kind\":\"Scale\"", "\"apiVersion\":\"autoscaling/v1\"", "\"selector\":\"app=web\"", "\"replicas\":2"]
    {
        assert!(scale.contains(part), "{part} is missing in {scale}");
    }
    cluster
        .feed(&format!("kubectl replace --raw {path} -f -"), &scale.replace("\"replicas\":2", "\"replicas\":3"))
        .ok();
    assert_eq!(set(cluster, "{.spec.replicas}"), "3");
    cluster.kubectl("patch statefulset web --subresource=scale --type=merge -p '{\"spec\":{\"replicas\":1}}'").ok();
    assert_eq!(set(cluster, "{.spec.replicas}"), "1");
    let wrong = cluster.kubectl("scale statefulset web --replicas=5 --current-replicas=4").fails();
    assert!(wrong.contains("Expected replicas to be 4, was 1"), "K-15: {wrong}");
    cluster.kubectl("scale statefulset web --replicas=2 --current-replicas=1").says("statefulset.apps/web scaled");
    rolled_out(cluster);
}

fn tables_st13(cluster: &Cluster) {
    let table = squeezed(&cluster.kubectl("get sts -o wide").ok());
    let mut lines = table.lines();
    assert_eq!(lines.next().map(str::trim_end), Some("NAME READY AGE CONTAINERS IMAGES"));
    let row = lines.next().expect("a row");
    assert!(row.starts_with("web 2/2 ") && row.trim_end().ends_with(" main stead.local/demo:1"), "{row}");
    cluster.kubectl("get all").says("statefulset.apps/web 2/2");
}

fn revisions_cr02_cr03_cr04_cr06(cluster: &Cluster) {
    let name = set(cluster, "{.status.updateRevision}");
    let one = |path: &str| cluster.value(&format!("controllerrevision {name}"), path);
    cluster.kubectl(&format!("get controllerrevision {name} -o yaml")).says("$patch: replace");
    assert_eq!(one("{.metadata.annotations.kubernetes\\.io/change-cause}"), "first");
    assert_eq!(format!("web-{}", one("{.metadata.labels.controller\\.kubernetes\\.io/hash}")), name);
    let refused =
        cluster.kubectl(&format!("patch controllerrevision {name} --type=merge -p '{{\"data\":{{\"a\":1}}}}'"));
    assert!(refused.fails().contains("data: Invalid value:"), "CR-02: data does not change");
    cluster.apply(
        "apiVersion: apps/v1\nkind: ControllerRevision\nmetadata: {name: mine, labels: {of: test}}\nrevision: 1\ndata: {a: 1}",
    );
    cluster.kubectl("patch controllerrevision mine --type=merge -p '{\"revision\":3}'").says("patched");
    cluster.kubectl("get controllerrevisions -l of=test").says("mine <none> 3");
    cluster.kubectl("delete controllerrevisions -l of=test").says("\"mine\" deleted");
}

fn history_and_undo_b22_cr07_k10_k11_k12_k13_k14(cluster: &Cluster) {
    let nothing = cluster.kubectl("rollout undo statefulset/web").fails();
    assert!(nothing.contains("no last revision to roll back to"), "{nothing}");
    let first = set(cluster, "{.status.updateRevision}");
    cluster.kubectl("annotate --overwrite statefulset web kubernetes.io/change-cause=second").ok();
    cluster.kubectl("set env statefulset/web COLOUR=blue").ok();
    cluster
        .kubectl("rollout status statefulset/web --timeout=60s")
        .says("partitioned roll out complete: 2 new pods have been updated...");
    let second = set(cluster, "{.status.currentRevision}");
    assert_ne!(first, second);
    let history = cluster.kubectl("rollout history statefulset/web").ok();
    assert!(squeezed(&history).contains("REVISION CHANGE-CAUSE\n1 first\n2 second"), "{history}");
    cluster.kubectl("rollout history statefulset/web --revision=2").says("COLOUR:\tblue");
    cluster.kubectl("rollout undo statefulset/web --to-revision=1").says("statefulset.apps/web rolled back");
    rolled_out(cluster);
    assert_eq!(set(cluster, "{.status.currentRevision}"), first, "B-22: no new revision");
    assert_eq!(cluster.value(&format!("controllerrevision {first}"), "{.revision}"), "3");
    cluster.kubectl("rollout restart statefulset/web").says("statefulset.apps/web restarted");
    rolled_out(cluster);
    assert!(!set(cluster, "{.spec.template.metadata.annotations.kubectl\\.kubernetes\\.io/restartedAt}").is_empty());
    let paused = cluster.kubectl("rollout pause statefulset/web").fails();
    assert!(paused.contains("pausing is not supported"), "{paused}");
}

fn phased_rollout_b21(cluster: &Cluster) {
    let partition = |n: u32| {
        let patch = format!("{{\"spec\":{{\"updateStrategy\":{{\"rollingUpdate\":{{\"partition\":{n}}}}}}}}}");
        cluster.kubectl(&format!("patch statefulset web --type=merge -p '{patch}'")).ok();
    };
    let revisions = || cluster.value("pods -l app=web", "{.items[*].metadata.labels.controller-revision-hash}");
    let old = set(cluster, "{.status.currentRevision}");
    partition(1);
    cluster.kubectl("set env statefulset/web COLOUR=red").ok();
    rolled_out(cluster);
    let new = set(cluster, "{.status.updateRevision}");
    assert_eq!(revisions(), format!("{old} {new}"));
    replace(cluster, "web-0");
    cluster.wait("statefulset/web", "jsonpath={.status.readyReplicas}=2");
    assert_eq!(revisions(), format!("{old} {new}"), "below the partition a pod comes back as it was");
    partition(0);
    rolled_out(cluster);
    assert_eq!(revisions(), format!("{new} {new}"));
}

fn evicted_pods_b14(cluster: &Cluster) {
    let before = cluster.value("pod web-1", "{.metadata.uid}");
    cluster.kubectl("patch pod web-1 --subresource=status --type=merge -p '{\"status\":{\"phase\":\"Failed\",\"reason\":\"Evicted\"}}'").ok();
    cluster.kubectl("wait pod/web-1 --for=jsonpath='{.status.phase}'=Running --timeout=60s").ok();
    cluster.wait("statefulset/web", "jsonpath={.status.readyReplicas}=2");
    assert_ne!(cluster.value("pod web-1", "{.metadata.uid}"), before);
}

fn orphans_b24_b28(cluster: &Cluster) {
    let uids = || cluster.value("pods -l app=web", "{.items[*].metadata.uid}");
    let before = uids();
    cluster.kubectl("delete statefulset web --cascade=orphan").ok();
    assert_eq!(cluster.value("pod web-0", "{.metadata.ownerReferences}"), "");
    cluster.apply(SET);
    cluster.wait("statefulset/web", "jsonpath={.status.replicas}=2");
    assert_eq!(cluster.value("pod web-0", "{.metadata.ownerReferences[0].name}"), "web");
    assert_eq!(uids().split(' ').count(), before.split(' ').count());
    // A pod whose labels no longer fit is let go of, and another takes its place only when its name is free.
    cluster.kubectl("rollout status statefulset/web --timeout=60s").ok();
    cluster.kubectl("label pod web-1 --overwrite app=other").ok();
    cluster.kubectl("wait pod/web-1 --for=jsonpath='{.metadata.labels.app}'=other --timeout=60s").ok();
    cluster.sh("for i in $(seq 600); do [ -z \"$(kubectl get pod web-1 -o jsonpath='{.metadata.ownerReferences}')\" ] && exit 0; done; exit 1").ok();
    replace(cluster, "web-1");
    cluster.wait("statefulset/web", "jsonpath={.status.readyReplicas}=2");
}
