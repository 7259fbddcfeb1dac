//! YAML texts as JSON values, read as Kubernetes reads manifests.

use std::borrow::Cow;
use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};
use serde_json::{Map, Value};

use super::parsed::{DUPLICATES_MAX, Document, Duplicates, ParseError};

const DEPTH_MAX: usize = 100;
/// Values that aliases may add to one text: a bound on the "billion laughs".
const ALIAS_NODES_MAX: usize = 100_000;

/// The first document of a text; an empty text is null.
pub fn parse_yaml(text: &str) -> Result<Document, ParseError> {
    Ok(documents(text, 1)?.into_iter().next().unwrap_or_default())
}

/// Every document of a text with `---` lines, without the empty ones.
pub fn parse_yaml_all(text: &str) -> Result<Vec<Value>, ParseError> {
    let all = documents(text, usize::MAX)?;
    Ok(all.into_iter().map(|one| one.value).filter(|value| !value.is_null()).collect())
}

fn documents(text: &str, limit: usize) -> Result<Vec<Document>, ParseError> {
    let mut found = Vec::new();
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| scan_error(&error))?;
        let line = span.start.line();
        let wrong = |what: String| ParseError(format!("error converting YAML to JSON: yaml: line {line}: {what}"));
        match event {
            Event::DocumentStart(_) => builder = Builder::default(),
            Event::DocumentEnd => {
                let done = std::mem::take(&mut builder);
                found.push(Document {
                    value: done.root.unwrap_or_default(),
                    duplicates: Duplicates::Lines(done.duplicates),
                });
                if found.len() >= limit {
                    break;
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let as_key = builder.is_key_due();
                let value = scalar(text, plain, tag.as_deref(), as_key).map_err(wrong)?;
                builder.add(value, anchor, line).map_err(wrong)?;
            }
            Event::Alias(anchor) => builder.alias(anchor, line).map_err(wrong)?,
            Event::SequenceStart(anchor, _) => builder.open(Open::List(Vec::new()), anchor).map_err(wrong)?,
            Event::MappingStart(anchor, _) => builder.open(Open::Map(Map::new(), None), anchor).map_err(wrong)?,
            Event::SequenceEnd | Event::MappingEnd => builder.close(line).map_err(wrong)?,
            Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
        }
    }
    Ok(found)
}

fn scan_error(error: &ScanError) -> ParseError {
    ParseError(format!("error converting YAML to JSON: yaml: line {}: {}", error.marker().line(), error.info()))
}

enum Open {
    List(Vec<Value>),
    /// The map so far, and the key whose value is due.
    Map(Map<String, Value>, Option<String>),
}

/// Puts events together into one document.
#[derive(Default)]
struct Builder {
    open: Vec<(Open, usize)>,
    root: Option<Value>,
    anchors: BTreeMap<usize, Value>,
    alias_nodes: usize,
    duplicates: Vec<String>,
}

impl Builder {
    fn is_key_due(&self) -> bool {
        matches!(self.open.last(), Some((Open::Map(_, None), _)))
    }

    fn open(&mut self, one: Open, anchor: usize) -> Result<(), String> {
        if self.is_key_due() {
            return Err("a map key must be a scalar".into());
        }
        if self.open.len() >= DEPTH_MAX {
            return Err("exceeded max depth".into());
        }
        self.open.push((one, anchor));
        Ok(())
    }

    fn close(&mut self, line: usize) -> Result<(), String> {
        match self.open.pop() {
            Some((Open::List(list), anchor)) => self.add(Value::Array(list), anchor, line),
            Some((Open::Map(map, _), anchor)) => self.add(Value::Object(map), anchor, line),
            None => Ok(()),
        }
    }

    fn alias(&mut self, anchor: usize, line: usize) -> Result<(), String> {
        let value = self.anchors.get(&anchor).ok_or("unknown anchor referenced")?.clone();
        self.alias_nodes += count_nodes(&value);
        if self.alias_nodes > ALIAS_NODES_MAX {
            return Err("document contains excessive aliasing".into());
        }
        self.add(value, 0, line)
    }

    fn add(&mut self, value: Value, anchor: usize, line: usize) -> Result<(), String> {
        if anchor != 0 {
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some((Open::List(list), _)) => list.push(value),
            Some((Open::Map(map, key @ None), _)) => {
                let name = match value {
                    Value::String(name) => name,
                    Value::Array(_) | Value::Object(_) => return Err("a map key must be a scalar".into()),
                    other => other.to_string(),
                };
                if map.contains_key(&name) && self.duplicates.len() < DUPLICATES_MAX {
                    self.duplicates.push(format!("line {line}: key {name:?} already set in map"));
                }
                *key = Some(name);
            }
            Some((Open::Map(map, key), _)) => match (key.take(), value) {
                (Some(name), Value::Object(merged)) if name == "<<" => merge(map, merged),
                (Some(name), value) => {
                    map.insert(name, value);
                }
                (None, _) => {}
            },
        }
        Ok(())
    }
}

/// `<<: *base`: the map's own keys win.
fn merge(map: &mut Map<String, Value>, merged: Map<String, Value>) {
    for (key, value) in merged {
        map.entry(key).or_insert(value);
    }
}

fn count_nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count_nodes).sum(),
        Value::Object(map) => map.values().map(count_nodes).sum(),
        _ => 0usize,
    }
}

fn scalar(text: Cow<str>, plain: bool, tag: Option<&Tag>, as_key: bool) -> Result<Value, String> {
    match tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str()) {
        Some("str") => Ok(Value::String(text.into_owned())),
        Some("binary") => Err("!!binary is not supported".into()),
        _ if plain && !as_key => Ok(resolve(text)),
        _ => Ok(Value::String(text.into_owned())),
    }
}

/// A plain scalar by the rules of YAML 1.1 that upstream's library follows; `y` and `n` stay texts.
fn resolve(text: Cow<str>) -> Value {
    let known = match text.as_ref() {
        "" | "~" | "null" | "Null" | "NULL" => Some(Value::Null),
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true.into()),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false.into()),
        other if other.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => number(other),
        _ => None,
    };
    known.unwrap_or_else(|| Value::String(text.into_owned()))
}

fn number(text: &str) -> Option<Value> {
    let plain = text.replace('_', "");
    let (negative, digits) = match plain.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let (radix, body) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o', ..] => (8, &digits[2..]),
        [b'0', _, ..] if digits.bytes().all(|byte| byte.is_ascii_digit()) => (8, &digits[1..]),
        _ => (10, digits),
    };
    if body.starts_with(|c: char| c.is_ascii_hexdigit())
        && let Ok(whole) = u64::from_str_radix(body, radix)
    {
        return match (negative, i64::try_from(whole)) {
            (true, Ok(whole)) => Some((-whole).into()),
            (false, _) => Some(whole.into()),
            (true, Err(_)) => None,
        };
    }
    let is_float = radix == 10 || digits.bytes().all(|byte| byte.is_ascii_digit());
    let looks_like_one = plain.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    if !is_float || !looks_like_one || !plain.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: f64 = plain.parse().ok()?;
    // JSON has no way to tell 1.0 from 1: upstream's conversion writes whole floats as integers.
    match value.fract() == 0.0 && value.abs() < 1e15 {
        true => Some((value as i64).into()),
        false => serde_json::Number::from_f64(value).map(Value::Number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(text: &str, expected: Value) {
        assert_eq!(parse_yaml(text).map(|one| one.value), Ok(expected), "{text}");
    }

    #[test]
    fn scalars_mean_what_they_mean_upstream() {
        check(
            "a: 1\nb: 0644\nc: 0x1F\nd: 1.5\ne: 1.0\nf: -3",
            json!({"a": 1, "b": 420, "c": 31, "d": 1.5, "e": 1, "f": -3}),
        );
        check(
            "a: yes\nb: Off\nc: 'yes'\nd: !!str 1\ne: ~\nf:",
            json!({"a": true, "b": false, "c": "yes", "d": "1", "e": null, "f": null}),
        );
        check(
            "a: 1Gi\nb: 1.2.3\nc: 10:20\nd:\n-\ne: 08",
            json!({"a": "1Gi", "b": "1.2.3", "c": "10:20", "d": [null], "e": 8}),
        );
        check("1: a\ntrue: b", json!({"1": "a", "true": "b"}));
        check("t: |\n  one\n  two\nf: >-\n  a\n  b", json!({"t": "one\ntwo\n", "f": "a b"}));
    }

    #[test]
    fn anchors_merges_and_documents() {
        check(
            "a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\nc: *x",
            json!({"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}, "c": {"p": 1, "q": 2}}),
        );
        let all = parse_yaml_all("---\na: 1\n---\n# nothing\n---\nb: 2\n...\n").expect("documents");
        assert_eq!(all, [json!({"a": 1}), json!({"b": 2})]);
        check("", Value::Null);
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let duplicate = parse_yaml("spec:\n  l:\n  - n: 1\n    n: 2\nspec2: {a: 1,\n  a: 2}\n").expect("parses");
        assert_eq!(duplicate.value, json!({"spec": {"l": [{"n": 2}]}, "spec2": {"a": 2}}));
        let problems = duplicate.duplicates.problems();
        let lines = ["line 4: key \"n\" already set in map", "line 6: key \"a\" already set in map"];
        assert_eq!(problems, [format!("yaml: unmarshal errors:\n  {}\n  {}", lines[0], lines[1])]);
        assert_eq!(super::super::warnings(&problems[0]).collect::<Vec<_>>(), lines);
        let error = parse_yaml("a: b\n c: d\n").expect_err("bad indentation");
        assert!(error.0.starts_with("error converting YAML to JSON: yaml: line 2: "), "{error}");
        assert!(parse_yaml(&"[".repeat(10_000)).is_err());
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            laughs += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(", "));
        }
        let error = parse_yaml(&laughs).expect_err("a billion laughs");
        assert!(error.0.ends_with("document contains excessive aliasing"), "{error}");
    }
}
