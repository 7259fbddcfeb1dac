//! What is scaled: anything that has the scale subresource.

use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use serde_json::{Value, json};
use stead_api::{KindName, LabelSelector};
use stead_apiserver::scale_of;

use crate::plan::View;

pub struct Target {
    pub kind: KindName,
    pub replicas: i32,
    /// Of its pods, as the scale tells it; empty when it tells none.
    pub selector: String,
    scale: Value,
}

impl Target {
    /// # Errors
    /// Why there is none.
    pub fn find(view: &View, namespace: &str, of: &CrossVersionObjectReference) -> Result<Target, String> {
        let version = of.api_version.as_deref().unwrap_or("v1");
        let Some(kind) = view.registry.of_kind(version, &of.kind) else {
            let group = version.split_once('/').map_or("", |(group, _)| group);
            return Err(format!("no matches for kind \"{}\" in group \"{group}\"", of.kind));
        };
        let Some(object) = view.get(kind.storage, namespace, &of.name) else {
            let dot = if kind.group.is_empty() { "" } else { "." };
            return Err(format!("{}{dot}{} \"{}\" not found", kind.plural, kind.group, of.name));
        };
        let scale = view.registry.stored(kind.storage).and_then(|stored| scale_of(stored, object));
        let scale = scale.ok_or("the server could not find the requested resource")?;
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
        Ok(Target {
            kind: kind.storage,
            replicas: i32::try_from(replicas).unwrap_or(i32::MAX),
            selector: scale["status"]["selector"].as_str().unwrap_or_default().to_owned(),
            scale,
        })
    }

    /// Which pods are meant.
    ///
    /// # Errors
    /// The condition's reason and message.
    pub fn pods(&self) -> Result<LabelSelector, (&'static str, String)> {
        if self.selector.is_empty() {
            return Err(("InvalidSelector", "the HPA target's scale is missing a selector".into()));
        }
        LabelSelector::parse(&self.selector).map_err(|error| {
            (
                "InvalidSelector",
                format!("couldn't convert selector into a corresponding internal selector object: {error}"),
            )
        })
    }

    /// The scale with another size.
    pub fn resized(&self, replicas: i32) -> Value {
        let mut scale = self.scale.clone();
        scale["spec"]["replicas"] = json!(replicas);
        scale
    }
}
