//! What the printers of both specifications ask: for which of them they print.

/// Which of the two specifications a document is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    V2,
    V3,
}
