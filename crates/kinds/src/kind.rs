//! `Kind`: everything that there is to know about a kind, as plain data.

use std::any::Any;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;
use stead_api::object::{Decode, Fields};
use stead_api::{Errors, KindName, Object};

use crate::columns::{Column, DEFAULT_COLUMNS};

/// Everything there is to know about a kind in one served version.
#[derive(Clone, Copy)]
pub struct Kind {
    /// The storage name, shared by all served versions: `statefulsets.apps`.
    pub storage: KindName,
    /// Empty for core.
    pub group: &'static str,
    pub version: &'static str,
    /// `StatefulSet`.
    pub kind: &'static str,
    /// `StatefulSetList`.
    pub list_kind: &'static str,
    /// `statefulsets`.
    pub plural: &'static str,
    /// `statefulset`.
    pub singular: &'static str,
    pub short: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub namespaced: bool,
    /// What `metadata.name` may look like: one message per broken rule.
    pub name_rule: fn(&str) -> Vec<String>,
    /// Whether requests may name it; false for a stored version of a custom kind that is no longer served.
    pub served: bool,
    pub verbs: Verbs,
    pub subresources: &'static [Subresource],
    /// Dotted paths that may not change after creation; `Kind::check` refuses with "field is immutable".
    pub immutable: &'static [&'static str],
    /// Without the decoder, which is in `hooks`: see [`Kind::stored_fields`].
    pub fields: Fields,
    /// What this version calls selectable fields that the stored one calls otherwise: its name and theirs.
    pub selectable_as: &'static [(&'static str, &'static str)],
    pub columns: &'static [Column],
    pub hooks: Hooks,
    /// Where the schema is: a definition's name (`io.k8s.api.apps.v1.StatefulSet`), or the CRD's own.
    pub schema: SchemaRef,
    /// Whether `metadata.generation` counts changes of everything but metadata and status.
    pub has_generation: bool,
    /// Whether PUT without resourceVersion is allowed, and whether PUT creates.
    pub unconditional_update: bool,
    pub create_on_update: bool,
    /// Dotted paths that a write of the status leaves as they are, beside the spec: nothing, [`METADATA`] or a part of it.
    pub status_keeps: &'static [&'static str],
    /// How a version other than the stored one is read and written; None for the stored version.
    pub convert: Option<Convert>,
    /// Set for the stored version of a custom kind whose objects may be stored in older versions, too, so that it has a `convert`.
    pub is_stored: bool,
    /// Whether a webhook turns one version into another: `convert` is not asked then.
    pub by_webhook: bool,
    /// A custom kind with versions of different schemas: a change is decided in the version that was sent.
    pub is_versioned: bool,
    /// Set for versions that Kubernetes no longer serves.
    pub old: Option<Old>,
    /// What clients of this version are told: a definition marked it as deprecated. Else empty.
    pub deprecated: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaRef {
    Definition(&'static str),
    /// A custom resource's `openAPIV3Schema`: `Registry::custom_schema` has it.
    Custom,
}

/// What younger kinds keep when their status is written; older ones take labels, annotations and finalizers with it.
pub const METADATA: &[&str] = &["metadata"];

/// Which verbs a resource has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbs {
    All,
    /// Reviews: they are answered, not stored.
    CreateOnly,
    ReadOnly,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Subresource {
    Status,
    /// Dotted paths of the replica counts; `selector` is the path of a label selector object, or of its text for custom resources.
    Scale {
        spec: &'static str,
        status: &'static str,
        selector: &'static str,
    },
    /// Any other, by its name: log, exec, attach, portforward, proxy, binding, eviction, token, approval, finalize, ephemeralcontainers, resize.
    Named(&'static str),
}

impl Subresource {
    pub fn name(&self) -> &'static str {
        match self {
            Subresource::Status => "status",
            Subresource::Scale { .. } => "scale",
            Subresource::Named(name) => name,
        }
    }
}

/// From and to the stored version. The caller sets `apiVersion`; a conversion changes the rest.
#[derive(Clone, Copy)]
pub struct Convert {
    pub from_stored: fn(&mut Value),
    pub to_stored: fn(&mut Value),
}

/// A kind's behaviour, with its type erased. Defaults and preparation work on the JSON value, so that nothing a client wrote is
/// lost by a round trip; validation works on the decoded type.
#[derive(Clone, Copy)]
pub struct Hooks {
    /// Fills in defaults. Idempotent.
    pub default: fn(&mut Value),
    /// Clears what clients may not set and carries over what they may not change (status on spec writes is done for all kinds).
    pub prepare: fn(new: &mut Value, old: Option<&Value>),
    /// Decodes into the kind's own type.
    pub decode: Decode,
    /// Checks a decoded object; `old` is the stored version on updates. Accumulates.
    pub validate: fn(new: &(dyn Any + Send + Sync), old: Option<&Object>, errors: &mut Errors),
    /// Checks a change by way of a subresource that has rules of its own.
    pub validate_part: fn(part: &str, new: &(dyn Any + Send + Sync), old: Option<&Object>, errors: &mut Errors),
    /// Warnings for the client.
    pub warn: fn(new: &(dyn Any + Send + Sync), old: Option<&Object>) -> Vec<String>,
}

/// What a kind does beside being stored; every method has a default.
pub trait Behavior: DeserializeOwned + Send + Sync + 'static {
    fn default(_new: &mut Value) {}
    fn prepare(_new: &mut Value, _old: Option<&Value>) {}
    fn validate(&self, _old: Option<&Self>, _errors: &mut Errors) {}
    fn validate_part(&self, _part: &str, old: Option<&Self>, errors: &mut Errors) {
        self.validate(old, errors);
    }
    fn warn(&self, _old: Option<&Self>) -> Vec<String> {
        Vec::new()
    }
}

/// A kind that is only stored.
#[derive(serde::Deserialize)]
pub struct Plain {}

impl Behavior for Plain {}

impl Hooks {
    pub const NONE: Hooks = Hooks::of::<Plain>();

    pub const fn of<T: Behavior>() -> Hooks {
        Hooks {
            default: T::default,
            prepare: T::prepare,
            decode: |value| match T::deserialize(value) {
                Ok(typed) => Ok(Arc::new(typed)),
                Err(error) => Err(error.to_string()),
            },
            validate: |new, old, errors| {
                if let Some(new) = new.downcast_ref::<T>() {
                    let old = old.map(|o| o.view::<T>());
                    new.validate(old.as_deref(), errors);
                }
            },
            validate_part: |part, new, old, errors| {
                if let Some(new) = new.downcast_ref::<T>() {
                    let old = old.map(|o| o.view::<T>());
                    new.validate_part(part, old.as_deref(), errors);
                }
            },
            warn: |new, old| match new.downcast_ref::<T>() {
                Some(new) => {
                    let old = old.map(|o| o.view::<T>());
                    new.warn(old.as_deref())
                }
                None => Vec::new(),
            },
        }
    }
}

impl Kind {
    /// A namespaced kind with all verbs, generation counted, and no behaviour; constants override what differs.
    pub const fn plain(
        storage: KindName,
        group: &'static str,
        version: &'static str,
        names: Names,
        definition: &'static str,
    ) -> Kind {
        Kind {
            storage,
            group,
            version,
            kind: names.kind,
            list_kind: names.list_kind,
            plural: names.plural,
            singular: names.singular,
            short: &[],
            categories: &[],
            namespaced: true,
            name_rule: stead_api::names::dns1123_subdomain,
            served: true,
            verbs: Verbs::All,
            subresources: &[],
            immutable: &[],
            fields: Fields::NONE,
            selectable_as: &[],
            columns: DEFAULT_COLUMNS,
            hooks: Hooks::NONE,
            schema: SchemaRef::Definition(definition),
            has_generation: false,
            unconditional_update: true,
            create_on_update: false,
            status_keeps: &[],
            convert: None,
            is_stored: false,
            by_webhook: false,
            is_versioned: false,
            old: None,
            deprecated: "",
        }
    }

    /// What the store has to know of the kind's objects.
    pub fn stored_fields(&self) -> Fields {
        Fields { decode: self.hooks.decode, ..self.fields }
    }

    /// `apps/v1` or `v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name() == name)
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {}", self.kind, self.api_version())
    }
}

/// The four names of a kind.
pub struct Names {
    pub kind: &'static str,
    pub list_kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
}

/// What an old version is told of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Old {
    /// The minor versions of Kubernetes since which it was deprecated and gone.
    pub deprecated: u8,
    pub removed: u8,
}
