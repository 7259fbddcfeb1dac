//! What people apply: workloads with random wishes, as JSON.

use serde_json::{Value, json};

use crate::chance::Chance;

/// The names of StatefulSets with how many claims each of their pods has. Always the same for a name: a pod that an earlier set left
/// behind must not ask for claims that its new set does not make.
const CLAIMS: &[(&str, usize)] = &[("a", 1), ("b", 0), ("c", 2), ("d", 0)];
pub const SETS: &[&str] = &["a", "b", "c", "d"];
pub const DEPLOYMENTS: &[&str] = &["e", "f"];
pub const REPLICA_SETS: &[&str] = &["r"];
pub const IMAGES: &[&str] = &["i:1", "i:2", "i:3"];
pub const NAMESPACES: &[&str] = &["default", "team"];

/// A custom kind, by the name of its definition, under which its objects are stored.
pub const DATABASES: &str = "databases.example.com";
/// A finalizer that people put on things and take away again.
pub const HOLD: &str = "example.com/hold";

fn pod_spec(chance: &mut Chance, claims: usize) -> Value {
    let mut main = json!({"name": "main", "image": *chance.pick(IMAGES).unwrap_or(&"i:1")});
    if chance.percent(40) {
        main["readinessProbe"] = json!({"exec": {"command": ["ready"]}, "periodSeconds": 1 + chance.below(3)});
    }
    if chance.percent(20) {
        main["lifecycle"] = json!({"preStop": {"exec": {"command": ["drain"]}}});
    }
    if claims > 0 {
        main["volumeMounts"] =
            (0..claims).map(|n| json!({"name": claim(n), "mountPath": format!("/{}", claim(n))})).collect();
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
        let share = ["34%", "50%", "100%"][chance.below(3) as usize];
        rolling["maxUnavailable"] = if chance.percent(30) { json!(share) } else { json!(1 + chance.below(3)) };
    }
    json!({"type": "RollingUpdate", "rollingUpdate": rolling})
}

fn claim(number: usize) -> &'static str {
    ["data", "wal"][number]
}

pub fn stateful_set(name: &str, chance: &mut Chance) -> Value {
    let claims = CLAIMS.iter().find(|(set, _)| *set == name).map_or(0, |(_, claims)| *claims);
    let labels = json!({"app": name});
    let mut spec = json!({"serviceName": name, "replicas": chance.below(5),
        "podManagementPolicy": if chance.percent(65) { "OrderedReady" } else { "Parallel" },
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod_spec(chance, claims)},
        "updateStrategy": strategy(chance)});
    if claims > 0 {
        let template = |n| {
            json!({"metadata": {"name": claim(n)},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
        };
        spec["volumeClaimTemplates"] = (0..claims).map(template).collect();
        spec["persistentVolumeClaimRetentionPolicy"] = retention(chance);
    }
    if chance.percent(15) {
        spec["ordinals"] = json!({"start": 1 + chance.below(3)});
    }
    if chance.percent(15) {
        spec["minReadySeconds"] = json!(1 + chance.below(4));
    }
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": spec})
}

pub fn deployment(name: &str, chance: &mut Chance) -> Value {
    let labels = json!({"app": name});
    let mut spec = json!({"replicas": chance.below(4), "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod_spec(chance, 0)}});
    if chance.percent(30) {
        spec["strategy"] = json!({"type": "Recreate"});
    }
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec})
}

pub fn replica_set(name: &str, chance: &mut Chance) -> Value {
    let labels = json!({"app": name});
    json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name},
        "spec": {"replicas": chance.below(4), "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec(chance, 0)}}})
}

pub fn service(name: &str, app: &str, is_headless: bool) -> Value {
    let mut spec = json!({"selector": {"app": app}, "ports": [{"name": "http", "port": 80}]});
    if is_headless {
        spec["clusterIP"] = json!("None");
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

pub fn budget(name: &str, chance: &mut Chance) -> Value {
    let number = json!(chance.below(3));
    let (field, limit) = match chance.below(6) {
        0..3 => ("minAvailable", number),
        3 => ("minAvailable", json!("50%")),
        4 => ("maxUnavailable", json!("34%")),
        _ => ("maxUnavailable", number),
    };
    json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name},
        "spec": {field: limit, "selector": {"matchLabels": {"app": name}}}})
}

pub fn config(name: &str, value: u64) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
        "data": {"value": value.to_string()}})
}

/// The definition of the custom kind.
pub fn databases() -> Value {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": DATABASES},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "databases", "singular": "database", "kind": "Database", "listKind": "DatabaseList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
}

pub fn database(name: &str, size: u64) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Database", "metadata": {"name": name}, "spec": {"size": size}})
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
