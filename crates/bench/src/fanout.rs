//! Watch fan-out: many watchers of one namespace, and how fast a burst of changes reaches all of them.

use std::time::Instant;

use anyhow::Result;
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json;

use crate::Plan;
use crate::client::Target;
use crate::crud::{make_namespace, remove_namespace};
use crate::stats::report;

const NAMESPACE: &str = "stead-bench-watch";
const CHANGES: usize = 2_000;
const WRITERS: usize = 16;

pub async fn run(target: &Target, plan: &Plan) -> Result<()> {
    make_namespace(target, NAMESPACE).await?;
    let collection = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    let revision = target.connect().await?.get(&collection).await?["metadata"]["resourceVersion"].clone();
    let path = format!("{collection}?watch=true&resourceVersion={}&labelSelector=", revision.as_str().unwrap_or("0"));
    let mut watchers = Vec::new();
    for _ in 0..plan.watchers {
        let mut connection = target.connect().await?;
        let body =
            connection.open(Method::GET, path.trim_end_matches("&labelSelector="), "", Default::default()).await?;
        watchers.push(tokio::spawn(async move {
            let _held = connection;
            count(body).await
        }));
    }
    let begun = Instant::now();
    let writers: Vec<_> = (0..WRITERS).map(|w| tokio::spawn(write(target.clone(), collection.clone(), w))).collect();
    for writer in writers {
        writer.await??;
    }
    let mut took = Vec::new();
    for watcher in watchers {
        watcher.await??;
        took.push(begun.elapsed());
    }
    let deliveries = CHANGES * plan.watchers;
    report(&format!("watch deliveries ({} watchers)", plan.watchers), deliveries, begun.elapsed(), &mut []);
    remove_namespace(target, NAMESPACE).await
}

async fn write(target: Target, collection: String, writer: usize) -> Result<()> {
    let mut connection = target.connect().await?;
    for n in 0..CHANGES / WRITERS {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("w{writer}-{n}")},
            "data": {"text": "x".repeat(200)}});
        connection.post(&collection, &object).await?;
    }
    Ok(())
}

/// Counts events of our objects until all have come.
async fn count(mut body: Incoming) -> Result<()> {
    let (mut seen, mut line) = (0, Vec::new());
    while seen < CHANGES {
        let Some(frame) = body.frame().await else { anyhow::bail!("a watch ended after {seen} of {CHANGES} events") };
        let Ok(data) = frame?.into_data() else { continue };
        for byte in data {
            match byte {
                b'\n' => {
                    // The root certificate's ConfigMap is no change of ours.
                    seen += usize::from(line.starts_with(b"{\"type\":\"ADDED\"") && !contains(&line, b"kube-root-ca"));
                    line.clear();
                }
                byte if line.len() < 4096 => line.push(byte),
                _ => {}
            }
        }
    }
    Ok(())
}

fn contains(line: &[u8], word: &[u8]) -> bool {
    line.windows(word.len()).any(|w| w == word)
}
