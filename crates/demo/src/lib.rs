//! The programs of the built-in image `stead.local/demo:1`: small stateful services to learn with, and the few tools one needs
//! inside a container that holds nothing else.
//!
//! Each lesson is an HTTP program on port 8080 that answers `/healthz`, tells its name (the pod's) and ends at once on SIGTERM.

mod counter;
mod files;
mod kv;
mod logger;
mod lookup;
mod random;
mod serve;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

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

/// The flags that lessons share.
pub(crate) struct Lesson {
    pub dir: PathBuf,
    pub port: u16,
}

impl Lesson {
    fn parse(flags: &[String], dir: &str) -> Result<Lesson> {
        let mut lesson = Lesson { dir: dir.into(), port: 8080 };
        let mut flags = flags.iter();
        while let Some(flag) = flags.next() {
            let value = flags.next().with_context(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--dir" => lesson.dir = value.into(),
                "--port" => lesson.port = value.parse().with_context(|| format!("{value} is no port"))?,
                _ => bail!("there is no flag {flag}"),
            }
        }
        Ok(lesson)
    }
}

/// The pod's name, which is its host name.
pub(crate) fn own_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
