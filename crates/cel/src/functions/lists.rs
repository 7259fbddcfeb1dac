//! Lists and sets.

use std::cmp::Ordering;

use super::row::{Cost, Row, int, list, no_overload};
use crate::error::{Error, Result};
use crate::value::Value;

/// How many elements `lists.range` makes at most.
const RANGE_MAX: i64 = 1_000_000;

pub(super) const TABLE: &[Row] = &[
    ("isSorted", ORDERED, is_sorted, Cost::Scan),
    (
        "sum",
        &["list<int>.() int", "list<uint>.() uint", "list<double>.() double", "list<duration>.() duration"],
        sum,
        Cost::Scan,
    ),
    ("min", EXTREME, |args| extreme(args, Ordering::Less, "min"), Cost::Scan),
    ("max", EXTREME, |args| extreme(args, Ordering::Greater, "max"), Cost::Scan),
    (
        "indexOf",
        &["list<A>.(A) int", "string.(string) int", "string.(string,int) int"],
        |args| position(args, false),
        Cost::Scan,
    ),
    (
        "lastIndexOf",
        &["list<A>.(A) int", "string.(string) int", "string.(string,int) int"],
        |args| position(args, true),
        Cost::Scan,
    ),
    ("distinct", &["list<A>.() list<A>"], distinct, Cost::Scan),
    ("sort", &["list<A>.() list<A>"], sort, Cost::Scan),
    ("slice", &["list<A>.(int,int) list<A>"], slice, Cost::Scan),
    ("flatten", &["list<list<A>>.() list<A>", "list<dyn>.(int) list<dyn>"], flatten, Cost::Scan),
    ("lists.range", &["(int) list<int>"], range, Cost::One),
    (
        "sets.contains",
        SETS,
        |args| {
            let (a, b) = (list(&args[0])?, list(&args[1])?);
            Ok(b.iter().all(|one| has(&a, one)).into())
        },
        Cost::ScanAll,
    ),
    (
        "sets.equivalent",
        SETS,
        |args| {
            let (a, b) = (list(&args[0])?, list(&args[1])?);
            Ok((a.iter().all(|one| has(&b, one)) && b.iter().all(|one| has(&a, one))).into())
        },
        Cost::ScanAll,
    ),
    (
        "sets.intersects",
        SETS,
        |args| {
            let (a, b) = (list(&args[0])?, list(&args[1])?);
            Ok(a.iter().any(|one| has(&b, one)).into())
        },
        Cost::ScanAll,
    ),
];

const SETS: &[&str] = &["(list<A>,list<A>) bool"];
const ORDERED: &[&str] = &[
    "list<int>.() bool",
    "list<uint>.() bool",
    "list<double>.() bool",
    "list<bool>.() bool",
    "list<string>.() bool",
    "list<bytes>.() bool",
    "list<duration>.() bool",
    "list<timestamp>.() bool",
];
const EXTREME: &[&str] = &[
    "list<int>.() int",
    "list<uint>.() uint",
    "list<double>.() double",
    "list<bool>.() bool",
    "list<string>.() string",
    "list<bytes>.() bytes",
    "list<duration>.() duration",
    "list<timestamp>.() timestamp",
];

fn has<'a>(list: &[Value<'a>], wanted: &Value<'a>) -> bool {
    list.iter().any(|one| one.equals(wanted))
}

fn is_sorted<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    for pair in list(&args[0])?.windows(2) {
        match pair[0].compare(&pair[1]) {
            Some(Ordering::Greater) => return Ok(false.into()),
            Some(_) => {}
            None => return no_overload(),
        }
    }
    Ok(true.into())
}

fn sum<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let mut parts = list(&args[0])?.into_iter();
    let Some(mut total) = parts.next() else { return Ok(Value::Int(0)) };
    let overflow = || Error::failed("integer overflow");
    for part in parts {
        total = match (total, part) {
            (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_add(b).ok_or_else(overflow)?),
            (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_add(b).ok_or_else(overflow)?),
            (Value::Double(a), Value::Double(b)) => Value::Double(a + b),
            (Value::Duration(a), Value::Duration(b)) => Value::Duration(a + b),
            _ => return no_overload(),
        };
    }
    Ok(total)
}

fn extreme<'a>(args: &[Value<'a>], wanted: Ordering, name: &str) -> Result<Value<'a>> {
    let mut parts = list(&args[0])?.into_iter();
    let Some(mut best) = parts.next() else {
        return Err(Error::failed(format!("{name} called on empty list")));
    };
    for part in parts {
        match part.compare(&best) {
            Some(order) if order == wanted => best = part,
            Some(_) => {}
            None => return no_overload(),
        }
    }
    Ok(best)
}

fn position<'a>(args: &[Value<'a>], is_last: bool) -> Result<Value<'a>> {
    let found = match (&args[0], &args[1]) {
        (Value::String(text), Value::String(wanted)) => return in_text(text, wanted, args.get(2), is_last),
        (list_value, wanted) => {
            let list = list(list_value)?;
            match is_last {
                true => list.iter().rposition(|one| one.equals(wanted)),
                false => list.iter().position(|one| one.equals(wanted)),
            }
        }
    };
    Ok(Value::Int(found.map_or(-1, |at| at as i64)))
}

fn in_text<'a>(text: &str, wanted: &str, from: Option<&Value<'a>>, is_last: bool) -> Result<Value<'a>> {
    let (text, wanted): (Vec<char>, Vec<char>) = (text.chars().collect(), wanted.chars().collect());
    let from = from.map(int).transpose()?;
    if let Some(from) = from
        && (from < 0 || from > text.len() as i64)
    {
        return Err(Error::failed(format!("index out of range: {from}")));
    }
    let last = text.len() as i64 - wanted.len() as i64;
    let matches_at = |at: &i64| text[*at as usize..].starts_with(&wanted);
    let found = match is_last {
        true => (0..=from.unwrap_or(last).min(last)).rev().find(matches_at),
        false => (from.unwrap_or(0)..=last).find(matches_at),
    };
    Ok(Value::Int(found.unwrap_or(-1)))
}

fn distinct<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let mut kept: Vec<Value<'a>> = Vec::new();
    for one in list(&args[0])? {
        if !has(&kept, &one) {
            kept.push(one);
        }
    }
    Ok(kept.into())
}

fn sort<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let elements = list(&args[0])?;
    sorted(elements.clone().into_iter().zip(elements).collect())
}

/// The second of each pair, in the order of the first.
pub(crate) fn sorted<'a>(mut pairs: Vec<(Value<'a>, Value<'a>)>) -> Result<Value<'a>> {
    if pairs.windows(2).any(|pair| pair[0].0.compare(&pair[1].0).is_none()) {
        return Err(Error::failed("list elements must be comparable"));
    }
    pairs.sort_by(|a, b| a.0.compare(&b.0).unwrap_or(Ordering::Equal));
    Ok(pairs.into_iter().map(|(_, value)| value).collect::<Vec<_>>().into())
}

fn slice<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let (elements, start, end) = (list(&args[0])?, int(&args[1])?, int(&args[2])?);
    if start < 0 || end < 0 {
        return Err(Error::failed(format!("cannot slice({start}, {end}), negative indexes not supported")));
    }
    if start > end {
        return Err(Error::failed(format!(
            "cannot slice({start}, {end}), start index must be less than or equal to end index"
        )));
    }
    match elements.get(start as usize..end as usize) {
        Some(part) => Ok(part.to_vec().into()),
        None => Err(Error::failed(format!("cannot slice({start}, {end}), list is length {}", elements.len()))),
    }
}

fn flatten<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    fn add<'a>(from: &Value<'a>, depth: i64, to: &mut Vec<Value<'a>>) {
        for one in from.elements().unwrap_or_default() {
            if depth > 0 && one.elements().is_some() {
                add(&one, depth - 1, to);
            } else {
                to.push(one);
            }
        }
    }
    let depth = args.get(1).map(int).transpose()?.unwrap_or(1);
    if depth < 0 {
        return Err(Error::failed("level must be non-negative"));
    }
    list(&args[0])?;
    let mut flat = Vec::new();
    add(&args[0], depth.min(100), &mut flat);
    Ok(flat.into())
}

fn range<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let end = int(&args[0])?;
    if end > RANGE_MAX {
        return Err(Error::failed(format!("range of {end} elements is too large: the limit is {RANGE_MAX}")));
    }
    Ok((0..end).map(Value::Int).collect::<Vec<_>>().into())
}
