//! Text: the language's own functions, the strings extension, regular expressions.

use regex::Regex;

use super::row::{Cost, Row, int, list, no_overload, text};
use super::{printf, row};
use crate::error::{Error, Result};
use crate::value::Value;

pub(super) const TABLE: &[Row] = &[
    ("contains", &["string.(string) bool"], |args| Ok(text(&args[0])?.contains(text(&args[1])?).into()), Cost::ScanAll),
    (
        "startsWith",
        &["string.(string) bool"],
        |args| Ok(text(&args[0])?.starts_with(text(&args[1])?).into()),
        Cost::ScanAll,
    ),
    (
        "endsWith",
        &["string.(string) bool"],
        |args| Ok(text(&args[0])?.ends_with(text(&args[1])?).into()),
        Cost::ScanAll,
    ),
    (
        "matches",
        &["string.(string) bool", "(string,string) bool"],
        |args| Ok(pattern(text(&args[1])?)?.is_match(text(&args[0])?).into()),
        Cost::Match,
    ),
    ("find", &["string.(string) string"], |args| find(args, &pattern(text(&args[1])?)?), Cost::Match),
    (
        "findAll",
        &["string.(string) list<string>", "string.(string,int) list<string>"],
        |args| find_all(args, &pattern(text(&args[1])?)?),
        Cost::Match,
    ),
    ("charAt", &["string.(int) string"], char_at, Cost::One),
    ("lowerAscii", &["string.() string"], |args| Ok(text(&args[0])?.to_ascii_lowercase().into()), Cost::Scan),
    ("upperAscii", &["string.() string"], |args| Ok(text(&args[0])?.to_ascii_uppercase().into()), Cost::Scan),
    ("trim", &["string.() string"], |args| Ok(text(&args[0])?.trim().to_owned().into()), Cost::Scan),
    ("reverse", &["string.() string", "list<A>.() list<A>"], reverse, Cost::Scan),
    ("replace", &["string.(string,string) string", "string.(string,string,int) string"], replace, Cost::Scan),
    ("split", &["string.(string) list<string>", "string.(string,int) list<string>"], split, Cost::Scan),
    ("substring", &["string.(int) string", "string.(int,int) string"], substring, Cost::Scan),
    ("join", &["list<string>.() string", "list<string>.(string) string"], join, Cost::Scan),
    ("format", &["string.(list<dyn>) string"], |args| printf::format(text(&args[0])?, &list(&args[1])?), Cost::Scan),
    ("strings.quote", &["(string) string"], |args| Ok(printf::quote(text(&args[0])?).into()), Cost::Scan),
    (
        "jsonpatch.escapeKey",
        &["(string) string"],
        |args| Ok(text(&args[0])?.replace('~', "~0").replace('/', "~1").into()),
        Cost::Scan,
    ),
];

fn pattern(source: &str) -> Result<Regex> {
    Regex::new(source).map_err(|_| Error::failed(format!("error parsing regexp: `{source}`")))
}

/// A call of a function that takes a pattern, whose pattern is known already.
pub(crate) fn with_pattern<'a>(name: &str, args: &[Value<'a>], pattern: &Regex) -> Result<Value<'a>> {
    match name {
        "find" => find(args, pattern),
        "findAll" => find_all(args, pattern),
        _ => Ok(pattern.is_match(text(&args[0])?).into()),
    }
}

fn find<'a>(args: &[Value<'a>], pattern: &Regex) -> Result<Value<'a>> {
    let found = pattern.find(text(&args[0])?).map(|found| found.as_str());
    Ok(found.unwrap_or_default().to_owned().into())
}

fn find_all<'a>(args: &[Value<'a>], pattern: &Regex) -> Result<Value<'a>> {
    let limit = match args.get(2) {
        Some(limit) => usize::try_from(int(limit)?).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    let found = pattern.find_iter(text(&args[0])?).take(limit);
    Ok(found.map(|found| found.as_str().to_owned().into()).collect::<Vec<Value>>().into())
}

fn char_at<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let (text, at) = (text(&args[0])?, int(&args[1])?);
    let size = text.chars().count();
    match usize::try_from(at) {
        Ok(at) if at <= size => Ok(text.chars().nth(at).map(String::from).unwrap_or_default().into()),
        _ => Err(Error::failed(format!("index out of range: {at}"))),
    }
}

fn reverse<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match &args[0] {
        Value::String(text) => Ok(text.chars().rev().collect::<String>().into()),
        other => Ok(list(other)?.into_iter().rev().collect::<Vec<_>>().into()),
    }
}

fn replace<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let (text, old, new) = (text(&args[0])?, row::text(&args[1])?, row::text(&args[2])?);
    let limit = match args.get(3) {
        Some(limit) => usize::try_from(int(limit)?).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    Ok(text.replacen(old, new, limit).into())
}

fn split<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let (text, separator) = (text(&args[0])?, row::text(&args[1])?);
    let limit = match args.get(2) {
        Some(limit) => usize::try_from(int(limit)?).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    let parts: Vec<String> = if limit == 0 {
        Vec::new()
    } else if separator.is_empty() {
        let chars: Vec<char> = text.chars().collect();
        let cut = limit.saturating_sub(1).min(chars.len().saturating_sub(1));
        let rest: String = chars[cut..].iter().collect();
        let mut parts: Vec<String> = chars[..cut].iter().map(char::to_string).collect();
        if !rest.is_empty() {
            parts.push(rest);
        }
        parts
    } else {
        text.splitn(limit, separator).map(str::to_owned).collect()
    };
    Ok(parts.into_iter().map(Value::from).collect::<Vec<_>>().into())
}

fn substring<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let chars: Vec<char> = text(&args[0])?.chars().collect();
    let start = int(&args[1])?;
    let end = match args.get(2) {
        Some(end) => int(end)?,
        None => chars.len() as i64,
    };
    for at in [start, end] {
        if at < 0 || at > chars.len() as i64 {
            return Err(Error::failed(format!("index out of range: {at}")));
        }
    }
    if start > end {
        return Err(Error::failed(format!("invalid substring range. start: {start}, end: {end}")));
    }
    Ok(chars[start as usize..end as usize].iter().collect::<String>().into())
}

fn join<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let list = list(&args[0])?;
    let parts = list.iter().map(text).collect::<Result<Vec<_>>>()?;
    let separator = args.get(1).map(text).transpose()?.unwrap_or_default();
    match parts.is_empty() && !list.is_empty() {
        true => no_overload(),
        false => Ok(parts.join(separator).into()),
    }
}
