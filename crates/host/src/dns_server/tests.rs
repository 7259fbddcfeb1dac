//! The server on real sockets, each test in a network namespace of its own (root), with a fake upstream server.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use nlink::netlink::namespace::{self, Netns};
use nlink::netlink::{Connection, Route};
use serde_json::json;
use stead_net::dns::Name;
use stead_net::fixture::Cluster;

use super::*;

/// A machine with loopback alone, a cluster and its DNS server at 127.0.0.1.
struct Machine {
    pin: PathBuf,
    resolv_conf: PathBuf,
    netns: Netns,
    cluster: Arc<Mutex<Cluster>>,
}

impl Machine {
    fn new(resolv_conf: &str) -> Machine {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir();
        let pin = dir.join(format!("stead-dns-{}-{number}", std::process::id()));
        namespace::create_path(&pin).unwrap();
        let netns = Netns::from_path(&pin).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let inside: Connection<Route> = Connection::new_in(netns.as_fd()).unwrap();
            inside.set_link_up("lo").await.unwrap();
        });
        let file = pin.with_extension("resolv.conf");
        std::fs::write(&file, resolv_conf).unwrap();
        Machine { pin, resolv_conf: file, netns, cluster: Arc::new(Mutex::new(Cluster::new())) }
    }

    fn start(&self) -> DnsServer {
        let zone = ZoneConfig {
            domain: "cluster.local".into(),
            dns_ip: Ipv4Addr::LOCALHOST,
            ranges: vec!["10.244.0.0/16".parse().unwrap()],
        };
        let listen = vec!["127.0.0.1:53".parse().unwrap()];
        let config = DnsConfig { zone, listen, resolv_conf: self.resolv_conf.clone() };
        let cluster = Arc::clone(&self.cluster);
        let head = move || cluster.lock().unwrap().head().clone();
        self.netns.run(|| DnsServer::start(config, head)).unwrap().unwrap()
    }

    fn ask(&self, transport: Transport, name: &str) -> Answer {
        self.netns.run(|| ask(transport, name)).unwrap()
    }

    /// A server at 127.0.0.53 that says 192.0.2.7 for everything; over UDP it cuts answers for names with "long".
    fn fake_upstream(&self) {
        let udp = self.netns.run(|| UdpSocket::bind("127.0.0.53:53")).unwrap().unwrap();
        let tcp = self.netns.run(|| TcpListener::bind("127.0.0.53:53")).unwrap().unwrap();
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((len, from)) = udp.recv_from(&mut query) {
                let cut = query[..len].windows(4).any(|w| w == b"long");
                drop(udp.send_to(&fake_answer(&query[..len], cut), from));
            }
        });
        std::thread::spawn(move || {
            for mut client in tcp.incoming().flatten() {
                let mut len = [0; 2];
                client.read_exact(&mut len).unwrap();
                let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
                client.read_exact(&mut query).unwrap();
                let answer = fake_answer(&query, false);
                client.write_all(&[&(answer.len() as u16).to_be_bytes()[..], &answer].concat()).unwrap();
            }
        });
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(namespace::delete_path(&self.pin));
        drop(std::fs::remove_file(&self.resolv_conf));
    }
}

fn fake_answer(query: &[u8], cut: bool) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2] |= 0x80 | if cut { 0x02 } else { 0 };
    if !cut {
        answer[7] = 1;
        answer.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x09\x00\x04\xc0\x00\x02\x07");
    }
    answer
}

/// What came back: the code, whether it was cut, and the addresses in it.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    code: u8,
    is_cut: bool,
    addresses: Vec<IpAddr>,
}

fn query(name: &str) -> Vec<u8> {
    let mut message = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    message.extend(Name::parse(name).unwrap().wire());
    message.extend(b"\x00\x01\x00\x01");
    message
}

fn ask(transport: Transport, name: &str) -> Answer {
    let query = query(name);
    let answer = match transport {
        Transport::Udp => {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            socket.send_to(&query, "127.0.0.1:53").unwrap();
            let mut answer = vec![0; 65_535];
            let len = socket.recv(&mut answer).unwrap();
            answer.truncate(len);
            answer
        }
        Transport::Tcp => {
            let mut stream = TcpStream::connect("127.0.0.1:53").unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(&[&(query.len() as u16).to_be_bytes()[..], &query].concat()).unwrap();
            let mut len = [0; 2];
            stream.read_exact(&mut len).unwrap();
            let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
            stream.read_exact(&mut answer).unwrap();
            answer
        }
    };
    assert_eq!(answer[..2], query[..2]);
    let addresses = answer.windows(14).filter(|w| w[..4] == *b"\x00\x01\x00\x01" && w[8..10] == *b"\x00\x04");
    let addresses = addresses.map(|w| Ipv4Addr::new(w[10], w[11], w[12], w[13]).into()).collect();
    Answer { code: answer[3] & 15, is_cut: answer[2] & 2 != 0, addresses }
}

fn found(addresses: &[&str]) -> Answer {
    Answer { code: 0, is_cut: false, addresses: addresses.iter().map(|a| a.parse().unwrap()).collect() }
}

fn failed(code: u8) -> Answer {
    Answer { code, is_cut: false, addresses: Vec::new() }
}

const BOTH: [Transport; 2] = [Transport::Udp, Transport::Tcp];

#[test]
fn d_20_a_name_is_known_as_soon_as_its_head_is_published() {
    let machine = Machine::new("");
    let _server = machine.start();
    machine.cluster.lock().unwrap().service("web", json!({"clusterIP": "None"}));
    for i in 1..=50 {
        let address = format!("10.244.0.{i}");
        for transport in BOTH {
            let name = format!("web-{i}.web.default.svc.cluster.local");
            assert_eq!(machine.ask(transport, &name), failed(3));
            machine.cluster.lock().unwrap().slice("web", "", &format!("{address} hostname=web-{i}"));
            assert_eq!(machine.ask(transport, &name), found(&[&address]));
            machine.cluster.lock().unwrap().slice("web", "", "");
        }
    }
}

#[test]
fn other_names_are_asked_upstream() {
    let machine = Machine::new("nameserver 127.0.0.53\n");
    machine.fake_upstream();
    let _server = machine.start();
    for transport in BOTH {
        assert_eq!(machine.ask(transport, "example.com"), found(&["192.0.2.7"]));
    }
    let cut = Answer { is_cut: true, ..failed(0) };
    assert_eq!(machine.ask(Transport::Udp, "long.example.com"), cut);
    assert_eq!(machine.ask(Transport::Tcp, "long.example.com"), found(&["192.0.2.7"]));
}

#[test]
fn d_15_an_external_name_brings_the_addresses_of_its_target() {
    let machine = Machine::new("nameserver 127.0.0.53\n");
    machine.fake_upstream();
    let _server = machine.start();
    for target in ["db.example.com", "long.example.com"] {
        let spec = json!({"type": "ExternalName", "externalName": target});
        machine.cluster.lock().unwrap().service("db", spec);
        for transport in BOTH {
            assert_eq!(machine.ask(transport, "db.default.svc.cluster.local"), found(&["192.0.2.7"]));
        }
    }
}

#[test]
fn a_dead_server_is_passed_over_and_without_any_it_fails() {
    // Nobody is at 127.0.0.99; the kernel says so at once.
    let machine = Machine::new("nameserver 127.0.0.99\nnameserver 127.0.0.53\n");
    let _server = machine.start();
    assert_eq!(machine.ask(Transport::Udp, "example.com"), failed(2));
    machine.fake_upstream();
    assert_eq!(machine.ask(Transport::Udp, "example.com"), found(&["192.0.2.7"]));
}

#[test]
fn a_changed_resolv_conf_is_read_again() {
    let machine = Machine::new("nameserver 127.0.0.1\n");
    machine.fake_upstream();
    let _server = machine.start();
    assert_eq!(machine.ask(Transport::Udp, "example.com"), failed(2), "only ourselves to ask");
    std::fs::write(&machine.resolv_conf, "nameserver 127.0.0.53\n").unwrap();
    let began = Instant::now();
    while machine.ask(Transport::Udp, "example.com") != found(&["192.0.2.7"]) {
        assert!(began.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn own_names_do_not_wait_for_upstream() {
    // An upstream that never answers holds many questions.
    let machine = Machine::new("nameserver 127.0.0.54\n");
    let silent = machine.netns.run(|| UdpSocket::bind("127.0.0.54:53")).unwrap().unwrap();
    let _server = machine.start();
    let asked = machine.netns.run(|| UdpSocket::bind("127.0.0.1:0")).unwrap().unwrap();
    for i in 0..500 {
        asked.send_to(&query(&format!("n{i}.example.com")), "127.0.0.1:53").unwrap();
    }
    let began = Instant::now();
    assert_eq!(machine.ask(Transport::Udp, "ns.dns.cluster.local"), found(&["127.0.0.1"]));
    assert_eq!(machine.ask(Transport::Tcp, "ns.dns.cluster.local"), found(&["127.0.0.1"]));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    drop(silent);
}

#[test]
fn a_port_in_use_is_said_and_a_stopped_server_gives_it_back() {
    let machine = Machine::new("");
    let server = machine.start();
    let config = DnsConfig {
        zone: ZoneConfig { domain: "cluster.local".into(), dns_ip: Ipv4Addr::LOCALHOST, ranges: vec![] },
        listen: vec!["127.0.0.1:53".parse().unwrap()],
        resolv_conf: PathBuf::new(),
    };
    let refused = machine.netns.run(|| DnsServer::start(config, Head::default).err().unwrap()).unwrap();
    assert_eq!(refused.to_string(), "listen on 127.0.0.1:53 for DNS: Address already in use (os error 98)");
    drop(server);
    drop(machine.start());
}

#[test]
fn half_and_garbled_messages_do_no_harm() {
    let machine = Machine::new("");
    let _server = machine.start();
    machine
        .netns
        .run(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for len in [0, 1, 11, 12, 13, 40] {
                socket.send_to(&vec![0xff; len], "127.0.0.1:53").unwrap();
                socket.send_to(&vec![0; len], "127.0.0.1:53").unwrap();
            }
            let mut stream = TcpStream::connect("127.0.0.1:53").unwrap();
            stream.write_all(b"\x00\xff\x12").unwrap();
            drop(stream);
            TcpStream::connect("127.0.0.1:53").unwrap().write_all(b"\x00\x00").unwrap();
        })
        .unwrap();
    for transport in BOTH {
        assert_eq!(machine.ask(transport, "ns.dns.cluster.local"), found(&["127.0.0.1"]));
    }
}
