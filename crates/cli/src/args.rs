//! Arguments, parsed by hand: few verbs, few flags, every mistake answered with the flag's name.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::service::Service;

/// Where a cluster's data is unless `--data-dir` says otherwise.
pub const DATA_DIR: &str = "/var/lib/stead";

pub const HELP: &str = "\
stead: Kubernetes for stateful applications, in one binary

Usage: stead VERB [FLAGS]

  up        start the cluster and merge its context `stead` into your kubeconfig
  try       the same, then bring up the example: three copies with a name, a volume and an address each
  status    tell what runs
  down      stop the cluster, keep all data
  delete    stop it and forget everything
  image     load FILE | pull NAME | ls | rm NAME: the node's images
  install-service      write a systemd unit that does `up` at boot; --print shows it
  version   print the version

Flags of up, down, delete, status, try, image, install-service:
  --data-dir DIR       where the data is (default /var/lib/stead)
Flags of up and try (all but --kubeconfig also of install-service):
  --kubeconfig FILE    the kubeconfig to merge into (default: $KUBECONFIG or ~/.kube/config)
  --api-port N         port of the API (default 6443)
  --nodes N            number of nodes on this machine (default 1)
  --fake-nodes N       nodes that run nothing and report every pod as running
  --no-node            the control plane alone
  --service-cidr CIDR  addresses of Services (default 10.96.0.0/16)
  --pod-cidr CIDR      addresses of pods (default 10.244.0.0/16)
  --dns-ip IP          address of the Service kube-dns (default: the tenth of the service range)
  --domain NAME        cluster domain (default cluster.local)
  --eviction-hard EXPR free disk below which nodes take no new pods (default 'nodefs.available<10%'; also a size, <2Gi)
  --encryption-provider-config FILE   encrypt what this EncryptionConfiguration names in the store (aesgcm, secretbox, aescbc); kept for later
                       starts, and at each start what is stored otherwise is written anew
  --audit-policy-file FILE  --audit-log-path FILE   write what this Policy (audit.k8s.io/v1) asks for, a line of JSON an event;
                       --audit-log-maxsize MB (default 100), -maxbackup N and -maxage DAYS bound it. Of this start alone
Flags of down:
  --keep-containers    leave the containers running; the next `up` adopts them
  --grace-period N     kill what has not ended by itself after N seconds (default: what each pod asks for)
";

/// What the user asks of the client side. `server`, `shim`, `demo` and `image` are dispatched before.
#[derive(Debug, PartialEq)]
pub enum Command {
    Up(Args),
    Try(Args),
    Down { data_dir: PathBuf, containers: Containers },
    Delete { data_dir: PathBuf, kubeconfig: Option<PathBuf> },
    Status { data_dir: PathBuf },
    InstallService(Service),
    Help,
}

/// What `down` does with the containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Containers {
    Keep,
    /// Each pod has its own grace, but no longer than these seconds.
    Stop {
        within_seconds: Option<u64>,
    },
}

/// The flags of `up`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Args {
    pub data_dir: PathBuf,
    pub kubeconfig: Option<PathBuf>,
    /// What is passed on to the server, as given.
    pub server: Vec<String>,
}

/// Flags with a value that the server reads.
const SERVER_VALUES: &[&str] = &[
    "--api-port",
    "--nodes",
    "--fake-nodes",
    "--service-cidr",
    "--pod-cidr",
    "--dns-ip",
    "--domain",
    "--eviction-hard",
    "--encryption-provider-config",
    "--audit-policy-file",
    "--audit-log-path",
    "--audit-log-maxsize",
    "--audit-log-maxbackup",
    "--audit-log-maxage",
];

/// Parses the arguments after the program's name.
pub fn parse(args: &[String]) -> Result<Command> {
    let Some((verb, flags)) = args.split_first() else { return Ok(Command::Help) };
    match verb.as_str() {
        "up" => Ok(Command::Up(up(flags)?)),
        "try" => Ok(Command::Try(up(flags)?)),
        "down" => {
            let (data_dir, containers) = down(flags)?;
            Ok(Command::Down { data_dir, containers })
        }
        "delete" => {
            let (data_dir, kubeconfig) = only(flags, true)?;
            Ok(Command::Delete { data_dir, kubeconfig })
        }
        "status" => Ok(Command::Status { data_dir: only(flags, false)?.0 }),
        "install-service" => {
            let (rest, print) = take_switch(flags, "--print");
            let args = up(&rest)?;
            if args.kubeconfig.is_some() {
                bail!("a service merges into nobody's kubeconfig; `stead up` does, whoever started the server");
            }
            Ok(Command::InstallService(Service { data_dir: args.data_dir, server: args.server, print }))
        }
        "help" | "--help" | "-h" => Ok(Command::Help),
        other => bail!("there is no verb {other:?}; `stead help` lists them"),
    }
}

fn take_switch(flags: &[String], switch: &str) -> (Vec<String>, bool) {
    let rest: Vec<String> = flags.iter().filter(|flag| *flag != switch).cloned().collect();
    let found = rest.len() != flags.len();
    (rest, found)
}

fn down(flags: &[String]) -> Result<(PathBuf, Containers)> {
    let mut data_dir = PathBuf::from(DATA_DIR);
    let mut containers = Containers::Stop { within_seconds: None };
    let mut flags = Flags::new(flags);
    while let Some((flag, value)) = flags.next() {
        match flag {
            "--data-dir" => data_dir = flags.value(flag, value)?.into(),
            "--keep-containers" => containers = Containers::Keep,
            "--grace-period" => {
                let value = flags.value(flag, value)?;
                let seconds = value.parse().with_context(|| format!("{flag} {value}: that is no number of seconds"))?;
                containers = Containers::Stop { within_seconds: Some(seconds) };
            }
            _ => bail!("there is no flag {flag}; `stead help` lists them"),
        }
    }
    Ok((data_dir, containers))
}

fn up(flags: &[String]) -> Result<Args> {
    let mut args = Args { data_dir: DATA_DIR.into(), ..Args::default() };
    let mut flags = Flags::new(flags);
    while let Some((flag, value)) = flags.next() {
        match flag {
            "--data-dir" => args.data_dir = flags.value(flag, value)?.into(),
            "--kubeconfig" => args.kubeconfig = Some(flags.value(flag, value)?.into()),
            "--no-node" => args.server.push(flag.into()),
            _ if SERVER_VALUES.contains(&flag) => {
                let value = flags.value(flag, value)?;
                args.server.extend([flag.into(), value]);
            }
            _ => bail!("there is no flag {flag}; `stead help` lists them"),
        }
    }
    Ok(args)
}

/// Just the data directory, and the kubeconfig where it is known.
fn only(flags: &[String], kubeconfig_known: bool) -> Result<(PathBuf, Option<PathBuf>)> {
    let (mut data_dir, mut kubeconfig) = (PathBuf::from(DATA_DIR), None);
    let mut flags = Flags::new(flags);
    while let Some((flag, value)) = flags.next() {
        match flag {
            "--data-dir" => data_dir = flags.value(flag, value)?.into(),
            "--kubeconfig" if kubeconfig_known => kubeconfig = Some(flags.value(flag, value)?.into()),
            _ => bail!("there is no flag {flag}; `stead help` lists them"),
        }
    }
    Ok((data_dir, kubeconfig))
}

/// `--flag value` and `--flag=value`.
pub struct Flags<'a> {
    rest: std::slice::Iter<'a, String>,
}

impl<'a> Flags<'a> {
    pub fn new(flags: &'a [String]) -> Flags<'a> {
        Flags { rest: flags.iter() }
    }

    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<(&'a str, Option<&'a str>)> {
        let flag = self.rest.next()?;
        Some(match flag.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value)),
            _ => (flag, None),
        })
    }

    pub fn value(&mut self, flag: &str, given: Option<&str>) -> Result<String> {
        match given {
            Some(value) => Ok(value.to_owned()),
            None => self.rest.next().cloned().with_context(|| format!("{flag} needs a value")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Command> {
        parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn flags_in_both_forms() {
        let Command::Up(args) = parse_text("up --data-dir=/x --api-port 7000 --no-node --kubeconfig k").unwrap() else {
            panic!("not up")
        };
        assert_eq!(args.data_dir, PathBuf::from("/x"));
        assert_eq!(args.server, ["--api-port", "7000", "--no-node"]);
        assert_eq!(args.kubeconfig, Some("k".into()));
        let down = |containers| Command::Down { data_dir: DATA_DIR.into(), containers };
        assert_eq!(parse_text("down --keep-containers").unwrap(), down(Containers::Keep));
        let within = |within_seconds| down(Containers::Stop { within_seconds });
        assert_eq!(parse_text("down").unwrap(), within(None));
        assert_eq!(parse_text("down --grace-period 5").unwrap(), within(Some(5)));
    }

    #[test]
    fn mistakes_name_the_flag() {
        let text = |args: &str| parse_text(args).unwrap_err().to_string();
        assert_eq!(text("up --api-port"), "--api-port needs a value");
        assert_eq!(text("status --nodes 3"), "there is no flag --nodes; `stead help` lists them");
        assert_eq!(text("fly"), "there is no verb \"fly\"; `stead help` lists them");
    }
}
