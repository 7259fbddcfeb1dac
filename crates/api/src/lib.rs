//! The vocabulary: what an API object is, who asks for what, and how an answer may fail.
//!
//! Start here, then `object.rs`, `request.rs` and `status.rs`. Nothing in this crate does I/O, reads a clock or knows a kind
//! by name; every other crate speaks in these words.

pub mod apply;
pub mod call;
pub mod document;
pub mod form;
pub mod names;
pub mod object;
pub mod patch;
pub mod protobuf;
pub mod quantity;
pub mod remarks;
pub mod request;
pub mod schema;
pub mod selector;
pub mod status;
pub mod token;
pub mod user;

pub use form::{Form, Format};
pub use object::{Key, KindName, Meta, Object, OwnerRef, Revision, intern};
pub use quantity::{IntOrPercent, Quantity};
pub use remarks::{Notes, Remarks};
pub use request::{Noted, Options, PatchType, Request, Resource, Target, Verb};
pub use schema::Schema;
pub use selector::{FieldSelector, LabelSelector};
pub use status::{Cause, Errors, FieldPath, Status};
pub use token::TokenClaims;
pub use user::User;
