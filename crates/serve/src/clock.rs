//! The time that the control plane and the node agents go by: the machine's, except that it never goes back.
//!
//! A clock that is set back must not stop leases from being renewed, back-offs from ending and retries from being made. Time then goes
//! on from where it was, at its own pace, until the machine's clock has caught up or the server is started again.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// What was said last, and when that was.
static LAST: Mutex<Option<(Timestamp, Instant)>> = Mutex::new(None);

/// Never before what it said earlier in this process.
pub(crate) fn now() -> Timestamp {
    let (wall, tick) = (Timestamp::now(), Instant::now());
    // Nothing can panic while it is held.
    let mut last = LAST.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let now = match *last {
        Some((said, at)) => later(said, tick.saturating_duration_since(at), wall),
        None => wall,
    };
    *last = Some((now, tick));
    now
}

/// The machine's time, or what was said last and what has passed since, whichever is later.
fn later(said: Timestamp, passed: Duration, wall: Timestamp) -> Timestamp {
    said.checked_add(passed).map_or(wall, |expected| expected.max(wall))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn a_clock_set_back_does_not_stop_time_f01() {
        let noon = at("2026-01-01T12:00:00Z");
        let second = Duration::from_secs(1);
        assert_eq!(later(noon, second, at("2026-01-01T12:00:01Z")), at("2026-01-01T12:00:01Z"));
        assert_eq!(later(noon, second, at("2026-01-01T11:00:01Z")), at("2026-01-01T12:00:01Z"), "set back by an hour");
        assert_eq!(later(noon, second, at("2026-01-01T15:00:00Z")), at("2026-01-01T15:00:00Z"), "set forward");
    }

    #[test]
    fn what_it_says_never_goes_back() {
        let mut before = now();
        for _ in 0..1000 {
            let next = now();
            assert!(next >= before);
            before = next;
        }
    }
}
