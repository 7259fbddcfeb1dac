//! Times and durations.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::{Cost, Row, no_overload, text};
use crate::value::Value;
use crate::{Error, Result};

const SECOND: i128 = 1_000_000_000;

const OF_TIME: &[&str] = &["timestamp.() int", "timestamp.(string) int"];
const OF_BOTH: &[&str] = &["timestamp.() int", "timestamp.(string) int", "duration.() int"];

pub(super) const TABLE: &[Row] = &[
    ("getFullYear", OF_TIME, |args| part(args, |at| i64::from(at.year())), Cost::One),
    ("getMonth", OF_TIME, |args| part(args, |at| i64::from(at.month()) - 1), Cost::One),
    ("getDayOfYear", OF_TIME, |args| part(args, |at| i64::from(at.date().day_of_year()) - 1), Cost::One),
    ("getDayOfMonth", OF_TIME, |args| part(args, |at| i64::from(at.day()) - 1), Cost::One),
    ("getDate", OF_TIME, |args| part(args, |at| i64::from(at.day())), Cost::One),
    (
        "getDayOfWeek",
        OF_TIME,
        |args| part(args, |at| i64::from(at.date().weekday().to_sunday_zero_offset())),
        Cost::One,
    ),
    ("getHours", OF_BOTH, |args| either(args, 3600 * SECOND, |at| i64::from(at.hour())), Cost::One),
    ("getMinutes", OF_BOTH, |args| either(args, 60 * SECOND, |at| i64::from(at.minute())), Cost::One),
    ("getSeconds", OF_BOTH, |args| either(args, SECOND, |at| i64::from(at.second())), Cost::One),
    (
        "getMilliseconds",
        OF_BOTH,
        |args| match &args[0] {
            Value::Duration(nanos) => Ok(Value::Int((nanos % SECOND / 1_000_000) as i64)),
            _ => part(args, |at| i64::from(at.subsec_nanosecond() / 1_000_000)),
        },
        Cost::One,
    ),
];

/// The whole units of a duration, or a part of a time.
fn either<'a>(args: &[Value<'a>], unit: i128, of: fn(DateTime) -> i64) -> Result<Value<'a>> {
    match &args[0] {
        Value::Duration(nanos) => Ok(Value::Int((nanos / unit) as i64)),
        _ => part(args, of),
    }
}

fn part<'a>(args: &[Value<'a>], of: fn(DateTime) -> i64) -> Result<Value<'a>> {
    let Value::Timestamp(time) = &args[0] else { return no_overload() };
    let zone = match args.get(1) {
        None => TimeZone::UTC,
        Some(name) => zone(text(name)?)?,
    };
    Ok(Value::Int(of(zone.to_datetime(*time))))
}

/// `Europe/Berlin` or an offset: `-08:00`.
fn zone(name: &str) -> Result<TimeZone> {
    if let Some((hours, minutes)) = name.split_once(':')
        && let (Ok(hours), Ok(minutes)) = (hours.parse::<i32>(), minutes.parse::<i32>())
    {
        let sign = if name.starts_with('-') { -1 } else { 1 };
        let offset = jiff::tz::Offset::from_seconds(hours * 3600 + sign * minutes * 60);
        return offset.map(TimeZone::fixed).map_err(|_| Error::failed(format!("unknown time zone {name}")));
    }
    TimeZone::get(name).map_err(|_| Error::failed(format!("unknown time zone {name}")))
}

/// `1h30m`, `-1.5s`, `100ms`: nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Option<i128> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3600 * SECOND,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || number.len() > 30 {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(unit)?)?;
        let mut scale = unit;
        for digit in fraction.chars() {
            scale /= 10;
            total += i128::from(digit.to_digit(10)?) * scale;
        }
        rest = after;
    }
    (total <= i128::from(i64::MAX)).then_some(sign * total)
}

/// As the language prints durations: seconds.
pub(crate) fn print_duration(nanos: i128) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let (seconds, rest) = (nanos.abs() / SECOND, nanos.abs() % SECOND);
    if rest == 0 {
        return format!("{sign}{seconds}s");
    }
    let fraction = format!("{rest:09}");
    format!("{sign}{seconds}.{}s", fraction.trim_end_matches('0'))
}
