//! Cron schedules: five fields, names of months and days, steps, and the words `@hourly` … `@every 1h30m`.
//!
//! A day matches when both day fields match, or either of them if both are restricted (as crond has it). A local time that is
//! skipped by a clock change does not happen; one that happens twice counts once.

use jiff::civil::{Date, DateTime};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    Fields(Fields),
    /// `@every`: this long after the last time.
    Every(SignedDuration),
}

/// One bit a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether either day field was `*`: then both must match.
    any_day: bool,
}

/// How far ahead a time is looked for, in years: a schedule like 30 February never comes.
const YEARS_AHEAD_MAX: i16 = 5;

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The time zone of a name, from the database built into the program.
pub fn zone(name: &str) -> Option<TimeZone> {
    match name {
        "" | "UTC" => Some(TimeZone::UTC),
        name => TimeZoneDatabase::bundled().get(name).ok(),
    }
}

impl Schedule {
    /// # Errors
    /// What is wrong with the text, in the words that Kubernetes uses.
    pub fn parse(text: &str) -> Result<Schedule, String> {
        let fields = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => match (other.strip_prefix("@every "), other.starts_with('@')) {
                (Some(every), _) => return parse_every(other, every),
                (None, true) => return Err(format!("unrecognized descriptor: {other}")),
                (None, false) => other,
            },
        };
        let parts: Vec<&str> = fields.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts[..] else {
            return Err(format!("expected exactly 5 fields, found {}: [{}]", parts.len(), parts.join(" ")));
        };
        let is_any = |part: &str| part.split(',').any(|one| matches!(one, "*" | "?"));
        Ok(Schedule::Fields(Fields {
            minutes: field(minute, 0, 59, &[])?,
            hours: field(hour, 0, 23, &[])?,
            days: field(day, 1, 31, &[])?,
            months: field(month, 1, 12, &MONTHS)?,
            weekdays: field(weekday, 0, 6, &WEEKDAYS)?,
            any_day: is_any(day) || is_any(weekday),
        }))
    }

    /// The first time after a moment, if there is one within five years.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Schedule::Every(every) => after.checked_add(*every).ok().map(whole),
            Schedule::Fields(fields) => fields.next(after, zone),
        }
    }
}

fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn parse_every(whole: &str, every: &str) -> Result<Schedule, String> {
    let wrong = || format!("failed to parse duration {whole}: time: invalid duration {every:?}");
    let mut seconds = 0i64;
    let mut rest = every;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|end| *end > 0).ok_or_else(wrong)?;
        let number: i64 = rest[..digits].parse().map_err(|_| wrong())?;
        let (unit, length) = match &rest.as_bytes()[digits..] {
            [b'h', ..] => (3600, 1),
            [b'm', b's', ..] => return Err(wrong()),
            [b'm', ..] => (60, 1),
            [b's', ..] => (1, 1),
            _ => return Err(wrong()),
        };
        seconds = number.checked_mul(unit).and_then(|part| seconds.checked_add(part)).ok_or_else(wrong)?;
        rest = &rest[digits + length..];
    }
    if every.is_empty() {
        return Err(wrong());
    }
    Ok(Schedule::Every(SignedDuration::from_secs(seconds.max(1))))
}

/// The bits of `1,3-5,*/2,mon`.
fn field(text: &str, low: u32, high: u32, names: &[&str]) -> Result<u64, String> {
    let mut bits = 0;
    for part in text.split(',').filter(|part| !part.is_empty()) {
        bits |= range(part, low, high, names)?;
    }
    Ok(bits)
}

fn range(text: &str, low: u32, high: u32, names: &[&str]) -> Result<u64, String> {
    let (span, step) = match text.split('/').collect::<Vec<_>>()[..] {
        [span] => (span, None),
        [span, step] => (span, Some(step)),
        _ => return Err(format!("too many slashes: {text}")),
    };
    let number = |word: &str| number(word, low, names);
    let (from, mut to) = match span.split('-').collect::<Vec<_>>()[..] {
        ["*" | "?"] => (low, high),
        [one] => (number(one)?, number(one)?),
        [from, to] => (number(from)?, number(to)?),
        _ => return Err(format!("too many hyphens: {text}")),
    };
    let step = match step {
        None => 1,
        Some(step) => {
            if !span.contains('-') && !matches!(span, "*" | "?") {
                to = high;
            }
            step.parse::<u32>().map_err(|_| {
                format!("failed to parse int from {step}: strconv.Atoi: parsing {step:?}: invalid syntax")
            })?
        }
    };
    if from < low {
        return Err(format!("beginning of range ({from}) below minimum ({low}): {text}"));
    }
    if to > high {
        return Err(format!("end of range ({to}) above maximum ({high}): {text}"));
    }
    if from > to {
        return Err(format!("beginning of range ({from}) beyond end of range ({to}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok((from..=to).step_by(step as usize).fold(0, |bits, value| bits | 1 << value))
}

fn number(word: &str, low: u32, names: &[&str]) -> Result<u32, String> {
    if let Some(place) = names.iter().position(|name| name.eq_ignore_ascii_case(word)) {
        return Ok(low + u32::try_from(place).unwrap_or(0));
    }
    match word.parse::<i64>() {
        Ok(number) if number < 0 => Err(format!("negative number ({number}) not allowed: {word}")),
        Ok(number) => u32::try_from(number).map_err(|_| format!("number ({number}) is too large: {word}")),
        Err(_) => Err(format!("failed to parse int from {word}: strconv.Atoi: parsing {word:?}: invalid syntax")),
    }
}

impl Fields {
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut local: DateTime = zone.to_datetime(after).with().second(0).subsec_nanosecond(0).build().ok()?;
        local = local.checked_add(1.minute()).ok()?;
        let last_year = local.year().checked_add(YEARS_AHEAD_MAX)?;
        while local.year() <= last_year {
            let date = local.date();
            if !bit(self.months, date.month()) {
                local = next_month(date)?.at(0, 0, 0, 0);
            } else if !self.has_day(date) {
                local = date.tomorrow().ok()?.at(0, 0, 0, 0);
            } else if !bit(self.hours, local.hour()) {
                local = date.at(local.hour(), 0, 0, 0).checked_add(1.hour()).ok()?;
            } else if !bit(self.minutes, local.minute()) {
                local = local.checked_add(1.minute()).ok()?;
            } else {
                let at = zone.to_ambiguous_timestamp(local).compatible().ok()?;
                // A skipped local time would come out as another one; one that comes twice must lie ahead.
                if zone.to_datetime(at) == local && at > after {
                    return Some(at);
                }
                local = local.checked_add(1.minute()).ok()?;
            }
        }
        None
    }

    fn has_day(&self, date: Date) -> bool {
        let by_day = bit(self.days, date.day());
        let by_weekday = bit(self.weekdays, date.weekday().to_sunday_zero_offset());
        if self.any_day { by_day && by_weekday } else { by_day || by_weekday }
    }
}

fn bit(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| bits & (1 << value) != 0)
}

fn next_month(date: Date) -> Option<Date> {
    date.first_of_month().checked_add(1.month()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(text: &str, after: &str, name: &str) -> String {
        let schedule = Schedule::parse(text).expect("a schedule");
        let at = schedule.next(after.parse().expect("a time"), &zone(name).expect("a zone"));
        at.map_or("never".to_owned(), |at| at.to_string())
    }

    #[test]
    fn the_next_time_is_strictly_later() {
        for (text, after, expected) in [
            ("*/15 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:15:00Z"),
            ("0 3 * * *", "2026-01-01T03:00:30Z", "2026-01-02T03:00:00Z"),
            ("30 4 1,15 * 5", "2026-01-02T05:00:00Z", "2026-01-09T04:30:00Z"),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 30 feb *", "2026-01-01T00:00:00Z", "never"),
            ("0 9-17/4 * * mon-fri", "2026-01-02T14:00:00Z", "2026-01-02T17:00:00Z"),
            ("@monthly", "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"),
            ("@every 1h30m", "2026-01-01T00:00:10Z", "2026-01-01T01:30:10Z"),
        ] {
            assert_eq!(next(text, after, "UTC"), expected, "{text}");
        }
    }

    #[test]
    fn a_zone_shifts_and_a_skipped_time_does_not_happen() {
        assert_eq!(next("0 8 * * *", "2026-07-01T00:00:00Z", "Europe/Berlin"), "2026-07-01T06:00:00Z");
        // 2026-03-29 02:30 does not exist in Berlin.
        assert_eq!(next("30 2 * * *", "2026-03-28T12:00:00Z", "Europe/Berlin"), "2026-03-30T00:30:00Z");
        assert!(zone("Mars/Base").is_none());
    }

    #[test]
    fn mistakes_are_told() {
        for (text, expected) in [
            ("", "expected exactly 5 fields, found 0: []"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("@often", "unrecognized descriptor: @often"),
        ] {
            assert_eq!(Schedule::parse(text), Err(expected.to_owned()));
        }
    }
}
