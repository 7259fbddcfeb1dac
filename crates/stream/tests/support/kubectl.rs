//! Runs the real kubectl against the server, away from the user's files.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A command that takes longer hangs.
const KUBECTL_WAIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wire {
    WebSocket,
    Spdy,
}

/// A directory for one test, removed at its end.
pub struct Home(pub PathBuf);

impl Home {
    pub fn new() -> Home {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("stead-stream-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("config"), "apiVersion: v1\nkind: Config\n").unwrap();
        Home(path)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub struct Ran {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    pub fn text(&self) -> String {
        let stdout = String::from_utf8_lossy(&self.stdout);
        format!("{}\n{stdout}---\n{}", self.code, self.stderr)
    }
}

pub fn command(home: &Home, address: std::net::SocketAddr, wire: Wire, args: &[&str]) -> Command {
    let websockets = if wire == Wire::WebSocket { "true" } else { "false" };
    let mut command = Command::new("kubectl");
    command
        .arg("--kubeconfig")
        .arg(home.0.join("config"))
        .arg(format!("--server=http://{address}"))
        .args(args)
        .env("HOME", &home.0)
        .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets)
        .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

pub async fn run(home: &Home, address: std::net::SocketAddr, wire: Wire, args: &[&str], stdin: &[u8]) -> Ran {
    let mut child = command(home, address, wire, args).stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let input = stdin.to_vec();
    tokio::spawn(async move {
        // The command may end without reading it all.
        let _ = pipe.write_all(&input).await;
    });
    let output = tokio::time::timeout(KUBECTL_WAIT, child.wait_with_output())
        .await
        .unwrap_or_else(|_| panic!("kubectl {args:?} hangs"))
        .unwrap();
    Ran {
        code: output.status.code().unwrap(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
