//! One object in JSON: in the version asked for, or its metadata alone.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use stead_api::Object;
use stead_api::form::Form;
use stead_kinds::Kind;

/// The object as a value of the version asked for.
pub(crate) fn value_of(kind: &Kind, object: &Object) -> Value {
    let mut value = object.value();
    as_version(kind, &mut value);
    value
}

/// Turns a value of the stored version into one of the version served.
pub(crate) fn as_version(kind: &Kind, value: &mut Value) {
    if let Some(convert) = kind.convert {
        (convert.from_stored)(value);
        value["apiVersion"] = json!(kind.api_version());
    }
}

/// The object's bytes in the version asked for.
pub(crate) fn object_bytes(kind: &Kind, object: &Object) -> Bytes {
    match kind.convert {
        None => object.json.clone(),
        Some(_) => value_of(kind, object).to_string().into(),
    }
}

#[derive(Deserialize)]
struct OnlyMetadata<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// PartialObjectMetadata of an object.
pub(crate) fn metadata_bytes(object: &Object, form: Form) -> Bytes {
    let metadata = match serde_json::from_slice::<OnlyMetadata>(&object.json) {
        Ok(only) => only.metadata.get(),
        Err(_) => "{}",
    };
    let version = form.meta_version();
    format!("{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"{version}\",\"metadata\":{metadata}}}").into()
}
