//! What people apply: workloads with random wishes, as JSON.

use serde_json::{Value, json};

use crate::chance::Chance;

/// The names of StatefulSets, of Deployments and of images.
pub const SETS: &[&str] = &["a", "b"];
pub const DEPLOYMENTS: &[&str] = &["d"];
pub const IMAGES: &[&str] = &["i:1", "i:2", "i:3"];

fn pod_spec(chance: &mut Chance, mounts_data: bool) -> Value {
    let mut main = json!({"name": "main", "image": *chance.pick(IMAGES).unwrap_or(&"i:1")});
    if chance.percent(40) {
        main["readinessProbe"] = json!({"exec": {"command": ["ready"]}, "periodSeconds": 1 + chance.below(3)});
    }
    if chance.percent(20) {
        main["lifecycle"] = json!({"preStop": {"exec": {"command": ["drain"]}}});
    }
    if mounts_data {
        main["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    }
    let mut spec = json!({"containers": [main], "terminationGracePeriodSeconds": 1 + chance.below(20)});
    if chance.percent(25) {
        spec["initContainers"] = json!([{"name": "init", "image": "i:1"}]);
    }
    if chance.percent(30) {
        // Shorter than five minutes, so that a history sees pods leave a lost node.
        let toleration =
            |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 10});
        spec["tolerations"] =
            json!([toleration("node.kubernetes.io/unreachable"), toleration("node.kubernetes.io/not-ready")]);
    }
    spec
}

fn retention(chance: &mut Chance) -> Value {
    let mut policy = || if chance.percent(50) { "Delete" } else { "Retain" };
    json!({"whenDeleted": policy(), "whenScaled": policy()})
}

fn strategy(chance: &mut Chance) -> Value {
    if chance.percent(15) {
        return json!({"type": "OnDelete"});
    }
    let mut rolling = json!({});
    if chance.percent(30) {
        rolling["partition"] = json!(chance.below(3));
    }
    if chance.percent(30) {
        rolling["maxUnavailable"] = json!(1 + chance.below(2));
    }
    json!({"type": "RollingUpdate", "rollingUpdate": rolling})
}

pub fn stateful_set(name: &str, chance: &mut Chance) -> Value {
    // Always the same for a name: a pod that an earlier set left behind must not ask for claims that its new set does not make.
    let has_claims = name == SETS[0];
    let labels = json!({"app": name});
    let mut spec = json!({"serviceName": name, "replicas": chance.below(5),
        "podManagementPolicy": if chance.percent(65) { "OrderedReady" } else { "Parallel" },
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod_spec(chance, has_claims)},
        "updateStrategy": strategy(chance)});
    if has_claims {
        spec["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
        spec["persistentVolumeClaimRetentionPolicy"] = retention(chance);
    }
    if chance.percent(15) {
        spec["ordinals"] = json!({"start": 1 + chance.below(3)});
    }
    if chance.percent(15) {
        spec["minReadySeconds"] = json!(1 + chance.below(4));
    }
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

pub fn deployment(name: &str, chance: &mut Chance) -> Value {
    let labels = json!({"app": name});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": chance.below(4), "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec(chance, false)}}})
}

pub fn service(name: &str, app: &str, is_headless: bool) -> Value {
    let mut spec = json!({"selector": {"app": app}, "ports": [{"name": "http", "port": 80}]});
    if is_headless {
        spec["clusterIP"] = json!("None");
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

pub fn budget(name: &str, least: u64) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name, "namespace": "default"},
        "spec": {"minAvailable": least, "selector": {"matchLabels": {"app": name}}}})
}

pub fn config(name: &str, value: u64) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"},
        "data": {"value": value.to_string()}})
}

/// A change of a set's wishes, as a merge patch.
pub fn change(chance: &mut Chance) -> Value {
    match chance.below(9) {
        0..3 => json!({"spec": {"replicas": chance.below(5)}}),
        3..6 => {
            let image = *chance.pick(IMAGES).unwrap_or(&"i:1");
            json!({"spec": {"template": {"metadata": {"annotations": {"image": image}}}}})
        }
        6 => json!({"spec": {"updateStrategy": strategy(chance)}}),
        7 => json!({"spec": {"persistentVolumeClaimRetentionPolicy": retention(chance)}}),
        _ => json!({"spec": {"minReadySeconds": chance.below(3)}}),
    }
}
