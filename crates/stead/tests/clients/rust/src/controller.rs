//! A controller of a custom resource: definition by server-side apply, children it owns, a finalizer, status.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{EventType, Recorder, Reporter};
use kube::runtime::finalizer::{self, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{Controller, watcher};
use kube::{Client, CustomResource, CustomResourceExt, Resource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{NAMESPACE, eventually};

const FINALIZER: &str = "clients.example/garden";
const MANAGER: &str = "gardener";

#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(group = "clients.example", version = "v1", kind = "Garden", namespaced, status = "GardenStatus")]
pub struct GardenSpec {
    beds: u32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct GardenStatus {
    planted: u32,
}

type Failure = finalizer::Error<kube::Error>;

async fn reconcile(garden: Arc<Garden>, client: Arc<Client>) -> Result<Action, Failure> {
    let gardens: Api<Garden> = Api::namespaced((*client).clone(), NAMESPACE);
    finalizer(&gardens, FINALIZER, garden, |event| async {
        match event {
            finalizer::Event::Apply(garden) => plant(&client, &garden).await,
            finalizer::Event::Cleanup(garden) => clear(&client, &garden).await,
        }
    })
    .await
}

fn again(_: Arc<Garden>, error: &Failure, _: Arc<Client>) -> Action {
    eprintln!("once more: {error}: {:?}", std::error::Error::source(error));
    Action::requeue(Duration::from_millis(100))
}

async fn plant(client: &Client, garden: &Garden) -> kube::Result<Action> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    for number in 0..garden.spec.beds {
        let name = format!("{}-bed-{number}", garden.name_any());
        let bed = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"grows": "beans"},
            "metadata": {"name": name, "labels": {"garden": garden.name_any()}, "ownerReferences": [garden.controller_owner_ref(&())]}});
        maps.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(bed)).await?;
    }
    let status = json!({"apiVersion": "clients.example/v1", "kind": "Garden", "status": {"planted": garden.spec.beds}});
    let gardens: Api<Garden> = Api::namespaced(client.clone(), NAMESPACE);
    gardens.patch_status(&garden.name_any(), &PatchParams::apply(MANAGER).force(), &Patch::Apply(status)).await?;
    Ok(Action::await_change())
}

async fn clear(client: &Client, garden: &Garden) -> kube::Result<Action> {
    let recorder = Recorder::new(client.clone(), Reporter::from(MANAGER));
    let event = kube::runtime::events::Event {
        type_: EventType::Normal,
        reason: "Cleared".into(),
        note: Some(format!("{} is cleared", garden.name_any())),
        action: "Clearing".into(),
        secondary: None,
    };
    recorder.publish(&event, &garden.object_ref(&())).await?;
    Ok(Action::await_change())
}

pub async fn reconciles(client: Client) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let apply = PatchParams::apply(MANAGER);
    definitions.patch("gardens.clients.example", &apply, &Patch::Apply(Garden::crd())).await?;
    let established = await_condition(definitions.clone(), "gardens.clients.example", conditions::is_crd_established());
    tokio::time::timeout(Duration::from_secs(20), established).await??;

    let (gardens, maps): (Api<Garden>, Api<ConfigMap>) =
        (Api::namespaced(client.clone(), NAMESPACE), Api::namespaced(client.clone(), NAMESPACE));
    let config = watcher::Config::default().streaming_lists();
    let running = Controller::new(gardens.clone(), config.clone())
        .owns(maps.clone(), config)
        .run(reconcile, again, Arc::new(client.clone()))
        .for_each(|_| async {});
    let task = tokio::spawn(running);

    let garden = Garden::new("roof", GardenSpec { beds: 2 });
    gardens.create(&PostParams::default(), &garden).await?;
    planted(&gardens, &maps, 2).await?;
    ensure!(gardens.get("roof").await?.finalizers() == [FINALIZER], "the finalizer is there");
    gardens.patch("roof", &PatchParams::default(), &Patch::Merge(json!({"spec": {"beds": 3}}))).await?;
    planted(&gardens, &maps, 3).await?;
    // What others take away or change comes back.
    maps.delete("roof-bed-0", &DeleteParams::default()).await?;
    maps.patch("roof-bed-1", &PatchParams::default(), &Patch::Merge(json!({"data": {"grows": "weeds"}}))).await?;
    let is_restored = async || {
        let (first, second) = (maps.get_opt("roof-bed-0").await?, maps.get("roof-bed-1").await?);
        let grows = second.data.unwrap_or_default().remove("grows");
        Ok((first.is_some() && grows.as_deref() == Some("beans")).then_some(()))
    };
    eventually("beds come back", is_restored).await?;

    gardens.delete("roof", &DeleteParams::default()).await?;
    eventually("the garden is gone", async || Ok(gardens.get_opt("roof").await?.is_none().then_some(()))).await?;
    let beds = ListParams::default().labels("garden=roof");
    eventually("its beds go with it", async || Ok(maps.list(&beds).await?.items.is_empty().then_some(()))).await?;
    let events: Api<Event> = Api::namespaced(client, NAMESPACE);
    let told = events.list(&ListParams::default().fields("involvedObject.name=roof,reason=Cleared")).await?;
    ensure!(told.items.len() == 1, "the event is there: {:?}", told.items);
    task.abort();
    definitions.delete("gardens.clients.example", &DeleteParams::default()).await?;
    Ok(())
}

async fn planted(gardens: &Api<Garden>, maps: &Api<ConfigMap>, beds: u32) -> Result<()> {
    let of = ListParams::default().labels("garden=roof");
    let is_planted = async || {
        let said = gardens.get("roof").await?.status.unwrap_or_default().planted;
        let there = maps.list(&of).await?.items.len();
        Ok((said == beds && there == beds as usize).then_some(()))
    };
    eventually(&format!("{beds} beds are planted"), is_planted).await
}
