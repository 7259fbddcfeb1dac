//! What is under way and due about the node's own objects.

use jiff::{SignedDuration, Timestamp};
use stead_api::{Revision, Status};

use crate::config::NodeConfig;
use crate::exchange::{Pending, request_retry};

const LEASE_EVERY: SignedDuration = SignedDuration::from_secs(10);

/// What is under way and due about the node's own objects.
#[derive(Debug, Default)]
pub(crate) struct NodeDuty {
    pub is_node_under_way: bool,
    pub node_retry_at: Option<Timestamp>,
    pub node_failures: u32,
    pub status_at: Option<Timestamp>,
    pub status_sent: Option<Timestamp>,
    /// The revision of the node's object that was found right.
    pub checked: Option<Revision>,
    pub is_lease_under_way: bool,
    pub lease_at: Option<Timestamp>,
    pub lease_failures: u32,
    /// When the lease that the server has was renewed, by our clock.
    pub renewed_at: Option<Timestamp>,
    pub is_lost: bool,
    pub has_started: bool,
    pub has_told_reboot: bool,
}

impl NodeDuty {
    pub fn wake_at(&self, config: &NodeConfig) -> Option<Timestamp> {
        let lease = self.lease_at.filter(|_| !self.is_lease_under_way);
        let node = self.node_retry_at.or(self.status_at).filter(|_| !self.is_node_under_way);
        let fence = config.fence_after.filter(|_| !self.is_lost).and_then(|after| Some(self.renewed_at? + after));
        [lease, node, fence].into_iter().flatten().min()
    }

    /// What the node says of itself may have changed.
    pub fn look_again(&mut self) {
        self.checked = None;
    }

    pub fn replied(&mut self, now: Timestamp, what: &Pending, failure: Option<&Status>) {
        match (what, failure) {
            (Pending::Lease { renewed_at }, None) => {
                self.is_lease_under_way = false;
                self.lease_failures = 0;
                self.renewed_at = Some(*renewed_at);
                self.lease_at = Some(*renewed_at + LEASE_EVERY);
            }
            (Pending::Lease { .. }, Some(_)) => {
                self.is_lease_under_way = false;
                self.lease_failures += 1;
                self.lease_at = Some(now + request_retry(self.lease_failures));
            }
            (_, None) => {
                self.is_node_under_way = false;
                self.node_failures = 0;
                self.node_retry_at = None;
            }
            // Registered by an earlier life: the head will show it.
            (Pending::Node, Some(status)) if status.reason == "AlreadyExists" => self.is_node_under_way = false,
            (_, Some(_)) => {
                self.is_node_under_way = false;
                self.node_failures += 1;
                self.node_retry_at = Some(now + request_retry(self.node_failures));
            }
        }
    }
}
