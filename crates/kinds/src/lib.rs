//! One declaration per kind: every fact about a kind is written once, here, and everything else is derived from it (Once).
//!
//! `Kind` is plain data and `Copy`; the names that a custom kind brings are interned. Built-in kinds are constants in `ALL`; a CustomResourceDefinition makes the same value at run time.
//! `Registry` is the immutable table of all kinds that are served at one moment.
//!
//! To add a kind without behaviour, add a constant to `plain.rs` and a line in `ALL`. To add one with behaviour, add a file with a
//! constant and an `impl Behavior` for its type:
//!
//! ```
//! use serde_json::{Value, json};
//! use stead_api::{Errors, FieldPath};
//! use stead_kinds::{Behavior, Hooks, Kind, Names};
//!
//! #[derive(serde::Deserialize)]
//! struct Widget { size: i64 }
//!
//! impl Behavior for Widget {
//!     fn default(new: &mut Value) {
//!         stead_kinds::fill::set(new, "size", 1);
//!     }
//!     fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
//!         if self.size < 0 {
//!             errors.invalid(&FieldPath::new("size"), self.size, stead_kinds::check::NOT_NEGATIVE);
//!         }
//!     }
//! }
//!
//! const NAMES: Names = Names { kind: "Widget", list_kind: "WidgetList", plural: "widgets", singular: "widget" };
//! const WIDGET: Kind = Kind {
//!     short: &["wd"],
//!     namespaced: false,
//!     hooks: Hooks::of::<Widget>(),
//!     ..Kind::plain("widgets.example.com", "example.com", "v1", NAMES, "com.example.v1.Widget")
//! };
//!
//! let mut widget = json!({"metadata": {"name": "w"}});
//! (WIDGET.hooks.default)(&mut widget);
//! assert_eq!(widget["size"], 1);
//! assert!(WIDGET.check(&widget, None).unwrap().errors.is_empty());
//! widget["size"] = json!(-1);
//! assert_eq!(WIDGET.check(&widget, None).unwrap().errors.0.len(), 1);
//! ```

pub mod admissionpolicy;
pub mod apiservice;
pub mod certificate_request;
pub mod certificatesigningrequest;
pub mod check;
pub mod columns;
pub mod config;
pub mod cron;
pub mod cronjob;
pub mod csi;
pub mod custom;
pub mod customresourcedefinition;
pub mod daemonset;
pub mod deployment;
pub mod devices;
pub mod endpoints;
pub mod event;
mod expressions;
pub mod fill;
#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
pub mod flowcontrol;
pub mod horizontalpodautoscaler;
pub mod human;
pub mod ingress;
pub mod job;
pub mod limitrange;
pub mod meta;
pub mod names;
pub mod namespace;
pub mod networkpolicy;
pub mod node;
pub mod old;
pub mod path;
pub mod persistentvolume;
pub mod persistentvolumeclaim;
pub mod plain;
pub mod pod;
pub mod poddisruptionbudget;
pub mod podtemplate;
pub mod rbac;
pub mod registry;
pub mod replicaset;
pub mod replicationcontroller;
pub mod resourcequota;
pub mod review;
pub mod runtimeclass;
pub mod service;
pub mod servicecidr;
pub mod statefulset;
pub mod storageclass;
pub mod template;
pub mod webhook;
pub mod workload;

use std::any::Any;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;
use stead_api::object::Fields;
use stead_api::{Errors, FieldPath, KindName, Object};

pub use registry::Registry;

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
    pub fields: Fields,
    pub columns: &'static [Column],
    pub hooks: Hooks,
    /// Where the schema is: a definition's name (`io.k8s.api.apps.v1.StatefulSet`), or the CRD's own.
    pub schema: SchemaRef,
    /// Whether `metadata.generation` counts changes of everything but metadata and status.
    pub has_generation: bool,
    /// Whether PUT without resourceVersion is allowed, and whether PUT creates.
    pub unconditional_update: bool,
    pub create_on_update: bool,
    /// How a version other than the stored one is read and written; None for the stored version.
    pub convert: Option<Convert>,
    /// Set for the stored version of a custom kind whose objects may be stored in older versions, too, so that it has a `convert`.
    pub is_stored: bool,
    /// Whether a webhook turns one version into another: `convert` is not asked then.
    pub by_webhook: bool,
    /// Set for versions that Kubernetes no longer serves.
    pub old: Option<old::Old>,
    /// What clients of this version are told: a definition marked it as deprecated. Else empty.
    pub deprecated: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaRef {
    Definition(&'static str),
    /// A custom resource's `openAPIV3Schema`: `Registry::custom_schema` has it.
    Custom,
}

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

/// A column of `kubectl get`.
#[derive(Clone, Copy)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `date`, …
    pub r#type: &'static str,
    /// `name` for the name column, else empty.
    pub format: &'static str,
    pub description: &'static str,
    /// Shown with `-o wide` only (priority 1).
    pub wide: bool,
    pub cell: Cell,
}

#[derive(Clone, Copy)]
pub enum Cell {
    Name,
    /// Time since `metadata.creationTimestamp`.
    Age,
    /// A dotted path; missing values print as `<none>`.
    Path(&'static str),
    /// A JSONPath of a custom resource's column, without braces.
    JsonPath(&'static str),
    /// Anything else. The second argument is now.
    Of(fn(&Object, jiff::Timestamp) -> Value),
}

/// A kind's behaviour, with its type erased. Defaults and preparation work on the JSON value, so that nothing a client wrote is
/// lost by a round trip; validation works on the decoded type.
#[derive(Clone, Copy)]
pub struct Hooks {
    /// Fills in defaults. Idempotent.
    pub default: fn(&mut Value),
    /// Clears what clients may not set and carries over what they may not change (status on spec writes is done for all kinds).
    pub prepare: fn(new: &mut Value, old: Option<&Value>),
    /// Decodes into the kind's own type; the error is a decoding message for a 400.
    pub decode: fn(&Value) -> Result<Arc<dyn Any + Send + Sync>, String>,
    /// Checks a decoded object; `old` is the stored version on updates. Accumulates.
    pub validate: fn(new: &(dyn Any + Send + Sync), old: Option<&Object>, errors: &mut Errors),
    /// Warnings for the client.
    pub warn: fn(new: &(dyn Any + Send + Sync), old: Option<&Object>) -> Vec<String>,
}

/// What a kind does beside being stored; every method has a default.
pub trait Behavior: DeserializeOwned + Send + Sync + 'static {
    fn default(_new: &mut Value) {}
    fn prepare(_new: &mut Value, _old: Option<&Value>) {}
    fn validate(&self, _old: Option<&Self>, _errors: &mut Errors) {}
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
            fields: Fields { selectable: &[], indexed: &[], labels_indexed: false },
            columns: DEFAULT_COLUMNS,
            hooks: Hooks::NONE,
            schema: SchemaRef::Definition(definition),
            has_generation: false,
            unconditional_update: true,
            create_on_update: false,
            convert: None,
            is_stored: false,
            by_webhook: false,
            old: None,
            deprecated: "",
        }
    }

    /// Decodes a defaulted and prepared object into its kind's type and checks all of it, metadata included; nothing is
    /// stopped at the first mistake.
    ///
    /// # Errors
    /// When the value does not have the shape of its type: a message for a 400.
    pub fn check(&self, new: &Value, old: Option<&Object>) -> Result<Checked, String> {
        let typed = (self.hooks.decode)(new)?;
        let mut errors = Errors::default();
        meta::validate(self, new, old, &mut errors);
        if let Some(old) = old.filter(|_| !self.immutable.is_empty()) {
            self.check_immutable(new, &old.value(), &mut errors);
        }
        (self.hooks.validate)(&*typed, old, &mut errors);
        let warnings = if errors.is_empty() { (self.hooks.warn)(&*typed, old) } else { Vec::new() };
        Ok(Checked { typed, errors, warnings })
    }

    /// Refuses changes of what may not change after creation.
    pub fn check_immutable(&self, new: &Value, old: &Value, errors: &mut Errors) {
        for path in self.immutable {
            let at =
                |value| path.split('.').try_fold(value, |at: &Value, part| at.get(part)).cloned().unwrap_or_default();
            let (new, old) = (at(new), at(old));
            if !check::semantically_equal(&new, &old) {
                errors.invalid(&FieldPath::new(path), new, check::FIELD_IS_IMMUTABLE);
            }
        }
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

/// What `Kind::check` found.
pub struct Checked {
    /// The decoded object, for `Object::with_view`.
    pub typed: Arc<dyn Any + Send + Sync>,
    /// Empty when the object may be stored.
    pub errors: Errors,
    pub warnings: Vec<String>,
}

/// The four names of a kind.
pub struct Names {
    pub kind: &'static str,
    pub list_kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
}

pub use columns::{AGE_COLUMN, DEFAULT_COLUMNS, NAME_COLUMN};

/// Every built-in kind.
pub const ALL: &[Kind] = &[
    namespace::NAMESPACE,
    node::NODE,
    pod::POD,
    service::SERVICE,
    endpoints::ENDPOINTS,
    config::CONFIGMAP,
    config::SECRET,
    namespace::SERVICEACCOUNT,
    event::EVENT,
    event::EVENTS_EVENT,
    persistentvolume::PERSISTENTVOLUME,
    persistentvolumeclaim::PERSISTENTVOLUMECLAIM,
    replicationcontroller::REPLICATIONCONTROLLER,
    podtemplate::PODTEMPLATE,
    resourcequota::RESOURCEQUOTA,
    limitrange::LIMITRANGE,
    plain::COMPONENTSTATUS,
    plain::BINDING,
    endpoints::ENDPOINTSLICE,
    storageclass::STORAGECLASS,
    csi::VOLUMEATTACHMENT,
    csi::CSINODE,
    csi::CSIDRIVER,
    csi::CSISTORAGECAPACITY,
    csi::VOLUMEATTRIBUTESCLASS,
    statefulset::STATEFULSET,
    deployment::DEPLOYMENT,
    replicaset::REPLICASET,
    daemonset::DAEMONSET,
    plain::CONTROLLERREVISION,
    plain::LEASE,
    job::JOB,
    cronjob::CRONJOB,
    horizontalpodautoscaler::HORIZONTALPODAUTOSCALER,
    horizontalpodautoscaler::HORIZONTALPODAUTOSCALER_V1,
    ingress::INGRESS,
    ingress::INGRESSCLASS,
    networkpolicy::NETWORKPOLICY,
    servicecidr::SERVICECIDR,
    servicecidr::IPADDRESS,
    poddisruptionbudget::PODDISRUPTIONBUDGET,
    certificatesigningrequest::CERTIFICATESIGNINGREQUEST,
    runtimeclass::RUNTIMECLASS,
    webhook::MUTATINGWEBHOOKCONFIGURATION,
    webhook::VALIDATINGWEBHOOKCONFIGURATION,
    admissionpolicy::VALIDATINGADMISSIONPOLICY,
    admissionpolicy::VALIDATINGADMISSIONPOLICYBINDING,
    admissionpolicy::MUTATINGADMISSIONPOLICY,
    admissionpolicy::MUTATINGADMISSIONPOLICYBINDING,
    apiservice::APISERVICE,
    flowcontrol::FLOWSCHEMA,
    flowcontrol::PRIORITYLEVELCONFIGURATION,
    devices::DEVICECLASS,
    devices::RESOURCECLAIM,
    devices::RESOURCECLAIMTEMPLATE,
    devices::RESOURCESLICE,
    plain::PRIORITYCLASS,
    customresourcedefinition::CUSTOMRESOURCEDEFINITION,
    rbac::ROLE,
    rbac::CLUSTERROLE,
    rbac::ROLEBINDING,
    rbac::CLUSTERROLEBINDING,
    review::SUBJECTACCESSREVIEW,
    review::SELFSUBJECTACCESSREVIEW,
    review::LOCALSUBJECTACCESSREVIEW,
    review::SELFSUBJECTRULESREVIEW,
    review::SELFSUBJECTREVIEW,
    review::TOKENREVIEW,
];
