//! The plan of a run, as the flags tell it: every suite reads what concerns it.

/// What to measure, and how much of it.
pub struct Plan {
    pub objects: usize,
    /// Gets and patches; None: as many as objects.
    pub calls: Option<usize>,
    pub keep: bool,
    pub workers: usize,
    pub watchers: usize,
    pub changes: usize,
    pub pods: usize,
    pub pids: Vec<u32>,
    pub seconds: u64,
    pub via: Option<String>,
    pub start: Option<String>,
    pub stop: Option<String>,
}
