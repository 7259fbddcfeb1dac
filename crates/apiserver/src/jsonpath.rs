//! The JSONPath of a custom resource's column: `.spec.replicas`, `.status.conditions[?(@.type=="Ready")].status`, `.a[0]`, `.a['b.c']`.

use serde_json::Value;

enum Step<'a> {
    Field(&'a str),
    Index(i64),
    All,
    /// `[?(@.path==value)]`
    Where(&'a str, Value),
}

/// The first value that the path finds.
pub(crate) fn first<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    let mut found = vec![value];
    for step in steps(path)? {
        let mut next = Vec::new();
        for one in found {
            match &step {
                Step::Field(name) => next.extend(one.get(*name)),
                Step::Index(index) => next.extend(at_index(one, *index)),
                Step::All => next.extend(children(one)),
                Step::Where(path, wanted) => {
                    next.extend(children(one).into_iter().filter(|child| first(child, path) == Some(wanted)));
                }
            }
        }
        found = next;
    }
    found.first().copied()
}

fn at_index(value: &Value, index: i64) -> Option<&Value> {
    let list = value.as_array()?;
    let index = if index < 0 { index + list.len() as i64 } else { index };
    list.get(usize::try_from(index).ok()?)
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(list) => list.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut rest = path.trim().trim_start_matches('$');
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let end = closing(inner)?;
            steps.push(bracket(&inner[..end])?);
            rest = &inner[end + 1..];
            continue;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let end = field_end(rest);
        let name = &rest[..end];
        match name {
            "" => {}
            "*" => steps.push(Step::All),
            name => steps.push(Step::Field(name)),
        }
        if name.is_empty() && !rest.starts_with('[') {
            return None;
        }
        rest = &rest[end..];
    }
    Some(steps)
}

fn field_end(text: &str) -> usize {
    text.find(['.', '[']).unwrap_or(text.len())
}

/// The index of the bracket that closes, outside quotes and inner brackets.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (index, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (Some(open), byte) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"') => quote = Some(byte),
            (None, b'[') => depth += 1,
            (None, b']') if depth == 0 => return Some(index),
            (None, b']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(inner: &str) -> Option<Step<'_>> {
    let inner = inner.trim();
    if inner == "*" {
        return Some(Step::All);
    }
    if let Some(name) = unquoted(inner) {
        return Some(Step::Field(name));
    }
    if let Some(condition) = inner.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        let (left, right) = condition.split_once("==")?;
        let wanted = right.trim();
        let wanted = match unquoted(wanted) {
            Some(text) => Value::String(text.to_owned()),
            None => serde_json::from_str(wanted).ok()?,
        };
        return Some(Step::Where(left.trim().strip_prefix('@')?, wanted));
    }
    inner.parse().ok().map(Step::Index)
}

fn unquoted(text: &str) -> Option<&str> {
    let strip = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    strip('\'').or_else(|| strip('"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_find_what_columns_ask_for() {
        let value = json!({"spec": {"n": 3, "l": ["a", "b"]}, "status": {"conditions": [{"type": "A", "status": "x"},
            {"type": "Ready", "status": "True"}]}, "m": {"a.b/c": 1}});
        for (path, expected) in [
            (".spec.n", Some(json!(3))),
            ("$.spec.l[1]", Some(json!("b"))),
            (".spec.l[-1]", Some(json!("b"))),
            (".spec.l[*]", Some(json!("a"))),
            (".status.conditions[?(@.type==\"Ready\")].status", Some(json!("True"))),
            (".status.conditions[?(@.type=='None')].status", None),
            (".m['a.b/c']", Some(json!(1))),
            (".gone.n", None),
            (".spec.l[", None),
            ("..", None),
        ] {
            assert_eq!(first(&value, path), expected.as_ref(), "{path}");
        }
    }
}
