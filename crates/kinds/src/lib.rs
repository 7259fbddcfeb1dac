//! One declaration per kind: every fact about a kind is written once, here, and everything else is derived from it (Once).
//!
//! `Kind` is plain data and `Copy`; the names that a custom kind brings are interned. Built-in kinds are constants in `ALL`; a CustomResourceDefinition makes the same value at run time.
//! `Registry` is the immutable table of all kinds that are served at one moment.
//!
//! To add a kind without behaviour, add a constant to `plain.rs` and a line in `ALL` (`all.rs`). To add one with behaviour, add a file with a
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
mod all;
pub mod apiservice;
pub mod certificate_request;
pub mod certificatesigningrequest;
pub mod check;
mod checked;
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
mod kind;
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
pub mod policy_types;
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

pub use all::ALL;
pub use checked::Checked;
pub use columns::{AGE_COLUMN, Cell, Column, DEFAULT_COLUMNS, NAME_COLUMN};
pub use kind::{Behavior, Convert, Hooks, Kind, METADATA, Names, Old, Plain, SchemaRef, Subresource, Verbs};
pub use registry::Registry;
