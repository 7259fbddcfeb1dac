//! Typed calls, patches, errors, watchers in both modes and the reflector.

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, reflector};
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::{NAMESPACE, eventually, names, refusal};

fn map(name: &str, group: &str) -> ConfigMap {
    let value = json!({"metadata": {"name": name, "labels": {"of": group}}, "data": {"a": "1"}});
    serde_json::from_value(value).expect("a ConfigMap")
}

pub async fn objects_and_errors(client: Client) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    let make = PostParams::default();
    let made = maps.create(&make, &map("one", "objects")).await?;
    ensure!(refusal(maps.create(&make, &made).await).0 == 400, "an object that has a version is not new");
    ensure!(refusal(maps.create(&make, &map("one", "objects")).await) == (409, "AlreadyExists".into()), "twice");
    ensure!(refusal(maps.get("absent").await) == (404, "NotFound".into()), "absent");
    ensure!(maps.get_opt("absent").await?.is_none(), "optional");
    ensure!(refusal(maps.create(&make, &map("Bad_Name", "x")).await) == (422, "Invalid".into()), "bad name");
    let changed = maps.patch("one", &PatchParams::default(), &Patch::Merge(json!({"data": {"b": "2"}}))).await?;
    ensure!(changed.data.as_ref().is_some_and(|data| data.len() == 2), "merged: {changed:?}");
    ensure!(refusal(maps.replace("one", &make, &made).await) == (409, "Conflict".into()), "stale");

    let applied = |data| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": data});
    let by = |manager: &str| PatchParams::apply(manager);
    maps.patch("one", &by("first"), &Patch::Apply(applied(json!({"c": "3"})))).await?;
    let conflict = maps.patch("one", &by("second"), &Patch::Apply(applied(json!({"c": "4"})))).await;
    ensure!(refusal(conflict) == (409, "Conflict".into()), "the field is another's");
    let forced = maps.patch("one", &by("second").force(), &Patch::Apply(applied(json!({"c": "4"})))).await?;
    ensure!(forced.data.as_ref().is_some_and(|data| data["c"] == "4"), "forced: {forced:?}");
    let meta = maps
        .patch_metadata("one", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"labels": {"m": "1"}}})))
        .await?;
    ensure!(meta.labels().get("m").is_some(), "metadata alone: {meta:?}");
    let partial = maps.list_metadata(&ListParams::default().labels("m in (1, 2)")).await?;
    ensure!(names(partial) == ["one"], "metadata of a list");

    let first = maps.list(&ListParams::default().limit(1)).await?;
    let token = first.metadata.continue_.unwrap_or_default();
    ensure!(!token.is_empty() && first.items.len() == 1, "a page");
    maps.list(&ListParams::default().limit(100).continue_token(&token)).await?;
    maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("of=objects")).await?;
    ensure!(maps.get_opt("one").await?.is_none(), "the collection is gone");
    Ok(())
}

/// A list then a watch; and a watch that begins with what there is.
pub async fn both_modes(client: Client) -> Result<()> {
    watches(client.clone(), "listed", watcher::Config::default().page_size(2)).await?;
    watches(client.clone(), "streamed", watcher::Config::default().streaming_lists()).await?;
    reflects(client).await
}

async fn watches(client: Client, group: &str, config: watcher::Config) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    let name = |number: u32| format!("{group}-{number}");
    for number in 0..5 {
        maps.create(&PostParams::default(), &map(&name(number), group)).await?;
    }
    let mut events = watcher::watcher(maps.clone(), config.labels(&format!("of={group}"))).boxed();
    let mut initial = Vec::new();
    loop {
        match events.try_next().await? {
            Some(Event::InitApply(object)) => initial.push(object),
            Some(Event::InitDone) => break,
            Some(_) => {}
            None => anyhow::bail!("the watch ended"),
        }
    }
    let initial = names(initial);
    ensure!(initial == (0..5).map(name).collect::<Vec<_>>(), "{group}: {initial:?}");
    maps.create(&PostParams::default(), &map(&name(5), group)).await?;
    maps.patch(&name(5), &PatchParams::default(), &Patch::Merge(json!({"data": {"a": "2"}}))).await?;
    maps.delete(&name(5), &DeleteParams::default()).await?;
    let mut told = Vec::new();
    while told.len() < 3 {
        match events.try_next().await? {
            Some(Event::Apply(object)) => told.push(format!("apply {}", object.data.unwrap_or_default()["a"])),
            Some(Event::Delete(object)) => told.push(format!("delete {}", object.name_any())),
            other => anyhow::bail!("{group}: {other:?}"),
        }
    }
    ensure!(told == ["apply 1", "apply 2", &format!("delete {group}-5")], "{group}: {told:?}");
    Ok(())
}

async fn reflects(client: Client) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    let (reader, writer) = reflector::store::<ConfigMap>();
    let stream = watcher::watcher(maps.clone(), watcher::Config::default().labels("of=reflected").streaming_lists());
    let task = tokio::spawn(reflector(writer, stream.default_backoff()).touched_objects().for_each(|_| async {}));
    reader.wait_until_ready().await?;
    for name in ["r-1", "r-2"] {
        maps.create(&PostParams::default(), &map(name, "reflected")).await?;
    }
    maps.delete("r-1", &DeleteParams::default()).await?;
    let seen = async || {
        let state = names(reader.state().iter().map(|object| (**object).clone()));
        Ok((state == ["r-2"]).then_some(()))
    };
    eventually("the reflector shows what there is", seen).await?;
    task.abort();
    Ok(())
}
