//! The programs of the built-in image `stead.local/demo:1`: small stateful services to learn with, and the few tools one needs
//! inside a container that holds nothing else.
//!
//! Each lesson is an HTTP program on port 8080 that answers `/healthz`, tells its name (the pod's) and ends at once on SIGTERM.

mod counter;
mod files;
mod kv;
mod lesson;
mod logger;
mod lookup;
mod random;
mod serve;
mod tools;

use std::process::ExitCode;

use anyhow::{Result, bail};
use lesson::Lesson;

const HELP: &str = "\
Lessons (HTTP on port 8080, or --port N):
  counter           counts its visitors in DIR/count          --dir DIR (/data)
  logger            appends events to DIR/events.log          --dir DIR (/var/log)
  random-generator  answers random numbers, logs to $LOG_FILE
  kv                keeps a file for each key in DIR          --dir DIR (/data)
Tools:
  get URL | put URL TEXT | shard KEY N | lookup NAME [A|AAAA|SRV|PTR|TXT] | cat FILE | ls DIR | sleep SECONDS | env | id
";

/// Runs a program by its name.
pub fn run(args: &[String]) -> ExitCode {
    match dispatch(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<()> {
    let Some((program, rest)) = args.split_first() else {
        print!("{HELP}");
        return Ok(());
    };
    let operands: Vec<&str> = rest.iter().map(String::as_str).collect();
    match (program.as_str(), operands.as_slice()) {
        ("counter", _) => counter::run(&Lesson::parse(rest, "/data")?),
        ("logger", _) => logger::run(&Lesson::parse(rest, "/var/log")?),
        ("random-generator", _) => random::run(&Lesson::parse(rest, "/")?),
        ("kv", _) => kv::run(&Lesson::parse(rest, "/data")?),
        ("get", [url]) => tools::request("GET", url, ""),
        ("put", [url, text]) => tools::request("PUT", url, text),
        ("shard", [key, shards]) => tools::shard(key, shards),
        ("lookup", [name]) => lookup::run(name, "A"),
        ("lookup", [name, kind]) => lookup::run(name, kind),
        ("cat", [file]) => tools::cat(file),
        ("ls", [dir]) => tools::ls(dir),
        ("sleep", [seconds]) => tools::sleep(seconds),
        ("env", []) => tools::env(),
        ("id", []) => tools::id(),
        _ => bail!("there is no such program, or it is used otherwise:\n{HELP}"),
    }
}
