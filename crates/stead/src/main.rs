//! One binary: the command line, the server, the container shim and the built-in image's programs, by the first argument.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use stead_cli::args::Flags;
use stead_serve::Options;
use stead_serve::config::{parse_cidr, parse_eviction_hard};

mod image;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    match args.first().map(String::as_str) {
        Some("shim") => exit(stead_host::shim::main(rest)),
        Some("image") => report(image::run(rest)),
        Some("demo") => stead_demo::run(rest),
        Some("server") => report(server(rest)),
        Some("version" | "--version") => {
            println!("stead {} (Kubernetes {})", env!("CARGO_PKG_VERSION"), stead_serve::KUBERNETES_VERSION);
            ExitCode::SUCCESS
        }
        _ => match stead_cli::args::parse(&args) {
            Ok(command) => stead_cli::run(command),
            Err(error) => report(Err(error)),
        },
    }
}

/// A shim's own exit code.
fn exit(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn report(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stead: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The server's role: started by `stead up`, or by an init system.
fn server(flags: &[String]) -> Result<()> {
    let (options, task) = server_options(flags)?;
    match task {
        Task::Run => stead_serve::run(&options),
        Task::Stop(within) => stead_serve::stop(&options.data_dir, within).map(drop),
        Task::Forget => stead_serve::forget(&options.data_dir),
    }
}

/// What the server's role is to do.
enum Task {
    Run,
    /// Take down what an earlier server left running, within a time.
    Stop(Option<Duration>),
    Forget,
}

fn server_options(flags: &[String]) -> Result<(Options, Task)> {
    let mut options = Options { data_dir: stead_cli::args::DATA_DIR.into(), ..Options::default() };
    let mut task = Task::Run;
    let mut flags = Flags::new(flags);
    while let Some((flag, given)) = flags.next() {
        match flag {
            "--no-node" => options.no_node = true,
            "--forget" => task = Task::Forget,
            "--stop" => task = Task::Stop(None),
            "--stop-within" => {
                let seconds = flags.value(flag, given)?;
                let seconds =
                    seconds.parse().with_context(|| format!("{flag} {seconds}: that is no number of seconds"))?;
                task = Task::Stop(Some(Duration::from_secs(seconds)));
            }
            _ => {
                let value = flags.value(flag, given)?;
                set(&mut options, flag, &value)?;
            }
        }
    }
    Ok((options, task))
}

fn set(options: &mut Options, flag: &str, value: &str) -> Result<()> {
    let wrong = |what: &str| format!("{flag} {value}: that is no {what}");
    match flag {
        "--data-dir" => options.data_dir = std::path::absolute(value)?,
        "--notify" => options.notify = Some(value.to_owned()),
        "--api-port" => options.api_port = Some(value.parse().with_context(|| wrong("port (1 to 65535)"))?),
        "--nodes" => options.nodes = Some(value.parse().with_context(|| wrong("number of nodes"))?),
        "--fake-nodes" => options.fake_nodes = Some(value.parse().with_context(|| wrong("number of nodes"))?),
        "--service-cidr" => {
            options.service_cidr = Some(parse_cidr(value).with_context(|| wrong("range such as 10.96.0.0/16"))?)
        }
        "--pod-cidr" => {
            options.pod_cidr = Some(parse_cidr(value).with_context(|| wrong("range such as 10.244.0.0/16"))?)
        }
        "--dns-ip" => options.dns_ip = Some(value.parse().with_context(|| wrong("address"))?),
        "--eviction-hard" => {
            options.disk_pressure =
                Some(parse_eviction_hard(value).with_context(|| wrong("threshold such as nodefs.available<10%"))?)
        }
        "--encryption-provider-config" => options.encryption_config = Some(std::path::absolute(value)?),
        "--audit-policy-file" => options.audit.policy = Some(std::path::absolute(value)?),
        "--audit-log-path" => options.audit.path = Some(std::path::absolute(value)?),
        "--audit-log-maxsize" => {
            options.audit.max_size = Some(value.parse().with_context(|| wrong("number of megabytes"))?)
        }
        "--audit-log-maxbackup" => {
            options.audit.max_backup = value.parse().with_context(|| wrong("number of files"))?
        }
        "--audit-log-maxage" => options.audit.max_age = value.parse().with_context(|| wrong("number of days"))?,
        "--domain" => options.domain = Some(value.trim_end_matches('.').to_owned()),
        _ => bail!("there is no flag {flag}; `stead help` lists them"),
    }
    Ok(())
}
