//! Named formats that text can be checked against.

use stead_api::names;

use super::row::{Cost, Row, no_overload, text};
use crate::error::Result;
use crate::value::Value;

type Check = fn(&str) -> Vec<String>;

const FORMATS: &[(&str, Check)] = &[
    ("dns1123Label", |text| own(names::dns1123_label(text))),
    ("dns1123Subdomain", |text| own(names::dns1123_subdomain(text))),
    ("dns1035Label", |text| own(names::dns1035_label(text))),
    ("qualifiedName", |text| own(names::qualified_name(text))),
    ("dns1123LabelPrefix", |text| own(names::dns1123_label(text.strip_suffix('-').unwrap_or(text)))),
    ("dns1123SubdomainPrefix", |text| own(names::dns1123_subdomain(text.strip_suffix('-').unwrap_or(text)))),
    ("dns1035LabelPrefix", |text| own(names::dns1035_label(text.strip_suffix('-').unwrap_or(text)))),
    ("labelValue", |text| own(names::label_value(text))),
    ("uri", |text| of(text.split_once(':').is_some() || text.starts_with('/'), "invalid URI")),
    ("uuid", |text| {
        let is_uuid = text.len() == 36
            && text.char_indices().all(|(at, c)| match at {
                8 | 13 | 18 | 23 => c == '-',
                _ => c.is_ascii_hexdigit(),
            });
        of(is_uuid, "does not match the UUID format")
    }),
    ("byte", |text| {
        use base64::Engine;
        of(base64::engine::general_purpose::STANDARD.decode(text).is_ok(), "invalid base64")
    }),
    ("date", |text| of(text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(), "invalid date")),
    ("datetime", |text| of(text.len() >= 20 && text.parse::<jiff::Timestamp>().is_ok(), "invalid datetime")),
];

fn own<T: ToString>(messages: Vec<T>) -> Vec<String> {
    messages.into_iter().map(|message| message.to_string()).collect()
}

fn of(is_good: bool, message: &str) -> Vec<String> {
    if is_good { Vec::new() } else { vec![message.to_owned()] }
}

pub(super) const TABLE: &[Row] = &[
    (
        "format.named",
        &["(string) optional<format>"],
        |args| {
            let name = text(&args[0])?;
            let found = FORMATS.iter().find(|(one, _)| *one == name);
            Ok(found.map_or(Value::Optional(None), |(name, _)| Value::some(Value::Format(name))))
        },
        Cost::One,
    ),
    ("format.dns1123Label", NAMED, |_| Ok(Value::Format("dns1123Label")), Cost::One),
    ("format.dns1123Subdomain", NAMED, |_| Ok(Value::Format("dns1123Subdomain")), Cost::One),
    ("format.dns1035Label", NAMED, |_| Ok(Value::Format("dns1035Label")), Cost::One),
    ("format.qualifiedName", NAMED, |_| Ok(Value::Format("qualifiedName")), Cost::One),
    ("format.dns1123LabelPrefix", NAMED, |_| Ok(Value::Format("dns1123LabelPrefix")), Cost::One),
    ("format.dns1123SubdomainPrefix", NAMED, |_| Ok(Value::Format("dns1123SubdomainPrefix")), Cost::One),
    ("format.dns1035LabelPrefix", NAMED, |_| Ok(Value::Format("dns1035LabelPrefix")), Cost::One),
    ("format.labelValue", NAMED, |_| Ok(Value::Format("labelValue")), Cost::One),
    ("format.uri", NAMED, |_| Ok(Value::Format("uri")), Cost::One),
    ("format.uuid", NAMED, |_| Ok(Value::Format("uuid")), Cost::One),
    ("format.byte", NAMED, |_| Ok(Value::Format("byte")), Cost::One),
    ("format.date", NAMED, |_| Ok(Value::Format("date")), Cost::One),
    ("format.datetime", NAMED, |_| Ok(Value::Format("datetime")), Cost::One),
    ("validate", &["format.(string) optional<list<string>>"], validate, Cost::Scan),
];

const NAMED: &[&str] = &["() format"];

fn validate<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let Value::Format(name) = &args[0] else { return no_overload() };
    let text = text(&args[1])?;
    let check = FORMATS.iter().find(|(one, _)| one == name);
    let messages = check.map(|(_, check)| check(text)).unwrap_or_default();
    if messages.is_empty() {
        return Ok(Value::Optional(None));
    }
    Ok(Value::some(messages.into_iter().map(Value::from).collect::<Vec<_>>().into()))
}
