//! `stead try`: from nothing to the README's example, with every step shown.

use std::io::{BufRead, BufReader};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use stead_api::document::parse_yaml_all;

use crate::args::Args;
use crate::{client, lifecycle};

/// The example: a headless Service and a StatefulSet of three that counts on its volumes.
const MANIFEST: &str = include_str!("../../../examples/counter/counter.yaml");
/// How long the pods may take.
const WATCH_SECONDS: u64 = 120;

pub fn run(args: &Args) -> Result<()> {
    let running = lifecycle::up(args)?;
    let begun = Instant::now();
    for object in parse_yaml_all(MANIFEST).map_err(|error| anyhow::anyhow!("{error}"))? {
        apply(args, &object)?;
    }
    follow(args, begun)?;
    println!(
        "\nAll three are ready: each has a name, a volume and an address of its own. Try next:\n\
         \n  kubectl get statefulset,pod,pvc\
         \n  kubectl exec counter-0 -- /stead demo get http://counter-1.counter:8080/\
         \n  kubectl delete pod counter-1        # comes back as counter-1, and its count goes on\
         \n  kubectl scale statefulset counter --replicas=1   # the highest goes first, volumes stay\
         \n  kubectl get pods --watch\
         \n\nThe context is {}; `stead down` stops the cluster and keeps its data, `stead delete` forgets it.",
        running.context
    );
    Ok(())
}

/// Server-side apply, as `kubectl apply --server-side` does.
fn apply(args: &Args, object: &Value) -> Result<()> {
    let (kind, name) =
        (object["kind"].as_str().unwrap_or_default(), object["metadata"]["name"].as_str().unwrap_or_default());
    let collection = match (object["apiVersion"].as_str(), kind) {
        (Some("v1"), "Service") => "/api/v1/namespaces/default/services",
        (Some("apps/v1"), "StatefulSet") => "/apis/apps/v1/namespaces/default/statefulsets",
        _ => bail!("the example holds a {kind}, which this command does not bring up"),
    };
    let path = format!("{collection}/{name}?fieldManager=stead&force=true");
    let (code, answer) =
        client::request(&args.data_dir, "PATCH", &path, "application/apply-patch+yaml", &object.to_string())?;
    if code >= 300 {
        bail!("{kind} {name}: {}", answer["message"].as_str().unwrap_or("refused"));
    }
    println!("{:>8} {kind}/{name}", if code == 201 { "created" } else { "present" });
    Ok(())
}

/// Prints every step of the pods until all are ready.
fn follow(args: &Args, begun: Instant) -> Result<()> {
    let path = format!(
        "/api/v1/namespaces/default/pods?watch=true&labelSelector=app%3Dcounter&timeoutSeconds={WATCH_SECONDS}"
    );
    let answer = client::open(&args.data_dir, "GET", &path, "", "")?;
    let (mut ready, mut said) = (std::collections::BTreeSet::new(), std::collections::BTreeMap::new());
    for line in BufReader::new(answer.body).lines() {
        let event: Value = serde_json::from_str(&line.context("read the watch")?).context("read the watch")?;
        let pod = &event["object"];
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let step = step(pod);
        if said.insert(name.clone(), step.clone()).as_ref() != Some(&step) {
            println!("{:>5} ms {name} {step}", begun.elapsed().as_millis());
        }
        if step == "ready" {
            ready.insert(name);
        }
        if ready.len() == 3 {
            return Ok(());
        }
    }
    bail!("the pods were not ready within {WATCH_SECONDS} s; `kubectl describe pods` tells why")
}

fn step(pod: &Value) -> String {
    let conditions = || pod["status"]["conditions"].as_array().into_iter().flatten();
    if conditions().any(|c| c["type"] == "Ready" && c["status"] == "True") {
        return "ready".into();
    }
    let waiting = pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str();
    let bound = pod["spec"]["nodeName"].as_str();
    match (waiting, bound) {
        (Some(reason), _) => reason.into(),
        (None, Some(node)) if pod["status"]["phase"] == "Pending" => format!("bound to {node}"),
        (None, None) => "created".into(),
        (None, Some(_)) => pod["status"]["phase"].as_str().unwrap_or("Pending").to_lowercase(),
    }
}
