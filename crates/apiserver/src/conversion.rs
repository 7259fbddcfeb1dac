//! Custom resources in other versions: by their definition's webhook, or by their name alone; and by schemas that came after them.
//!
//! Contract: all objects that a decision needs are converted by one review; what comes back may have other labels and annotations and
//! another content, but is the same object of the version that was asked for. Objects of that version already are not sent.
//! Upstream: apiextensions-apiserver/pkg/apiserver/conversion.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stead_api::call::{Answer, Endpoint, Question};
use stead_api::names::{label_value, qualified_name};
use stead_api::{Object, Request, Status};
use stead_kinds::{Kind, Registry, SchemaRef};

use crate::context::Place;
use crate::custom::DEFINITIONS;
use crate::halt::{Halt, answer_to};
use crate::webhook::answer::review;

/// How long a conversion may take.
const SECONDS: u32 = 30;

/// A stored object as a version of its kind has it.
pub(crate) fn of_object(place: Place, request: &Request, kind: &Kind, object: &Object) -> Result<Value, Halt> {
    of_value(place, request, kind, object.value())
}

/// A value in a version of its kind.
pub(crate) fn of_value(place: Place, request: &Request, kind: &Kind, value: Value) -> Result<Value, Halt> {
    let converted = all(place, request, kind, vec![value])?;
    converted.into_iter().next().ok_or_else(|| Status::internal("a conversion lost its object").into())
}

/// Whether an object may have to be shown otherwise than it is stored.
pub(crate) fn concerns(registry: &Registry, kind: &Kind, object: &Object) -> bool {
    kind.schema == SchemaRef::Custom
        && (kind.by_webhook || kind.convert.is_some() || registry.is_older(kind, object.revision()))
}

/// Stored objects as a version of their kind has them.
pub(crate) fn shown(
    place: Place,
    request: &Request,
    kind: &Kind,
    objects: Vec<Arc<Object>>,
) -> Result<Vec<Arc<Object>>, Halt> {
    if !kind.by_webhook {
        let shown = objects.into_iter().map(|object| seen(place.registry, kind, object));
        return Ok(shown.collect::<Result<_, Status>>()?);
    }
    let values = all(place, request, kind, objects.iter().map(|object| object.value()).collect())?;
    let shown = objects.iter().zip(values).map(|(object, value)| rebuilt(kind, object, &value).map(Arc::new));
    Ok(shown.collect::<Result<_, Status>>()?)
}

/// A stored object as a version of its kind has it, when nobody has to be asked.
pub(crate) fn seen(registry: &Registry, kind: &Kind, object: Arc<Object>) -> Result<Arc<Object>, Status> {
    if kind.by_webhook || !concerns(registry, kind, &object) {
        return Ok(object);
    }
    let stored = object.value();
    let mut values = vec![stored.clone()];
    fit_own(registry, kind, &mut values);
    let values = renamed(registry, kind, values);
    match values.first().filter(|value| **value != stored) {
        Some(value) => rebuilt(kind, &object, value).map(Arc::new),
        None => Ok(object),
    }
}

/// The values of stored objects, by the schemas of the versions that they are in.
pub(crate) fn fitted(registry: &Registry, kind: &Kind, objects: &[Arc<Object>]) -> Vec<Value> {
    let mut values: Vec<Value> = objects.iter().map(|object| object.value()).collect();
    fit_own(registry, kind, &mut values);
    values
}

/// Prunes and fills in values by the schemas of the versions that they are in: those may have changed since.
fn fit_own(registry: &Registry, kind: &Kind, values: &mut [Value]) {
    for value in values.iter_mut().filter(|value| value.is_object()) {
        let version =
            value["apiVersion"].as_str().and_then(|one| one.split_once('/')).map(|(_, version)| version.to_owned());
        fit(registry, kind, &version.unwrap_or_default(), value);
    }
}

fn fit(registry: &Registry, kind: &Kind, version: &str, value: &mut Value) {
    let Some(schema) = registry.schema_of_version(kind, version) else { return };
    // What cannot be decoded any more is shown as it is.
    let mut pruned = value.clone();
    if schema.decode(&mut pruned).is_ok() {
        *value = pruned;
    }
    schema.apply_defaults(value);
}

/// An object with another content.
pub(crate) fn rebuilt(kind: &Kind, object: &Object, value: &Value) -> Result<Object, Status> {
    Object::of_value(object.key.clone(), value, &kind.stored_fields())
        .map_err(|error| Status::internal(error.to_string()))
}

/// Values in a version of their kind.
pub(crate) fn all(place: Place, request: &Request, kind: &Kind, mut values: Vec<Value>) -> Result<Vec<Value>, Halt> {
    fit_own(place.registry, kind, &mut values);
    let Some(question) = question(place, kind, &values)? else { return Ok(renamed(place.registry, kind, values)) };
    match answer_to(request, &question) {
        Some(answer) => Ok(read(place.registry, kind, values, answer)?),
        None => Err(Halt::Asks(vec![question])),
    }
}

fn is_other(kind: &Kind, value: &Value) -> bool {
    value.is_object() && value["apiVersion"] != kind.api_version().as_str()
}

/// Versions that differ by their name alone.
fn renamed(registry: &Registry, kind: &Kind, mut values: Vec<Value>) -> Vec<Value> {
    for value in values.iter_mut().filter(|value| is_other(kind, value)) {
        value["apiVersion"] = json!(kind.api_version());
        fit(registry, kind, kind.version, value);
    }
    values
}

/// What to ask so that values can be shown in a version; None when nobody is needed for it.
///
/// # Errors
/// When the definition is gone.
pub(crate) fn question(place: Place, kind: &Kind, values: &[Value]) -> Result<Option<Question>, Status> {
    let others: Vec<&Value> = values.iter().filter(|value| is_other(kind, value)).collect();
    if others.is_empty() || !kind.by_webhook {
        return Ok(None);
    }
    let definition = place.snapshot.find(DEFINITIONS, "", kind.storage).ok_or_else(Status::no_such_path)?.value();
    let webhook = &definition["spec"]["conversion"]["webhook"];
    let client = &webhook["clientConfig"];
    let mut versions = webhook["conversionReviewVersions"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let is_beta = versions.find(|one| matches!(*one, "v1" | "v1beta1")) == Some("v1beta1");
    let bundle = client["caBundle"].as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    Ok(Some(Question {
        asked: format!("{DEFINITIONS}/{}", kind.storage),
        endpoint: endpoint(client),
        ca_bundle: bundle,
        seconds: SECONDS,
        api_version: if is_beta { "apiextensions.k8s.io/v1beta1" } else { "apiextensions.k8s.io/v1" },
        kind: "ConversionReview",
        request: json!({"desiredAPIVersion": kind.api_version(), "objects": others}).to_string().into(),
    }))
}

fn endpoint(client: &Value) -> Endpoint {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let service = &client["service"];
    match service.is_object() {
        false => Endpoint::Url(text(&client["url"])),
        true => Endpoint::Service {
            namespace: text(&service["namespace"]),
            name: text(&service["name"]),
            port: service["port"].as_u64().and_then(|port| port.try_into().ok()).unwrap_or(443),
            path: text(&service["path"]),
        },
    }
}

/// The values with those replaced that were converted.
///
/// # Errors
/// What is wrong with the answer, in Kubernetes' words.
pub(crate) fn read(
    registry: &Registry,
    kind: &Kind,
    mut values: Vec<Value>,
    answer: &Answer,
) -> Result<Vec<Value>, Status> {
    let others: Vec<&mut Value> = values.iter_mut().filter(|value| is_other(kind, value)).collect();
    let from = others.first().map(|value| gvk(value)).unwrap_or_default();
    let failed = |why: String| Status::new(500, "", format!("conversion webhook for {from} {why}"));
    let converted = objects(answer).map_err(|why| failed(format!("failed: {why}")))?;
    if converted.len() != others.len() {
        return Err(failed(format!("returned {} objects, expected {}", converted.len(), others.len())));
    }
    let is_one = others.len() == 1;
    for (index, (original, converted)) in others.into_iter().zip(converted).enumerate() {
        let place = match is_one {
            true => String::new(),
            false => format!(" in object at index {index}"),
        };
        check(kind, original, &converted)
            .map_err(|why| failed(format!("returned invalid converted object{place}: {why}")))?;
        *original = with_own_metadata(original, converted)
            .map_err(|why| failed(format!("returned invalid metadata{place}: {why}")))?;
        fit(registry, kind, kind.version, original);
    }
    Ok(values)
}

fn gvk(value: &Value) -> String {
    format!("{}, Kind={}", text(value, "apiVersion"), text(value, "kind"))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// The objects of a review's answer.
fn objects(answer: &Answer) -> Result<Vec<Value>, String> {
    let review = review(answer)?;
    let response = &review["response"];
    if text(&review, "kind") != "ConversionReview" || !text(&review, "apiVersion").starts_with("apiextensions.k8s.io/")
    {
        return Err(format!(
            "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got {}",
            gvk(&review)
        ));
    }
    if !response.is_object() {
        return Err("no response provided".into());
    }
    if text(response, "uid") != answer.uid {
        return Err(format!("expected response.uid=\"{}\", got \"{}\"", answer.uid, text(response, "uid")));
    }
    match (text(&response["result"], "status"), text(&response["result"], "message")) {
        ("Success", _) => Ok(response["convertedObjects"].as_array().cloned().unwrap_or_default()),
        (status, "") => Err(format!("response.result.status was '{status}', not 'Success'")),
        (_, message) => Err(message.to_owned()),
    }
}

fn check(kind: &Kind, original: &Value, converted: &Value) -> Result<(), String> {
    let (expected, version) = (kind.api_version(), text(converted, "apiVersion"));
    if version != expected {
        return Err(format!("invalid groupVersion (expected {expected}, received {version})"));
    }
    if text(converted, "kind") != kind.kind {
        return Err(format!("invalid kind (expected {}, received {})", kind.kind, text(converted, "kind")));
    }
    for (field, name) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (was, is) = (text(&original["metadata"], field), text(&converted["metadata"], field));
        if was != is {
            return Err(format!("must have the same {name}: {was} != {is}"));
        }
    }
    Ok(())
}

/// The converted object with the metadata of the original, but for labels and annotations.
fn with_own_metadata(original: &Value, mut converted: Value) -> Result<Value, String> {
    let Some(given) = converted.get("metadata").cloned() else {
        return Err("missing metadata in converted object".into());
    };
    if !given.is_object() {
        return Err("invalid metadata of type in converted object".into());
    }
    let mut metadata = original["metadata"].clone();
    for field in ["labels", "annotations"] {
        let Some(own) = metadata.as_object_mut() else { break };
        own.shift_remove(field);
        let Some(map) = given[field].as_object().filter(|map| !map.is_empty()) else { continue };
        for (key, value) in map {
            let Some(value) = value.as_str() else {
                return Err(format!("metadata.{field}.{key} must be a string"));
            };
            let mut wrong = qualified_name(&if field == "labels" { key.clone() } else { key.to_lowercase() });
            if field == "labels" {
                wrong.extend(label_value(value));
            }
            if let Some(why) = wrong.first() {
                return Err(format!("invalid {field}: {key}: {why}"));
            }
        }
        own.insert(field.to_owned(), json!(map));
    }
    converted["metadata"] = metadata;
    Ok(converted)
}
