//! The node stops: every pod comes down as if it were deleted, but stays in the API server, so that the next start brings it back.
//!
//! Guarantees: preStop hooks, stop signals and grace periods are those of a deletion (stop.rs), sidecars last; nothing is started
//! once it was asked for; a pod is killed at the bound whatever its own grace says. The last statuses are sent before the end.
//! Upstream: nodeshutdown of the kubelet, which also fails the pods; here they keep their identity and their volumes.

use jiff::{SignedDuration, Timestamp};

use crate::agent::NodeAgent;
use crate::exchange::Pending;
use crate::stop;

/// How long after the last pod was to be killed the agent still waits for the machine and the API server.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);
/// No pod's own grace counts for longer.
const WITHIN_MAX: SignedDuration = SignedDuration::from_hours(24 * 365);

impl NodeAgent {
    pub(crate) fn shut_down(&mut self, now: Timestamp, within: Option<SignedDuration>) {
        let kill_at = now + within.unwrap_or(WITHIN_MAX).clamp(SignedDuration::ZERO, WITHIN_MAX);
        self.kill_all_at = Some(kill_at);
        self.dirty.extend(self.pods.keys().cloned());
    }

    /// Nothing of any pod is left on the machine but files, and the API server knows.
    pub fn is_shut_down(&self) -> bool {
        let is_told = || !self.pending.values().any(|p| matches!(p, Pending::Status(_) | Pending::Confirm(_)));
        self.kill_all_at.is_some() && self.is_ready() && self.pods.values().all(stop::is_down) && is_told()
    }

    /// Until when a shutdown is worth waiting for: the last pod's end and some patience with what hangs.
    pub fn shutdown_over_at(&self) -> Option<Timestamp> {
        let kill_at = self.kill_all_at?;
        let last = self.pods.values().filter(|pod| !stop::is_down(pod)).filter_map(stop::last_kill_at).max();
        Some(last.map_or(kill_at, |at| at.min(kill_at)) + PATIENCE)
    }
}
