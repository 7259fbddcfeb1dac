//! What an extension tells of itself, kept until it tells something else: its resources, and where its OpenAPI documents are.

use std::sync::Arc;

use serde_json::Value;
use stead_apiserver::{Extension, Told, read_resources};

use super::call::ask;
use crate::Server;

const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
    application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

/// Asks anew, or notes that what is known may be old.
pub(super) async fn learn(server: &Arc<Server>, extension: &Extension, answers: bool) {
    let resources = if answers { resources(server, extension).await } else { None };
    let (v2, v3) = match answers {
        true => tokio::join!(openapi_v2(server, extension), openapi_v3(server, extension)),
        false => (None, None),
    };
    let mut all = server.extensions.told.lock().unwrap_or_else(|e| e.into_inner());
    let told: &mut Told = all.entry(extension.name.clone()).or_default();
    told.is_stale = resources.is_none();
    if resources.is_some() {
        told.resources = resources;
    }
    if answers {
        (told.openapi_v2, told.openapi_v3) = (v2, v3);
    }
}

/// The aggregated list, or the plain one of those that know no other.
async fn resources(server: &Arc<Server>, extension: &Extension) -> Option<Vec<Value>> {
    for (path, accept) in [("/apis".to_owned(), DISCOVERY), (extension.path(), "application/json")] {
        let Ok((_, body)) = ask(server, extension, &path, accept).await else { continue };
        let Ok(value) = serde_json::from_slice(&body) else { continue };
        if let Ok(found) = read_resources(extension, &value) {
            return Some(found);
        }
    }
    None
}

async fn openapi_v3(server: &Arc<Server>, extension: &Extension) -> Option<String> {
    let (_, body) = ask(server, extension, "/openapi/v3", "application/json").await.ok()?;
    let index: Value = serde_json::from_slice(&body).ok()?;
    let url = &index["paths"][extension.path().trim_start_matches('/')]["serverRelativeURL"];
    url.as_str().map(str::to_owned)
}

async fn openapi_v2(server: &Arc<Server>, extension: &Extension) -> Option<Value> {
    let (_, body) = ask(server, extension, "/openapi/v2", "application/json").await.ok()?;
    serde_json::from_slice(&body).ok()
}
