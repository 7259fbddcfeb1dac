//! Create, get, patch and list of ConfigMaps of about one kilobyte in a namespace of their own.

use std::time::Instant;

use anyhow::Result;
use http::Method;
use serde_json::json;

use crate::Plan;
use crate::client::Target;
use crate::stats::{measure, report};

const NAMESPACE: &str = "stead-bench";
/// With the rest of the object about one kilobyte.
const DATA_BYTES: usize = 700;
const LISTS: usize = 20;

pub async fn run(target: &Target, plan: &Plan) -> Result<()> {
    let mut connection = target.connect().await?;
    make_namespace(target, NAMESPACE).await?;
    let collection = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    let data = "x".repeat(DATA_BYTES);

    let path = collection.clone();
    measure(&format!("create ({} in flight)", plan.workers), target, plan.workers, plan.objects, move |mut c, n| {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("cm-{n}"),
            "labels": {"app": "bench", "part": (n % 10).to_string()}}, "data": {"text": data}});
        let path = path.clone();
        async move {
            c.call(Method::POST, &path, "application/json", object.to_string()).await?;
            Ok(c)
        }
    })
    .await?;

    let path = collection.clone();
    measure(&format!("get ({} in flight)", plan.workers), target, plan.workers, plan.objects, move |mut c, n| {
        let path = format!("{path}/cm-{n}");
        async move {
            c.call(Method::GET, &path, "", "").await?;
            Ok(c)
        }
    })
    .await?;

    let path = collection.clone();
    measure(&format!("patch ({} in flight)", plan.workers), target, plan.workers, plan.objects, move |mut c, n| {
        let path = format!("{path}/cm-{n}");
        async move {
            c.merge_patch(&path, &json!({"data": {"n": n.to_string()}})).await?;
            Ok(c)
        }
    })
    .await?;

    let (begun, mut bytes, mut took) = (Instant::now(), 0, Vec::new());
    for _ in 0..LISTS {
        let started = Instant::now();
        bytes += connection.call(Method::GET, &collection, "", "").await?.len();
        took.push(started.elapsed());
    }
    report(&format!("list of {} (lists)", plan.objects), LISTS, begun.elapsed(), &mut took);
    println!("{:<34} {:>12.0}", "list (MB)", bytes as f64 / 1e6 / begun.elapsed().as_secs_f64());

    remove_namespace(target, NAMESPACE).await
}

/// Makes a namespace with its default service account.
pub async fn make_namespace(target: &Target, name: &str) -> Result<()> {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    target.connect().await?.post("/api/v1/namespaces", &object).await?;
    let path = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
    let deadline = Instant::now() + std::time::Duration::from_secs(30);
    while target.connect().await?.get(&path).await.is_err() {
        anyhow::ensure!(Instant::now() < deadline, "namespace {name} got no service account");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Deletes a namespace and waits until it is gone.
pub async fn remove_namespace(target: &Target, name: &str) -> Result<()> {
    let path = format!("/api/v1/namespaces/{name}");
    target.connect().await?.delete(&path, &json!({})).await?;
    let deadline = Instant::now() + std::time::Duration::from_secs(300);
    while target.connect().await?.get(&path).await.is_ok() {
        anyhow::ensure!(Instant::now() < deadline, "namespace {name} was not deleted in time");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    Ok(())
}
