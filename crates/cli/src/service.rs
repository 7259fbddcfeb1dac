//! `stead install-service`: the unit with which systemd starts Stead at boot and again after a crash.
//!
//! Guarantees: a restart or stop of the unit leaves containers running (`KillMode=process`, and the server ends on SIGTERM without
//! touching them), so an upgrade is `systemctl restart stead`; when the machine shuts down, pods are stopped first and in order.
//! `stead down` ends the server with success, so systemd leaves it down.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Where an administrator's own units live.
const UNIT_FILE: &str = "/etc/systemd/system/stead.service";

/// What the unit starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub data_dir: PathBuf,
    /// Flags of `up` for the server, as given.
    pub server: Vec<String>,
    /// Print the unit, change nothing.
    pub print: bool,
}

/// Writes the unit, or prints it.
pub fn install(service: &Service) -> Result<()> {
    let binary = std::env::current_exe().context("find this program's own file")?;
    let data_dir = std::path::absolute(&service.data_dir).context("find the data directory")?;
    let unit = unit(&binary, &data_dir, &service.server)?;
    if service.print {
        print!("{unit}");
        return Ok(());
    }
    fs::write(UNIT_FILE, unit).with_context(|| format!("write {UNIT_FILE} (root is needed, and systemd)"))?;
    println!(
        "{UNIT_FILE} is written; `systemctl daemon-reload && systemctl enable --now stead` starts it, now and at boot"
    );
    Ok(())
}

fn unit(binary: &Path, data_dir: &Path, flags: &[String]) -> Result<String> {
    let binary = quoted(&binary.to_string_lossy())?;
    let data = quoted(&data_dir.to_string_lossy())?;
    let flags = flags.iter().map(|flag| quoted(flag).map(|flag| format!(" {flag}"))).collect::<Result<String>>()?;
    Ok(format!(
        "[Unit]
Description=Stead: Kubernetes for stateful applications
Wants=network-online.target
After=network-online.target
RequiresMountsFor={data}

[Service]
Type=notify
ExecStart={binary} server --data-dir {data}{flags}
# Only the server is systemd's: containers outlive it, and the next start adopts them.
KillMode=process
Restart=on-failure
RestartSec=1
# When the machine goes down, pods stop first, each with its own grace.
ExecStop=/bin/sh -c 'if [ \"$$(systemctl is-system-running)\" = stopping ]; then exec \"$$0\" down --data-dir \"$$1\"; fi' {binary} {data}
TimeoutStartSec=120
TimeoutStopSec=600
LimitNOFILE=1048576
TasksMax=infinity

[Install]
WantedBy=multi-user.target
"
    ))
}

/// A word of a unit's command line.
fn quoted(word: &str) -> Result<String> {
    if word.chars().any(char::is_control) {
        bail!("{word:?} cannot stand in a unit");
    }
    // systemd expands `%` and, in command lines, `$`.
    let word = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    let is_plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/-_.:=,%$".contains(c));
    Ok(if is_plain && !word.is_empty() { word } else { format!("\"{word}\"") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_names_the_binary_the_data_and_the_flags() {
        let flags = ["--nodes".to_owned(), "2".to_owned()];
        let text = unit(Path::new("/usr/local/bin/stead"), Path::new("/data/my cluster"), &flags).unwrap();
        assert!(
            text.contains("\nExecStart=/usr/local/bin/stead server --data-dir \"/data/my cluster\" --nodes 2\n"),
            "{text}"
        );
        for line in ["Type=notify", "KillMode=process", "Restart=on-failure", "WantedBy=multi-user.target"] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }

    #[test]
    fn words_are_quoted_as_systemd_reads_them() {
        assert_eq!(quoted("50%/$a").unwrap(), "50%%/$$a");
        assert_eq!(quoted("a \"b\" \\").unwrap(), "\"a \\\"b\\\" \\\\\"");
        assert_eq!(quoted("").unwrap(), "\"\"");
        assert!(quoted("a\nExecStart=/bad").is_err());
    }
}
