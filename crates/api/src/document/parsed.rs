//! What reading a text gives, whichever its notation: the value and its duplicate keys, or what is wrong with it.

use serde_json::Value;

/// Duplicates beyond this many are not told.
pub(super) const DUPLICATES_MAX: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub String);

/// A body's value, and one `duplicate field "a.b"` text for each key that was given again.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Document {
    pub value: Value,
    pub duplicates: Vec<String>,
}
