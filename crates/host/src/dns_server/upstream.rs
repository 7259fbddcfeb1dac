//! Other names: asked of the servers in the host's `resolv.conf`.
//!
//! Contract: an answer is handed on only when it has the question's id, name and type, and came from the server that was
//! asked; each question has a random id and a socket (so a port) of its own. Servers are asked one after the other, twice
//! round, within [`WHOLE_TIMEOUT`]. The file is looked at again when a question comes and it may have changed; our own
//! addresses in it are left out, or questions would go in circles.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use stead_net::dns::{Transport, is_answer_to};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

const DNS_PORT: u16 = 53;
/// As many servers as a resolver looks at.
const SERVERS_MAX: usize = 3;
const ROUNDS: usize = 2;
/// How long one server may take, and how long all of it: clients give up after five seconds.
const SERVER_TIMEOUT: Duration = Duration::from_millis(1500);
const WHOLE_TIMEOUT: Duration = Duration::from_millis(4500);
/// How long `resolv.conf` is believed before its time of change is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const ANSWER_BYTES_MAX: usize = 65_535;

pub struct Upstream {
    resolv_conf: PathBuf,
    own: Vec<SocketAddr>,
    known: Mutex<Known>,
    random: RandomState,
    count: AtomicU64,
}

/// What the file said when it was last read.
#[derive(Default)]
struct Known {
    looked: Option<Instant>,
    changed: Option<SystemTime>,
    servers: Vec<SocketAddr>,
}

impl Upstream {
    pub fn new(resolv_conf: PathBuf, own: Vec<SocketAddr>) -> Upstream {
        let known = Mutex::default();
        Upstream { resolv_conf, own, known, random: RandomState::new(), count: AtomicU64::new(0) }
    }

    /// The answer to `query`, with the query's id. `None` when no server gives one.
    pub async fn ask(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        timeout(WHOLE_TIMEOUT, self.ask_all(query, transport)).await.ok().flatten()
    }

    async fn ask_all(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let mut sent = query.to_vec();
        let id = sent.first_chunk::<2>().copied()?;
        let servers = self.servers();
        for server in servers.iter().cycle().take(servers.len() * ROUNDS) {
            sent[..2].copy_from_slice(&self.random_id().to_be_bytes());
            let asked = timeout(SERVER_TIMEOUT, ask_one(*server, &sent, transport)).await;
            if let Ok(Ok(mut answer)) = asked {
                answer[..2].copy_from_slice(&id);
                return Some(answer);
            }
        }
        None
    }

    fn servers(&self) -> Vec<SocketAddr> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if known.looked.is_none_or(|at| now.duration_since(at) >= LOOK_AGAIN) {
            known.looked = Some(now);
            let changed = std::fs::metadata(&self.resolv_conf).and_then(|file| file.modified()).ok();
            if known.changed != changed || changed.is_none() {
                let text = std::fs::read_to_string(&self.resolv_conf).unwrap_or_default();
                known.servers = parse_servers(&text, &self.own);
                known.changed = changed;
            }
        }
        known.servers.clone()
    }

    /// Nobody can foretell it: a counter, hashed with the process's own random key.
    fn random_id(&self) -> u16 {
        self.random.hash_one(self.count.fetch_add(1, Ordering::Relaxed)) as u16
    }
}

/// The `nameserver` lines of a `resolv.conf`. A port is not part of the format; `[address]:port` is taken for tests' sake.
fn parse_servers(text: &str, own: &[SocketAddr]) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        // A link-local server's interface, `fe80::1%eth0`, is not supported.
        let plain = address.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT)).ok();
        plain.or_else(|| address.parse().ok())
    };
    text.lines().filter_map(server).filter(|server| !own.contains(server)).take(SERVERS_MAX).collect()
}

/// Over UDP first; what was cut is asked for again over TCP where the client can take the whole.
async fn ask_one(server: SocketAddr, query: &[u8], transport: Transport) -> io::Result<Vec<u8>> {
    let answer = ask_udp(server, query).await?;
    let is_cut = answer.get(2).is_some_and(|flags| flags & 0x02 != 0);
    match transport {
        Transport::Tcp if is_cut => ask_tcp(server, query).await,
        _ => Ok(answer),
    }
}

async fn ask_udp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    loop {
        let len = socket.recv(&mut answer).await?;
        if is_answer_to(query, &answer[..len]) {
            answer.truncate(len);
            return Ok(answer);
        }
    }
}

async fn ask_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let len = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes()[..], query].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    match is_answer_to(query, &answer) {
        true => Ok(answer),
        false => Err(io::Error::other("not the answer to the question")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_the_first_three_that_are_not_ourselves() {
        let own: SocketAddr = "10.96.0.10:53".parse().unwrap();
        let text = "# comment\nsearch example.com\nnameserver 10.96.0.10\nnameserver 192.0.2.1\nnameserver fd00::1 # x\n\
                    nameserver nonsense\nnameserver\n nameserver 192.0.2.3\nnameserver 192.0.2.4\noptions ndots:5\n";
        let found = parse_servers(text, &[own]);
        let text: Vec<String> = found.iter().map(SocketAddr::to_string).collect();
        assert_eq!(text, ["192.0.2.1:53", "[fd00::1]:53", "192.0.2.3:53"]);
        assert_eq!(parse_servers("", &[own]), []);
    }
}
