//! `Object`: one stored version of one API object.
//!
//! Guarantees: the JSON bytes are canonical (they carry `apiVersion`, `kind` and the version's own `resourceVersion`), are encoded
//! once and are what every get, list and watch sends; the decoded metadata agrees with them; a typed view is decoded, and the
//! protobuf form encoded, at most once per version. An object never changes: a write makes a new one.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::protobuf::{self, EncodeError, Message};

/// The store's clock: one write is one revision. Its decimal text is `metadata.resourceVersion`.
pub type Revision = u64;

/// The storage name of a kind: `pods`, `statefulsets.apps`. Interned, so it is copied and compared freely.
pub type KindName = &'static str;

/// Makes a name live for the whole process. Used for the names that custom resource definitions bring.
pub fn intern(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(found) = names.get(name) {
        return found;
    }
    let leaked: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(leaked);
    leaked
}

/// Where an object is stored. Orders by kind, then namespace, then name: a list is a range.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub kind: KindName,
    /// Empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl Key {
    pub fn new(kind: KindName, namespace: &str, name: &str) -> Key {
        Key { kind, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "" => write!(f, "{}/{}", self.kind, self.name),
            namespace => write!(f, "{}/{}/{}", self.kind, namespace, self.name),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An entry of `metadata.ownerReferences`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerRef {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    #[serde(default)]
    pub controller: bool,
    #[serde(default)]
    pub block_owner_deletion: bool,
}

/// The part of `metadata` that the machinery itself reads.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    #[serde(deserialize_with = "revision_text")]
    pub resource_version: Revision,
    pub generation: i64,
    pub creation_timestamp: Option<Timestamp>,
    pub deletion_timestamp: Option<Timestamp>,
    pub deletion_grace_period_seconds: Option<i64>,
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub owner_references: Vec<OwnerRef>,
    #[serde(deserialize_with = "or_default")]
    pub finalizers: Vec<String>,
}

impl Meta {
    /// The owner that manages this object, if there is one.
    pub fn controller(&self) -> Option<&OwnerRef> {
        self.owner_references.iter().find(|owner| owner.controller)
    }

    pub fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }
}

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

fn revision_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Revision, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    Ok(text.parse().unwrap_or(0))
}

/// Decodes an object's value into its kind's type; the error is a decoding message for a 400.
pub type Decode = fn(&Value) -> Result<Arc<dyn Any + Send + Sync>, String>;

/// What the store knows of a kind's objects: what is indexed, which fields selectors may name, how the typed view is made. The
/// decoder is a pointer and no type parameter, so that each type's is compiled once, where its kind is declared.
#[derive(Clone, Copy, Debug)]
pub struct Fields {
    /// Dotted paths that field selectors may name, beside `metadata.name` and `metadata.namespace`.
    pub selectable: &'static [&'static str],
    /// Those of them that have an index.
    pub indexed: &'static [&'static str],
    /// Whether every label is indexed too.
    pub labels_indexed: bool,
    pub decode: Decode,
}

impl Fields {
    /// Nothing is indexed, and there is no typed view.
    pub const NONE: Fields = Fields {
        selectable: &[],
        indexed: &[],
        labels_indexed: false,
        decode: |_| Err("has no typed view".to_owned()),
    };
}

impl Default for Fields {
    fn default() -> Fields {
        Fields::NONE
    }
}

/// One version of one object.
pub struct Object {
    pub key: Key,
    pub meta: Meta,
    /// Canonical JSON, resourceVersion included.
    pub json: Bytes,
    /// Values of the selectable fields, in the order of `Fields::selectable`; absent fields are empty.
    pub fields: Vec<(&'static str, String)>,
    /// Index terms: `spec.nodeName=n1`, `label:app=web`.
    pub terms: Vec<Arc<str>>,
    decode: Decode,
    typed: OnceLock<Arc<dyn Any + Send + Sync>>,
    protobuf: OnceLock<Bytes>,
}

/// Why bytes are not an object.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {why}")]
pub struct NotAnObject {
    pub key: String,
    pub why: String,
}

impl Object {
    /// Makes an object of its JSON value. The value must carry the resourceVersion under which it is stored.
    ///
    /// # Errors
    /// When `metadata` has wrong types; callers check bodies against the schema first.
    pub fn of_value(key: Key, value: &Value, fields: &Fields) -> Result<Object, NotAnObject> {
        let fail = |why: String| NotAnObject { key: key.to_string(), why };
        let meta = Meta::deserialize(&value["metadata"]).map_err(|e| fail(e.to_string()))?;
        let mut json = serde_json::to_vec(value).map_err(|e| fail(e.to_string()))?;
        // It lives as long as the version; the room for more would, too.
        json.shrink_to_fit();
        Ok(Object::assemble(key, meta, json.into(), value, fields))
    }

    /// Reads an object back from its stored bytes. Of kinds without selectable fields only the metadata is decoded: a start
    /// reads everything there is.
    ///
    /// # Errors
    /// When the bytes are not JSON with metadata.
    pub fn of_json(key: Key, json: Bytes, fields: &Fields) -> Result<Object, NotAnObject> {
        #[derive(Deserialize)]
        struct OnlyMeta {
            metadata: Meta,
        }
        let fail = |why: String| NotAnObject { key: key.to_string(), why };
        let text = std::str::from_utf8(&json).map_err(|e| fail(e.to_string()))?;
        let (meta, value) = if fields.selectable.is_empty() {
            let only: OnlyMeta = serde_json::from_str(text).map_err(|e| fail(e.to_string()))?;
            (only.metadata, Value::Null)
        } else {
            let value: Value = serde_json::from_str(text).map_err(|e| fail(e.to_string()))?;
            (Meta::deserialize(&value["metadata"]).map_err(|e| fail(e.to_string()))?, value)
        };
        Ok(Object::assemble(key, meta, json, &value, fields))
    }

    fn assemble(key: Key, meta: Meta, json: Bytes, value: &Value, spec: &Fields) -> Object {
        let fields: Vec<_> = spec.selectable.iter().map(|path| (*path, selectable_text(value, path))).collect();
        let mut terms: Vec<Arc<str>> = Vec::new();
        for (path, text) in &fields {
            if spec.indexed.contains(path) && !text.is_empty() {
                terms.push(format!("{path}={text}").into());
            }
        }
        if spec.labels_indexed {
            terms.extend(meta.labels.iter().map(|(k, v)| Arc::from(format!("label:{k}={v}"))));
        }
        Object {
            key,
            meta,
            json,
            fields,
            terms,
            decode: spec.decode,
            typed: OnceLock::new(),
            protobuf: OnceLock::new(),
        }
    }

    /// The whole object as a value, parsed anew.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.json).expect("stored bytes were encoded from a value")
    }

    /// The object as the message `of`, always the same for one kind: made when it is first asked for, and kept.
    ///
    /// # Errors
    /// When a value does not fit its field; callers check bodies against the schema before they store them.
    pub fn protobuf(&self, of: &'static Message) -> Result<Bytes, EncodeError> {
        if let Some(made) = self.protobuf.get() {
            return Ok(made.clone());
        }
        let mut made = protobuf::encode_json(of, &self.json)?;
        made.shrink_to_fit();
        Ok(self.protobuf.get_or_init(|| made.into()).clone())
    }

    /// The message, if somebody has asked for it.
    pub fn known_protobuf(&self) -> Option<&Bytes> {
        self.protobuf.get()
    }

    pub fn revision(&self) -> Revision {
        self.meta.resource_version
    }

    /// The typed view, decoded on first use and kept.
    ///
    /// # Panics
    /// When `T` is not the type that the object's kind was declared with. Decoding cannot fail: every write decodes the object
    /// before it is stored.
    pub fn view<T: Any + Send + Sync>(&self) -> Arc<T> {
        let decode = || (self.decode)(&self.value()).expect("checked against its type when it was written");
        let typed = self.typed.get_or_init(decode);
        Arc::clone(typed).downcast::<T>().unwrap_or_else(|_| panic!("{self:?} is of another type than its reader's"))
    }

    /// Hands over a typed view that the writer has decoded already.
    pub fn with_view(self, typed: Arc<dyn Any + Send + Sync>) -> Object {
        let _ = self.typed.set(typed);
        self
    }

    /// How many bytes of memory the version holds, about: the decoded view is some three times its JSON.
    pub fn weight(&self) -> usize {
        const DECODED_META: usize = 1 << 10;
        let view = if self.typed.get().is_some() { 3 * self.json.len() } else { 0 };
        DECODED_META + self.json.len() + view
    }

    /// The value of a selectable field; `metadata.name` and `metadata.namespace` always are.
    pub fn field(&self, path: &str) -> Option<&str> {
        match path {
            "metadata.name" => Some(&self.key.name),
            "metadata.namespace" => Some(&self.key.namespace),
            _ => self.fields.iter().find(|(p, _)| *p == path).map(|(_, text)| text.as_str()),
        }
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.key, self.meta.resource_version)
    }
}

/// What a field selector compares: the text of the path, but for the few that Kubernetes reads otherwise.
fn selectable_text(value: &Value, path: &str) -> String {
    let text = match path {
        // The component of an event, new style or old.
        "source" => field_text(value, "source.component"),
        _ => field_text(value, path),
    };
    match path {
        // Flags are left out of the object when they are false.
        "spec.hostNetwork" | "spec.unschedulable" if text.is_empty() => "false".to_owned(),
        "source" if text.is_empty() => field_text(value, "reportingComponent"),
        _ => text,
    }
}

/// The text of a dotted path in a value: scalars as they print, everything else empty.
pub fn field_text(value: &Value, path: &str) -> String {
    let mut at = value;
    for part in path.split('.') {
        at = &at[part];
    }
    match at {
        Value::String(text) => text.clone(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const FIELDS: Fields = Fields {
        selectable: &["spec.nodeName", "status.phase"],
        indexed: &["spec.nodeName"],
        labels_indexed: true,
        ..Fields::NONE
    };

    #[test]
    fn an_object_reads_back_equal() {
        let value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b", "uid": "u",
            "resourceVersion": "7", "labels": {"app": "web"}, "annotations": null}, "spec": {"nodeName": "n1"}});
        let key = Key::new("pods", "b", "a");
        let made = Object::of_value(key.clone(), &value, &FIELDS).unwrap();
        let read = Object::of_json(key, made.json.clone(), &FIELDS).unwrap();
        assert_eq!(made.meta, read.meta);
        assert_eq!(read.revision(), 7);
        assert_eq!(read.value(), value);
        assert_eq!(read.terms.iter().map(|t| &**t).collect::<Vec<_>>(), ["spec.nodeName=n1", "label:app=web"]);
        assert_eq!(read.field("status.phase"), Some(""));
        assert_eq!(read.field("spec.other"), None);
    }

    #[test]
    fn the_protobuf_form_is_made_once() {
        let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
        let object = Object::of_value(Key::new("configmaps", "b", "a"), &value, &FIELDS).unwrap();
        let of = protobuf::message_of("v1", "ConfigMap").unwrap();
        assert!(object.known_protobuf().is_none());
        let made = object.protobuf(of).unwrap();
        assert_eq!(made.as_ptr(), object.protobuf(of).unwrap().as_ptr());
        assert_eq!(protobuf::decode(of, &made).unwrap()["data"], json!({"k": "v"}));
    }

    #[test]
    fn an_object_without_selectable_fields_reads_back_from_its_metadata() {
        let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"metadata": "no"}, "metadata": {"name": "a",
            "resourceVersion": "7", "labels": {"app": "web"}, "managedFields": [{"manager": "m"}]}});
        let fields = Fields { selectable: &[], indexed: &[], labels_indexed: true, ..Fields::NONE };
        let made = Object::of_value(Key::new("configmaps", "b", "a"), &value, &fields).unwrap();
        let read = Object::of_json(made.key.clone(), made.json.clone(), &fields).unwrap();
        assert_eq!((&made.meta, &made.terms, &made.json), (&read.meta, &read.terms, &read.json));
        let key = Key::new("configmaps", "b", "a");
        for rubbish in
            [&b"{}"[..], b"{\"metadata\":{}", b"[]", b"{\"metadata\":{},\"data\":\"\xff\"}", b"{\"metadata\":7}"]
        {
            assert!(Object::of_json(key.clone(), Bytes::from_static(rubbish), &fields).is_err());
        }
    }

    #[test]
    fn flags_and_sources_are_selected_as_kubernetes_does() {
        let fields = Fields {
            selectable: &["spec.unschedulable", "source"],
            indexed: &[],
            labels_indexed: false,
            ..Fields::NONE
        };
        let object = |value: Value| Object::of_value(Key::new("x", "", "a"), &value, &fields).unwrap();
        let plain = object(json!({"metadata": {}, "reportingComponent": "agent"}));
        assert_eq!((plain.field("spec.unschedulable"), plain.field("source")), (Some("false"), Some("agent")));
        let cordoned = object(json!({"metadata": {}, "spec": {"unschedulable": true}, "source": {"component": "k"}}));
        assert_eq!((cordoned.field("spec.unschedulable"), cordoned.field("source")), (Some("true"), Some("k")));
    }

    #[test]
    fn keys_order_by_kind_namespace_name() {
        let mut keys = [Key::new("pods", "b", "a"), Key::new("nodes", "", "z"), Key::new("pods", "a", "z")];
        keys.sort();
        assert_eq!(format!("{keys:?}"), "[nodes/z, pods/a/z, pods/b/a]");
    }
}
