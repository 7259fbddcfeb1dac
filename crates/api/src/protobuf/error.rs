//! What may be wrong with a message, or with the value that shall become one.

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Prefix,
    #[error("unexpected EOF")]
    End,
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: illegal tag {0} (wire type {1})")]
    Tag(u64, u8),
    #[error("proto: wrong wireType = {1} for field {0}")]
    WireType(String, u8),
    #[error("proto: invalid {what} in field {field}")]
    Value { field: String, what: &'static str },
    #[error("proto: exceeded max nesting depth")]
    Depth,
}

/// A value that its field cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EncodeError(pub(super) String);
