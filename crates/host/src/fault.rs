//! Why an action failed.

use stead_node::action::Reason;

/// Why an action failed, before it is put into an observation.
pub(crate) struct Fault {
    pub reason: Reason,
    pub message: String,
}
