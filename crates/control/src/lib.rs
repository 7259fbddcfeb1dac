//! Controllers: what should be done, as data.
//!
//! A controller is a constant: its name, what wakes it, and a function from a snapshot, a key and now to a `Plan`. It never learns
//! why it was called, cannot fail and does nothing itself; `plane.rs` applies plans through the same write path as a user's
//! request (One path).

pub mod plan;

pub use plan::{Action, Controller, EventType, Note, Plan, View, Watch};
