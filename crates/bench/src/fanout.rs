//! Watch fan-out: many watchers of one namespace, and how fast a burst of changes reaches all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json;

use crate::client::{Connection, Target};
use crate::crud::{make_namespace, remove_namespace};
use crate::form::Events;
use crate::plan::Plan;
use crate::scan::SAMPLE_EVERY;
use crate::stats::report;

const NAMESPACE: &str = "stead-bench-watch";
const TEXT_BYTES: usize = 200;

pub async fn run(target: &Target, plan: &Plan) -> Result<()> {
    make_namespace(target, NAMESPACE).await?;
    let collection = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    let list = target.connect().await?.get(&collection).await?;
    let revision = list["metadata"]["resourceVersion"].as_str().context("the list has no revision")?.to_owned();
    let path = format!("{collection}?watch=true&resourceVersion={revision}");
    let begun = Instant::now();
    let mut watchers = Vec::new();
    for mut connection in target.connections(plan.watchers).await? {
        let body = connection.open(Method::GET, &path, "", Default::default()).await?;
        let (changes, format) = (plan.changes, target.format);
        watchers.push(tokio::spawn(async move {
            let _held = connection;
            follow(body, Events::of(format, SAMPLE_EVERY), changes, begun).await
        }));
    }
    let written = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (target.connections(plan.workers).await?.into_iter())
        .map(|connection| tokio::spawn(write(connection, collection.clone(), Arc::clone(&next), plan.changes, begun)))
        .collect();
    for writer in writers {
        writer.await??;
    }
    let (mut delays, mut bytes) = (Vec::new(), 0);
    for watcher in watchers {
        let seen = watcher.await??;
        delays.extend(seen.delays);
        bytes += seen.bytes;
    }
    let elapsed = written.elapsed();
    let deliveries = plan.changes * plan.watchers;
    report(&format!("watch deliveries ({} watchers)", plan.watchers), deliveries, elapsed, &mut delays);
    println!("{:<34} {:>12.0}", "watch (MB)", bytes as f64 / 1e6 / elapsed.as_secs_f64());
    remove_namespace(target, NAMESPACE).await
}

async fn write(
    mut connection: Connection,
    collection: String,
    next: Arc<AtomicUsize>,
    changes: usize,
    begun: Instant,
) -> Result<()> {
    let text = "x".repeat(TEXT_BYTES);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= changes {
            return Ok(());
        }
        let sent = begun.elapsed().as_nanos().to_string();
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("w-{number}")},
            "data": {"text": text, "sent": sent}});
        connection.create(&collection, &object).await?;
    }
}

struct Seen {
    bytes: usize,
    /// From before a change was sent until its event was here, of the sampled events.
    delays: Vec<Duration>,
}

/// Reads events until all have come; every so many one is decoded and compared with what was written.
async fn follow(mut body: Incoming, mut events: Events, changes: usize, begun: Instant) -> Result<Seen> {
    let mut seen = Seen { bytes: 0, delays: Vec::new() };
    while events.seen() < changes {
        let Some(frame) = body.frame().await else {
            anyhow::bail!("a watch ended after {} of {changes} events", events.seen())
        };
        let Ok(data) = frame?.into_data() else { continue };
        seen.bytes += data.len();
        events.feed(&data, |event| {
            let data = &event["object"]["data"];
            ensure!(event["type"] == "ADDED", "an event that nobody caused: {event}");
            ensure!(
                data["text"].as_str().is_some_and(|text| text.len() == TEXT_BYTES),
                "not what was written: {event}"
            );
            let sent =
                data["sent"].as_str().and_then(|nanos| nanos.parse().ok()).context("an event without its time")?;
            seen.delays.push(begun.elapsed().saturating_sub(Duration::from_nanos(sent)));
            Ok(())
        })?;
    }
    Ok(seen)
}
