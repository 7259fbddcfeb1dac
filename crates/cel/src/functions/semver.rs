//! Semantic versions.

use std::rc::Rc;

use super::row::{Cost, Row, text};
use crate::error::{Error, Result};
use crate::value::Value;
use crate::version::{Version, normalized, strict};

pub(super) const TABLE: &[Row] = &[
    (
        "semver",
        &["(string) semver", "(string,bool) semver"],
        |args| match parse(args)? {
            Some(version) => Ok(Value::Version(Rc::new(version))),
            None => Err(Error::failed(format!("invalid semver: {}", text(&args[0])?))),
        },
        Cost::Scan,
    ),
    ("isSemver", &["(string) bool", "(string,bool) bool"], |args| Ok(parse(args)?.is_some().into()), Cost::Scan),
    ("major", &["semver.() int"], |args| Ok(Value::Int(version(&args[0])?.numbers[0] as i64)), Cost::One),
    ("minor", &["semver.() int"], |args| Ok(Value::Int(version(&args[0])?.numbers[1] as i64)), Cost::One),
    ("patch", &["semver.() int"], |args| Ok(Value::Int(version(&args[0])?.numbers[2] as i64)), Cost::One),
];

fn version<'b>(value: &'b Value<'_>) -> Result<&'b Version> {
    match value {
        Value::Version(version) => Ok(version),
        _ => Err(Error::no_overload()),
    }
}

fn parse(args: &[Value<'_>]) -> Result<Option<Version>> {
    let text = text(&args[0])?;
    Ok(match args.get(1) {
        None | Some(Value::Bool(false)) => strict(text),
        Some(Value::Bool(true)) => strict(&normalized(text)),
        Some(_) => return Err(Error::no_overload()),
    })
}
