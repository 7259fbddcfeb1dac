//! The DNS server of a node: sockets around [`stead_net::dns`].
//!
//! Guarantees: an answer is never older than the head that was published when its query was taken up. Queries for the
//! cluster's own names never wait for queries that have to be asked upstream. Idle, it costs nothing: all threads sleep.
//! Everything has a limit: queries upstream, connections, the time each may take.
//! Assumes: the addresses to listen on exist. Two threads per address answer over UDP; one thread holds all TCP
//! connections and all questions to upstream servers.
//! Source: rows D-02, D-15, D-20; RFC 1035, 5966 and 7766.

mod upstream;

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use stead_net::dns::{Alias, Outcome, Transport, Zone, ZoneConfig, fit_forwarded, server_failure};
use stead_store::Head;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};

use upstream::Upstream;

/// Threads that answer over UDP on one address; the kernel spreads clients over their sockets.
const UDP_THREADS: usize = 2;
/// The largest datagram that can come.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Room for bursts while both threads are busy.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Questions that wait for upstream servers; further ones fail at once.
const UPSTREAM_QUERIES_MAX: usize = 1024;
/// Open TCP connections; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// A connection without a question for so long is closed.
const CONNECTION_IDLE: Duration = Duration::from_secs(10);

/// What to serve, and where.
pub struct DnsConfig {
    pub zone: ZoneConfig,
    /// For UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// Whose `nameserver` lines say whom to ask for other names; read again when it changes. `/etc/resolv.conf` of the host.
    pub resolv_conf: PathBuf,
}

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    #[error("{0:?} is not a domain name")]
    BadDomain(String),
    #[error("listen on {0} for DNS: {1}")]
    Listen(SocketAddr, #[source] io::Error),
    #[error("start DNS thread: {0}")]
    Thread(#[source] io::Error),
}

/// A running server; dropping it ends it.
pub struct DnsServer {
    stop: Arc<AtomicBool>,
    sockets: Vec<Arc<UdpSocket>>,
    /// Dropping it ends the thread of connections and upstream questions.
    asides: Option<mpsc::Sender<Aside>>,
    threads: Vec<JoinHandle<()>>,
}

/// The zone, kept up with the published head.
struct Live {
    zone: RwLock<Zone>,
    head: Box<dyn Fn() -> Head + Send + Sync>,
}

/// A query over UDP that needs an upstream server.
struct Aside {
    query: Vec<u8>,
    from: SocketAddr,
    socket: Arc<UdpSocket>,
    alias: Option<Box<Alias>>,
}

impl DnsServer {
    /// Listens and answers from `head()`, which is asked for once per query.
    pub fn start(config: DnsConfig, head: impl Fn() -> Head + Send + Sync + 'static) -> Result<DnsServer, DnsError> {
        let domain = config.zone.domain.clone();
        let zone = Zone::new(config.zone).ok_or(DnsError::BadDomain(domain))?;
        let live = Arc::new(Live { zone: RwLock::new(zone), head: Box::new(head) });
        let stop = Arc::new(AtomicBool::new(false));
        let (asides, inbox) = mpsc::channel(UPSTREAM_QUERIES_MAX);
        let mut server = DnsServer {
            stop: Arc::clone(&stop),
            sockets: Vec::new(),
            asides: Some(asides.clone()),
            threads: Vec::new(),
        };
        let mut listeners = Vec::new();
        for at in &config.listen {
            let refused = |error| DnsError::Listen(*at, error);
            listeners.push(TcpListener::bind(at).map_err(refused)?);
            for _ in 0..UDP_THREADS {
                let socket = Arc::new(udp_socket(*at).map_err(refused)?);
                server.sockets.push(Arc::clone(&socket));
                let (live, stop, asides) = (Arc::clone(&live), Arc::clone(&stop), asides.clone());
                server.spawn("stead-dns", move || serve_udp(&live, &socket, &asides, &stop))?;
            }
        }
        let upstream = Upstream::new(config.resolv_conf, config.listen);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DnsError::Thread)?;
        server.spawn("stead-dns-slow", move || runtime.block_on(serve_slow(live, upstream, listeners, inbox)))?;
        Ok(server)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), DnsError> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(work).map_err(DnsError::Thread)?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for socket in &self.sockets {
            // It says "not connected", and wakes the thread that reads.
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
        self.asides = None;
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

impl Live {
    fn answer(&self, query: &[u8], transport: Transport, out: &mut Vec<u8>) -> Outcome {
        let head = (self.head)();
        let revision = head.snapshot.revision();
        {
            let zone = self.zone.read().unwrap_or_else(PoisonError::into_inner);
            if zone.is_at(revision) {
                return zone.answer(query, transport, out);
            }
        }
        let mut zone = self.zone.write().unwrap_or_else(PoisonError::into_inner);
        zone.follow(&head);
        zone.answer(query, transport, out)
    }
}

/// A socket that shares its address with those of the other threads.
fn udp_socket(at: SocketAddr) -> io::Result<UdpSocket> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    // Without the right to go beyond the system's limit, the usual size will do.
    let _ = sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES);
    rustix::net::bind(&socket, &at)?;
    Ok(socket.into())
}

fn serve_udp(live: &Live, socket: &Arc<UdpSocket>, asides: &mpsc::Sender<Aside>, stop: &AtomicBool) {
    let mut query = vec![0; DATAGRAM_BYTES_MAX];
    let mut out = Vec::with_capacity(DATAGRAM_BYTES_MAX);
    while !stop.load(Ordering::Relaxed) {
        // An error is the echo of an answer that reached nobody (ICMP), or the end.
        let Ok((len, from)) = socket.recv_from(&mut query) else { continue };
        let alias = match live.answer(&query[..len], Transport::Udp, &mut out) {
            Outcome::Answered => {
                drop(socket.send_to(&out, from));
                continue;
            }
            Outcome::Ignore => continue,
            Outcome::Forward => None,
            Outcome::Alias(alias) => Some(alias),
        };
        let aside = Aside { query: query[..len].to_vec(), from, socket: Arc::clone(socket), alias };
        if asides.try_send(aside).is_err() {
            server_failure(&query[..len], Transport::Udp, &mut out);
            drop(socket.send_to(&out, from));
        }
    }
}

/// Connections, and questions to upstream servers. Ends when nobody can send any more.
async fn serve_slow(
    live: Arc<Live>,
    upstream: Upstream,
    listeners: Vec<TcpListener>,
    mut inbox: mpsc::Receiver<Aside>,
) {
    let upstream = Arc::new(upstream);
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    for listener in listeners {
        tokio::spawn(accept(Arc::clone(&live), Arc::clone(&upstream), listener, Arc::clone(&connections)));
    }
    let waiting = Arc::new(Semaphore::new(UPSTREAM_QUERIES_MAX));
    while let Some(aside) = inbox.recv().await {
        let Ok(permit) = Arc::clone(&waiting).acquire_owned().await else { return };
        let upstream = Arc::clone(&upstream);
        tokio::spawn(async move {
            let mut out = Vec::new();
            ask_upstream(&upstream, &aside.query, aside.alias.as_deref(), Transport::Udp, &mut out).await;
            drop(aside.socket.send_to(&out, aside.from));
            drop(permit);
        });
    }
}

/// Finishes what the zone could not answer alone.
async fn ask_upstream(
    upstream: &Upstream,
    query: &[u8],
    alias: Option<&Alias>,
    transport: Transport,
    out: &mut Vec<u8>,
) {
    match alias {
        Some(alias) => {
            // As if asked over TCP, so that the target's records all come.
            let answer = upstream.ask(&alias.question(0), Transport::Tcp).await;
            alias.finish(query, answer.as_deref(), transport, out);
        }
        None => match upstream.ask(query, transport).await {
            Some(answer) => {
                *out = answer;
                fit_forwarded(query, transport, out);
            }
            None => server_failure(query, transport, out),
        },
    }
}

async fn accept(live: Arc<Live>, upstream: Arc<Upstream>, listener: TcpListener, connections: Arc<Semaphore>) {
    let ready = listener.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(listener));
    let Ok(listener) = ready else { return };
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (live, upstream) = (Arc::clone(&live), Arc::clone(&upstream));
                tokio::spawn(async move {
                    // A broken connection is the client's affair.
                    drop(converse(&live, &upstream, stream).await);
                    drop(permit);
                });
            }
            // Out of descriptors, say: some will be closed.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Messages over TCP carry their length before them.
async fn converse(live: &Live, upstream: &Upstream, mut stream: tokio::net::TcpStream) -> io::Result<()> {
    let mut out = Vec::new();
    loop {
        let asked = tokio::time::timeout(CONNECTION_IDLE, async {
            let mut query = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut query).await?;
            io::Result::Ok(query)
        });
        let query = asked.await??;
        match live.answer(&query, Transport::Tcp, &mut out) {
            Outcome::Answered => {}
            Outcome::Ignore => return Ok(()),
            Outcome::Forward => ask_upstream(upstream, &query, None, Transport::Tcp, &mut out).await,
            Outcome::Alias(alias) => ask_upstream(upstream, &query, Some(&alias), Transport::Tcp, &mut out).await,
        }
        let len = u16::try_from(out.len()).unwrap_or(u16::MAX);
        let message = [&len.to_be_bytes()[..], &out[..usize::from(len)]].concat();
        tokio::time::timeout(CONNECTION_IDLE, stream.write_all(&message)).await??;
    }
}

#[cfg(test)]
mod tests;
