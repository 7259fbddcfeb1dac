//! `up`, `down` and `delete`: the server's process, started, stopped and forgotten.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::args::{Args, Containers};
use crate::{client, kubeconfig};

/// How long the server may take to end after it was asked to.
const STOP_SECONDS_MAX: u64 = 120;
/// What containers are given to end when all they could save is to be deleted.
const DELETE_GRACE_SECONDS: u64 = 30;
/// Below it each cluster has a directory for as long as it has anything on the machine.
const RUN_DIR: &str = "/run/stead";
/// How much of a failed server's words is read.
const LAST_WORDS_BYTES_MAX: u64 = 4096;

/// The cluster that runs now.
pub struct Running {
    pub context: String,
    pub server: String,
}

/// Starts the server and returns when its API answers.
pub fn up(args: &Args) -> Result<Running> {
    let begun = Instant::now();
    if client::is_up(&args.data_dir) {
        let running = merged(args)?;
        println!(
            "stead is up already: {} (context {}); `stead status` tells more, `stead down` stops it",
            running.server, running.context
        );
        return Ok(running);
    }
    let name = format!("stead-up-{}", std::process::id());
    let listener =
        UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?).context("listen for the server's news")?;
    let mut server = spawn(args, &name)?;
    wait_ready(&mut server, listener, &args.data_dir)?;
    let running = merged(args)?;
    println!("stead is up: {} (context {}, {} ms)", running.server, running.context, begun.elapsed().as_millis());
    Ok(running)
}

fn merged(args: &Args) -> Result<Running> {
    let file = kubeconfig::file(args.kubeconfig.as_deref());
    let context = kubeconfig::merge(&file, &args.data_dir)?;
    let text = fs::read_to_string(args.data_dir.join("kubeconfig"))?;
    let own: serde_json::Value = serde_json::from_str(&text)?;
    let server = own["clusters"][0]["cluster"]["server"].as_str().unwrap_or_default().to_owned();
    Ok(Running { context, server })
}

/// The server is this binary in another role; it leaves our session by itself.
fn spawn(args: &Args, notify: &str) -> Result<Child> {
    let binary = std::env::current_exe().context("find this program's own file")?;
    Command::new(binary)
        .arg("server")
        .arg("--data-dir")
        .arg(&args.data_dir)
        .arg("--notify")
        .arg(notify)
        .args(&args.server)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // Until it leaves our terminal: what it says of flags that it does not understand.
        .stderr(Stdio::piped())
        .spawn()
        .context("start the server")
}

/// The server's first words: `ready`, or `error` and why.
fn wait_ready(server: &mut Child, listener: UnixListener, data_dir: &Path) -> Result<()> {
    let (sender, words) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let Ok((stream, _)) = listener.accept() else { return };
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    loop {
        match words.recv_timeout(Duration::from_millis(200)) {
            Ok(line) if line == "ready" => return Ok(()),
            Ok(line) => match line.strip_prefix("error ") {
                Some(why) => bail!("{why}"),
                None => println!("{line}"),
            },
            Err(_) => {
                if let Some(status) = server.try_wait()? {
                    if let Some(why) = last_words(server) {
                        bail!("{why}");
                    }
                    let log = data_dir.join("stead.log");
                    bail!("the server ended ({status}) before it was ready; see {}", log.display());
                }
            }
        }
    }
}

/// What a server that ended early said, on one line.
fn last_words(server: &mut Child) -> Option<String> {
    let mut said = String::new();
    server.stderr.take()?.take(LAST_WORDS_BYTES_MAX).read_to_string(&mut said).ok()?;
    let lines: Vec<&str> = said.lines().map(|line| line.trim_start_matches("stead: ")).collect();
    (!lines.is_empty()).then(|| lines.join(" "))
}

/// Stops the server, and with it the containers unless they shall stay. Without a server: the containers that it left.
pub fn down(data_dir: &Path, containers: Containers) -> Result<()> {
    if !data_dir.join("store").exists() {
        println!("{} has no cluster", data_dir.display());
        return Ok(());
    }
    let begun = Instant::now();
    if !client::is_up(data_dir) {
        return match containers {
            Containers::Stop { within_seconds } if has_remains(data_dir) => {
                stop_remains(data_dir, within_seconds)?;
                println!(
                    "stead was down, but had left containers: they are stopped ({} ms); its data is kept",
                    begun.elapsed().as_millis()
                );
                Ok(())
            }
            _ => {
                println!("{} is down already", data_dir.display());
                Ok(())
            }
        };
    }
    let (path, kept) = match containers {
        Containers::Keep => ("/-/down?keepContainers=true".into(), "its containers run on"),
        Containers::Stop { within_seconds: None } => ("/-/down".to_owned(), "its data is kept"),
        Containers::Stop { within_seconds: Some(n) } => (format!("/-/down?gracePeriodSeconds={n}"), "its data is kept"),
    };
    let (code, answer) = client::request(data_dir, "POST", &path, "", "")?;
    if code != 200 {
        bail!("the server did not stop cleanly: {}", answer["message"].as_str().unwrap_or("no reason given"));
    }
    wait_gone(data_dir)?;
    println!("stead is down ({} ms); {kept}; `stead up` brings it back", begun.elapsed().as_millis());
    Ok(())
}

/// Whether a server that is gone may have left something on the machine. A reboot takes all of it.
fn has_remains(data_dir: &Path) -> bool {
    let text = fs::read_to_string(data_dir.join("cluster.json")).unwrap_or_default();
    let config: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    config["id"].as_str().is_some_and(|id| Path::new(RUN_DIR).join(id).exists())
}

/// The server's role does it, without serving.
fn stop_remains(data_dir: &Path, within_seconds: Option<u64>) -> Result<()> {
    let task = match within_seconds {
        Some(seconds) => format!("--stop-within={seconds}"),
        None => "--stop".to_owned(),
    };
    let status = server_task(data_dir, &task)?;
    if !status.success() {
        bail!("something of {} is still on the machine; run `stead down` again", data_dir.display());
    }
    Ok(())
}

fn server_task(data_dir: &Path, task: &str) -> Result<std::process::ExitStatus> {
    let binary = std::env::current_exe().context("find this program's own file")?;
    let mut command = Command::new(binary);
    Ok(command.args(["server", task, "--data-dir"]).arg(data_dir).status()?)
}

/// Waits for the server's lock, which the kernel gives back when the process is gone.
fn wait_gone(data_dir: &Path) -> Result<()> {
    let lock = fs::OpenOptions::new().read(true).open(data_dir.join("lock")).context("open the cluster's lock")?;
    let (sender, done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = sender.send(lock.lock().and_then(|()| lock.unlock()));
    });
    match done.recv_timeout(Duration::from_secs(STOP_SECONDS_MAX)) {
        Ok(outcome) => outcome.context("wait for the server to end"),
        Err(_) => {
            bail!("the server did not end within {STOP_SECONDS_MAX} s; see {}", data_dir.join("stead.log").display())
        }
    }
}

/// Stops the cluster and removes everything of it.
pub fn delete(data_dir: &Path, config: Option<&Path>) -> Result<()> {
    if !data_dir.join("cluster.json").exists() {
        bail!("{} holds no cluster; name its place with --data-dir", data_dir.display());
    }
    if client::is_up(data_dir) {
        down(data_dir, Containers::Stop { within_seconds: Some(DELETE_GRACE_SECONDS) })?;
    }
    kubeconfig::remove(&kubeconfig::file(config), data_dir)?;
    if !server_task(data_dir, "--forget")?.success() {
        bail!("{} could not be removed as a whole; run `stead delete` again", data_dir.display());
    }
    println!("everything below {} is forgotten", data_dir.display());
    Ok(())
}
