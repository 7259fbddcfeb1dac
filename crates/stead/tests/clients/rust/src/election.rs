//! Leader election over a Lease, as programs write it: optimistic replacement, whoever finds it expired takes it.

use std::time::Duration;

use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};

use crate::{NAMESPACE, eventually, refusal};

const SECONDS: i32 = 2;

/// Takes or renews the lease, and answers whether it is held.
async fn holds(leases: &Api<Lease>, name: &str, who: &str) -> Result<bool> {
    let now = Timestamp::now();
    let Some(mut lease) = leases.get_opt(name).await? else {
        let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
        let lease = Lease { metadata, spec: Some(spec(None, who, now)) };
        return decided(leases.create(&PostParams::default(), &lease).await);
    };
    let old = lease.spec.take().unwrap_or_default();
    let is_mine = old.holder_identity.as_deref() == Some(who);
    let end = old
        .renew_time
        .as_ref()
        .map(|at| at.0 + SignedDuration::from_secs(old.lease_duration_seconds.unwrap_or(0).into()));
    if !is_mine && end.is_some_and(|end| end > now) {
        return Ok(false);
    }
    lease.spec = Some(spec(Some(&old), who, now));
    decided(leases.replace(name, &PostParams::default(), &lease).await)
}

fn spec(old: Option<&LeaseSpec>, who: &str, now: Timestamp) -> LeaseSpec {
    let mine = old.filter(|old| old.holder_identity.as_deref() == Some(who));
    let changes = old.and_then(|old| old.lease_transitions).unwrap_or(0);
    LeaseSpec {
        holder_identity: Some(who.into()),
        lease_duration_seconds: Some(SECONDS),
        acquire_time: mine.and_then(|mine| mine.acquire_time.clone()).or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(changes + i32::from(mine.is_none())),
        ..LeaseSpec::default()
    }
}

fn decided(answer: kube::Result<Lease>) -> Result<bool> {
    match refusal(answer) {
        (200, _) => Ok(true),
        (409, _) => Ok(false),
        (code, why) => anyhow::bail!("{code} {why}"),
    }
}

pub async fn one_leads(client: Client) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let all = futures::future::join_all((0..8).map(|number| {
        let leases = leases.clone();
        async move { holds(&leases, "led", &format!("candidate-{number}")).await }
    }));
    let mut held = Vec::new();
    for one in all.await {
        held.push(one?);
    }
    ensure!(held.iter().filter(|held| **held).count() == 1, "one of many leads: {held:?}");
    let first = leases.get("led").await?.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
    for _ in 0..3 {
        ensure!(holds(&leases, "led", &first).await?, "the leader renews");
        ensure!(!holds(&leases, "led", "other").await?, "another does not get it meanwhile");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    eventually("another gets it when it has run out", async || Ok(holds(&leases, "led", "other").await?.then_some(())))
        .await?;
    ensure!(!holds(&leases, "led", &first).await?, "the first has lost it");
    let spec = leases.get("led").await?.spec.unwrap_or_default();
    ensure!(spec.lease_transitions == Some(2), "{spec:?}");
    Ok(())
}
