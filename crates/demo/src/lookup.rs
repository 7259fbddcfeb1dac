//! `lookup NAME TYPE`: asks the container's DNS server and prints the records, one a line.
//!
//! A name without a final dot is tried with the search list first, as a resolver does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail};

const KINDS: &[(&str, u16)] = &[("A", 1), ("CNAME", 5), ("PTR", 12), ("TXT", 16), ("AAAA", 28), ("SRV", 33)];
/// How long one try may take.
const TRY: Duration = Duration::from_secs(3);

pub fn run(name: &str, kind: &str) -> Result<()> {
    let code =
        KINDS.iter().find(|(k, _)| k.eq_ignore_ascii_case(kind)).map(|(_, c)| *c).context("there is no such type")?;
    let config = std::fs::read_to_string("/etc/resolv.conf").context("read /etc/resolv.conf")?;
    let server: IpAddr =
        value(&config, "nameserver").and_then(|v| v.parse().ok()).context("resolv.conf names no server")?;
    for candidate in candidates(name, &config) {
        let lines = ask(SocketAddr::new(server, 53), &candidate, code)?;
        if !lines.is_empty() {
            lines.iter().for_each(|line| println!("{line}"));
            return Ok(());
        }
    }
    bail!("{name} has no {} records", kind.to_uppercase())
}

fn value<'a>(config: &'a str, word: &str) -> Option<&'a str> {
    config.lines().find_map(|line| line.strip_prefix(word)).map(str::trim)
}

fn candidates(name: &str, config: &str) -> Vec<String> {
    if let Some(absolute) = name.strip_suffix('.') {
        return vec![absolute.to_owned()];
    }
    let search = value(config, "search").unwrap_or_default();
    search.split_whitespace().map(|domain| format!("{name}.{domain}")).chain([name.to_owned()]).collect()
}

fn ask(server: SocketAddr, name: &str, kind: u16) -> Result<Vec<String>> {
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(TRY))?;
    socket.send(&query(name, kind)?).with_context(|| format!("ask {server}"))?;
    let mut answer = [0; 4096];
    let length = socket.recv(&mut answer).with_context(|| format!("{server} did not answer"))?;
    records(&answer[..length]).context("the answer is not DNS")
}

fn query(name: &str, kind: u16) -> Result<Vec<u8>> {
    // Id 0x5374, recursion desired, one question.
    let mut out = vec![0x53, 0x74, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            bail!("{name} is no name");
        }
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    Ok(out)
}

/// The answer section, printed. None: cut off or malformed.
fn records(message: &[u8]) -> Option<Vec<String>> {
    let count = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let (questions, answers) = (count(4)?, count(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = name(message, at)?.1 + 4;
    }
    let mut out = Vec::new();
    for _ in 0..answers {
        let (owner, after) = name(message, at)?;
        let (kind, length) = (count(after)?, count(after + 8)? as usize);
        let data = after + 10;
        if let Some(text) = record(message, kind, data, length) {
            let kind = KINDS.iter().find(|(_, c)| *c == kind).map_or("?", |(k, _)| k);
            out.push(format!("{owner} {kind} {text}"));
        }
        at = data + length;
    }
    Some(out)
}

fn record(message: &[u8], kind: u16, at: usize, length: usize) -> Option<String> {
    let data = message.get(at..at + length)?;
    let number = |i: usize| Some(u16::from_be_bytes([*data.get(i)?, *data.get(i + 1)?]));
    match kind {
        1 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).to_string()),
        28 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).to_string()),
        5 | 12 => Some(name(message, at)?.0),
        16 => Some(format!("\"{}\"", String::from_utf8_lossy(data.get(1..)?))),
        33 => Some(format!("{} {} {} {}", number(0)?, number(2)?, number(4)?, name(message, at + 6)?.0)),
        _ => None,
    }
}

/// A name and where the message goes on behind it.
fn name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let (mut labels, mut after) = (Vec::new(), None);
    for _ in 0..128 {
        let length = *message.get(at)? as usize;
        match length {
            0 => return Some((labels.join(".") + ".", after.unwrap_or(at + 1))),
            0xc0.. => {
                after = after.or(Some(at + 2));
                at = (length & 0x3f) << 8 | *message.get(at + 1)? as usize;
            }
            _ => {
                labels.push(String::from_utf8_lossy(message.get(at + 1..at + 1 + length)?).into_owned());
                at += 1 + length;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_compression_is_read_and_rubbish_is_not() {
        let mut message = query("web.d.svc", 1).unwrap();
        message[7] = 1;
        message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 0, 0, 7]);
        assert_eq!(records(&message).unwrap(), ["web.d.svc. A 10.0.0.7"]);
        for cut in 0..message.len() {
            assert!(records(&message[..cut]).is_none_or(|lines| lines.is_empty()), "{cut}");
        }
        assert!(query("a..b", 1).is_err());
    }

    #[test]
    fn the_search_list_comes_first() {
        let config = "search d.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\n";
        assert_eq!(candidates("web", config), ["web.d.svc.cluster.local", "web.svc.cluster.local", "web"]);
        assert_eq!(candidates("web.", config), ["web"]);
    }
}
