//! What makes Services work on this machine: the forwarding rules, which follow every published head, and the DNS server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use stead_host::dns_server::{DnsConfig, DnsServer};
use stead_host::network::Network;
use stead_net::dns::ZoneConfig;
use stead_net::proxy::Proxy;

use crate::Server;
use crate::claims::{Lookout, Register};
use crate::config::{Config, node_name};
use crate::conflicts::Conflicts;
use crate::neighbours;
use crate::plane::PlaneHandle;
use crate::say::say;

const DNS_PORT: u16 = 53;
/// How soon rules that the kernel refused are tried again.
const APPLY_AGAIN: Duration = Duration::from_secs(1);

/// The kinds from which rules are made.
const KINDS: &[&str] = &["services", "endpointslices.discovery.k8s.io", "pods"];

/// The thread that keeps the rules. Ends when this is dropped; the rules stay, for containers that go on.
pub struct Services {
    _dns: DnsServer,
    news: Sender<News>,
    thread: Option<JoinHandle<()>>,
    register: Register,
    _lookout: Lookout,
}

enum News {
    Changed,
    /// Another cluster of the machine asks for other ports than before.
    Neighbours,
    Stop,
}

impl Services {
    /// Ends it for good: the rules are about to be taken away.
    pub fn withdraw(self) {
        let register = self.register.clone();
        drop(self);
        register.withdraw();
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        let _ = self.news.send(News::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts to keep the rules and to answer DNS.
pub fn start(server: &Arc<Server>, config: &Config, network: &Arc<Network>) -> Result<Services> {
    let dns = start_dns(server, config)?;
    let (news, inbox) = channel();
    let tell = news.clone();
    server.plane.listen(Box::new(move |_, keys| {
        if keys.iter().any(|key| KINDS.contains(&key.kind)) {
            let _ = tell.send(News::Changed);
        }
    }));
    let names = (0..config.nodes).map(node_name);
    let addresses = (0..config.nodes).map(|n| config.node_ip(n)).chain([config.dns_ip]);
    let proxy = Proxy::new(names, addresses);
    let (plane, network) = (server.plane.clone(), Arc::clone(network));
    let register = Register::new(neighbours::directory(), &config.id);
    let tell = news.clone();
    let lookout = Lookout::start(neighbours::directory(), move || drop(tell.send(News::Neighbours)))?;
    let conflicts = Conflicts::new(register.clone());
    let thread = std::thread::Builder::new()
        .name("services".into())
        .spawn(move || keep(proxy, conflicts, &plane, &network, &inbox));
    let thread = Some(thread.context("start the services' thread")?);
    Ok(Services { _dns: dns, news, thread, register, _lookout: lookout })
}

fn start_dns(server: &Arc<Server>, config: &Config) -> Result<DnsServer> {
    let ranges = vec![config.service_cidr, config.pod_cidr];
    let zone = ZoneConfig { domain: config.domain.clone(), dns_ip: config.dns_ip, ranges };
    let listen = vec![SocketAddr::from((config.dns_ip, DNS_PORT))];
    let plane = server.plane.clone();
    let config = DnsConfig { zone, listen, resolv_conf: "/etc/resolv.conf".into() };
    DnsServer::start(config, move || plane.head().store.clone())
        .context("the cluster's DNS server could not be started")
}

/// Applies the rules of every head that changed them; what piles up meanwhile is one change. Rules that could not be applied are
/// tried again.
fn keep(mut proxy: Proxy, mut conflicts: Conflicts, plane: &PlaneHandle, network: &Network, inbox: &Receiver<News>) {
    // The table may be that of an earlier run, so the first rules are always applied.
    let mut is_due = true;
    let mut others_differ = false;
    loop {
        is_due |= proxy.follow(&plane.head().store);
        let may_differ = is_due || others_differ;
        if is_due {
            let applied = network.apply(proxy.ruleset());
            is_due = applied.is_err();
            if let Err(error) = applied {
                say(format_args!("the rules of Services could not be applied: {error}"));
            }
        }
        let claims = may_differ.then(|| proxy.claims());
        if let Some(claims) = claims.filter(|claims| others_differ || conflicts.differs(claims)) {
            conflicts.look(plane, claims);
        }
        others_differ = false;
        let wait = if is_due { APPLY_AGAIN } else { Duration::MAX };
        let mut next = match inbox.recv_timeout(wait) {
            Ok(news) => Some(news),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        while let Some(news) = next {
            match news {
                News::Stop => return,
                News::Changed => {}
                News::Neighbours => others_differ = true,
            }
            next = inbox.try_recv().ok();
        }
    }
}
