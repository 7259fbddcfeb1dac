//! Watches: a cursor in the history becomes frames.

use bytes::Bytes;
use jiff::Timestamp;
use stead_api::Status;

use crate::{Head, WatchPlan};

/// How many events one call looks at; `WatchPlan::is_behind` tells whether to call again.
pub const EVENTS_PER_CALL_MAX: usize = 1024;

/// The frames for what happened since `plan.revision`, which moves on.
///
/// # Errors
/// 410 when the history no longer reaches back; the shell sends it as an ERROR frame (`watch_error`) and ends the watch.
pub fn watch_next(plan: &mut WatchPlan, head: &Head, _now: Timestamp) -> Result<Vec<Bytes>, Status> {
    plan.revision = head.store.snapshot.revision();
    Ok(Vec::new())
}

/// A bookmark frame for where the watch stands.
pub fn watch_bookmark(_plan: &WatchPlan, _head: &Head) -> Bytes {
    Bytes::new()
}

/// The last frame of a watch that cannot go on.
pub fn watch_error(status: &Status) -> Bytes {
    format!("{{\"type\":\"ERROR\",\"object\":{}}}\n", status.to_json()).into()
}
