//! StatefulSets: up, rolling update and down, OrderedReady and Parallel, with a fake kubelet.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::client::Target;
use crate::crud::{make_namespace, remove_namespace};
use crate::form::Events;
use crate::kubelet::{Kubelet, NODE};
use crate::plan::Plan;
use crate::stats::report;

const NAMESPACE: &str = "stead-bench-sets";
const DEADLINE: Duration = Duration::from_secs(300);

pub async fn run(target: &Target, plan: &Plan) -> Result<()> {
    make_namespace(target, NAMESPACE).await?;
    let kubelet = Kubelet::start(target).await?;
    for policy in ["OrderedReady", "Parallel"] {
        one(target, plan.pods, policy).await?;
    }
    drop(kubelet);
    remove_namespace(target, NAMESPACE).await?;
    target.connect().await?.delete(&format!("/api/v1/nodes/{NODE}"), &json!({})).await
}

async fn one(target: &Target, pods: usize, policy: &str) -> Result<()> {
    let name = policy.to_lowercase();
    let sets = format!("/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets");
    let path = format!("{sets}/{name}");
    let mut connection = target.connect().await?;
    let timed = |what: &str, begun: Instant| {
        report(&format!("{policy} {what} (pods)"), pods, begun.elapsed(), &mut []);
    };

    let begun = Instant::now();
    connection.post(&sets, &set(&name, pods, policy)).await?;
    wait(target, &name, |status| status["readyReplicas"] == pods).await?;
    timed("up", begun);

    let begun = Instant::now();
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {"round": "2"}}}}});
    connection.merge_patch(&path, &patch).await?;
    wait(target, &name, |status| {
        status["updatedReplicas"] == pods
            && status["readyReplicas"] == pods
            && status["observedGeneration"] == 2
            && status["currentRevision"] == status["updateRevision"]
    })
    .await?;
    timed("rolling update", begun);

    let begun = Instant::now();
    connection.merge_patch(&path, &json!({"spec": {"replicas": 0}})).await?;
    wait(target, &name, |status| status["replicas"].as_u64().unwrap_or(0) == 0 && status["observedGeneration"] == 3)
        .await?;
    timed("down", begun);
    connection.delete(&path, &json!({})).await
}

fn set(name: &str, pods: usize, policy: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": {"serviceName": name,
        "replicas": pods, "podManagementPolicy": policy, "selector": {"matchLabels": {"app": name}}, "template": {
        "metadata": {"labels": {"app": name}}, "spec": {"nodeSelector": {"kubernetes.io/hostname": NODE},
        "terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": "none"}]}}}})
}

/// Watches the set until its status is as wanted.
async fn wait(target: &Target, name: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
    let path =
        format!("/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets?watch=true&fieldSelector=metadata.name%3D{name}");
    let mut connection = target.connect().await?;
    let mut body = connection.open(Method::GET, &path, "", Default::default()).await?;
    let watch = async {
        let (mut events, mut is_done) = (Events::of(target.format, 1), false);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            events.feed(&data, |event| {
                is_done = is_done || wanted(&event["object"]["status"]);
                Ok(())
            })?;
            if is_done {
                return Ok(());
            }
        }
        bail!("the watch of {name} ended")
    };
    match tokio::time::timeout(DEADLINE, watch).await {
        Ok(outcome) => outcome,
        Err(_) => bail!("{name} was not as wanted within {} s", DEADLINE.as_secs()),
    }
}
