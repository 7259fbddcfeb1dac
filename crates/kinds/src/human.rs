//! Durations as `kubectl get` prints them: `45s`, `5m10s`, `3h`, `2d3h`, `1y30d`.

use jiff::Timestamp;

/// The time between two moments in seconds, cut.
fn seconds_between(from: Timestamp, to: Timestamp) -> i64 {
    to.as_second() - from.as_second()
}

/// How long ago, for a column such as AGE.
pub fn since(from: Timestamp, now: Timestamp) -> String {
    duration(seconds_between(from, now))
}

/// Two units at most, the second only while it matters.
pub fn duration(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let seconds = seconds.max(0);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    let pair = |big: i64, unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{small_unit}"),
    };
    match (seconds, minutes, hours, days) {
        (..120, ..) => format!("{seconds}s"),
        (_, ..10, ..) => pair(minutes, "m", seconds % 60, "s"),
        (_, ..180, ..) => format!("{minutes}m"),
        (_, _, ..8, _) => pair(hours, "h", minutes % 60, "m"),
        (_, _, ..48, _) => format!("{hours}h"),
        (_, _, ..192, _) => pair(days, "d", hours % 24, "h"),
        (_, _, _, ..730) => format!("{days}d"),
        (_, _, _, ..2920) => pair(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_as_kubectl_prints_them() {
        let (minute, hour, day, year) = (60, 3600, 86_400, 365 * 86_400);
        for (seconds, expected) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (119, "119s"),
            (2 * minute, "2m"),
            (5 * minute + 10, "5m10s"),
            (179 * minute, "179m"),
            (3 * hour, "3h"),
            (3 * hour + 59 * minute, "3h59m"),
            (47 * hour, "47h"),
            (2 * day + 3 * hour, "2d3h"),
            (8 * day, "8d"),
            (729 * day, "729d"),
            (2 * year + 30 * day, "2y30d"),
            (9 * year, "9y"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }
}
