//! Conversions between types.

use stead_api::quantity::Quantity;

use super::row::{Cost, Row, no_overload};
use crate::duration::{parse_duration, print_duration};
use crate::error::{Error, Result};
use crate::value::Value;

pub(super) const TABLE: &[Row] = &[
    ("int", &["(int) int", "(uint) int", "(double) int", "(string) int", "(timestamp) int"], to_int, Cost::One),
    ("uint", &["(uint) uint", "(int) uint", "(double) uint", "(string) uint"], to_uint, Cost::One),
    ("double", &["(double) double", "(int) double", "(uint) double", "(string) double"], to_double, Cost::One),
    (
        "string",
        &[
            "(string) string",
            "(bool) string",
            "(int) string",
            "(uint) string",
            "(double) string",
            "(bytes) string",
            "(timestamp) string",
            "(duration) string",
            "(ip) string",
            "(cidr) string",
        ],
        to_string,
        Cost::Scan,
    ),
    ("bytes", &["(bytes) bytes", "(string) bytes"], to_bytes, Cost::Scan),
    ("bool", &["(bool) bool", "(string) bool"], to_bool, Cost::One),
    ("timestamp", &["(timestamp) timestamp", "(string) timestamp", "(int) timestamp"], to_time, Cost::One),
    ("duration", &["(duration) duration", "(string) duration", "(int) duration"], to_duration, Cost::One),
    ("dyn", &["(A) dyn"], |args| Ok(args[0].clone()), Cost::One),
    ("type", &["(A) type"], |args| Ok(Value::Type(args[0].type_name().into())), Cost::One),
];

/// A value as messages and `string()` print it.
pub(crate) fn plain(value: &Value<'_>) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => double(*value),
        Value::String(text) => text.to_string(),
        Value::Duration(nanos) => print_duration(*nanos),
        Value::Timestamp(time) => time.to_string(),
        Value::Ip(ip) => ip.to_string(),
        Value::Cidr(cidr) => cidr.to_string(),
        Value::Quantity(quantity) => Quantity::to_string(quantity),
        Value::Type(name) => name.to_string(),
        Value::Null => "null".into(),
        other => other.to_json().map_or_else(|| other.type_name(), |json| json.to_string()),
    }
}

pub(crate) fn double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let is_long = value != 0.0 && (value.abs() >= 1e21 || value.abs() < 1e-4);
    if !is_long {
        return value.to_string();
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |rest| ("-", rest));
    format!("{digits}e{sign}{exponent:0>2}")
}

fn to_int<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let overflow = || Error::failed("integer overflow");
    Ok(Value::Int(match &args[0] {
        Value::Int(value) => *value,
        Value::Uint(value) => i64::try_from(*value).map_err(|_| overflow())?,
        Value::Double(value) if value.is_finite() && value.abs() < 9_223_372_036_854_775_807.0 => *value as i64,
        Value::Double(_) => return Err(overflow()),
        Value::String(text) => text
            .parse()
            .map_err(|_| Error::failed(format!("strconv.ParseInt: parsing {:?}: invalid syntax", &**text)))?,
        Value::Timestamp(time) => time.as_second(),
        Value::Duration(nanos) => i64::try_from(*nanos).map_err(|_| overflow())?,
        _ => return no_overload(),
    }))
}

fn to_uint<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let overflow = || Error::failed("unsigned integer overflow");
    Ok(Value::Uint(match &args[0] {
        Value::Uint(value) => *value,
        Value::Int(value) => u64::try_from(*value).map_err(|_| overflow())?,
        Value::Double(value) if *value >= 0.0 && *value < 18_446_744_073_709_551_615.0 => *value as u64,
        Value::Double(_) => return Err(overflow()),
        Value::String(text) => text
            .parse()
            .map_err(|_| Error::failed(format!("strconv.ParseUint: parsing {:?}: invalid syntax", &**text)))?,
        _ => return no_overload(),
    }))
}

fn to_double<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    Ok(Value::Double(match &args[0] {
        Value::Double(value) => *value,
        Value::Int(value) => *value as f64,
        Value::Uint(value) => *value as f64,
        Value::String(text) => text
            .parse()
            .map_err(|_| Error::failed(format!("strconv.ParseFloat: parsing {:?}: invalid syntax", &**text)))?,
        _ => return no_overload(),
    }))
}

fn to_string<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match &args[0] {
        Value::String(_) => Ok(args[0].clone()),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned().into()),
            Err(_) => Err(Error::failed("invalid UTF-8 in bytes, cannot convert to string")),
        },
        Value::Null | Value::Object(..) | Value::Array(..) | Value::List(_) | Value::Map(_) | Value::Struct(_) => {
            no_overload()
        }
        Value::Optional(_) | Value::Asked(_) | Value::Url(_) | Value::Format(_) | Value::Version(_) => no_overload(),
        Value::Quantity(_) => no_overload(),
        other => Ok(plain(other).into()),
    }
}

fn to_bytes<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match &args[0] {
        Value::Bytes(_) => Ok(args[0].clone()),
        Value::String(text) => Ok(Value::Bytes(text.as_bytes().into())),
        _ => no_overload(),
    }
}

fn to_bool<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match &args[0] {
        Value::Bool(_) => Ok(args[0].clone()),
        Value::String(text) => match &**text {
            "true" | "TRUE" | "True" | "t" | "T" | "1" => Ok(true.into()),
            "false" | "FALSE" | "False" | "f" | "F" | "0" => Ok(false.into()),
            other => Err(Error::failed(format!("strconv.ParseBool: parsing {other:?}: invalid syntax"))),
        },
        _ => no_overload(),
    }
}

fn to_time<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let parsed = match &args[0] {
        Value::Timestamp(_) => return Ok(args[0].clone()),
        Value::String(text) => text
            .parse()
            .map_err(|_| format!("parsing time {:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse", &**text)),
        Value::Int(seconds) => jiff::Timestamp::from_second(*seconds).map_err(|_| "timestamp overflow".to_owned()),
        _ => return no_overload(),
    };
    parsed.map(Value::Timestamp).map_err(Error::Failed)
}

fn to_duration<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match &args[0] {
        Value::Duration(_) => Ok(args[0].clone()),
        Value::Int(nanos) => Ok(Value::Duration(i128::from(*nanos))),
        Value::String(text) => match parse_duration(text) {
            Some(nanos) => Ok(Value::Duration(nanos)),
            None => Err(Error::failed(format!("time: invalid duration {:?}", &**text))),
        },
        _ => no_overload(),
    }
}
