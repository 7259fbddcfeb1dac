//! A fake kubelet: a node whose pods run at once and end at once, so that controllers are what is measured.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::client::{Connection, Target};
use crate::form::Events;

pub const NODE: &str = "stead-bench-node";
/// Connections over which statuses are written.
const WRITERS: usize = 8;

/// Registers the node and answers for its pods until dropped.
pub struct Kubelet(Vec<JoinHandle<()>>);

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Kubelet {
    pub async fn start(target: &Target) -> Result<Kubelet> {
        register(target).await?;
        let mut tasks = Vec::new();
        let mut senders = Vec::new();
        for _ in 0..WRITERS {
            let (sender, mut inbox) = tokio::sync::mpsc::unbounded_channel::<Value>();
            let mut connection = target.connect().await?;
            senders.push(sender);
            tasks.push(tokio::spawn(async move {
                while let Some(pod) = inbox.recv().await {
                    // A pod that changed meanwhile comes again by the watch.
                    let _ = answer(&mut connection, &pod).await;
                }
            }));
        }
        let mut connection = target.connect().await?;
        let path = format!("/api/v1/pods?watch=true&fieldSelector=spec.nodeName%3D{NODE}");
        let mut body = connection.open(Method::GET, &path, "", Default::default()).await?;
        tasks.push(tokio::spawn(async move {
            let (mut events, mut next, mut done) = (Events::of(connection.format, 1), 0, BTreeSet::new());
            let _held = connection;
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(data) = frame.into_data() else { continue };
                let fed = events.feed(&data, |mut event| {
                    let pod = event["object"].take();
                    if event["type"] != "DELETED" && concerns(&pod, &mut done) {
                        let _ = senders[next % WRITERS].send(pod);
                        next += 1;
                    }
                    Ok(())
                });
                if fed.is_err() {
                    return;
                }
            }
        }));
        Ok(Kubelet(tasks))
    }
}

/// Whether something is to be done for this pod, once for each thing.
fn concerns(pod: &Value, done: &mut BTreeSet<(String, bool)>) -> bool {
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let is_deleting = pod["metadata"]["deletionTimestamp"].is_string();
    (is_deleting || pod["status"]["phase"] == "Pending") && done.insert((uid, is_deleting))
}

async fn answer(connection: &mut Connection, pod: &Value) -> Result<()> {
    let meta = &pod["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let path = format!("/api/v1/namespaces/{}/pods/{}", text(&meta["namespace"]), text(&meta["name"]));
    if meta["deletionTimestamp"].is_string() {
        let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}});
        return connection.delete(&path, &options).await;
    }
    let now = jiff::Timestamp::now().round(jiff::Unit::Second)?.to_string();
    let condition = |name: &str| json!({"type": name, "status": "True", "lastTransitionTime": now});
    let containers: Vec<Value> = pod["spec"]["containers"]
        .as_array()
        .context("a pod without containers")?
        .iter()
        .map(|c| {
            json!({"name": c["name"], "image": c["image"], "imageID": "", "ready": true, "restartCount": 0, "started": true,
                "state": {"running": {"startedAt": now}}})
        })
        .collect();
    let status = json!({"status": {"phase": "Running", "podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}], "startTime": now,
        "hostIP": "10.0.0.1", "conditions": [condition("PodScheduled"), condition("Initialized"), condition("ContainersReady"),
        condition("Ready")], "containerStatuses": containers}});
    connection.merge_patch(&format!("{path}/status"), &status).await.map(drop)
}

async fn register(target: &Target) -> Result<()> {
    let mut connection = target.connect().await?;
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}}});
    let _ = connection.delete(&format!("/api/v1/nodes/{NODE}"), &json!({})).await;
    let mut connection = target.connect().await?;
    connection.post("/api/v1/nodes", &node).await?;
    let now = jiff::Timestamp::now().round(jiff::Unit::Second)?.to_string();
    let resources = json!({"cpu": "1000", "memory": "4000Gi", "pods": "100000", "ephemeral-storage": "4000Gi"});
    let status = json!({"status": {"capacity": resources, "allocatable": resources, "conditions": [{"type": "Ready",
        "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now, "lastTransitionTime": now}]}});
    connection.merge_patch(&format!("/api/v1/nodes/{NODE}/status"), &status).await?;
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NODE, "namespace":
        "kube-node-lease"}, "spec": {"holderIdentity": NODE, "leaseDurationSeconds": 3600,
        "renewTime": format!("{:.6}", jiff::Timestamp::now())}});
    let _ = connection
        .delete(&format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{NODE}"), &json!({}))
        .await;
    let mut connection = target.connect().await?;
    connection.post("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", &lease).await?;
    // The taint of a new node goes once its condition has been seen.
    connection.merge_patch(&format!("/api/v1/nodes/{NODE}"), &json!({"spec": {"taints": null}})).await.map(drop)
}
