//! Operators, sizes, optionals.

use std::rc::Rc;

use jiff::SignedDuration;
use stead_api::schema::List;

use super::row::{Cost, Row, no_overload};
use crate::error::{Error, Result};
use crate::value::{Key, Value};

pub(super) const TABLE: &[Row] = &[
    // These three look at an argument only when they must: the evaluator has them.
    ("_||_", &["(bool,bool) bool"], lazy, Cost::One),
    ("_&&_", &["(bool,bool) bool"], lazy, Cost::One),
    ("_?_:_", &["(bool,A,A) A"], lazy, Cost::One),
    ("_==_", &["(A,A) bool"], |args| Ok(args[0].equals(&args[1]).into()), Cost::ScanAll),
    ("_!=_", &["(A,A) bool"], |args| Ok((!args[0].equals(&args[1])).into()), Cost::ScanAll),
    ("_<_", ORDERED, |args| ordered(args, |order| order.is_lt()), Cost::ScanAll),
    ("_<=_", ORDERED, |args| ordered(args, |order| order.is_le()), Cost::ScanAll),
    ("_>_", ORDERED, |args| ordered(args, |order| order.is_gt()), Cost::ScanAll),
    ("_>=_", ORDERED, |args| ordered(args, |order| order.is_ge()), Cost::ScanAll),
    ("@in", &["(A,list<A>) bool", "(A,map<A,B>) bool"], contains, Cost::One),
    (
        "_+_",
        &[
            "(int,int) int",
            "(uint,uint) uint",
            "(double,double) double",
            "(string,string) string",
            "(bytes,bytes) bytes",
            "(list<A>,list<A>) list<A>",
            "(timestamp,duration) timestamp",
            "(duration,timestamp) timestamp",
            "(duration,duration) duration",
        ],
        add,
        Cost::ScanAll,
    ),
    (
        "_-_",
        &[
            "(int,int) int",
            "(uint,uint) uint",
            "(double,double) double",
            "(timestamp,timestamp) duration",
            "(timestamp,duration) timestamp",
            "(duration,duration) duration",
        ],
        subtract,
        Cost::One,
    ),
    ("_*_", NUMBERS, multiply, Cost::One),
    ("_/_", NUMBERS, divide, Cost::One),
    ("_%_", &["(int,int) int", "(uint,uint) uint"], remainder, Cost::One),
    ("!_", &["(bool) bool"], not, Cost::One),
    ("-_", &["(int) int", "(double) double"], negate, Cost::One),
    ("_[_]", &["(list<A>,int) A", "(map<A,B>,A) B"], index, Cost::One),
    (
        "_[?_]",
        &[
            "(list<A>,int) optional<A>",
            "(map<A,B>,A) optional<B>",
            "(optional<list<A>>,int) optional<A>",
            "(optional<map<A,B>>,A) optional<B>",
        ],
        optional_index,
        Cost::One,
    ),
    (
        "size",
        &[
            "(string) int",
            "(bytes) int",
            "(list<A>) int",
            "(map<A,B>) int",
            "string.() int",
            "bytes.() int",
            "list<A>.() int",
            "map<A,B>.() int",
        ],
        size,
        Cost::One,
    ),
    ("optional.of", &["(A) optional<A>"], |args| Ok(Value::some(args[0].clone())), Cost::One),
    ("optional.none", &["() optional<A>"], |_| Ok(Value::Optional(None)), Cost::One),
    ("optional.ofNonZeroValue", &["(A) optional<A>"], non_zero, Cost::One),
    ("hasValue", &["optional<A>.() bool"], has_value, Cost::One),
    ("value", &["optional<A>.() A"], value, Cost::One),
    ("or", &["optional<A>.(optional<A>) optional<A>"], or, Cost::One),
    ("orValue", &["optional<A>.(A) A"], or_value, Cost::One),
];

const NUMBERS: &[&str] = &["(int,int) int", "(uint,uint) uint", "(double,double) double"];

const ORDERED: &[&str] = &[
    "(bool,bool) bool",
    "(int,int) bool",
    "(uint,uint) bool",
    "(double,double) bool",
    "(int,uint) bool",
    "(int,double) bool",
    "(uint,int) bool",
    "(uint,double) bool",
    "(double,int) bool",
    "(double,uint) bool",
    "(string,string) bool",
    "(bytes,bytes) bool",
    "(timestamp,timestamp) bool",
    "(duration,duration) bool",
];

fn lazy<'a>(_: &[Value<'a>]) -> Result<Value<'a>> {
    no_overload()
}

fn ordered<'a>(args: &[Value<'a>], holds: fn(std::cmp::Ordering) -> bool) -> Result<Value<'a>> {
    let is_ordered = !matches!((&args[0], &args[1]), (Value::Quantity(_), _) | (Value::Version(_), _));
    match args[0].compare(&args[1]) {
        Some(order) if is_ordered => Ok(holds(order).into()),
        // NaN compares with nothing.
        None if matches!((&args[0], &args[1]), (Value::Double(_), _) | (_, Value::Double(_))) => Ok(false.into()),
        _ => no_overload(),
    }
}

fn contains<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    if let Some(list) = args[1].elements() {
        return Ok(list.iter().any(|one| one.equals(&args[0])).into());
    }
    match &args[1] {
        map @ (Value::Object(..) | Value::Map(_)) => Ok(map.index(&args[0])?.is_some().into()),
        _ => no_overload(),
    }
}

fn overflow() -> Error {
    Error::failed("integer overflow")
}

fn unsigned_overflow() -> Error {
    Error::failed("unsigned integer overflow")
}

fn add<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    Ok(match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_add(*b).ok_or_else(overflow)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_add(*b).ok_or_else(unsigned_overflow)?),
        (Value::Double(a), Value::Double(b)) => Value::Double(a + b),
        (Value::String(a), Value::String(b)) => format!("{}{}", &**a, &**b).into(),
        (Value::Bytes(a), Value::Bytes(b)) => Value::Bytes(a.iter().chain(b.iter()).copied().collect()),
        (Value::Duration(a), Value::Duration(b)) => Value::Duration(a + b),
        (Value::Timestamp(time), Value::Duration(span)) | (Value::Duration(span), Value::Timestamp(time)) => {
            shift(time, *span)?
        }
        (a, b) => joined(a, b)?,
    })
}

fn shift<'a>(time: &jiff::Timestamp, nanos: i128) -> Result<Value<'a>> {
    let overflow = || Error::failed("timestamp overflow");
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).map_err(|_| overflow())?;
    let span = SignedDuration::new(seconds, nanos.rem_euclid(1_000_000_000) as i32);
    time.checked_add(span).map(Value::Timestamp).map_err(|_| overflow())
}

/// Two lists: sets take what is new; maps by key overwrite elements of the same key.
fn joined<'a>(a: &Value<'a>, b: &Value<'a>) -> Result<Value<'a>> {
    let (Some(mut list), Some(more)) = (a.elements(), b.elements()) else { return no_overload() };
    for one in more {
        let same = match a.list_type() {
            List::Atomic => None,
            List::Set => list.iter().position(|known| known.equals(&one)),
            List::Map(keys) => list.iter().position(|known| known.has_keys_of(&one, keys)),
        };
        match same {
            Some(position) => list[position] = one,
            None => list.push(one),
        }
    }
    Ok(list.into())
}

fn subtract<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    Ok(match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_sub(*b).ok_or_else(overflow)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_sub(*b).ok_or_else(unsigned_overflow)?),
        (Value::Double(a), Value::Double(b)) => Value::Double(a - b),
        (Value::Duration(a), Value::Duration(b)) => Value::Duration(a - b),
        (Value::Timestamp(time), Value::Duration(span)) => shift(time, -span)?,
        (Value::Timestamp(a), Value::Timestamp(b)) => Value::Duration(a.as_nanosecond() - b.as_nanosecond()),
        _ => return no_overload(),
    })
}

fn multiply<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    Ok(match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_mul(*b).ok_or_else(overflow)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_mul(*b).ok_or_else(unsigned_overflow)?),
        (Value::Double(a), Value::Double(b)) => Value::Double(a * b),
        _ => return no_overload(),
    })
}

fn divide<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    Ok(match (&args[0], &args[1]) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => {
            return Err(Error::failed("division by zero"));
        }
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_div(*b).ok_or_else(overflow)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a / b),
        (Value::Double(a), Value::Double(b)) => Value::Double(a / b),
        _ => return no_overload(),
    })
}

fn remainder<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    Ok(match (&args[0], &args[1]) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => {
            return Err(Error::failed("modulus by zero"));
        }
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_rem(*b).ok_or_else(overflow)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a % b),
        _ => return no_overload(),
    })
}

fn not<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match &args[0] {
        Value::Bool(value) => Ok(Value::Bool(!value)),
        _ => no_overload(),
    }
}

fn negate<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match &args[0] {
        Value::Int(value) => Ok(Value::Int(value.checked_neg().ok_or_else(overflow)?)),
        Value::Double(value) => Ok(Value::Double(-value)),
        _ => no_overload(),
    }
}

/// What an index finds: in an optional, in what it holds.
fn index<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    if let Value::Optional(_) = &args[0] {
        return optional_index(args);
    }
    match args[0].index(&args[1])? {
        Some(found) => Ok(found),
        None if args[0].elements().is_some() => {
            Err(Error::failed(format!("index out of bounds: {}", super::convert::plain(&args[1]))))
        }
        None => Err(Error::failed(format!("no such key: {}", super::convert::plain(&args[1])))),
    }
}

fn optional_index<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let operand = match &args[0] {
        Value::Optional(None) => return Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => &**inner,
        other => other,
    };
    Ok(Value::Optional(operand.index(&args[1])?.map(Rc::new)))
}

fn size<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match args[0].size() {
        Some(size) => Ok(Value::Int(size as i64)),
        None => no_overload(),
    }
}

fn non_zero<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    Ok(if args[0].is_zero() { Value::Optional(None) } else { Value::some(args[0].clone()) })
}

fn has_value<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match &args[0] {
        Value::Optional(inner) => Ok(inner.is_some().into()),
        _ => no_overload(),
    }
}

fn value<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match &args[0] {
        Value::Optional(Some(inner)) => Ok((**inner).clone()),
        Value::Optional(None) => Err(Error::failed("optional.none() dereference")),
        _ => no_overload(),
    }
}

fn or<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match &args[0] {
        Value::Optional(None) => Ok(args[1].clone()),
        Value::Optional(_) => Ok(args[0].clone()),
        _ => no_overload(),
    }
}

fn or_value<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match &args[0] {
        Value::Optional(Some(inner)) => Ok((**inner).clone()),
        Value::Optional(None) => Ok(args[1].clone()),
        _ => no_overload(),
    }
}

/// A map from its entries; two entries with one key are a mistake.
pub(crate) fn insert<'a>(
    map: &mut std::collections::BTreeMap<Key<'a>, Value<'a>>,
    key: Value<'a>,
    value: Value<'a>,
) -> Result<()> {
    let key = Key::of(&key)?;
    if map.contains_key(&key) {
        return Err(Error::failed(format!(
            "insert failed: key {} already exists",
            super::convert::plain(&key.value())
        )));
    }
    map.insert(key, value);
    Ok(())
}
