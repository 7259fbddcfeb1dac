//! Create, get, patch and list of ConfigMaps of about one kilobyte in a namespace of their own.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use http::Method;
use http_body_util::BodyExt;
use serde_json::json;

use crate::client::{Connection, Target};
use crate::form::item_mark;
use crate::plan::Plan;
use crate::process::memory;
use crate::scan::Words;
use crate::stats::{measure, report};

const NAMESPACE: &str = "stead-bench";
/// With the rest of the object about one kilobyte.
const DATA_BYTES: usize = 700;
/// How much the lists return together, about.
const LIST_BYTES: usize = 1 << 30;
const LISTS_MAX: usize = 5_000;
/// Gets and patches go through the objects in strides, so that neighbours in time are none in the store.
const STRIDE: usize = 7_919;

pub async fn run(target: &Target, plan: &Plan) -> Result<()> {
    memory(plan, "before")?;
    make_namespace(target, NAMESPACE).await?;
    let collection = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    let data = "x".repeat(DATA_BYTES);
    let (workers, objects) = (plan.workers, plan.objects);
    let calls = plan.calls.unwrap_or(objects);

    let path = collection.clone();
    let name = format!("create ({workers} in flight)");
    let last = measure(&name, target, workers, objects, move |mut c, n| {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("cm-{n}"),
            "labels": {"app": "bench", "part": (n % 10).to_string()}}, "data": {"text": data}});
        let path = path.clone();
        async move {
            c.create(&path, &object).await?;
            Ok(c)
        }
    })
    .await?;
    println!("{:<34} {last:>12.0}", "create, the last tenth");
    memory(plan, "after creates")?;

    let path = collection.clone();
    measure(&format!("get ({workers} in flight)"), target, workers, calls, move |mut c, n| {
        let path = format!("{path}/cm-{}", n * STRIDE % objects);
        async move {
            c.call(Method::GET, &path, "", "").await?;
            Ok(c)
        }
    })
    .await?;

    let path = collection.clone();
    measure(&format!("patch ({workers} in flight)"), target, workers, calls, move |mut c, n| {
        let path = format!("{path}/cm-{}", n * STRIDE % objects);
        async move {
            c.merge_patch(&path, &json!({"data": {"n": n.to_string()}})).await?;
            Ok(c)
        }
    })
    .await?;
    memory(plan, "after patches")?;

    lists(&mut target.connect().await?, &collection, objects).await?;
    memory(plan, "after lists")?;
    match plan.keep {
        true => Ok(()),
        false => remove_namespace(target, NAMESPACE).await,
    }
}

/// Lists everything, one list after the other. Items are counted as they come and not decoded.
async fn lists(connection: &mut Connection, collection: &str, objects: usize) -> Result<()> {
    let (mut bytes, mut took) = (0, Vec::new());
    let begun = Instant::now();
    while (bytes < LIST_BYTES && took.len() < LISTS_MAX) || took.len() < 3 {
        let started = Instant::now();
        let mut body = connection.open(Method::GET, collection, "", Default::default()).await?;
        let mut items = Words::of(item_mark(connection.format));
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            bytes += data.len();
            items.feed(&data);
        }
        took.push(started.elapsed());
        // The root certificate's ConfigMap may be among them.
        ensure!((objects..=objects + 1).contains(&items.seen), "a list of {} items, not {objects}", items.seen);
    }
    let elapsed = begun.elapsed();
    report(&format!("list of {objects} (lists)"), took.len(), elapsed, &mut took);
    println!("{:<34} {:>12.0}", "list (MB)", bytes as f64 / 1e6 / elapsed.as_secs_f64());
    Ok(())
}

/// Makes a namespace and waits for what a cluster puts into every one.
pub async fn make_namespace(target: &Target, name: &str) -> Result<()> {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    target.connect().await?.post("/api/v1/namespaces", &object).await?;
    let path = format!("/api/v1/namespaces/{name}");
    appears(target, &format!("{path}/serviceaccounts/default"), Duration::from_secs(30)).await?;
    // Not every server has it.
    let _ = appears(target, &format!("{path}/configmaps/kube-root-ca.crt"), Duration::from_secs(1)).await;
    Ok(())
}

/// Waits for a path that answers.
pub async fn appears(target: &Target, path: &str, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    while target.connect().await?.get(path).await.is_err() {
        ensure!(Instant::now() < deadline, "{path} did not appear");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Deletes a namespace and waits until it is gone.
pub async fn remove_namespace(target: &Target, name: &str) -> Result<()> {
    let path = format!("/api/v1/namespaces/{name}");
    target.connect().await?.delete(&path, &json!({})).await?;
    let deadline = Instant::now() + Duration::from_secs(600);
    while target.connect().await?.get(&path).await.is_ok() {
        ensure!(Instant::now() < deadline, "namespace {name} was not deleted in time");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
