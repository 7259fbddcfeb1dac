//! Documents: JSON and YAML texts become values, and keys given twice are told; values become YAML.
//!
//! As in Kubernetes, the last of two equal keys wins and a strict request is refused for it. YAML is read as upstream's
//! library reads it (YAML 1.1 booleans and octal numbers: `yes`, `0644`), so a manifest means the same here. Depth and
//! alias expansion are bounded, so no small body becomes a large value.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

mod lines;
mod parsed;
mod print;
mod yaml;

use parsed::DUPLICATES_MAX;

pub use lines::print_lines;
pub use parsed::{Document, Duplicates, ParseError, warnings};
pub use print::print_yaml;
pub use yaml::{parse_yaml, parse_yaml_all};

pub fn parse_json(body: &[u8]) -> Result<Document, ParseError> {
    let duplicates = RefCell::new(Vec::new());
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let seed = Node { path: &Path::Root, duplicates: &duplicates };
    let parsed = seed.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    let value = parsed.map_err(|error| ParseError(go_message(&error, body)))?;
    Ok(Document { value, duplicates: Duplicates::Paths(duplicates.into_inner()) })
}

/// The way to a key, printed only when it is a duplicate.
enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Key(Path::Root, key) => out.write_str(key),
            Path::Key(parent, key) => write!(out, "{parent}.{key}"),
            Path::Index(parent, index) => write!(out, "{parent}[{index}]"),
        }
    }
}

#[derive(Clone, Copy)]
struct Node<'a> {
    path: &'a Path<'a>,
    duplicates: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let path = Path::Index(self.path, list.len());
            match access.next_element_seed(Node { path: &path, ..self })? {
                Some(value) => list.push(value),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let path = Path::Key(self.path, &key);
            let value = access.next_value_seed(Node { path: &path, ..self })?;
            if map.contains_key(&key) {
                note_duplicate(self.duplicates, &path);
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

fn note_duplicate(duplicates: &RefCell<Vec<String>>, path: &Path) {
    let mut duplicates = duplicates.borrow_mut();
    if duplicates.len() < DUPLICATES_MAX {
        duplicates.push(path.to_string());
    }
}

/// The words of Go's JSON decoder for the same mistake, where they are known.
fn go_message(error: &serde_json::Error, body: &[u8]) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".into();
    }
    let text = error.to_string();
    let context = if text.starts_with("expected value") {
        "looking for beginning of value"
    } else if text.starts_with("key must be a string") || text.starts_with("trailing comma") {
        "looking for beginning of object key string"
    } else if text.starts_with("expected `:`") {
        "after object key"
    } else if text.starts_with("expected `,` or `}`") {
        "after object key:value pair"
    } else if text.starts_with("expected `,` or `]`") {
        "after array element"
    } else if text.starts_with("trailing characters") {
        "after top-level value"
    } else {
        return text;
    };
    let line = body.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let at = line.get(error.column().saturating_sub(1)).copied().unwrap_or(b' ');
    format!("invalid character '{}' {context}", at.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn duplicate_keys_are_told_and_the_last_wins() {
        let body = br#"{"a": 1, "spec": {"c": [{"n": 1, "n": 2}], "x": {}}, "a": 2}"#;
        let document = parse_json(body).expect("JSON");
        assert_eq!(document.value, json!({"a": 2, "spec": {"c": [{"n": 2}], "x": {}}}));
        let problems = document.duplicates.problems();
        assert_eq!(problems, ["duplicate field \"spec.c[0].n\"", "duplicate field \"a\""]);
        assert_eq!(problems.iter().flat_map(|problem| warnings(problem)).collect::<Vec<_>>(), problems);
    }

    #[test]
    fn syntax_errors_are_told_as_go_tells_them() {
        for (body, expected) in [
            ("", "unexpected end of JSON input"),
            ("{\"a\":", "unexpected end of JSON input"),
            ("hello", "invalid character 'h' looking for beginning of value"),
            ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\":2}", "invalid character '\\\"' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("{} x", "invalid character 'x' after top-level value"),
        ] {
            assert_eq!(parse_json(body.as_bytes()), Err(ParseError(expected.into())), "{body}");
        }
        assert!(parse_json(&[b'['; 100_000]).is_err());
        assert!(parse_json(b"\"\xff\"").is_err());
    }

    proptest! {
        #[test]
        fn texts_round_trip_and_nothing_panics(text in "\\PC{0,60}", number in any::<i64>()) {
            let value = json!({"t": text, "n": [number, null, true, 1.5]});
            prop_assert_eq!(parse_json(value.to_string().as_bytes()).map(|one| one.value), Ok(value.clone()));
            // JSON is YAML, but for the line breaks YAML folds inside quotes; serde_json escapes those.
            prop_assert_eq!(parse_yaml(&json!({"n": number}).to_string()).map(|one| one.value), Ok(json!({"n": number})));
            let _ = (parse_json(text.as_bytes()), parse_yaml(&text));
        }
    }
}
