//! Many workers, one clock: counts, percentiles, and a line of the report.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::client::{Connection, Target};

/// Runs `total` calls by `workers` workers, each call with its number, and prints the line; answers the rate of the last tenth.
pub async fn measure<F, W>(name: &str, target: &Target, workers: usize, total: usize, work: W) -> Result<f64>
where
    W: Fn(Connection, usize) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Connection>> + Send,
{
    let next = Arc::new(AtomicUsize::new(0));
    let connections = target.connections(workers).await?;
    let begun = Instant::now();
    let tasks: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            let (next, work) = (Arc::clone(&next), work.clone());
            tokio::spawn(async move {
                let mut took = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= total {
                        return Ok::<_, anyhow::Error>(took);
                    }
                    let started = Instant::now();
                    connection = work(connection, number).await?;
                    took.push((started.elapsed(), begun.elapsed()));
                }
            })
        })
        .collect();
    let mut all = Vec::with_capacity(total);
    for task in tasks {
        all.extend(task.await??);
    }
    let elapsed = begun.elapsed();
    let mut took: Vec<Duration> = all.iter().map(|(took, _)| *took).collect();
    report(name, total, elapsed, &mut took);
    let mut done: Vec<Duration> = all.into_iter().map(|(_, done)| done).collect();
    done.sort_unstable();
    let tenth = total.div_ceil(10);
    let since = done.get(total - tenth).copied().unwrap_or_default();
    Ok(tenth as f64 / (elapsed - since).as_secs_f64())
}

/// Prints a line: name, rate, median and 99th percentile.
pub fn report(name: &str, count: usize, elapsed: Duration, took: &mut [Duration]) {
    took.sort_unstable();
    let at = |share: f64| match took.len() {
        0 => "-".to_owned(),
        n => format!("{:.2}", took[((n - 1) as f64 * share) as usize].as_secs_f64() * 1e3),
    };
    let rate = count as f64 / elapsed.as_secs_f64();
    println!("{name:<34} {rate:>12.0} {:>10} {:>10}", at(0.5), at(0.99));
}
