//! The host on this machine's kernel: as root, each test with its own data directory and cluster id, all at once.
//!
//! No harness: this program is also the shim that it starts, and the agent that a test kills (`agent`).

mod commands;
mod fixture;
mod images;
mod lifecycle;
mod volumes;

use std::os::unix::process::CommandExt;
use std::panic::catch_unwind;
use std::process::Command;
use std::sync::Mutex;

type Test = (&'static str, fn());

/// Set once signals are ignored.
const IGNORING: &str = "STEAD_TESTS_IGNORE_SIGNALS";

/// Starts this program again as a script's background job starts it: with signals ignored, which containers must not inherit.
fn with_signals_ignored(args: &[String]) -> std::io::Error {
    let itself = match std::env::current_exe() {
        Ok(itself) => itself,
        Err(error) => return error,
    };
    Command::new("env").args(["--ignore-signal=HUP,INT,QUIT", &format!("{IGNORING}=1")]).arg(itself).args(args).exec()
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("shim") => std::process::exit(stead_host::shim::main(&args[1..])),
        Some("agent") => return lifecycle::agent(&args[1..]),
        _ => {}
    }
    if std::env::var_os(IGNORING).is_none() {
        panic!("{}", with_signals_ignored(&args));
    }
    let tests: Vec<Test> = [lifecycle::TESTS, commands::TESTS, images::TESTS, volumes::TESTS].concat();
    if args.iter().any(|a| a == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    let filter: Vec<&String> = args.iter().filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| filter.is_empty() || filter.iter().any(|f| name.contains(f.as_str()));
    let queue = Mutex::new(tests.into_iter().filter(|(name, _)| wanted(name)).collect::<Vec<_>>());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((name, test)) = queue.lock().unwrap().pop() else { return };
                    let start = std::time::Instant::now();
                    let is_ok = catch_unwind(test).is_ok();
                    println!("test {name} ... {} ({:?})", if is_ok { "ok" } else { "FAILED" }, start.elapsed());
                    if !is_ok {
                        failed.lock().unwrap().push(name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    if !failed.is_empty() {
        eprintln!("failed: {failed:?}");
        std::process::exit(101);
    }
}
