//! `format` and `quote` of the strings extension.

use super::convert::{double, plain};
use crate::error::{Error, Result};
use crate::value::Value;

/// `"%s is %d".format([a, b])`.
pub(super) fn format<'a>(template: &str, args: &[Value<'a>]) -> Result<Value<'a>> {
    let mut out = String::new();
    let mut next = 0;
    let mut chars = template.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            out.push('%');
            continue;
        }
        let mut precision = None;
        if chars.peek() == Some(&'.') {
            chars.next();
            let mut digits = String::new();
            while let Some(digit) = chars.peek().copied().filter(char::is_ascii_digit) {
                digits.push(digit);
                chars.next();
            }
            precision = digits.parse::<usize>().ok().map(|digits| digits.min(100));
        }
        let Some(verb) = chars.next() else {
            return Err(Error::failed("could not parse formatting clause: unexpected end of string"));
        };
        let Some(arg) = args.get(next) else { return Err(Error::failed(format!("index {next} out of range"))) };
        next += 1;
        out.push_str(&one(verb, precision, arg)?);
    }
    Ok(out.into())
}

fn one(verb: char, precision: Option<usize>, arg: &Value<'_>) -> Result<String> {
    let wrong = |what: &str| {
        Err(Error::failed(format!(
            "error during formatting: {what} clause can only be used on {}, was given {}",
            match verb {
                'd' => "integers",
                'f' | 'e' => "doubles",
                'b' => "integers and bools",
                _ => "integers, byte buffers, and strings",
            },
            arg.type_name()
        )))
    };
    Ok(match (verb, arg) {
        ('s', arg) => shown(arg),
        ('d', Value::Int(value)) => value.to_string(),
        ('d', Value::Uint(value)) => value.to_string(),
        ('d', _) => return wrong("decimal"),
        ('f', arg) => match number(arg) {
            Some(value) if value.is_finite() => format!("{value:.*}", precision.unwrap_or(6)),
            Some(value) => double(value),
            None => return wrong("fixed-point"),
        },
        ('e', arg) => match number(arg) {
            Some(value) if value.is_finite() => {
                let text = format!("{value:.*e}", precision.unwrap_or(6));
                let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |rest| ("-", rest));
                format!("{digits}e{sign}{exponent:0>2}")
            }
            Some(value) => double(value),
            None => return wrong("scientific"),
        },
        ('b', Value::Int(value)) => signed(*value, |value| format!("{value:b}")),
        ('b', Value::Uint(value)) => format!("{value:b}"),
        ('b', Value::Bool(value)) => u8::from(*value).to_string(),
        ('b', _) => return wrong("binary"),
        ('o', Value::Int(value)) => signed(*value, |value| format!("{value:o}")),
        ('o', Value::Uint(value)) => format!("{value:o}"),
        ('x', Value::Int(value)) => signed(*value, |value| format!("{value:x}")),
        ('X', Value::Int(value)) => signed(*value, |value| format!("{value:X}")),
        ('x', Value::Uint(value)) => format!("{value:x}"),
        ('X', Value::Uint(value)) => format!("{value:X}"),
        ('x', Value::String(text)) => hex(text.as_bytes()),
        ('X', Value::String(text)) => hex(text.as_bytes()).to_uppercase(),
        ('x', Value::Bytes(bytes)) => hex(bytes),
        ('X', Value::Bytes(bytes)) => hex(bytes).to_uppercase(),
        ('o' | 'x' | 'X', _) => return wrong(if verb == 'o' { "octal" } else { "hex" }),
        _ => {
            return Err(Error::failed(format!(
                "could not parse formatting clause: unrecognized formatting clause {verb:?}"
            )));
        }
    })
}

fn number(arg: &Value<'_>) -> Option<f64> {
    match arg {
        Value::Double(value) => Some(*value),
        Value::Int(value) => Some(*value as f64),
        Value::Uint(value) => Some(*value as f64),
        Value::String(text) if matches!(&**text, "NaN" | "Infinity" | "-Infinity") => text.parse().ok(),
        _ => None,
    }
}

fn signed(value: i64, print: fn(u64) -> String) -> String {
    format!("{}{}", if value < 0 { "-" } else { "" }, print(value.unsigned_abs()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `%s`: lists and maps with their parts shown the same way.
fn shown(value: &Value<'_>) -> String {
    if let Some(list) = value.elements() {
        return format!("[{}]", list.iter().map(shown).collect::<Vec<_>>().join(", "));
    }
    if let Some(entries) = value.entries() {
        let mut parts: Vec<String> =
            entries.iter().map(|(key, value)| format!("{}: {}", shown(&key.value()), shown(value))).collect();
        parts.sort();
        return format!("{{{}}}", parts.join(", "));
    }
    match value {
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => plain(other),
    }
}

pub(super) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
