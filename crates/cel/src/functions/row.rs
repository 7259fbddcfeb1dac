//! What the tables of functions are made of, and how a function looks at its arguments.

use crate::error::{Error, Result};
use crate::value::Value;

pub(crate) type Code = for<'a> fn(&[Value<'a>]) -> Result<Value<'a>>;

/// What a call costs beside its arguments, in the units of cost limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    One,
    /// A tenth for each character or element of the first argument.
    Scan,
    /// The same for all arguments.
    ScanAll,
    /// Text times pattern.
    Match,
    /// A question to the authorizer.
    Ask,
}

/// A row of a table.
pub type Row = (&'static str, &'static [&'static str], Code, Cost);

pub fn no_overload<'a>() -> Result<Value<'a>> {
    Err(Error::no_overload())
}

pub fn list<'a>(value: &Value<'a>) -> Result<Vec<Value<'a>>> {
    value.elements().ok_or_else(Error::no_overload)
}

pub fn text<'b>(value: &'b Value<'_>) -> Result<&'b str> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(Error::no_overload()),
    }
}

pub fn int(value: &Value<'_>) -> Result<i64> {
    match value {
        Value::Int(value) => Ok(*value),
        _ => Err(Error::no_overload()),
    }
}
