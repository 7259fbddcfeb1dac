//! The project's chores: `cargo xtask VERB`.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

mod build;
mod check;
mod conformance;
mod descriptions;
mod packages;
mod protobuf;
mod schema;
mod tidy;

const HELP: &str = "\
usage: cargo xtask VERB
  try [FLAGS]         build, start a cluster and bring up the example (flags are those of `stead try`)
  build               build target/release/stead, one static binary
  install             build it and copy it to /usr/local/bin
  test                install what the tests need and run them all: unit, whole-system, simulator
  ci                  test, and formatting, lints, licences, docs and layers
  conformance [FOCUS] Kubernetes' own conformance tests (1.20's) on two nodes; FOCUS is a regular expression of names
  tidy                layers and habits that the compiler does not check
  sim [FLAGS]         the simulator: --seeds N, --seed S
  bench [FLAGS]       the benchmark (see its --help)
  schema DEFINITIONS  make schema/ from the published definitions
  protobuf SOURCES    make the table of protobuf fields
  descriptions        make the texts of kubectl explain
";

fn main() -> ExitCode {
    match dispatch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["try", ref flags @ ..] => build::try_it(flags),
        ["build"] => build::release().map(|binary| println!("{}", binary.display())),
        ["install"] => build::install(),
        ["test"] => check::test(),
        ["ci"] => check::ci(),
        ["conformance"] => conformance::test(None),
        ["conformance", focus] => conformance::test(Some(focus)),
        ["tidy"] => tidy::run(),
        ["sim", ref flags @ ..] => {
            run(cargo(&["run", "--release", "--quiet", "--package", "stead-sim", "--"]).args(flags))
        }
        ["bench", ref flags @ ..] => {
            run(cargo(&["run", "--release", "--quiet", "--package", "stead-bench", "--"]).args(flags))
        }
        ["schema", definitions] => schema::run(definitions.as_ref()),
        ["protobuf", sources] => protobuf::run(sources.as_ref()),
        ["descriptions"] => descriptions::run(),
        ["help" | "--help"] | [] => {
            print!("{HELP}");
            Ok(())
        }
        _ => bail!("there is no such chore\n{HELP}"),
    }
}

/// The cargo that runs us.
fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.args(args);
    command
}

/// Runs a command to its end, showing what it prints.
fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.status().with_context(|| format!("start {shown}"))?;
    if !status.success() {
        bail!("{shown} failed ({status})");
    }
    Ok(())
}
