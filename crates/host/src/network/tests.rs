//! The network against a real kernel. Every test works in network namespaces of its own, so tests run side by side and
//! nothing is left on the machine. They need root.

mod machine;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nlink::AddressFamily;
use nlink::netlink::namespace::{self, Netns};
use nlink::netlink::route::Ipv4Route;
use nlink::netlink::rule::RuleBuilder;
use nlink::netlink::{Connection, Nftables, Route};
use stead_net::proxy::{Protocol, Ruleset};

use self::machine::*;
use super::*;

#[test]
fn a_pod_keeps_its_address_until_it_is_removed_also_over_a_restart() {
    let machine = Machine::new();
    let network = machine.network();
    let first = network.ensure_pod("node-0", "uid-a", None).unwrap();
    assert_eq!(first.ip, ip("10.244.0.2"));
    assert!(namespace::is_namespace_path(&first.netns));
    let other_node = network.ensure_pod("node-1", "uid-b", Some(ip("10.244.1.77"))).unwrap();
    assert_eq!(other_node.ip, ip("10.244.1.77"));
    assert_eq!(network.ensure_pod("node-0", "uid-a", None).unwrap(), first);

    drop(network);
    let network = machine.network();
    assert_eq!(network.ensure_pod("node-0", "uid-a", None).unwrap(), first);
    let known = vec![("uid-a".to_owned(), Some(first.ip)), ("uid-b".to_owned(), Some(other_node.ip))];
    assert_eq!(network.observe().unwrap(), known);

    network.remove_pod("uid-a").unwrap();
    network.remove_pod("uid-a").unwrap();
    assert!(!first.netns.exists());
    assert_eq!(network.observe().unwrap(), known[1..]);
    let next = network.ensure_pod("node-0", "uid-c", None).unwrap();
    assert_eq!(next.ip, ip("10.244.0.3"), "a freed address is not used again at once");
}

#[test]
fn what_a_crash_left_half_made_is_made_whole() {
    let machine = Machine::new();
    let network = machine.network();
    let made = network.ensure_pod("node-0", "uid-a", None).unwrap();
    // A reboot leaves a plain file where the namespace was pinned; an interface may be gone.
    std::fs::write(machine.dir.join("aaaaaa/netns/uid-b"), "").unwrap();
    with_runtime(async {
        let host: Connection<Route> = Connection::new_in(machine.host.as_fd()).unwrap();
        for link in host.get_links().await.unwrap() {
            if link.alias().is_some() {
                host.del_link(link.ifindex()).await.unwrap();
            }
        }
    });
    let lost = vec![("uid-a".to_owned(), None), ("uid-b".to_owned(), None)];
    assert_eq!(network.observe().unwrap(), lost);
    assert_eq!(network.ensure_pod("node-0", "uid-a", None).unwrap(), made);
    let (_, b) = pod(&network, "node-0", "uid-b");
    serve(&Netns::from_path(&made.netns).unwrap(), "a", 80);
    assert_eq!(ask(&b, made.ip, 80).unwrap(), "a 10.244.0.3");
}

#[test]
fn pods_and_host_reach_each_other_and_the_outside_sees_the_machine() {
    let machine = Machine::new();
    let outside = machine.neighbour();
    let network = machine.network();
    let (a_ip, a) = pod(&network, "node-0", "uid-a");
    let (b_ip, b) = pod(&network, "node-1", "uid-b");
    serve(&a, "a", 80);
    serve(&b, "b", 80);
    serve(&machine.host, "host", 6443);
    serve(&outside, "outside", 80);
    assert_eq!(ask(&a, b_ip, 80).unwrap(), "b 10.244.0.2");
    assert_eq!(ask(&b, a_ip, 80).unwrap(), "a 10.244.1.2");
    assert_eq!(ask(&a, a_ip, 80).unwrap(), "a 10.244.0.2");
    assert_eq!(ask(&machine.host, a_ip, 80).unwrap(), "a 10.244.0.1", "the node's address");
    assert_eq!(ask(&machine.host, b_ip, 80).unwrap(), "b 10.244.1.1", "that of the pod's node");
    assert_eq!(ask(&a, ip("10.244.0.1"), 6443).unwrap(), "host 10.244.0.2");
    assert_eq!(ask(&a, ip("192.0.2.9"), 80).unwrap(), "outside 192.0.2.2");
    let mtu = with_runtime(async {
        let inside: Connection<Route> = Connection::new_in(a.as_fd()).unwrap();
        inside.get_link_by_name("eth0").await.unwrap().unwrap().mtu()
    });
    assert_eq!(mtu, Some(1400), "that of the way out");
    let nobody = ask(&a, ip("10.244.0.200"), 80);
    assert!(matches!(nobody, Err(ErrorKind::HostUnreachable)), "{nobody:?}");
}

#[test]
fn n_01_a_cluster_ip_is_reached_from_pods_and_host_and_spreads_over_endpoints() {
    let machine = Machine::new();
    let network = machine.network();
    let (a_ip, a) = pod(&network, "node-0", "uid-a");
    let (b_ip, b) = pod(&network, "node-1", "uid-b");
    let (_, client) = pod(&network, "node-0", "uid-c");
    serve(&a, "a", 8080);
    serve(&b, "b", 8080);
    let web = service("10.96.3.4", &[(a_ip, 8080), (b_ip, 8080)]);
    network.apply(&ruleset(&[("web", &web)])).unwrap();
    let vip = ip("10.96.3.4");
    for from in [&client, &machine.host, &a] {
        assert_eq!(answers(from, vip, 80), ["a", "b"]);
    }
    assert_eq!(ask(&client, vip, 81), Err(ErrorKind::ConnectionRefused), "no such port");
    assert_eq!(ask(&client, ip("10.96.9.9"), 80), Err(ErrorKind::ConnectionRefused), "no such Service");
    assert_eq!(ask(&machine.host, ip("10.96.9.9"), 80), Err(ErrorKind::ConnectionRefused));

    let only_a = service("10.96.3.4", &[(a_ip, 8080)]);
    network.apply(&ruleset(&[("web", &only_a)])).unwrap();
    assert_eq!(answers(&client, vip, 80), ["a"]);
    assert_eq!(ask(&client, vip, 80).unwrap(), "a 10.244.0.3", "the client's address is kept");
    assert_eq!(ask(&a, vip, 80).unwrap(), "a 10.244.0.1", "to itself: by way of the node");
    assert_eq!(ask(&machine.host, vip, 80).unwrap(), "a 10.244.0.1");

    network.apply(&ruleset(&[("web", &service("10.96.3.4", &[]))])).unwrap();
    assert_eq!(ask(&client, vip, 80), Err(ErrorKind::ConnectionRefused), "no endpoints");
    network.apply(&Ruleset::default()).unwrap();
    assert_eq!(ask(&client, vip, 80), Err(ErrorKind::ConnectionRefused));
}

#[test]
fn n_05_n_22_a_node_port_answers_on_every_address_of_the_machine() {
    let machine = Machine::new();
    let outside = machine.neighbour();
    let network = machine.network();
    let (a_ip, a) = pod(&network, "node-0", "uid-a");
    serve(&a, "a", 8080);
    let mut web = service("10.96.3.4", &[(a_ip, 8080)]);
    web.node_port = Some(30080);
    network.apply(&ruleset(&[("web", &web)])).unwrap();
    for here in ["127.0.0.1", "192.0.2.2", "10.244.0.1", "10.244.1.1"] {
        assert_eq!(ask(&machine.host, ip(here), 30080).unwrap(), "a 10.244.0.1", "{here}");
    }
    assert_eq!(ask(&outside, ip("192.0.2.2"), 30080).unwrap(), "a 10.244.0.1");
    assert_eq!(ask(&a, ip("10.244.1.1"), 30080).unwrap(), "a 10.244.0.1");

    web.external_ips = vec![ip("203.0.113.7")];
    network.apply(&ruleset(&[("web", &web)])).unwrap();
    assert_eq!(ask(&a, ip("203.0.113.7"), 80).unwrap(), "a 10.244.0.1", "N-06");

    web.endpoints.clear();
    network.apply(&ruleset(&[("web", &web)])).unwrap();
    assert_eq!(ask(&outside, ip("192.0.2.2"), 30080), Err(ErrorKind::ConnectionRefused));
    assert_eq!(ask(&a, ip("203.0.113.7"), 80), Err(ErrorKind::ConnectionRefused));
}

#[test]
fn the_hosts_loopback_is_not_open_to_pods() {
    let machine = Machine::new();
    let network = machine.network();
    let (_, a) = pod(&network, "node-0", "uid-a");
    let listener = machine.host.run(|| TcpListener::bind("127.0.0.1:6443"));
    let _listener = listener.unwrap().unwrap();
    with_runtime(async {
        // What a pod with the right to change its routes could do: send 127.0.0.0/8 to the machine.
        let pod: Connection<Route> = Connection::new_in(a.as_fd()).unwrap();
        let own = RuleBuilder::v4().to_v4(ip("10.0.0.0"), 8).table(255).priority(5);
        pod.add_rule(own).await.unwrap();
        pod.del_rule_by_priority(AddressFamily::v4(), 0).await.unwrap();
        a.sysctl().set("net.ipv4.conf.eth0.route_localnet", "1").unwrap();
        let index = pod.get_link_by_name("eth0").await.unwrap().unwrap().ifindex();
        let to_host =
            Ipv4Route::from_addr([127, 0, 0, 0].into(), 8).gateway([169, 254, 1, 1].into()).dev_index(index).onlink();
        pod.add_route(to_host).await.unwrap();
    });
    assert!(is_dropped(&a, ip("127.0.0.1"), 6443));
}

#[test]
fn n_08_a_client_stays_with_its_endpoint_while_that_is_there() {
    let machine = Machine::new();
    let network = machine.network();
    let pods: Vec<_> = (0..3).map(|i| pod(&network, "node-0", &format!("uid-{i}"))).collect();
    for (name, (_, netns)) in ["a", "b", "c"].into_iter().zip(&pods) {
        serve(netns, name, 8080);
    }
    let all: Vec<_> = pods.iter().map(|(ip, _)| (*ip, 8080)).collect();
    let mut web = service("10.96.3.4", &all);
    web.affinity_seconds = Some(10800);
    network.apply(&ruleset(&[("web", &web)])).unwrap();
    let (_, client) = pod(&network, "node-0", "client");
    let vip = web.cluster_ip.unwrap();
    let chosen = answers(&client, vip, 80);
    assert_eq!(chosen.len(), 1);
    let at = ["a", "b", "c"].iter().position(|name| chosen == [*name]).unwrap();

    // Others go, and others come: the client is remembered.
    let mut fewer = web.clone();
    fewer.endpoints = to_endpoints(&all[at..=at]);
    network.apply(&ruleset(&[("web", &fewer)])).unwrap();
    network.apply(&ruleset(&[("web", &web)])).unwrap();
    assert_eq!(answers(&client, vip, 80), chosen);

    // Its own goes: another one, and from then on that.
    let mut without = web.clone();
    without.endpoints.remove(at);
    network.apply(&ruleset(&[("web", &without)])).unwrap();
    let second = answers(&client, vip, 80);
    assert_eq!(second.len(), 1);
    assert_ne!(second, chosen);
    network.apply(&ruleset(&[("web", &web)])).unwrap();
    assert_eq!(answers(&client, vip, 80), second);

    web.affinity_seconds = None;
    network.apply(&ruleset(&[("web", &web)])).unwrap();
    assert_eq!(answers(&client, vip, 80), ["a", "b", "c"]);
}

#[test]
fn n_08_a_client_is_forgotten_after_the_timeout() {
    let machine = Machine::new();
    let network = machine.network();
    let pods: Vec<_> = (0..2).map(|i| pod(&network, "node-0", &format!("uid-{i}"))).collect();
    serve(&pods[0].1, "a", 8080);
    serve(&pods[1].1, "b", 8080);
    let mut web = service("10.96.3.4", &[(pods[0].0, 8080), (pods[1].0, 8080)]);
    web.affinity_seconds = Some(1);
    network.apply(&ruleset(&[("web", &web)])).unwrap();
    let host = &machine.host;
    assert_eq!(answers(host, web.cluster_ip.unwrap(), 80).len(), 1);
    let began = Instant::now();
    let mut seen = Vec::new();
    while seen.len() < 2 && began.elapsed() < Duration::from_secs(40) {
        std::thread::sleep(Duration::from_millis(1300));
        seen.extend(answers(host, web.cluster_ip.unwrap(), 80));
        seen.sort();
        seen.dedup();
    }
    assert_eq!(seen, ["a", "b"]);
}

#[test]
fn a_udp_client_of_an_endpoint_that_goes_is_served_by_another() {
    let machine = Machine::new();
    let network = machine.network();
    let pods: Vec<_> = (0..2).map(|i| pod(&network, "node-0", &format!("uid-{i}"))).collect();
    for (name, (_, netns)) in ["a", "b"].into_iter().zip(&pods) {
        let socket = netns.run(|| UdpSocket::bind("0.0.0.0:5353")).unwrap().unwrap();
        std::thread::spawn(move || {
            while let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
                drop(socket.send_to(name.as_bytes(), from));
            }
        });
    }
    let rules_of = |endpoints: &[(Ipv4Addr, u16)]| {
        let mut dns = service("10.96.3.4", endpoints);
        dns.protocol = Protocol::Udp;
        let mut rules = ruleset(&[("dns", &dns)]);
        let (mut id, port) = rules.ports.pop_first().unwrap();
        id.protocol = Protocol::Udp;
        rules.ports.insert(id, port);
        rules
    };
    let all: Vec<_> = pods.iter().map(|(ip, _)| (*ip, 5353)).collect();
    network.apply(&rules_of(&all)).unwrap();
    let (_, client) = pod(&network, "node-1", "client");
    let socket = client.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    socket.connect("10.96.3.4:80").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let ask = || {
        socket.send(b"who").unwrap();
        let mut answer = [0; 8];
        let len = socket.recv(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..len]).into_owned()
    };
    let first = ask();
    assert_eq!(ask(), first, "one flow keeps its endpoint");
    let (others, other) = if first == "a" { (&all[1..], "b") } else { (&all[..1], "a") };
    network.apply(&rules_of(others)).unwrap();
    assert_eq!(ask(), other);
}

#[test]
fn n_09_n_11_local_policies_keep_to_the_node() {
    let machine = Machine::new();
    let outside = machine.neighbour();
    let network = machine.network();
    let (a_ip, a) = pod(&network, "node-0", "uid-a");
    let (_, near) = pod(&network, "node-0", "uid-near");
    let (_, far) = pod(&network, "node-1", "uid-far");
    serve(&a, "a", 8080);
    let mut web = service("10.96.3.4", &[(a_ip, 8080)]);
    web.node_port = Some(30080);
    web.external_local = true;
    web.local.insert("node-0".into(), to_endpoints(&[(a_ip, 8080)]));
    network.apply(&ruleset(&[("web", &web)])).unwrap();
    assert_eq!(ask(&outside, ip("192.0.2.2"), 30080).unwrap(), "a 192.0.2.9", "the client's own address");
    assert_eq!(ask(&far, ip("10.244.1.1"), 30080).unwrap(), "a 10.244.1.2", "the cluster's own get all endpoints");
    assert_eq!(ask(&machine.host, ip("10.244.1.1"), 30080).unwrap(), "a 10.244.0.1");
    with_runtime(async {
        let outside: Connection<Route> = Connection::new_in(outside.as_fd()).unwrap();
        let nodes = Ipv4Route::from_addr(ip("10.244.0.0"), 16).gateway(ip("192.0.2.2"));
        outside.add_route(nodes).await.unwrap();
    });
    assert_eq!(ask(&outside, ip("10.244.0.1"), 30080).unwrap(), "a 192.0.2.9");
    assert!(is_dropped(&outside, ip("10.244.1.1"), 30080), "that node has none");

    web.external_local = false;
    web.internal_local = true;
    network.apply(&ruleset(&[("web", &web)])).unwrap();
    assert_eq!(ask(&near, ip("10.96.3.4"), 80).unwrap(), "a 10.244.0.3");
    assert!(is_dropped(&far, ip("10.96.3.4"), 80));
}

#[test]
fn two_clusters_on_one_machine_do_not_touch_each_other() {
    let machine = Machine::new();
    let one = machine.network();
    let taken = machine.host.run(ranges_in_use).unwrap().unwrap();
    for range in ["10.244.0.0/16", "10.96.0.0/16"] {
        assert!(taken.contains(&range.parse().unwrap()), "{range} of {taken:?}");
    }
    let two = machine.open(&machine.config("bbbbbb", "10.200.0.0/16", "10.97.0.0/16"));
    let (a_ip, a) = pod(&one, "node-0", "uid");
    let (b_ip, b) = pod(&two, "node-0", "uid");
    assert_eq!((a_ip, b_ip), (ip("10.244.0.2"), ip("10.200.0.2")));
    serve(&a, "a", 8080);
    serve(&b, "b", 8080);
    for (network, vip, endpoint) in [(&one, "10.96.0.5", a_ip), (&two, "10.97.0.5", b_ip)] {
        let mut web = service(vip, &[(endpoint, 8080)]);
        web.node_port = Some(30080);
        network.apply(&ruleset(&[("web", &web)])).unwrap();
    }
    let host = &machine.host;
    assert_eq!(ask(host, ip("10.244.0.1"), 30080).unwrap(), "a 10.244.0.1");
    assert_eq!(ask(host, ip("10.200.0.1"), 30080).unwrap(), "b 10.200.0.1");
    assert_eq!(ask(&b, ip("10.97.0.5"), 80).unwrap(), "b 10.200.0.1");

    one.remove_all().unwrap();
    assert_eq!(ask(host, ip("10.97.0.5"), 80).unwrap(), "b 10.200.0.1");
    assert_eq!(ask(host, ip("127.0.0.1"), 30080).unwrap(), "b 10.200.0.1");
    let left = machine.host.run(ranges_in_use).unwrap().unwrap();
    assert!(!left.iter().any(|r| r.overlaps("10.244.0.0/16".parse().unwrap())), "{left:?}");
    two.remove_all().unwrap();
    let (tables, links) = with_runtime(async {
        let nft: Connection<Nftables> = Connection::new_in(machine.host.as_fd()).unwrap();
        let route: Connection<Route> = Connection::new_in(machine.host.as_fd()).unwrap();
        (nft.list_tables().await.unwrap().len(), route.get_links().await.unwrap().len())
    });
    assert_eq!((tables, links), (0, 1), "only loopback is left");
}

#[test]
fn old_rules_work_on_after_a_restart_until_new_ones_replace_them() {
    let machine = Machine::new();
    let network = machine.network();
    let (a_ip, a) = pod(&network, "node-0", "uid-a");
    serve(&a, "a", 8080);
    let web = service("10.96.3.4", &[(a_ip, 8080)]);
    network.apply(&ruleset(&[("web", &web)])).unwrap();
    drop(network);
    let network = machine.network();
    assert_eq!(ask(&machine.host, ip("10.96.3.4"), 80).unwrap(), "a 10.244.0.1");
    let moved = service("10.96.7.7", &[(a_ip, 8080)]);
    network.apply(&ruleset(&[("web", &moved)])).unwrap();
    assert_eq!(ask(&machine.host, ip("10.96.7.7"), 80).unwrap(), "a 10.244.0.1");
    assert_eq!(ask(&machine.host, ip("10.96.3.4"), 80), Err(ErrorKind::ConnectionRefused));
}

#[test]
fn services_that_ask_for_one_address_do_not_fight_and_the_next_one_inherits_it() {
    let machine = Machine::new();
    let network = machine.network();
    let (a_ip, a) = pod(&network, "node-0", "uid-a");
    serve(&a, "one", 1);
    serve(&a, "two", 2);
    let mut one = service("10.96.0.21", &[(a_ip, 1)]);
    let mut two = service("10.96.0.22", &[(a_ip, 2)]);
    one.external_ips = vec![ip("203.0.113.7")];
    two.external_ips = vec![ip("203.0.113.7")];
    network.apply(&ruleset(&[("one", &one), ("two", &two)])).unwrap();
    assert_eq!(answers(&machine.host, ip("10.96.0.22"), 80), ["two"]);
    assert_eq!(answers(&a, ip("203.0.113.7"), 80), ["one"]);
    network.apply(&ruleset(&[("two", &two)])).unwrap();
    assert_eq!(answers(&a, ip("203.0.113.7"), 80), ["two"]);
    network.apply(&ruleset(&[("one", &one), ("two", &two)])).unwrap();
    assert_eq!(answers(&a, ip("203.0.113.7"), 80), ["one"]);
}

#[test]
fn a_thousand_services_are_set_and_one_changes_without_the_others() {
    let machine = Machine::new();
    let network = machine.network();
    let endpoint = |i: u16, j: u8| (Ipv4Addr::new(10, 244, (i / 250) as u8, (i % 250) as u8 + j), 8080);
    let mut rules = Ruleset::default();
    for i in 0..1000 {
        let vip = format!("10.96.{}.{}", 4 + i / 250, 1 + i % 250);
        let web = service(&vip, &[endpoint(i, 1), endpoint(i, 2), endpoint(i, 3)]);
        rules.ports.extend(ruleset(&[(&format!("web-{i}"), &web)]).ports);
    }
    let began = Instant::now();
    network.apply(&rules).unwrap();
    let all = began.elapsed();
    let changed = service("10.96.4.1", &[endpoint(7, 1)]);
    rules.ports.extend(ruleset(&[("web-0", &changed)]).ports);
    let began = Instant::now();
    network.apply(&rules).unwrap();
    let one = began.elapsed();
    println!("1000 services {all:?}, one of them {one:?}");
    assert!(one < all / 4, "one change costs {one:?}, all {all:?}");
}

#[test]
fn wrong_configurations_and_uids_are_refused() {
    let machine = Machine::new();
    let good = machine.config("aaaaaa", "10.244.0.0/16", "10.96.0.0/16");
    let refused = |change: fn(&mut NetworkConfig)| {
        let mut config = good.clone();
        change(&mut config);
        check_config(&config).unwrap_err().to_string()
    };
    assert!(refused(|c| c.cluster_id = "short".into()).contains("cluster id"));
    assert!(refused(|c| c.service_range = c.pod_range).contains("overlap"));
    assert!(refused(|c| c.nodes[1].range = c.nodes[0].range).contains("overlap"));
    assert!(refused(|c| c.nodes[1].range = "10.3.0.0/24".parse().unwrap()).contains("not in the pod range"));
    let network = machine.open(&good);
    for uid in ["", "../../etc", "a/b", "a b"] {
        assert!(network.ensure_pod("node-0", uid, None).is_err(), "{uid:?}");
    }
    assert!(network.ensure_pod("node-9", "uid", None).is_err());
    assert_eq!(network.observe().unwrap(), []);
}

#[test]
fn a_pods_network_is_there_within_milliseconds() {
    let machine = Machine::new();
    let network = machine.network();
    let mut times: Vec<Duration> = (0..20)
        .map(|i| {
            let began = Instant::now();
            network.ensure_pod("node-0", &format!("uid-{i}"), None).unwrap();
            began.elapsed()
        })
        .collect();
    times.sort();
    let began = Instant::now();
    network.remove_pod("uid-3").unwrap();
    println!("ensure_pod median {:?} worst {:?}, remove {:?}", times[10], times[19], began.elapsed());
    assert!(times[10] < Duration::from_millis(100), "{times:?}");
}
