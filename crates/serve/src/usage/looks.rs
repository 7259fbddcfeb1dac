//! What was seen at a look, kept for the next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use stead_host::usage::Usage;
use tokio::sync::Mutex;

use crate::kubelet::PodUsage;

/// The last two looks at what is used.
#[derive(Default)]
pub struct Meter(pub Mutex<VecDeque<Arc<Look>>>);

pub struct Look {
    pub at: Instant,
    pub time: Timestamp,
    pub nodes: Vec<(String, Usage)>,
    pub pods: Vec<PodUsage>,
}
