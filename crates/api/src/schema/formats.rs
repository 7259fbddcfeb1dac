//! Formats that texts of custom resources may be asked to have.
//!
//! What none of these names says is a remark, of which who writes a definition is warned.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const STRINGS: &[&str] = &[
    "bsonobjectid",
    "byte",
    "cidr",
    "creditcard",
    "date",
    "datetime",
    "duration",
    "email",
    "hexcolor",
    "hostname",
    "ipv4",
    "ipv6",
    "isbn",
    "isbn10",
    "isbn13",
    "k8slongname",
    "k8sshortname",
    "mac",
    "password",
    "rgbcolor",
    "ssn",
    "uri",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
];

/// Whether a format means something for a type.
pub fn is_known(format: &str, type_name: &str) -> bool {
    match type_name {
        "" | "string" => STRINGS.contains(&format.replace('-', "").as_str()),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

/// Whether a text has a format; it has every format that is not known.
pub(super) fn has_format(format: &str, text: &str) -> bool {
    match format.replace('-', "").as_str() {
        "datetime" => text.len() >= 20 && text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "duration" => is_go_duration(text) || has_spelled_duration(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => text.split_once('/').is_some_and(|(address, bits)| {
            let width = address.parse::<IpAddr>().map(|address| if address.is_ipv4() { 32 } else { 128 });
            matches!((width, bits.parse::<u8>()), (Ok(width), Ok(bits)) if bits <= width)
        }),
        "mac" => is_mac(text),
        "uuid" => is_uuid(text, |_, _| true),
        "uuid3" => is_uuid(text, |version, _| version == b'3'),
        "uuid4" => is_uuid(text, |version, variant| version == b'4' && b"89abAB".contains(&variant)),
        "uuid5" => is_uuid(text, |version, variant| version == b'5' && b"89abAB".contains(&variant)),
        "bsonobjectid" => text.len() == 24 && is_hex(text),
        "hexcolor" => {
            let digits = text.strip_prefix('#').unwrap_or(text);
            matches!(digits.len(), 3 | 6) && is_hex(digits)
        }
        "rgbcolor" => is_rgb(text),
        "ssn" => {
            let digits: String = text.chars().filter(|c| !"- ".contains(*c)).collect();
            digits.len() == 9 && digits.bytes().all(|byte| byte.is_ascii_digit()) && text.len() <= 11
        }
        "byte" => {
            text.len().is_multiple_of(4) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
        }
        "uri" => is_uri(text),
        "email" => is_email(text),
        "hostname" => is_hostname(text),
        "k8sshortname" => is_label(text) && text.len() <= 63,
        "k8slongname" => text.len() <= 253 && text.split('.').all(is_label),
        _ => true,
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_label(text: &str) -> bool {
    let is_end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.iter().all(|byte| is_end(byte) || *byte == b'-')
        && bytes.first().is_some_and(is_end)
        && bytes.last().is_some_and(is_end)
}

/// Dashes may be left out; the digit that tells the version and the one that tells the variant are looked at.
fn is_uuid(text: &str, fits: fn(u8, u8) -> bool) -> bool {
    let mut digits = Vec::with_capacity(32);
    for byte in text.bytes() {
        match byte {
            b'-' if matches!(digits.len(), 8 | 12 | 16 | 20) => {}
            byte if byte.is_ascii_hexdigit() => digits.push(byte),
            _ => return false,
        }
    }
    digits.len() == 32 && !text.contains("--") && fits(digits[12], digits[16])
}

fn is_mac(text: &str) -> bool {
    let pairs = |mark: char| {
        let parts: Vec<&str> = text.split(mark).collect();
        matches!(parts.len(), 6 | 8 | 20) && parts.iter().all(|part| part.len() == 2 && is_hex(part))
    };
    let parts: Vec<&str> = text.split('.').collect();
    let is_dotted = matches!(parts.len(), 3 | 4 | 10) && parts.iter().all(|part| part.len() == 4 && is_hex(part));
    pairs(':') || pairs('-') || is_dotted
}

fn is_rgb(text: &str) -> bool {
    let inside = text.strip_prefix("rgb(").and_then(|rest| rest.strip_suffix(')'));
    inside.is_some_and(|inside| {
        let parts: Vec<&str> = inside.split(',').map(str::trim).collect();
        parts.len() == 3 && parts.iter().all(|part| part.parse::<u8>().is_ok())
    })
}

/// `1h30m`, as Go prints and reads it.
fn is_go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let mut is_any = false;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        if !number.bytes().any(|byte| byte.is_ascii_digit()) || number.matches('.').count() > 1 {
            return false;
        }
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if !matches!(unit, "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h") {
            return false;
        }
        (rest, is_any) = (after, true);
    }
    is_any
}

/// Somewhere a number and a unit: `3 days`.
fn has_spelled_duration(text: &str) -> bool {
    const UNITS: &[&str] = &["d", "h", "hr", "m", "ms", "ns", "s", "us", "w", "wk", "µs"];
    const STARTS: &[&str] = &["day", "hour", "micro", "milli", "min", "nano", "sec", "week"];
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let after = rest[start..].trim_start_matches(|c: char| c.is_ascii_digit());
        let word: String = after.trim_start().chars().take_while(|c| c.is_ascii_alphabetic() || *c == 'µ').collect();
        let word = word.to_lowercase();
        if UNITS.contains(&word.as_str()) || STARTS.iter().any(|start| word.starts_with(start)) {
            return true;
        }
        rest = after;
    }
    false
}

/// Absolute, or a path from the root, as a request may carry it.
fn is_uri(text: &str) -> bool {
    let has_scheme = text.split_once(':').is_some_and(|(scheme, rest)| {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        scheme.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
            && scheme.bytes().all(is_word)
            && !rest.is_empty()
    });
    let host = text.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?']).next().unwrap_or(""));
    (has_scheme || text.starts_with('/')) && !text.chars().any(char::is_control) && !host.contains(' ')
}

/// An address alone, or behind a name.
fn is_email(text: &str) -> bool {
    let address = match text.trim().strip_suffix('>') {
        Some(inside) => inside.rsplit_once('<').map_or("", |(_, address)| address),
        None => text.trim(),
    };
    let is_word = |text: &str| {
        let parts = text.split('.');
        parts
            .into_iter()
            .all(|part| !part.is_empty() && !part.chars().any(|c| c.is_whitespace() || "()<>[]:;@\\,\"".contains(c)))
    };
    address.rsplit_once('@').is_some_and(|(local, domain)| is_word(local) && is_word(domain))
}

fn is_hostname(text: &str) -> bool {
    let is_end = |c: char| c.is_alphanumeric();
    let is_fit = |label: &str| {
        let is_inside = label.chars().all(|c| is_end(c) || c == '-');
        label.len() <= 63 && is_inside && label.starts_with(is_end) && label.ends_with(is_end)
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_domain = last.chars().count() >= 2 && last.chars().all(char::is_alphabetic);
    text.len() <= 255 && text.split('.').all(is_fit) && (is_domain || !text.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_formats_or_not() {
        for (format, good, bad) in [
            ("uri", &["https://a.b/c?d", "/a", "mailto:a@b"][..], &["a/b", "", "http://a b/"][..]),
            ("email", &["a@b.c", "A B <a@b>"], &["a", "a@", "a b@c"]),
            ("hostname", &["a", "a-b.example.com"], &["-a", "a..b", "a.b.1"]),
            ("mac", &["01:02:03:04:05:ab", "0102.0304.0506"], &["01:02:03", "0g:02:03:04:05:06"]),
            ("uuid4", &["f47ac10b-58cc-4372-a567-0e02b2c3d479"], &["f47ac10b-58cc-3372-a567-0e02b2c3d479", "x"]),
            ("duration", &["1h30m", "0", "-1.5s", "3 days"], &["1", "", "soon"]),
            ("date-time", &["2014-12-15T19:30:20.000Z"], &["2014-12-15"]),
            ("datetime", &["2014-12-15T19:30:20Z"], &["now"]),
            ("hexcolor", &["#fff", "00ff00"], &["#ff", "red"]),
            ("rgbcolor", &["rgb(1, 2,255)"], &["rgb(1,2,256)", "1,2,3"]),
            ("bsonobjectid", &["507f1f77bcf86cd799439011"], &["507f"]),
            ("ssn", &["111-22-3333"], &["111-22-333"]),
            ("k8s-short-name", &["a-b"], &["A", "a.b", "-a"]),
            ("k8s-long-name", &["a.b-c"], &["a..b", "A"]),
            ("anything", &["at all"], &[]),
        ] {
            good.iter().for_each(|text| assert!(has_format(format, text), "{text:?} is a {format}"));
            bad.iter().for_each(|text| assert!(!has_format(format, text), "{text:?} is no {format}"));
        }
        assert!(is_known("date-time", "string") && is_known("int32", "integer"));
        assert!(!is_known("int32", "string") && !is_known("date-time", "object"));
    }
}
