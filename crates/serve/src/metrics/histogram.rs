//! Times by bucket.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the durations' buckets, in seconds: upstream's.
pub const BUCKETS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];

/// Those of how long requests wait for a seat and hold it.
pub const SEAT_BUCKETS: [f64; 13] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];

/// Times by bucket. A time is counted once, in the first bucket that holds it; the last holds all that are longer.
pub struct Times<const N: usize> {
    bounds: &'static [f64],
    pub buckets: [AtomicU64; N],
    pub nanos: AtomicU64,
}

pub type Histogram = Times<{ BUCKETS.len() + 1 }>;
pub type SeatTimes = Times<{ SEAT_BUCKETS.len() + 1 }>;

impl Default for Histogram {
    fn default() -> Histogram {
        Times::within(&BUCKETS)
    }
}

impl Default for SeatTimes {
    fn default() -> SeatTimes {
        Times::within(&SEAT_BUCKETS)
    }
}

impl<const N: usize> Times<N> {
    fn within(bounds: &'static [f64]) -> Times<N> {
        Times { bounds, buckets: std::array::from_fn(|_| AtomicU64::new(0)), nanos: AtomicU64::new(0) }
    }

    /// The upper bound of a bucket as it is written.
    pub fn bound(&self, bucket: usize) -> String {
        self.bounds.get(bucket).map_or("+Inf".to_owned(), f64::to_string)
    }

    pub fn add(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let at = self.bounds.iter().position(|bound| seconds <= *bound).unwrap_or(self.bounds.len());
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_the_first_bucket_that_holds_them() {
        let histogram = Histogram::default();
        for millis in [5, 6, 61_000] {
            histogram.add(Duration::from_millis(millis));
        }
        let counts: Vec<u64> = histogram.buckets.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        assert_eq!((counts[0], counts[1], counts[BUCKETS.len()]), (1, 1, 1));
        let seats = SeatTimes::default();
        seats.add(Duration::ZERO);
        seats.add(Duration::from_millis(5));
        assert_eq!(seats.buckets[..2].iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>(), [1, 1]);
        assert_eq!((seats.bound(0), seats.bound(13)), ("0".to_owned(), "+Inf".to_owned()));
    }
}
