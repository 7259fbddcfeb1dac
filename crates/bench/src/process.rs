//! What a server costs: start-up time of a command, and memory and CPU of idle processes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::plan::Plan;
use crate::stats::report;

const STARTS: usize = 5;

/// Times a command that returns when the API answers.
pub async fn startup(plan: &Plan) -> Result<()> {
    let start = plan.start.as_deref().context("startup needs --start CMD")?;
    let stop = plan.stop.as_deref().context("startup needs --stop CMD")?;
    let (begun, mut took) = (Instant::now(), Vec::new());
    for _ in 0..STARTS {
        let started = Instant::now();
        shell(start).await?;
        took.push(started.elapsed());
        shell(stop).await?;
    }
    report("start to API ready", STARTS, begun.elapsed(), &mut took);
    Ok(())
}

async fn shell(command: &str) -> Result<()> {
    let output = Command::new("sh").args(["-c", command]).output().await?;
    ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Resident memory and the share of a core used over a while, summed over processes.
pub async fn idle(plan: &Plan) -> Result<()> {
    ensure!(!plan.pids.is_empty(), "idle needs --pid N");
    let before = ticks(&plan.pids)?;
    tokio::time::sleep(Duration::from_secs(plan.seconds)).await;
    let used = ticks(&plan.pids)? - before;
    // The kernel counts in hundredths of a second on every machine that Linux runs on today.
    let share = used as f64 / (plan.seconds as f64 * 100.0) * 100.0;
    memory(plan, "idle")?;
    println!("{:<34} {share:>9.2} % of a core", "idle CPU");
    Ok(())
}

fn ticks(pids: &[u32]) -> Result<u64> {
    let one = |pid: &u32| -> Result<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let number = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        Ok(number(11) + number(12))
    };
    pids.iter().map(one).sum()
}

/// Prints how much memory the processes hold, where they are known.
pub fn memory(plan: &Plan, when: &str) -> Result<()> {
    if !plan.pids.is_empty() {
        let kilobytes = plan.pids.iter().map(|pid| resident(*pid)).sum::<Result<u64>>()?;
        println!("{:<34} {:>9.1} MB", format!("memory {when}"), kilobytes as f64 / 1024.0);
    }
    Ok(())
}

fn resident(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.split_whitespace().next().and_then(|kb| kb.parse().ok()).context("no number of VmRSS")
}
