//! `stead-bench`: measures any Kubernetes API server through its kubeconfig, so that two servers can be compared with one program.
//!
//! Start at `main`; each suite is a file: `crud.rs` (create, get, patch, list), `contract.rs` (server-side apply, custom resources),
//! `fanout.rs` (watch), `sets.rs` (StatefulSets with a fake kubelet of our own), `dns.rs` (the cluster's DNS, by dnsperf),
//! `process.rs` (start-up, idle memory and CPU).

mod client;
mod contract;
mod crud;
mod dns;
mod fanout;
mod form;
mod kubelet;
mod plan;
mod process;
mod scan;
mod sets;
mod stats;

use anyhow::{Context, Result, bail};

use client::Target;
use plan::Plan;
use stead_api::Format;

const HELP: &str = "\
usage: stead-bench --kubeconfig FILE [FLAGS] SUITE…
suites: crud watch sets apply custom dns idle startup all (crud watch sets)
  --context NAME    the context to use (default: the current one)
  --objects N       objects made by crud, apply and custom (default 20000)
  --calls N         gets and patches made by crud (default: as many as objects)
  --keep            leave crud's objects there
  --workers N       requests in flight (default 64)
  --watchers N      watchers of watch (default 100)
  --changes N       objects made while they watch (default 10000)
  --protobuf        send and ask for protobuf, as Go's controllers do (default: JSON)
  --http2 N         speak HTTP/2, N workers or watchers to a connection (default: HTTP/1.1, a connection for each)
  --pods N          replicas of sets (default 100)
  --pid N           process of idle, and whose memory crud tells: repeat for servers of several processes
  --seconds N       how long idle looks, and each run of dns lasts (default 20)
  --via CMD         what runs dnsperf for dns (`nsenter --net=FILE`: from a pod's network)
  --start CMD       command of startup: returns when the API answers; measured with --stop CMD between runs
  --stop CMD
";

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(&std::env::args().skip(1).collect::<Vec<_>>()))
}

async fn run(args: &[String]) -> Result<()> {
    let mut plan = Plan {
        objects: 20_000,
        calls: None,
        keep: false,
        workers: 64,
        watchers: 100,
        changes: 10_000,
        pods: 100,
        pids: Vec::new(),
        seconds: 20,
        via: None,
        start: None,
        stop: None,
    };
    let (mut kubeconfig, mut context, mut shared_by, mut suites) = (None, None, None, Vec::new());
    let mut format = Format::Json;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--kubeconfig" => kubeconfig = Some(value()?.clone()),
            "--context" => context = Some(value()?.clone()),
            "--objects" => plan.objects = value()?.parse()?,
            "--calls" => plan.calls = Some(value()?.parse()?),
            "--keep" => plan.keep = true,
            "--protobuf" => format = Format::Protobuf,
            "--http2" => shared_by = Some(value()?.parse()?),
            "--changes" => plan.changes = value()?.parse()?,
            "--workers" => plan.workers = value()?.parse()?,
            "--watchers" => plan.watchers = value()?.parse()?,
            "--pods" => plan.pods = value()?.parse()?,
            "--pid" => plan.pids.push(value()?.parse()?),
            "--seconds" => plan.seconds = value()?.parse()?,
            "--via" => plan.via = Some(value()?.clone()),
            "--start" => plan.start = Some(value()?.clone()),
            "--stop" => plan.stop = Some(value()?.clone()),
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(());
            }
            flag if flag.starts_with("--") => bail!("there is no flag {flag}\n{HELP}"),
            suite => suites.push(suite.to_owned()),
        }
    }
    if suites.is_empty() {
        bail!("name a suite\n{HELP}");
    }
    let target = || -> Result<Target> {
        Target::load(kubeconfig.as_deref().context("--kubeconfig is needed")?, context.as_deref(), shared_by, format)
    };
    println!("{:<34} {:>12} {:>10} {:>10}", "measured", "per second", "p50 ms", "p99 ms");
    for suite in &suites {
        match suite.as_str() {
            "crud" => crud::run(&target()?, &plan).await?,
            "watch" => fanout::run(&target()?, &plan).await?,
            "apply" => contract::apply(&target()?, &plan).await?,
            "custom" => contract::custom(&target()?, &plan).await?,
            "sets" => sets::run(&target()?, &plan).await?,
            "dns" => dns::run(&target()?, &plan).await?,
            "idle" => process::idle(&plan).await?,
            "startup" => process::startup(&plan).await?,
            "all" => {
                crud::run(&target()?, &plan).await?;
                fanout::run(&target()?, &plan).await?;
                sets::run(&target()?, &plan).await?;
            }
            other => bail!("there is no suite {other}\n{HELP}"),
        }
    }
    Ok(())
}
