//! Quantities, and the questions an admission policy may ask the authorizer.

use stead_api::quantity::Quantity;

use super::row::{Cost, Row, no_overload, text};
use crate::error::{Error, Result};
use crate::value::Value;

pub(super) const TABLE: &[Row] = &[
    (
        "quantity",
        &["(string) quantity"],
        |args| match text(&args[0])?.parse() {
            Ok(quantity) => Ok(Value::Quantity(quantity)),
            Err(error) => Err(Error::failed(format!("{error}"))),
        },
        Cost::Scan,
    ),
    ("isQuantity", &["(string) bool"], |args| Ok(text(&args[0])?.parse::<Quantity>().is_ok().into()), Cost::Scan),
    ("isInteger", &["quantity.() bool"], |args| Ok(whole(&args[0])?.is_some().into()), Cost::One),
    (
        "asInteger",
        &["quantity.() int"],
        |args| match whole(&args[0])? {
            Some(value) => Ok(Value::Int(value)),
            None => Err(Error::failed("cannot convert value to integer")),
        },
        Cost::One,
    ),
    (
        "asApproximateFloat",
        &["quantity.() double"],
        |args| {
            let quantity = quantity(&args[0])?;
            Ok(Value::Double(match whole(&args[0])? {
                Some(value) => value as f64,
                None => quantity.milli_value() as f64 / 1000.0,
            }))
        },
        Cost::One,
    ),
    ("sign", &["quantity.() int"], |args| Ok(Value::Int(i64::from(quantity(&args[0])?.sign()))), Cost::One),
    (
        "add",
        &["quantity.(quantity) quantity", "quantity.(int) quantity"],
        |args| Ok(Value::Quantity(quantity(&args[0])? + operand(&args[1])?)),
        Cost::One,
    ),
    (
        "sub",
        &["quantity.(quantity) quantity", "quantity.(int) quantity"],
        |args| Ok(Value::Quantity(quantity(&args[0])? - operand(&args[1])?)),
        Cost::One,
    ),
    (
        "isGreaterThan",
        &["quantity.(quantity) bool", "semver.(semver) bool"],
        |args| Ok(order(args)?.is_gt().into()),
        Cost::One,
    ),
    (
        "isLessThan",
        &["quantity.(quantity) bool", "semver.(semver) bool"],
        |args| Ok(order(args)?.is_lt().into()),
        Cost::One,
    ),
    (
        "compareTo",
        &["quantity.(quantity) int", "semver.(semver) int"],
        |args| Ok(Value::Int(order(args)? as i64)),
        Cost::One,
    ),
    ("path", &["Authorizer.(string) PathCheck"], unasked, Cost::One),
    ("group", &["Authorizer.(string) GroupCheck"], unasked, Cost::One),
    ("serviceAccount", &["Authorizer.(string,string) Authorizer"], unasked, Cost::One),
    ("resource", &["GroupCheck.(string) ResourceCheck"], unasked, Cost::One),
    ("subresource", &["ResourceCheck.(string) ResourceCheck"], unasked, Cost::One),
    ("namespace", &["ResourceCheck.(string) ResourceCheck"], unasked, Cost::One),
    ("name", &["ResourceCheck.(string) ResourceCheck"], unasked, Cost::One),
    ("fieldSelector", &["ResourceCheck.(string) ResourceCheck"], unasked, Cost::One),
    ("labelSelector", &["ResourceCheck.(string) ResourceCheck"], unasked, Cost::One),
    ("check", &["PathCheck.(string) Decision", "ResourceCheck.(string) Decision"], unasked, Cost::Ask),
    ("allowed", &["Decision.() bool"], unasked, Cost::One),
    ("reason", &["Decision.() string"], unasked, Cost::One),
    ("errored", &["Decision.() bool"], unasked, Cost::One),
    ("error", &["Decision.() string"], unasked, Cost::One),
];

/// The value itself answers these; reached only with a target that has no such function.
fn unasked<'a>(_: &[Value<'a>]) -> Result<Value<'a>> {
    no_overload()
}

fn quantity(value: &Value<'_>) -> Result<Quantity> {
    match value {
        Value::Quantity(quantity) => Ok(*quantity),
        _ => Err(Error::no_overload()),
    }
}

fn operand(value: &Value<'_>) -> Result<Quantity> {
    match value {
        Value::Int(value) => Ok(Quantity::from_int(*value)),
        other => quantity(other),
    }
}

/// The amount, if it is a whole one that fits.
fn whole(value: &Value<'_>) -> Result<Option<i64>> {
    let quantity = quantity(value)?;
    let value = quantity.value();
    Ok((Quantity::from_int(value) == quantity).then_some(value))
}

fn order<'a>(args: &[Value<'a>]) -> Result<std::cmp::Ordering> {
    match (&args[0], &args[1]) {
        (Value::Quantity(a), Value::Quantity(b)) => Ok(a.cmp(b)),
        (Value::Version(a), Value::Version(b)) => Ok(a.cmp(b)),
        _ => Err(Error::no_overload()),
    }
}
