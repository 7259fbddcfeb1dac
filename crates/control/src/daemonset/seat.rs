//! A node, what a DaemonSet wants of it, and what is there.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use stead_api::Object;

use crate::facts;

/// A pod of the set with what matters of it.
pub(crate) struct Member<'a> {
    pub object: &'a Arc<Object>,
    pub is_current: bool,
    pub is_ready: bool,
    pub is_available: bool,
}

impl Member<'_> {
    pub fn is_going(&self) -> bool {
        self.object.meta.is_deleting()
    }

    pub fn has_failed(&self) -> bool {
        facts::phase(&self.object.view::<Pod>()) == "Failed"
    }
}

/// A node, what the set wants of it, and what is there.
pub(crate) struct Seat<'a> {
    pub node: &'a Arc<Object>,
    pub should_run: bool,
    pub may_stay: bool,
    pub members: Vec<Member<'a>>,
}
