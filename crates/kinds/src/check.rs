//! Checks that many kinds share: numbers, choices, names, selectors, ports, addresses. Texts are Kubernetes' own.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as QuantityText;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};
use stead_api::names::{label_value, qualified_name};
use stead_api::{Errors, Quantity};

use crate::path::Path;

pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
pub const FIELD_IS_IMMUTABLE: &str = "field is immutable";

/// The text of an optional string; Kubernetes does not tell absent from empty.
pub fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or("")
}

/// The items of an optional list.
pub fn list<T>(value: &Option<Vec<T>>) -> &[T] {
    value.as_deref().unwrap_or(&[])
}

pub fn not_negative(at: Path, number: Option<impl Into<i64>>, errors: &mut Errors) {
    if let Some(number) = number.map(Into::into).filter(|number| *number < 0) {
        at.invalid(errors, number, NOT_NEGATIVE);
    }
}

/// One of some texts; empty is allowed when `or_empty`, else it is a missing value.
pub fn one_of(at: Path, value: &str, allowed: &[&str], or_empty: bool, errors: &mut Errors) {
    match value {
        "" if or_empty => {}
        "" => at.required(errors, ""),
        _ if allowed.contains(&value) => {}
        _ => at.not_supported(errors, value, allowed),
    }
}

/// A name that must follow a rule; empty is left to the caller.
pub fn name(at: Path, value: &str, rule: fn(&str) -> Vec<String>, errors: &mut Errors) {
    if !value.is_empty() {
        for message in rule(value) {
            at.invalid(errors, value, message);
        }
    }
}

/// A name that must be there and follow a rule.
pub fn required_name(at: Path, value: &str, rule: fn(&str) -> Vec<String>, errors: &mut Errors) {
    if value.is_empty() {
        at.required(errors, "");
    }
    name(at, value, rule, errors);
}

pub fn label_map(at: Path, labels: Option<&BTreeMap<String, String>>, errors: &mut Errors) {
    for (key, value) in labels.into_iter().flatten() {
        name(at, key, qualified_name, errors);
        if key.is_empty() {
            for message in qualified_name(key) {
                at.invalid(errors, "", message);
            }
        }
        for message in label_value(value) {
            at.invalid(errors, value.as_str(), message);
        }
    }
}

pub fn label_selector(at: Path, selector: &LabelSelector, errors: &mut Errors) {
    label_map(at.child("matchLabels"), selector.match_labels.as_ref(), errors);
    for (index, requirement) in list(&selector.match_expressions).iter().enumerate() {
        let all = at.child("matchExpressions");
        let at = all.index(index);
        requirement_parts(at, &requirement.key, &requirement.operator, list(&requirement.values), false, errors);
    }
}

/// A requirement of a selector; those of nodes also compare numbers.
pub fn requirement_parts(
    at: Path,
    key: &str,
    operator: &str,
    values: &[String],
    may_compare: bool,
    errors: &mut Errors,
) {
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            at.child("values").required(errors, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            at.child("values").forbidden(errors, detail);
        }
        "Gt" | "Lt" if may_compare && values.len() != 1 => {
            at.child("values").required(errors, "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        "Gt" | "Lt" if may_compare => {}
        operator => at.child("operator").invalid(errors, operator, "not a valid selector operator"),
    }
    for message in qualified_name(key) {
        at.child("key").invalid(errors, key, message);
    }
    for (index, value) in values.iter().enumerate() {
        for message in label_value(value) {
            at.child("values").index(index).invalid(errors, value.as_str(), message);
        }
    }
}

/// Whether a selector names nothing, so that it would select everything.
pub fn is_empty_selector(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty) && list(&selector.match_expressions).is_empty()
}

pub fn port_number(at: Path, port: i64, errors: &mut Errors) {
    if !(1..=65535).contains(&port) {
        at.invalid(errors, port, "must be between 1 and 65535, inclusive");
    }
}

/// An IANA service name.
pub fn port_name(name: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if name.len() > 15 {
        messages.push("must be no more than 15 bytes".to_owned());
    }
    if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        messages.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        messages.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        messages.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        messages.push("must not begin or end with a hyphen".to_owned());
    }
    messages
}

/// A port by number or by name.
pub fn port(at: Path, port: &IntOrString, errors: &mut Errors) {
    match port {
        IntOrString::Int(number) => port_number(at, i64::from(*number), errors),
        IntOrString::String(text) => {
            for message in port_name(text) {
                at.invalid(errors, text.as_str(), message);
            }
        }
    }
}

pub fn ip(at: Path, text: &str, errors: &mut Errors) {
    if text.parse::<IpAddr>().is_err() {
        at.invalid(errors, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
}

/// `10.0.0.0/8`.
pub fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let is_number = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
    let bits_max = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    is_number && bits.parse::<u32>().is_ok_and(|bits| bits <= bits_max)
}

/// An address that others are sent to: not one that means something else on each machine.
pub fn endpoint_ip(at: Path, text: &str, errors: &mut Errors) {
    let Ok(address) = text.parse::<IpAddr>() else { return ip(at, text, errors) };
    let (is_local, is_local_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    let unspecified = format!("may not be unspecified ({text})");
    for (is_wrong, detail) in [
        (address.is_unspecified(), unspecified.as_str()),
        (address.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (is_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (is_local_multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
    ] {
        if is_wrong {
            at.invalid(errors, text, detail);
        }
    }
}

pub fn int_or_string(value: &IntOrString) -> Value {
    match value {
        IntOrString::Int(number) => json!(number),
        IntOrString::String(text) => json!(text),
    }
}

/// A number that is not negative, or a percentage written `12%`.
pub fn int_or_percent(at: Path, value: &IntOrString, errors: &mut Errors) {
    match value {
        IntOrString::Int(number) => not_negative(at, Some(*number), errors),
        IntOrString::String(text) if percent(value).is_none() => {
            let message = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
            at.invalid(errors, text.as_str(), message);
        }
        IntOrString::String(_) => {}
    }
}

pub fn at_most_all(at: Path, value: &IntOrString, errors: &mut Errors) {
    if percent(value).is_some_and(|percent| percent > 100) {
        at.invalid(errors, int_or_string(value), "must not be greater than 100%");
    }
}

/// The number of a percentage.
pub fn percent(value: &IntOrString) -> Option<i64> {
    let IntOrString::String(text) = value else { return None };
    let digits = text.strip_suffix('%')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(i64::MAX))
}

/// The number of an int-or-percent, whichever it is.
pub fn amount(value: &IntOrString) -> i64 {
    match value {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(_) => percent(value).unwrap_or(0),
    }
}

/// The quantity, if it is one; else an error.
pub fn quantity(at: Path, text: &QuantityText, errors: &mut Errors) -> Option<Quantity> {
    match text.0.parse::<Quantity>() {
        Ok(quantity) => Some(quantity),
        Err(error) => {
            at.invalid(errors, text.0.as_str(), error.to_string());
            None
        }
    }
}

/// A relative path that stays below where it starts.
pub fn local_path(at: Path, path: &str, errors: &mut Errors) {
    if path.starts_with('/') {
        at.invalid(errors, path, "must be a relative path");
    }
    no_backsteps(at, path, errors);
}

pub fn no_backsteps(at: Path, path: &str, errors: &mut Errors) {
    if path.split('/').any(|part| part == "..") {
        at.invalid(errors, path, "must not contain '..'");
    }
}

/// Keys of ConfigMaps and Secrets, which become file names.
pub fn config_key(key: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if key.len() > 253 {
        messages.push("must be no more than 253 bytes".to_owned());
    }
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        let message = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        messages.push(stead_api::names::regex_message(
            message,
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match key {
        "." => messages.push("must not be '.'".to_owned()),
        ".." => messages.push("must not be '..'".to_owned()),
        _ if key.starts_with("..") => messages.push("must not start with '..'".to_owned()),
        _ => {}
    }
    messages
}

/// Environment variable names: any printable ASCII but `=`.
pub fn env_name(name: &str) -> Vec<String> {
    if !name.is_empty() && name.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'=') {
        return Vec::new();
    }
    let message = "a valid environment variable name must consist only of printable ASCII characters other than '='";
    vec![stead_api::names::regex_message(message, "[ -<>-~]+", &[])]
}

/// Whether two values mean the same to Kubernetes: absent, null, and empty lists and maps are one.
pub fn semantically_equal(left: &Value, right: &Value) -> bool {
    fn is_nothing(value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.values().all(is_nothing),
            _ => false,
        }
    }
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            a.iter().all(|(key, value)| semantically_equal(value, b.get(key).unwrap_or(&Value::Null)))
                && b.iter().all(|(key, value)| a.contains_key(key) || is_nothing(value))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| semantically_equal(a, b))
        }
        _ => left == right || (is_nothing(left) && is_nothing(right)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_nothing_however_it_is_written() {
        assert!(semantically_equal(&json!({"a": 1, "b": [], "c": {"d": null}}), &json!({"a": 1})));
        assert!(!semantically_equal(&json!({"a": 1}), &json!({"a": 1, "b": false})));
        assert!(!semantically_equal(&json!([1]), &json!([1, 2])));
    }

    #[test]
    fn ports_keys_and_percentages() {
        assert_eq!(port_name("http-1"), Vec::<String>::new());
        assert_eq!(port_name("1--").len(), 3);
        assert!(config_key("..data").iter().any(|message| message == "must not start with '..'"));
        assert!(config_key("a.b_C-1").is_empty() && !config_key("a/b").is_empty());
        assert_eq!(percent(&IntOrString::String("25%".into())), Some(25));
        assert_eq!(percent(&IntOrString::String("+25%".into())), None);
        assert!(env_name("a b").is_empty() && !env_name("a=b").is_empty() && !env_name("").is_empty());
    }
}
