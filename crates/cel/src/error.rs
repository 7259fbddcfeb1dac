//! Why an evaluation has no result.

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an evaluation has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// A mistake that `||` and `&&` may still hide: `no such key: a`.
    Failed(String),
    /// The cost limit was reached.
    Limit,
}

impl Error {
    pub fn failed(why: impl Into<String>) -> Error {
        Error::Failed(why.into())
    }

    pub(crate) fn no_overload() -> Error {
        Error::failed("no such overload")
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Failed(why) => f.write_str(why),
            Error::Limit => f.write_str("operation cancelled: actual cost limit exceeded"),
        }
    }
}

impl std::error::Error for Error {}
