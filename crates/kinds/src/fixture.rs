//! Objects for tests from a few lines of YAML, filled in and checked as the server would (feature `fixture`).
//!
//! What every object needs and no test is about may be left out: `apiVersion` follows from `kind`, the namespace is `default`,
//! the uid is `uid-<name>`, the resourceVersion is 1. A status that is given is kept. Panics on anything that the server would
//! refuse, with its reasons: a test with a wrong fixture should not pass.

use serde_json::{Value, json};
use stead_api::{Key, Object};

use crate::{Kind, Registry};

/// The objects of one or several YAML documents.
pub fn objects(text: &str) -> Vec<Object> {
    let registry = Registry::with([]);
    let documents = stead_api::document::parse_yaml_all(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    documents.into_iter().filter(|document| !document.is_null()).map(|document| stored(&registry, document)).collect()
}

/// The only object of a YAML text.
pub fn object(text: &str) -> Object {
    let mut all = objects(text);
    assert_eq!(all.len(), 1, "one object in: {text}");
    all.remove(0)
}

fn stored(registry: &Registry, mut value: Value) -> Object {
    let kind = *kind_of(registry, &value);
    value["apiVersion"] = kind.api_version().into();
    let name = value["metadata"]["name"].as_str().unwrap_or_else(|| panic!("a name in {value}")).to_owned();
    let meta = &mut value["metadata"];
    if kind.namespaced && meta["namespace"].is_null() {
        meta["namespace"] = "default".into();
    }
    for (field, default) in [
        ("uid", json!(format!("uid-{name}"))),
        ("resourceVersion", json!("1")),
        ("creationTimestamp", json!("2026-01-01T00:00:00Z")),
    ] {
        if meta[field].is_null() {
            meta[field] = default;
        }
    }
    let status = value.get("status").cloned();
    (kind.hooks.default)(&mut value);
    (kind.hooks.prepare)(&mut value, None);
    if let Some(status) = status {
        value["status"] = status;
    }
    let checked = kind.check(&value, None).unwrap_or_else(|error| panic!("{error}: {value}"));
    let errors: Vec<String> = checked.errors.0.iter().map(ToString::to_string).collect();
    assert!(errors.is_empty(), "{errors:#?} in {value:#}");
    let namespace = value["metadata"]["namespace"].as_str().unwrap_or("");
    let key = Key::new(kind.storage, namespace, &name);
    let object = Object::of_value(key, &value, &kind.stored_fields()).unwrap_or_else(|error| panic!("{error}"));
    object.with_view(checked.typed)
}

fn kind_of<'a>(registry: &'a Registry, value: &Value) -> &'a Kind {
    let kind = value["kind"].as_str().unwrap_or_else(|| panic!("a kind in {value}"));
    let found = match value["apiVersion"].as_str() {
        Some(version) => registry.of_kind(version, kind),
        None => registry.all().find(|found| found.kind == kind && found.convert.is_none()),
    };
    found.unwrap_or_else(|| panic!("no such kind: {kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_lines_make_an_object() {
        let pod = object("{kind: Pod, metadata: {name: web-0}, spec: {containers: [{name: c, image: x}]}}");
        assert_eq!((pod.key.to_string(), pod.meta.uid.as_str()), ("pods/default/web-0".to_owned(), "uid-web-0"));
        assert_eq!(pod.value()["spec"]["restartPolicy"], "Always");
        assert_eq!(pod.value()["status"]["phase"], "Pending");
    }

    #[test]
    #[should_panic(expected = "spec.containers: Required value")]
    fn what_the_server_refuses_is_refused() {
        object("{kind: Pod, metadata: {name: web-0}, spec: {containers: []}}");
    }
}
