//! How far a stream is.

use std::sync::atomic::{AtomicBool, Ordering};

/// What the reading loop and a stream's output both know.
pub(crate) struct StreamState {
    pub id: u32,
    local_closed: AtomicBool,
}

impl StreamState {
    /// A unidirectional stream is closed on our side from the start.
    pub fn new(id: u32, is_unidirectional: bool) -> StreamState {
        StreamState { id, local_closed: AtomicBool::new(is_unidirectional) }
    }

    /// True the first time.
    pub fn close_local(&self) -> bool {
        !self.local_closed.swap(true, Ordering::Relaxed)
    }

    pub fn is_local_closed(&self) -> bool {
        self.local_closed.load(Ordering::Relaxed)
    }
}
