//! ConfigMap and Secret: data that pods read.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::Value;
use stead_api::object::Fields;
use stead_api::{Errors, Object};

use crate::check::{config_key, text};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN};
use crate::fill::{object_or_new, put, set_text};
use crate::names::names;
use crate::path::Path;
use crate::{Behavior, Column, Hooks, Kind};

pub const CONFIGMAP: Kind = Kind {
    short: &["cm"],
    columns: &[NAME_COLUMN, columns::integer("Data", count, "How many keys it has."), AGE_COLUMN],
    hooks: Hooks::of::<ConfigMap>(),
    ..Kind::plain(
        "configmaps",
        "",
        "v1",
        names!("ConfigMap", "configmap", "configmaps"),
        "io.k8s.api.core.v1.ConfigMap",
    )
};

pub const SECRET: Kind = Kind {
    immutable: &["type"],
    fields: Fields { selectable: &["type"], indexed: &[], labels_indexed: false, ..Fields::NONE },
    columns: SECRET_COLUMNS,
    hooks: Hooks::of::<Secret>(),
    ..Kind::plain("secrets", "", "v1", names!("Secret", "secret", "secrets"), "io.k8s.api.core.v1.Secret")
};

const SECRET_COLUMNS: &[Column] = &[
    NAME_COLUMN,
    columns::path("Type", "type", "What kind of secret it is."),
    columns::integer("Data", count, "How many keys it has."),
    AGE_COLUMN,
];

/// The bytes of all keys and values together.
const DATA_BYTES_MAX: usize = 1 << 20;

const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

fn count(object: &Object, _now: jiff::Timestamp) -> Value {
    let value = object.value();
    let size = |field: &str| value[field].as_object().map_or(0, serde_json::Map::len);
    (size("data") + size("binaryData")).into()
}

impl Behavior for ConfigMap {
    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let empty = BTreeMap::new();
        let data = self.data.as_ref().unwrap_or(&empty);
        let mut bytes = 0;
        for (key, value) in data {
            check_key(Path::root("data"), key, errors);
            if self.binary_data.as_ref().is_some_and(|binary| binary.contains_key(key)) {
                let detail = "duplicate of key present in binaryData";
                Path::root("data").key(key).invalid(errors, key.as_str(), detail);
            }
            bytes += value.len();
        }
        for (key, value) in self.binary_data.iter().flatten() {
            check_key(Path::root("binaryData"), key, errors);
            bytes += value.0.len();
        }
        check_size(Path::root(""), bytes, errors);
        let Some(old) = old.filter(|old| old.immutable == Some(true)) else { return };
        let changes = [("data", old.data != self.data), ("binaryData", old.binary_data != self.binary_data)];
        check_frozen(self.immutable, changes, errors);
    }
}

impl Behavior for Secret {
    fn default(new: &mut Value) {
        set_text(new, "type", "Opaque");
    }

    /// `stringData` is written into `data` and not kept.
    fn prepare(new: &mut Value, _old: Option<&Value>) {
        let Some(plain) = new.get("stringData").and_then(Value::as_object).cloned() else {
            put(new, "stringData", None);
            return;
        };
        put(new, "stringData", None);
        if plain.is_empty() {
            return;
        }
        let Some(data) = object_or_new(new, "data") else { return };
        for (key, value) in plain {
            let encoded = serde_json::to_value(ByteString(value.as_str().unwrap_or("").as_bytes().to_vec()));
            put(data, &key, encoded.ok());
        }
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let mut bytes = 0;
        for (key, value) in self.data.iter().flatten() {
            check_key(Path::root("data"), key, errors);
            bytes += value.0.len();
        }
        check_size(Path::root("data"), bytes, errors);
        check_type(self, errors);
        let Some(old) = old.filter(|old| old.immutable == Some(true)) else { return };
        check_frozen(self.immutable, [("data", old.data != self.data)], errors);
    }
}

/// The keys that a type promises.
fn check_type(secret: &Secret, errors: &mut Errors) {
    let keys: BTreeSet<&str> = secret.data.iter().flatten().map(|(key, _)| key.as_str()).collect();
    let at = Path::root("data");
    let require = |key: &str, errors: &mut Errors| {
        if !keys.contains(key) {
            at.key(key).required(errors, "");
        }
    };
    match text(&secret.type_) {
        "kubernetes.io/service-account-token" => {
            let annotations = secret.metadata.annotations.as_ref();
            if annotations.and_then(|found| found.get(SERVICE_ACCOUNT_NAME)).is_none_or(String::is_empty) {
                let at = Path::root("metadata");
                at.child("annotations").key(SERVICE_ACCOUNT_NAME).required(errors, "");
            }
        }
        "kubernetes.io/dockercfg" => check_json(secret, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => check_json(secret, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if !keys.contains("username") && !keys.contains("password") => {
            require("username", errors);
            require("password", errors);
        }
        "kubernetes.io/ssh-auth" => match secret.data.as_ref().and_then(|data| data.get("ssh-privatekey")) {
            Some(key) if !key.0.is_empty() => {}
            _ => at.key("ssh-privatekey").required(errors, ""),
        },
        "kubernetes.io/tls" => {
            require("tls.crt", errors);
            require("tls.key", errors);
        }
        _ => {}
    }
}

fn check_json(secret: &Secret, key: &str, errors: &mut Errors) {
    let at = Path::root("data");
    match secret.data.as_ref().and_then(|data| data.get(key)) {
        None => at.key(key).required(errors, ""),
        Some(bytes) => {
            if let Err(error) = serde_json::from_slice::<BTreeMap<String, Value>>(&bytes.0) {
                at.key(key).invalid(errors, "<secret contents redacted>", error.to_string());
            }
        }
    }
}

fn check_key(at: Path, key: &str, errors: &mut Errors) {
    for message in config_key(key) {
        at.key(key).invalid(errors, key, message);
    }
}

fn check_size(at: Path, bytes: usize, errors: &mut Errors) {
    if bytes > DATA_BYTES_MAX {
        at.too_long(errors, DATA_BYTES_MAX);
    }
}

/// An object marked immutable stays so, and keeps its data.
fn check_frozen<const N: usize>(immutable: Option<bool>, changes: [(&str, bool); N], errors: &mut Errors) {
    let detail = "field is immutable when `immutable` is set";
    if immutable != Some(true) {
        Path::root("immutable").forbidden(errors, detail);
    }
    for (field, changed) in changes {
        if changed {
            Path::root(field).forbidden(errors, detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use stead_api::Key;

    fn secret(body: Value) -> (Value, Vec<String>) {
        let mut value = json!({"metadata": {"name": "s", "namespace": "n", "resourceVersion": "1"}});
        for (key, entry) in body.as_object().expect("a map") {
            value[key] = entry.clone();
        }
        (SECRET.hooks.default)(&mut value);
        (SECRET.hooks.prepare)(&mut value, None);
        let errors = SECRET.check(&value, None).expect("decodes").errors;
        (value, errors.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn string_data_is_stored_encoded() {
        let (value, errors) = secret(json!({"stringData": {"a": "x"}, "data": {"b": "eQ=="}}));
        assert_eq!((value["data"].clone(), errors), (json!({"b": "eQ==", "a": "eA=="}), Vec::new()));
        assert_eq!((value.get("stringData"), &value["type"]), (None, &json!("Opaque")));
    }

    #[test]
    fn types_promise_keys() {
        assert_eq!(
            secret(json!({"type": "kubernetes.io/tls", "stringData": {"tls.crt": ""}})).1,
            ["data[tls.key]: Required value"]
        );
        assert_eq!(
            secret(json!({"type": "kubernetes.io/service-account-token"})).1,
            ["metadata.annotations[kubernetes.io/service-account.name]: Required value"]
        );
        let wrong =
            secret(json!({"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "no"}})).1;
        assert!(wrong[0].starts_with("data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\""));
    }

    #[test]
    fn immutable_means_it() {
        let old = json!({"metadata": {"name": "c", "namespace": "n", "resourceVersion": "1"}, "immutable": true,
            "data": {"a": "b"}});
        let stored =
            Object::of_value(Key::new("configmaps", "n", "c"), &old, &CONFIGMAP.stored_fields()).expect("an object");
        let mut new = old.clone();
        new["data"]["a"] = "c".into();
        new["immutable"] = false.into();
        let errors = CONFIGMAP.check(&new, Some(&stored)).expect("decodes").errors;
        assert_eq!(
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set",
            ]
        );
    }
}
