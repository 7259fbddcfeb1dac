//! How a family of counts begins, and how one of times is told.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use super::histogram::Times;

const NANOS: f64 = 1e9;

pub fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

pub(super) fn histogram<const N: usize>(out: &mut String, name: &str, labels: &str, histogram: &Times<N>) {
    let mut total = 0;
    let mut lines = String::new();
    for (at, count) in histogram.buckets.iter().enumerate() {
        total += count.load(Ordering::Relaxed);
        let bound = histogram.bound(at);
        let _ = writeln!(lines, "{name}_bucket{{{labels},le=\"{bound}\"}} {total}");
    }
    if total == 0 {
        return;
    }
    out.push_str(&lines);
    let seconds = histogram.nanos.load(Ordering::Relaxed) as f64 / NANOS;
    let _ = write!(out, "{name}_sum{{{labels}}} {seconds}\n{name}_count{{{labels}}} {total}\n");
}
