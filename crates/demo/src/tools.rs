//! The tools of a container that holds nothing else.

use std::io::{Read, Write, copy, stdout};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long a request may take.
const REQUEST_SECONDS: u64 = 10;

/// One HTTP request; prints the body and fails unless the code is 2xx.
pub fn request(method: &str, url: &str, body: &str) -> Result<()> {
    let rest = url.strip_prefix("http://").context("the URL must start with http://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    let mut stream = TcpStream::connect(&address).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(REQUEST_SECONDS)))?;
    let length = body.len();
    write!(stream, "{method} /{path} HTTP/1.0\r\nHost: {authority}\r\nContent-Length: {length}\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("read from {address}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    print!("{body}");
    match head.split(' ').nth(1) {
        Some(code) if code.starts_with('2') => Ok(()),
        code => bail!("the server answered {}", code.unwrap_or("nothing")),
    }
}

/// Which of N shards a key belongs to: its FNV-1a hash modulo N.
pub fn shard(key: &str, shards: &str) -> Result<()> {
    let shards: u64 = shards.parse().ok().filter(|n| *n > 0).context("the number of shards must be above zero")?;
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    println!("{}", hash % shards);
    Ok(())
}

pub fn cat(file: &str) -> Result<()> {
    let mut file = std::fs::File::open(file).with_context(|| format!("open {file}"))?;
    copy(&mut file, &mut stdout())?;
    Ok(())
}

pub fn ls(dir: &str) -> Result<()> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("open {dir}"))?;
    let mut names: Vec<String> =
        entries.filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned())).collect();
    names.sort();
    for name in names {
        println!("{name}");
    }
    Ok(())
}

pub fn sleep(seconds: &str) -> Result<()> {
    let seconds: f64 = seconds.parse().ok().filter(|s| (0.0..1e9).contains(s)).context("that is no time in seconds")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs_f64(seconds)) => Ok(()),
            _ = terminate.recv() => bail!("told to stop"),
        }
    })
}

pub fn env() -> Result<()> {
    for (name, value) in std::env::vars_os() {
        println!("{}={}", name.to_string_lossy(), value.to_string_lossy());
    }
    Ok(())
}

/// Who this process is: what /proc says of users and groups.
pub fn id() -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    for name in ["Uid:", "Gid:", "Groups:", "CapEff:"] {
        if let Some(line) = status.lines().find(|line| line.starts_with(name)) {
            println!("{}", line.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    Ok(())
}
