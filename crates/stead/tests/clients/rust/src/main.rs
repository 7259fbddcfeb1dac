//! What programs written with kube-rs do, against the cluster of $KUBECONFIG: each module is one part of the library.

use std::time::Duration;

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};

mod controller;
mod election;
mod streams;
mod watching;

const NAMESPACE: &str = "rust";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let client = Client::try_default().await?;
    let namespace = serde_json::from_value(serde_json::json!({"metadata": {"name": NAMESPACE}}))?;
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    watching::objects_and_errors(client.clone()).await?;
    println!("objects and errors: passed");
    watching::both_modes(client.clone()).await?;
    println!("watchers and reflectors: passed");
    controller::reconciles(client.clone()).await?;
    println!("controllers: passed");
    election::one_leads(client.clone()).await?;
    println!("leader election: passed");
    streams::commands_and_ports(client).await?;
    println!("streams: passed");
    Ok(())
}

/// Asks until there is an answer.
async fn eventually<T, F: Future<Output = Result<Option<T>>>>(what: &str, mut ask: impl FnMut() -> F) -> Result<T> {
    for _ in 0..600 {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("not in time: {what}")
}

fn names<K: ResourceExt>(objects: impl IntoIterator<Item = K>) -> Vec<String> {
    let mut names: Vec<String> = objects.into_iter().map(|object| object.name_any()).collect();
    names.sort();
    names
}

/// The code and reason of an error that the server answered.
fn refusal<T>(answer: kube::Result<T>) -> (u16, String) {
    match answer {
        Err(kube::Error::Api(status)) => (status.code, status.reason.clone()),
        Err(other) => (0, other.to_string()),
        Ok(_) => (200, String::new()),
    }
}
