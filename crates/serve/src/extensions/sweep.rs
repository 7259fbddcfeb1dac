//! The end of a namespace at extension API servers: what they have of it is deleted, and what is left is counted.
//!
//! A namespace is swept by one task at a time; what is asked for meanwhile is asked for again by the controller.

use std::sync::Arc;

use http::Method;
use serde_json::Value;
use stead_api::User;
use stead_apiserver::Extension;
use stead_control::{Content, Effect, Sweep, Work};

use super::call::call;
use crate::Server;

/// Objects that are deleted one by one in one go; the next takes the rest.
const DELETIONS_MAX: usize = 500;

/// Sweeps, and hands what is left to the plane.
pub async fn sweep(server: &Arc<Server>, effect: Effect) {
    let Work::Sweep(sweep) = &effect.work else { return };
    let name = sweep.namespace.clone();
    let is_first = server.extensions.sweeping.lock().unwrap_or_else(|e| e.into_inner()).insert(name.clone());
    if !is_first {
        return;
    }
    let left = look(server, sweep, effect.user()).await;
    server.extensions.sweeping.lock().unwrap_or_else(|e| e.into_inner()).remove(&name);
    if let Some(request) = effect.swept(left) {
        // A refusal means that the namespace has changed: then the controller looks again.
        server.plane.call(request).await;
    }
}

async fn look(server: &Arc<Server>, sweep: &Sweep, user: &User) -> Content {
    let mut left = Content::default();
    let known = server.extensions.known();
    for name in &sweep.extensions {
        let Some((extension, told)) = known.iter().find(|(one, _)| one.name == *name) else {
            left.unseen.push(name.clone());
            continue;
        };
        let Some(resources) = told.resources.as_ref().filter(|_| !told.is_stale) else {
            left.unseen.push(format!("{}/{}", extension.group, extension.version));
            continue;
        };
        for resource in resources {
            let verbs: Vec<&str> =
                resource["verbs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let Some(plural) = resource["resource"].as_str() else { continue };
            if resource["scope"] != "Namespaced" || !verbs.contains(&"delete") {
                continue;
            }
            let place = Place { server, extension, user, namespace: &sweep.namespace, plural };
            let emptied = match verbs.contains(&"deletecollection") {
                true => place.empty_at_once().await,
                false if verbs.contains(&"list") => place.empty_one_by_one().await,
                false => continue,
            };
            if let Err(why) = emptied.and(place.count(&mut left).await) {
                left.failures.push(why);
            }
        }
    }
    left
}

/// The objects of one resource in one namespace.
struct Place<'a> {
    server: &'a Arc<Server>,
    extension: &'a Extension,
    user: &'a User,
    namespace: &'a str,
    plural: &'a str,
}

impl Place<'_> {
    async fn call(&self, method: Method, name: &str) -> Result<Value, String> {
        let slash = if name.is_empty() { "" } else { "/" };
        let path = format!("{}/namespaces/{}/{}{slash}{name}", self.extension.path(), self.namespace, self.plural);
        let is_deletion = method == Method::DELETE;
        let (url, answer) = call(self.server, self.extension, self.user, (method, &path, "application/json")).await?;
        let (code, _, body) = answer.map_err(|why| why.to_string())?;
        match code.as_u16() {
            200..300 => Ok(serde_json::from_slice(&body).unwrap_or(Value::Null)),
            404 if is_deletion => Ok(Value::Null),
            code => {
                let status: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let message = status["message"].as_str().map(str::to_owned);
                Err(message.unwrap_or_else(|| format!("{url} answered with the status code {code}")))
            }
        }
    }

    async fn items(&self) -> Result<Vec<Value>, String> {
        let mut list = self.call(Method::GET, "").await?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    async fn empty_at_once(&self) -> Result<(), String> {
        self.call(Method::DELETE, "").await.map(drop)
    }

    async fn empty_one_by_one(&self) -> Result<(), String> {
        let items = self.items().await?;
        let living = items.iter().filter(|item| item["metadata"]["deletionTimestamp"].is_null());
        for item in living.take(DELETIONS_MAX) {
            self.call(Method::DELETE, item["metadata"]["name"].as_str().unwrap_or_default()).await?;
        }
        Ok(())
    }

    async fn count(&self, left: &mut Content) -> Result<(), String> {
        let resource = format!("{}.{}", self.plural, self.extension.group);
        for item in self.items().await? {
            let finalizers = item["metadata"]["finalizers"].as_array().into_iter().flatten();
            left.add(&resource, finalizers.filter_map(Value::as_str));
        }
        Ok(())
    }
}
