//! Commands, a port and logs of a pod.

use anyhow::{Context, Result, ensure};
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, AttachParams, LogParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{NAMESPACE, refusal};

pub async fn commands_and_ports(client: Client) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client, NAMESPACE);
    let says = "i=0; while true; do echo line $i; i=$((i+1)); sleep 0.1; done";
    let answers = "while true; do nc -l -p 7000 -e sh -c 'read a; echo $a | tr a-z A-Z'; done";
    let container =
        |name: &str, command: &str| json!({"name": name, "image": "test/busybox:1", "command": ["sh", "-c", command]});
    let pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"terminationGracePeriodSeconds": 0,
        "containers": [container("says", says), container("answers", answers)]}}))?;
    pods.create(&PostParams::default(), &pod).await?;
    await_condition(pods.clone(), "p", conditions::is_pod_running()).await?;
    commands(&pods).await?;
    port(&pods).await?;
    let lines = pods
        .log_stream("p", &LogParams { container: Some("says".into()), follow: true, ..LogParams::default() })
        .await?
        .lines();
    let first: Vec<String> = futures::StreamExt::take(lines, 5).try_collect().await?;
    ensure!(first == (0..5).map(|number| format!("line {number}")).collect::<Vec<_>>(), "{first:?}");
    ensure!(refusal(pods.logs("p", &LogParams::default()).await) == (400, "BadRequest".into()), "which container?");
    Ok(())
}

async fn commands(pods: &Api<Pod>) -> Result<()> {
    let streams = AttachParams::default().container("says").stdin(true);
    let mut process = pods.exec("p", ["sh", "-c", "read a; echo got $a; echo bad >&2; exit 3"], &streams).await?;
    let (mut input, mut output, mut errors) = (
        process.stdin().context("an input")?,
        process.stdout().context("an output")?,
        process.stderr().context("an output for errors")?,
    );
    let status = process.take_status().context("a status")?;
    input.write_all(b"food\n").await?;
    let (mut said, mut bad) = (String::new(), String::new());
    output.read_to_string(&mut said).await?;
    errors.read_to_string(&mut bad).await?;
    ensure!((said.as_str(), bad.as_str()) == ("got food\n", "bad\n"), "{said:?} {bad:?}");
    let status = status.await.context("the status comes")?;
    let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
    let has_code = causes.iter().any(|cause| cause.message.as_deref() == Some("3"));
    ensure!(status.reason.as_deref() == Some("NonZeroExitCode") && has_code, "{causes:?}");
    process.join().await?;
    ensure!(pods.exec("p", ["true"], &AttachParams::default().container("absent")).await.is_err(), "no such container");
    Ok(())
}

async fn port(pods: &Api<Pod>) -> Result<()> {
    let mut forwarder = pods.portforward("p", &[7000]).await?;
    let mut stream = forwarder.take_stream(7000).context("a stream")?;
    stream.write_all(b"hello\n").await?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await?;
    ensure!(said == "HELLO\n", "{said:?}");
    drop(stream);
    forwarder.abort();
    Ok(())
}
