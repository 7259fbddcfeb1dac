//! Times and durations.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::row::{Cost, Row, no_overload, text};
use crate::duration::SECOND;
use crate::error::{Error, Result};
use crate::value::Value;

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
