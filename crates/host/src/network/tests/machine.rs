//! A machine for tests: network namespaces that play the host, its pods and its neighbour, and programs that ask and answer.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nlink::netlink::addr::Ipv4Address;
use nlink::netlink::link::VethLink;
use nlink::netlink::namespace::{self, Netns};
use nlink::netlink::route::Ipv4Route;
use nlink::netlink::{Connection, Route};
use stead_net::proxy::{Endpoint, PortId, Protocol, Ruleset, ServicePort};

use crate::network::*;

/// A machine: one namespace that plays the host, and a directory.
pub struct Machine {
    pub dir: PathBuf,
    pub host: Netns,
}

impl Machine {
    pub fn new() -> Machine {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("stead-net-{}-{number}", std::process::id()));
        let host = netns_at(dir.join("host"));
        Machine { dir, host }
    }

    pub fn config(&self, id: &str, pods: &str, services: &str) -> NetworkConfig {
        let pod_range: Cidr = pods.parse().unwrap();
        let node = |i: u32| NodeRange {
            name: format!("node-{i}"),
            range: Cidr::new(pod_range.nth(i * 256).unwrap(), 24).unwrap(),
        };
        let service_range: Cidr = services.parse().unwrap();
        NetworkConfig {
            cluster_id: id.into(),
            run_dir: self.dir.join(id),
            pod_range,
            service_range,
            dns_ip: service_range.nth(10).unwrap(),
            nodes: vec![node(0), node(1)],
        }
    }

    pub fn open(&self, config: &NetworkConfig) -> Network {
        self.host.run(|| Network::open(config.clone())).unwrap().unwrap()
    }

    /// The usual cluster.
    pub fn network(&self) -> Network {
        self.open(&self.config("aaaaaa", "10.244.0.0/16", "10.96.0.0/16"))
    }

    /// A machine on the host's only wire: 192.0.2.9, the host is 192.0.2.2.
    pub fn neighbour(&self) -> Netns {
        let outside = netns_at(self.dir.join("outside"));
        with_runtime(async {
            let host: Connection<Route> = Connection::new_in(self.host.as_fd()).unwrap();
            let wire = VethLink::new("wire", "wire").mtu(1400).peer_netns_fd(outside.as_fd());
            host.add_link(wire).await.unwrap();
            let outside: Connection<Route> = Connection::new_in(outside.as_fd()).unwrap();
            for (side, ip) in [(&host, [192, 0, 2, 2]), (&outside, [192, 0, 2, 9])] {
                let index = side.get_link_by_name("wire").await.unwrap().unwrap().ifindex();
                side.add_address(Ipv4Address::with_index(index, ip.into(), 24)).await.unwrap();
                side.set_link_up("lo").await.unwrap();
                side.set_link_up("wire").await.unwrap();
            }
            let default = Ipv4Route::from_addr([0, 0, 0, 0].into(), 0);
            host.add_route(default.gateway([192, 0, 2, 9].into())).await.unwrap();
        });
        outside
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for cluster in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            drop(namespace::delete_path(cluster.path()));
            for pin in std::fs::read_dir(cluster.path().join("netns")).into_iter().flatten().flatten() {
                drop(namespace::delete_path(pin.path()));
            }
        }
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

pub fn netns_at(path: PathBuf) -> Netns {
    namespace::create_path(&path).unwrap();
    let netns = Netns::from_path(&path).unwrap();
    with_runtime(async {
        let inside: Connection<Route> = Connection::new_in(netns.as_fd()).unwrap();
        inside.set_link_up("lo").await.unwrap();
    });
    netns
}

pub fn with_runtime<T>(work: impl Future<Output = T>) -> T {
    current_thread_runtime().unwrap().block_on(work)
}

pub fn pod(network: &Network, node: &str, uid: &str) -> (Ipv4Addr, Netns) {
    let pod = network.ensure_pod(node, uid, None).unwrap();
    (pod.ip, Netns::from_path(pod.netns).unwrap())
}

pub fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

/// Answers every connection with its name and the client's address.
pub fn serve(netns: &Netns, name: &'static str, port: u16) {
    let listener = netns.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))).unwrap().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let peer = client.peer_addr().map(|a| a.ip().to_string()).unwrap_or_default();
            drop((&client).write_all(format!("{name} {peer}").as_bytes()));
        }
    });
}

pub fn ask_for(netns: &Netns, to: Ipv4Addr, port: u16, patience: Duration) -> Result<String, ErrorKind> {
    let to = SocketAddr::V4(SocketAddrV4::new(to, port));
    let answer = netns.run(|| {
        let mut stream = TcpStream::connect_timeout(&to, patience)?;
        stream.set_read_timeout(Some(patience))?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    });
    answer.unwrap().map_err(|e| e.kind())
}

pub fn ask(netns: &Netns, to: Ipv4Addr, port: u16) -> Result<String, ErrorKind> {
    ask_for(netns, to, port, Duration::from_secs(5))
}

/// Whether packets vanish: nobody answers for a while.
pub fn is_dropped(netns: &Netns, to: Ipv4Addr, port: u16) -> bool {
    ask_for(netns, to, port, Duration::from_millis(300)) == Err(ErrorKind::TimedOut)
}

/// The names that answer over many questions, sorted.
pub fn answers(netns: &Netns, to: Ipv4Addr, port: u16) -> Vec<String> {
    let mut names: Vec<String> =
        (0..24).map(|_| ask(netns, to, port).unwrap().split(' ').next().unwrap().to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

pub fn service(cluster_ip: &str, endpoints: &[(Ipv4Addr, u16)]) -> ServicePort {
    ServicePort {
        protocol: Protocol::Tcp,
        cluster_ip: Some(ip(cluster_ip)),
        port: 80,
        node_port: None,
        external_ips: Vec::new(),
        affinity_seconds: None,
        internal_local: false,
        external_local: false,
        endpoints: to_endpoints(endpoints),
        local: Default::default(),
    }
}

pub fn to_endpoints(endpoints: &[(Ipv4Addr, u16)]) -> Vec<Endpoint> {
    endpoints.iter().map(|(ip, port)| Endpoint { ip: *ip, port: *port }).collect()
}

pub fn ruleset(services: &[(&str, &ServicePort)]) -> Ruleset {
    let id = |name: &str| PortId {
        namespace: "default".into(),
        service: name.into(),
        port: "http".into(),
        protocol: Protocol::Tcp,
    };
    let port = |(name, service): &(&str, &ServicePort)| (id(name), Arc::new((*service).clone()));
    Ruleset { ports: services.iter().map(port).collect() }
}
