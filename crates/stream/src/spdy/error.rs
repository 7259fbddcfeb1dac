//! What is wrong with a frame.

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct FrameError(pub &'static str);
