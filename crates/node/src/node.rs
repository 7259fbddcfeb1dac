//! The node itself: its object, its heartbeats, its lease, and what it does when the lease is lost.
//!
//! Guarantees: registers when the object is missing, so a deleted node comes back; renews the lease every 10 s (F-01); writes the
//! status when it differs and every 5 minutes; with `fence_after`, stops the pods that must be unique once the lease has not
//! been renewed for that long (AtMostOne under partitions).
//! Upstream: pkg/kubelet/nodestatus and component-helpers/apimachinery/lease.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};
use stead_api::Object;
use stead_api::request::{PatchType, Resource, Verb};
use stead_store::Snapshot;

use crate::agent::NodeAgent;
use crate::config::NodeConfig;
use crate::event::{Note, time};
use crate::exchange::Pending;

const LEASE_SECONDS: i64 = 40;
const STATUS_EVERY: SignedDuration = SignedDuration::from_secs(300);
/// A status that somebody else wrote over is put right at most this often.
const REPAIR_EVERY: SignedDuration = SignedDuration::from_secs(10);
const LEASES: &str = "leases.coordination.k8s.io";
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Written by a node about itself: where it makes and deletes provisioned volumes.
const VOLUMES_DIRECTORY: &str = "stead.local/volumes-directory";

impl NodeAgent {
    pub(crate) fn node_duties(&mut self, now: Timestamp, snapshot: &Snapshot) {
        let object = snapshot.find("nodes", "", &self.config.name).cloned();
        self.renew_lease(now, snapshot, object.as_deref());
        self.keep_node(now, object.as_deref());
        self.fence(now);
    }

    fn keep_node(&mut self, now: Timestamp, object: Option<&Object>) {
        if self.node.is_node_under_way || self.node.node_retry_at.is_some_and(|at| now < at) {
            return;
        }
        // What failed may have been done all the same; then there is nothing to wait for.
        self.node.node_retry_at = None;
        let resource = |name: &str, subresource: &str| Resource {
            version: "v1".into(),
            plural: "nodes".into(),
            name: name.into(),
            subresource: subresource.into(),
            ..Resource::default()
        };
        let name = self.config.name.clone();
        let Some(object) = object else {
            self.node.is_node_under_way = true;
            self.node.status_at = Some(now + STATUS_EVERY);
            let body = node_object(&self.config, self.disk.is_under_pressure(), now);
            return self.request(Pending::Node, Verb::Create, resource("", ""), body);
        };
        if !std::mem::replace(&mut self.node.has_started, true) {
            self.tell_of_node(&Note::normal("Starting", "Starting kubelet."), now);
        }
        self.tell_reboot(now, object);
        let is_due = self.node.status_at.is_none_or(|at| at <= now);
        if !is_due && self.node.checked == Some(object.revision()) {
            return;
        }
        let node = object.view::<Node>();
        if let Some(patch) = meta_patch(&self.config, object) {
            self.node.is_node_under_way = true;
            return self.request(Pending::Node, Verb::Patch(PatchType::Merge), resource(&name, ""), patch);
        }
        let wanted = node_status(&self.config, self.disk.is_under_pressure(), &node, now);
        if !is_due && is_same(&wanted, &node) {
            self.node.checked = Some(object.revision());
            return;
        }
        if let Some(at) = self.node.status_sent.map(|at| at + REPAIR_EVERY).filter(|at| !is_due && now < *at) {
            self.node.status_at = Some(self.node.status_at.map_or(at, |due| due.min(at)));
            return;
        }
        self.node.is_node_under_way = true;
        self.node.status_sent = Some(now);
        self.node.status_at = Some(now + STATUS_EVERY);
        let body = status_patch(wanted, &node);
        self.request(Pending::NodeStatus, Verb::Patch(PatchType::Strategic), resource(&name, "status"), body);
    }

    /// The object still has the boot before.
    fn tell_reboot(&mut self, now: Timestamp, object: &Object) {
        let node = object.view::<Node>();
        let known = node.status.as_ref().and_then(|s| s.node_info.as_ref()).map(|info| info.boot_id.as_str());
        let boot_id = &self.config.machine.boot_id;
        if known.is_none_or(|known| known.is_empty() || known == boot_id) || self.node.has_told_reboot {
            return;
        }
        self.node.has_told_reboot = true;
        let name = &self.config.name;
        let text = format!("Node {name} has been rebooted, boot id: {boot_id}");
        self.tell_of_node(&Note::warning("Rebooted", text), now);
    }

    fn renew_lease(&mut self, now: Timestamp, snapshot: &Snapshot, node: Option<&Object>) {
        let is_due = self.node.lease_at.is_none_or(|at| at <= now);
        // The lease belongs to the node: it is made when the node has a uid, and the head will tell when.
        if node.is_none() {
            self.node.lease_at = None;
        }
        let Some(node) = node.filter(|_| is_due && !self.node.is_lease_under_way) else { return };
        self.node.is_lease_under_way = true;
        let renew = now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let name = self.config.name.clone();
        let mut resource = Resource {
            group: "coordination.k8s.io".into(),
            version: "v1".into(),
            plural: "leases".into(),
            namespace: LEASE_NAMESPACE.into(),
            ..Resource::default()
        };
        let pending = Pending::Lease { renewed_at: now };
        let spec = json!({"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": renew});
        if snapshot.find(LEASES, LEASE_NAMESPACE, &name).is_some() {
            resource.name = name;
            return self.request(pending, Verb::Patch(PatchType::Merge), resource, json!({"spec": spec}));
        }
        let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": name, "uid": node.meta.uid}]);
        let body = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name, "namespace": LEASE_NAMESPACE, "ownerReferences": owner}, "spec": spec});
        self.request(pending, Verb::Create, resource, body);
    }

    /// Holds the pods that must be unique down while the lease is lost.
    fn fence(&mut self, now: Timestamp) {
        let Some(after) = self.config.fence_after else { return };
        let is_lost = self.node.renewed_at.is_some_and(|at| now >= at + after);
        self.node.is_lost = is_lost;
        for (uid, state) in &mut self.pods {
            let owner = state.object.as_ref().and_then(|o| o.meta.controller());
            let is_fenced = is_lost && owner.is_some_and(|o| o.kind == "StatefulSet");
            if state.is_fenced != is_fenced {
                state.is_fenced = is_fenced;
                if !is_fenced {
                    state.ending_since = None;
                }
                self.dirty.insert(uid.clone());
            }
        }
    }
}

fn labels(config: &NodeConfig) -> BTreeMap<String, String> {
    let arch = config.machine.architecture.as_str();
    let mut labels = config.labels.clone();
    for (key, value) in [
        ("kubernetes.io/hostname", config.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch),
    ] {
        labels.insert(key.into(), value.into());
    }
    labels
}

fn node_object(config: &NodeConfig, is_disk_short: bool, now: Timestamp) -> Value {
    let mut spec = json!({});
    if !config.pod_cidr.is_empty() {
        spec = json!({"podCIDR": config.pod_cidr, "podCIDRs": [config.pod_cidr]});
    }
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": config.name, "labels": labels(config),
            "annotations": {VOLUMES_DIRECTORY: config.volumes_dir}},
        "spec": spec,
        "status": node_status(config, is_disk_short, &Node::default(), now),
    })
}

/// What of labels and annotations is missing on the node's object.
fn meta_patch(config: &NodeConfig, object: &Object) -> Option<Value> {
    let missing: BTreeMap<_, _> =
        labels(config).into_iter().filter(|(k, v)| object.meta.labels.get(k) != Some(v)).collect();
    let directory = config.volumes_dir.to_string_lossy();
    let has_directory = object.meta.annotation(VOLUMES_DIRECTORY) == Some(&*directory);
    if missing.is_empty() && has_directory {
        return None;
    }
    Some(json!({"metadata": {"labels": missing, "annotations": {VOLUMES_DIRECTORY: directory}}}))
}

fn node_status(config: &NodeConfig, is_disk_short: bool, node: &Node, now: Timestamp) -> Value {
    let machine = &config.machine;
    let mut resources: BTreeMap<&str, String> = ["cpu", "memory", "ephemeral-storage", "pods"]
        .into_iter()
        .filter_map(|name| Some((name, config.allocatable(name)?.to_string())))
        .collect();
    resources.extend(advertised(node));
    json!({
        "capacity": resources,
        "allocatable": resources,
        "conditions": conditions(is_disk_short, node, now),
        "addresses": [
            {"type": "InternalIP", "address": config.node_ip},
            {"type": "Hostname", "address": config.name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": config.port}},
        "nodeInfo": {
            "machineID": machine.machine_id,
            "systemUUID": machine.machine_id,
            "bootID": machine.boot_id,
            "kernelVersion": machine.kernel_version,
            "osImage": machine.os_image,
            "containerRuntimeVersion": machine.runtime_version,
            "kubeletVersion": config.version,
            "kubeProxyVersion": config.version,
            "operatingSystem": "linux",
            "architecture": machine.architecture,
        },
    })
}

/// Extended resources that somebody has said this node has: what there is of them can be given to pods.
fn advertised(node: &Node) -> impl Iterator<Item = (&str, String)> {
    let capacity = node.status.as_ref().and_then(|s| s.capacity.as_ref());
    let extended = capacity.into_iter().flatten().filter(|(name, _)| name.contains('/'));
    extended.map(|(name, amount)| (name.as_str(), amount.0.clone()))
}

/// The patch that makes the stored status what is wanted: what can no longer be given to pods is taken away by name.
fn status_patch(mut wanted: Value, node: &Node) -> Value {
    let stored = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
    if let Some(allocatable) = wanted["allocatable"].as_object_mut() {
        for name in stored.into_iter().flat_map(BTreeMap::keys) {
            allocatable.entry(name.as_str()).or_insert(Value::Null);
        }
    }
    json!({"status": wanted})
}

fn conditions(is_disk_short: bool, node: &Node, now: Timestamp) -> Vec<Value> {
    let disk = if is_disk_short {
        ("True", "KubeletHasDiskPressure", "kubelet has disk pressure")
    } else {
        ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure")
    };
    let memory = ("False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available");
    let pids = ("False", "KubeletHasSufficientPID", "kubelet has sufficient PID available");
    let ready = ("True", "KubeletReady", "kubelet is posting ready status");
    let all = [("MemoryPressure", memory), ("DiskPressure", disk), ("PIDPressure", pids), ("Ready", ready)];
    let old = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    all.into_iter()
        .map(|(name, (status, reason, message))| {
            let before = old.into_iter().flatten().find(|c| c.type_ == name && c.status == status);
            let since = before.and_then(|c| c.last_transition_time.as_ref()).map_or(now, |t| t.0);
            json!({"type": name, "status": status, "reason": reason, "message": message,
                "lastHeartbeatTime": time(now), "lastTransitionTime": time(since)})
        })
        .collect()
}

/// Whether the stored status says the same, heartbeat times aside.
fn is_same(wanted: &Value, node: &Node) -> bool {
    let stored = serde_json::to_value(&node.status).unwrap_or_default();
    let pick = |status: &Value| -> Vec<(String, String)> {
        let text = |c: &Value, field: &str| c[field].as_str().unwrap_or_default().to_owned();
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let mut all: Vec<_> = conditions.map(|c| (text(c, "type"), text(c, "status"))).collect();
        all.sort();
        all
    };
    let ours = pick(wanted);
    let theirs = pick(&stored);
    ours.iter().all(|c| theirs.contains(c))
        && ["capacity", "allocatable", "addresses", "nodeInfo", "daemonEndpoints"]
            .iter()
            .all(|f| wanted[*f] == stored[*f])
}
