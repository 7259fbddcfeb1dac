//! A cluster in a few lines of text, and a plan as text, for the tests of controllers.
//!
//! One object a line: `pod web-0 owner=web ready {"spec": …}`: a kind, a name, words that stand for common fields, and JSON that is
//! merged in. Comments begin with `#`.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde_json::{Value, json};
use stead_api::{Key, KindName, Object};
use stead_apiserver::Cluster;
use stead_kinds::Registry;
use stead_store::Store;

use crate::facts;
use crate::names::*;
use crate::plan::{Action, Note, Plan, View};

pub const NOW: i64 = 1_000_000;

pub struct World {
    pub store: Store,
    pub registry: Registry,
    pub cluster: Cluster,
    pub now: Timestamp,
}

pub fn cluster() -> Cluster {
    Cluster {
        service_cidr: (Ipv4Addr::new(10, 96, 0, 0), 16),
        node_ports: 30000..=32767,
        domain: "cluster.local".into(),
        ca_pem: "CA".into(),
    }
}

impl World {
    pub fn of(text: &str) -> World {
        let now = Timestamp::from_second(NOW).expect("a time");
        let mut world = World { store: Store::default(), registry: Registry::with([]), cluster: cluster(), now };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (words, extra) = match line.find('{') {
                Some(at) => (&line[..at], serde_json::from_str(&line[at..]).unwrap_or_else(|e| panic!("{line}: {e}"))),
                None => (line, Value::Null),
            };
            let words: Vec<&str> = words.split_whitespace().collect();
            let mut value = world.object(words[0], words[1], &words[2..]);
            merge(&mut value, &extra);
            world.put(kind_of(words[0]).0, value);
        }
        world
    }

    pub fn put(&mut self, kind: KindName, mut value: Value) {
        value["metadata"]["resourceVersion"] = json!(self.store.next_revision().to_string());
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let key = Key::new(kind, &text(&value["metadata"]["namespace"]), &text(&value["metadata"]["name"]));
        let object = Object::of_value(key, &value, &self.registry.fields(kind)).expect("a fixture is an object");
        self.store.put(object);
    }

    pub fn view(&self) -> View<'_> {
        View {
            snapshot: self.store.snapshot(),
            registry: &self.registry,
            cluster: &self.cluster,
            now: self.now,
            started: Timestamp::UNIX_EPOCH,
            memory: None,
            measured: None,
        }
    }

    fn object(&self, keyword: &str, name: &str, words: &[&str]) -> Value {
        let (_, api_version, kind, namespaced) = kind_of(keyword);
        let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
        let mut value = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name,
            "uid": format!("{keyword}-{name}"), "creationTimestamp": "1970-01-01T00:00:00Z"}});
        if namespaced {
            value["metadata"]["namespace"] = json!(namespace);
        }
        defaults(&mut value, keyword, name);
        for word in words {
            let (key, text) = word.split_once('=').unwrap_or((word, ""));
            self.word(&mut value, key, text);
        }
        value
    }

    fn word(&self, value: &mut Value, key: &str, text: &str) {
        let ago = |text: &str| facts::time(facts::after(self.now, -text.parse::<i64>().expect("seconds")));
        let condition = |kind: &str, status: &str, since: Value| json!({"type": kind, "status": status, "lastTransitionTime": since});
        match key {
            "deleting" => value["metadata"]["deletionTimestamp"] = facts::time(self.now),
            "uid" => value["metadata"]["uid"] = json!(text),
            "generation" => value["metadata"]["generation"] = json!(text.parse::<i64>().expect("a number")),
            "finalizer" => push(&mut value["metadata"]["finalizers"], json!(text)),
            "label" => {
                let (k, v) = text.split_once(':').expect("label=key:value");
                value["metadata"]["labels"][k] = json!(v);
            }
            "annotation" => {
                let (k, v) = text.split_once(':').expect("annotation=key:value");
                value["metadata"]["annotations"][k] = json!(v);
            }
            "created" => value["metadata"]["creationTimestamp"] = ago(text),
            "owner" => {
                let (keyword, name) = text.split_once(':').unwrap_or(("sts", text));
                let (_, api_version, kind, _) = kind_of(keyword);
                let owner = json!({"apiVersion": api_version, "kind": kind, "name": name,
                    "uid": format!("{keyword}-{name}"), "controller": true, "blockOwnerDeletion": true});
                push(&mut value["metadata"]["ownerReferences"], owner);
                if keyword == "job" {
                    value["metadata"]["labels"]["job-name"] = json!(name);
                }
            }
            "ready" | "running" => {
                value["status"]["phase"] = json!("Running");
                let since = ago(if text.is_empty() { "1000" } else { text });
                let status = if key == "ready" { "True" } else { "False" };
                value["status"]["conditions"] = json!([condition("Ready", status, since)]);
            }
            "phase" => value["status"]["phase"] = json!(text),
            "node" => value["spec"]["nodeName"] = json!(text),
            "ip" => value["status"]["podIP"] = json!(text),
            other => panic!("no such word: {other}"),
        }
    }
}

fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(list) => list.push(item),
        None => *list = json!([item]),
    }
}

/// Merge patch: null removes a field.
pub fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (_, Value::Null) => {}
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                if value.is_null() {
                    into.shift_remove(key);
                    continue;
                }
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn kind_of(keyword: &str) -> (KindName, &'static str, &'static str, bool) {
    match keyword {
        "pod" => (POD, "v1", "Pod", true),
        "node" => (NODE, "v1", "Node", false),
        "ns" => (NAMESPACE, "v1", "Namespace", false),
        "svc" => (SERVICE, "v1", "Service", true),
        "ip" => (IP_ADDRESS, "networking.k8s.io/v1", "IPAddress", false),
        "vap" => (VALIDATING_POLICY, "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", false),
        "ep" => (ENDPOINTS, "v1", "Endpoints", true),
        "cm" => (CONFIG_MAP, "v1", "ConfigMap", true),
        "sa" => (SERVICE_ACCOUNT, "v1", "ServiceAccount", true),
        "event" => (EVENT, "v1", "Event", true),
        "pvc" => (CLAIM, "v1", "PersistentVolumeClaim", true),
        "pv" => (VOLUME, "v1", "PersistentVolume", false),
        "slice" => (ENDPOINT_SLICE, "discovery.k8s.io/v1", "EndpointSlice", true),
        "sts" => (STATEFUL_SET, "apps/v1", "StatefulSet", true),
        "rev" => (CONTROLLER_REVISION, "apps/v1", "ControllerRevision", true),
        "deploy" => (DEPLOYMENT, "apps/v1", "Deployment", true),
        "rs" => (REPLICA_SET, "apps/v1", "ReplicaSet", true),
        "sc" => (STORAGE_CLASS, "storage.k8s.io/v1", "StorageClass", false),
        "quota" => (QUOTA, "v1", "ResourceQuota", true),
        "rc" => (REPLICATION_CONTROLLER, "v1", "ReplicationController", true),
        "ds" => (DAEMON_SET, "apps/v1", "DaemonSet", true),
        "job" => (JOB, "batch/v1", "Job", true),
        "cron" => (CRON_JOB, "batch/v1", "CronJob", true),
        "hpa" => (AUTOSCALER, "autoscaling/v2", "HorizontalPodAutoscaler", true),
        "lease" => (LEASE, "coordination.k8s.io/v1", "Lease", true),
        "pdb" => (DISRUPTION_BUDGET, "policy/v1", "PodDisruptionBudget", true),
        "crd" => (CUSTOM_RESOURCE, "apiextensions.k8s.io/v1", "CustomResourceDefinition", false),
        "csr" => (CERTIFICATE_REQUEST, "certificates.k8s.io/v1", "CertificateSigningRequest", false),
        "secret" => (SECRET, "v1", "Secret", true),
        "rolebinding" => {
            let kind = "clusterrolebindings.rbac.authorization.k8s.io";
            (kind, "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", false)
        }
        "role" => (CLUSTER_ROLE, "rbac.authorization.k8s.io/v1", "ClusterRole", false),
        other => panic!("no such kind: {other}"),
    }
}

/// What the API server's defaults would add, as far as controllers look at it.
fn defaults(value: &mut Value, keyword: &str, name: &str) {
    let more = match keyword {
        "pod" => json!({"metadata": {"labels": {"app": name.rsplit_once('-').map_or(name, |(set, _)| set)}},
            "spec": {"containers": [{"name": "main", "image": "x"}]}, "status": {"phase": "Pending"}}),
        "sts" | "deploy" | "rs" => json!({"metadata": {"generation": 1}, "spec": {"replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "x"}]}}}, "status": {"replicas": 0}}),
        "ds" => json!({"metadata": {"generation": 1}, "spec": {"selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "x"}]}}}}),
        "rc" => json!({"metadata": {"generation": 1}, "spec": {"replicas": 1, "selector": {"app": name},
            "template": {"metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "x"}]}}}, "status": {"replicas": 0}}),
        "job" => json!({"metadata": {"generation": 1}, "spec": {"parallelism": 1, "completions": 1, "backoffLimit": 6,
            "completionMode": "NonIndexed", "suspend": false, "podReplacementPolicy": "TerminatingOrFailed",
            "selector": {"matchLabels": {"job-name": name}}, "template": {"metadata": {"labels": {"job-name": name}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "x"}]}}}}),
        "cron" => json!({"spec": {"concurrencyPolicy": "Allow", "suspend": false, "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 1, "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never",
                "containers": [{"name": "main", "image": "x"}]}}}}}}),
        "node" => json!({"metadata": {"labels": {"kubernetes.io/hostname": name}}, "spec": {},
            "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
                "conditions": [{"type": "Ready", "status": "True"}]}}),
        "pvc" => json!({"spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": "1Gi"}}}, "status": {"phase": "Pending"}}),
        "pv" => json!({"spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem",
            "capacity": {"storage": "1Gi"}, "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": format!("/data/{name}")}}, "status": {"phase": "Available"}}),
        "sc" => {
            json!({"provisioner": DIRECTORY_PROVISIONER, "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"})
        }
        "svc" => {
            json!({"spec": {"type": "ClusterIP", "clusterIP": "10.96.0.5", "selector": {"app": name}, "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]}})
        }
        "ns" => json!({"metadata": {"labels": {"kubernetes.io/metadata.name": name}},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}),
        "lease" => json!({"spec": {}}),
        _ => Value::Null,
    };
    merge(value, &more);
}

/// The plan, a line for each action and event.
pub fn show(world: &World, plan: &Plan) -> String {
    let mut out = String::new();
    for action in &plan.actions {
        let _ = writeln!(out, "{}", line(world, action));
    }
    for note in &plan.events {
        let _ = writeln!(out, "{}", show_note(note));
    }
    if let Some(at) = plan.wake_at {
        let _ = writeln!(out, "wake in {} s", at.duration_since(world.now).as_secs());
    }
    if plan.retry {
        let _ = writeln!(out, "retry");
    }
    out
}

pub fn show_note(note: &Note) -> String {
    format!("event {} {} {}: {}", note.about, note.r#type.name(), note.reason, note.message)
}

fn name(value: &Value) -> String {
    let metadata = &value["metadata"];
    let text = metadata["name"].as_str().or(metadata["generateName"].as_str()).unwrap_or_default();
    format!("{} {text}", value["kind"].as_str().unwrap_or_default())
}

/// What differs from the stored object, or the whole of a new one but its head.
fn line(world: &World, action: &Action) -> String {
    let changed = |kind: &KindName, value: &Value| {
        let namespace = value["metadata"]["namespace"].as_str().unwrap_or_default();
        let old = world.store.snapshot().find(kind, namespace, value["metadata"]["name"].as_str().unwrap_or_default());
        old.map_or(Value::Null, |old| diff(&old.value(), value))
    };
    match action {
        Action::Create { value, .. } => format!("create {}", name(value)),
        Action::Update { kind, value, .. } => format!("update {} {}", name(value), changed(kind, value)),
        Action::UpdateStatus { kind, value } => {
            format!("status {} {}", name(value), changed(kind, value)["status"])
        }
        Action::UpdateSubresource { kind, subresource, value, .. } => {
            format!("{subresource} {} {}", name(value), changed(kind, value))
        }
        Action::Make { kind, subresource, value, work } => {
            let place = if subresource.is_empty() { "object" } else { subresource };
            format!("make {work} for {place} of {} {}", name(value), changed(kind, value))
        }
        Action::Delete { key, grace_seconds, propagation, .. } => {
            let grace = grace_seconds.map_or(String::new(), |s| format!(" grace={s}"));
            let how = match propagation {
                stead_api::request::Propagation::Background => "",
                stead_api::request::Propagation::Foreground => " foreground",
                stead_api::request::Propagation::Orphan => " orphan",
            };
            format!("delete {key}{grace}{how}")
        }
        Action::Bind { pod, node, .. } => format!("bind {pod} to {node}"),
    }
}

fn diff(old: &Value, new: &Value) -> Value {
    let (Some(before), Some(after)) = (old.as_object(), new.as_object()) else { return new.clone() };
    let mut out = serde_json::Map::new();
    for (key, value) in after {
        if before.get(key) != Some(value) {
            out.insert(key.clone(), diff(before.get(key).unwrap_or(&Value::Null), value));
        }
    }
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        out.insert(key.clone(), Value::Null);
    }
    Value::Object(out)
}
