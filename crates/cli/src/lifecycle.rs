//! `up`, `down` and `delete`: the server's process, started, stopped and forgotten.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::args::Args;
use crate::{client, kubeconfig};

/// How long the server may take to end after it was asked to.
const STOP_SECONDS_MAX: u64 = 120;
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

/// Stops the server, and with it the containers unless they shall stay.
pub fn down(data_dir: &Path, keep_containers: bool) -> Result<()> {
    if !client::is_up(data_dir) {
        let what = if data_dir.join("store.redb").exists() { "is down already" } else { "has no cluster" };
        println!("{} {what}", data_dir.display());
        return Ok(());
    }
    let path = if keep_containers { "/-/down?keepContainers=true" } else { "/-/down" };
    let (code, answer) = client::request(data_dir, "POST", path, "", "")?;
    if code != 200 {
        bail!("the server refused to stop: {}", answer["message"].as_str().unwrap_or("no reason given"));
    }
    let begun = Instant::now();
    wait_gone(data_dir)?;
    let kept = if keep_containers { "its containers run on" } else { "its data is kept" };
    println!("stead is down ({} ms); {kept}; `stead up` brings it back", begun.elapsed().as_millis());
    Ok(())
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
        down(data_dir, false)?;
    }
    kubeconfig::remove(&kubeconfig::file(config), data_dir)?;
    let binary = std::env::current_exe().context("find this program's own file")?;
    let status = Command::new(binary).arg("server").arg("--forget").arg("--data-dir").arg(data_dir).status()?;
    if !status.success() {
        bail!("{} could not be removed as a whole; run `stead delete` again", data_dir.display());
    }
    println!("everything below {} is forgotten", data_dir.display());
    Ok(())
}
