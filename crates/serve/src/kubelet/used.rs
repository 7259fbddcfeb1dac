//! What a pod uses of its machine.

use std::sync::Arc;

use stead_api::Object;
use stead_host::usage::Usage;

/// A pod that uses something, and each of its running containers.
pub struct PodUsage {
    pub pod: Arc<Object>,
    pub usage: Usage,
    pub containers: Vec<(String, Usage)>,
}
