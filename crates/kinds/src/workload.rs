//! What StatefulSet, Deployment and ReplicaSet share: the scale subresource, template columns, selector checks.

use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::json;
use stead_api::{Errors, Object};

use crate::check::{is_empty_selector, label_selector, list, text};
use crate::path::Path;
use crate::template::{self, validate_template};
use crate::{Kind, Names, Subresource};

pub(crate) const SCALE: Subresource =
    Subresource::Scale { spec: "spec.replicas", status: "status.replicas", selector: "spec.selector" };

pub(crate) const fn workload(storage: &'static str, names: Names, definition: &'static str) -> Kind {
    Kind {
        categories: &["all"],
        has_generation: true,
        subresources: &[Subresource::Status, SCALE],
        ..Kind::plain(storage, "apps", "v1", names, definition)
    }
}

/// Checks selector and template together: the selector names something and matches the template, whose pods run for ever
/// (S-02, S-03).
pub(crate) fn validate_pods(
    at: Path,
    kind: &str,
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    errors: &mut Errors,
) {
    label_selector(at.child("selector"), selector, errors);
    // What the client left out is decoded as a selector without parts.
    let is_missing = selector.match_labels.is_none() && selector.match_expressions.is_none();
    if is_missing {
        if kind != "DaemonSet" {
            at.child("selector").required(errors, "");
        }
        let labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
        let detail = "`selector` does not match template `labels`";
        at.child("template").child("metadata").child("labels").invalid(errors, json!(labels), detail);
    } else if is_empty_selector(selector) {
        let detail = format!("empty selector is invalid for {}", kind.to_lowercase());
        at.child("selector").invalid(errors, json!(selector), detail);
    }
    validate_template(at.child("template"), template, selector, errors);
    let demanding = if kind == "StatefulSet" { "StatefulSet" } else { "ReplicaSet" };
    template::validate::validate_long_running(at.child("template"), template, demanding, errors);
}

/// Warnings about the pods that a template makes.
pub(crate) fn warn_of_template(template: &PodTemplateSpec) -> Vec<String> {
    let at = Path::root("spec");
    let at = at.child("template");
    let meta = template.metadata.clone().unwrap_or_default();
    template::warnings::of_pod(at.child("spec"), &meta, template.spec.as_ref())
}

/// Names of the template's containers, joined.
pub(crate) fn containers(template: Option<&PodTemplateSpec>) -> String {
    join(template, |spec| spec.containers.iter().map(|container| container.name.as_str()).collect())
}

/// Images of the template's containers, joined.
pub(crate) fn images(template: Option<&PodTemplateSpec>) -> String {
    join(template, |spec| spec.containers.iter().map(|container| text(&container.image)).collect())
}

fn join(template: Option<&PodTemplateSpec>, pick: fn(&PodSpec) -> Vec<&str>) -> String {
    template.and_then(|template| template.spec.as_ref()).map_or(String::new(), |spec| pick(spec).join(","))
}

/// `app=web,tier in (a,b)`, or `<none>`.
pub(crate) fn selector_text(selector: &LabelSelector) -> String {
    let mut parts: Vec<(String, String)> = Vec::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        parts.push((key.clone(), format!("{key}={value}")));
    }
    for requirement in list(&selector.match_expressions) {
        let key = &requirement.key;
        let mut values = list(&requirement.values).to_vec();
        values.sort();
        let values = values.join(",");
        let text = match requirement.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.clone(),
            _ => format!("!{key}"),
        };
        parts.push((key.clone(), text));
    }
    if parts.is_empty() {
        return "<none>".to_owned();
    }
    parts.sort();
    parts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

/// `ready/desired`.
pub(crate) fn ready_text(ready: Option<i32>, desired: Option<i32>) -> String {
    format!("{}/{}", ready.unwrap_or(0), desired.unwrap_or(0))
}

/// The typed view of an object.
pub(crate) fn view<T: std::any::Any + Send + Sync>(object: &Object) -> std::sync::Arc<T> {
    object.view::<T>()
}

/// `a=b,c=d`, or `<none>`.
pub(crate) fn map_text(map: Option<&std::collections::BTreeMap<String, String>>) -> String {
    let parts: Vec<String> = map.into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
    if parts.is_empty() { "<none>".to_owned() } else { parts.join(",") }
}
