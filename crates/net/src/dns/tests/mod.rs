//! Questions in, answers out, read by another DNS library.

use expect_test::{Expect, expect};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::{self, DNSClass};
use serde_json::json;

use super::*;
use crate::fixture::Cluster;

mod messages;

fn zone() -> Zone {
    let config = ZoneConfig {
        domain: "cluster.local".into(),
        dns_ip: [10, 96, 0, 10].into(),
        ranges: vec!["10.244.0.0/16".parse().unwrap(), "10.96.0.0/16".parse().unwrap()],
    };
    Zone::new(config).unwrap()
}

fn zone_of(cluster: &Cluster) -> Zone {
    let mut zone = zone();
    zone.follow(cluster.head());
    zone
}

/// The bytes of `A name`, `SRV name` … .
fn question(text: &str, udp_bytes: Option<u16>) -> Vec<u8> {
    let (kind, name) = text.split_once(' ').unwrap();
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let mut query = Question::query(rr::Name::from_ascii(name).unwrap(), kind.parse().unwrap());
    query.set_query_class(DNSClass::IN);
    message.add_query(query);
    if let Some(size) = udp_bytes {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        message.edns = Some(edns);
    }
    message.to_vec().unwrap()
}

fn ask_by(zone: &Zone, text: &str, transport: Transport, udp_bytes: Option<u16>) -> (Outcome, Vec<u8>) {
    let mut out = Vec::new();
    let outcome = zone.answer(&question(text, udp_bytes), transport, &mut out);
    (outcome, out)
}

/// The answer as text: the code, then one record a line, authority as `?`, additional as `+`.
fn print(bytes: &[u8]) -> String {
    let message = Message::from_vec(bytes).unwrap();
    assert_eq!(message.metadata.id, 4711);
    let code = match message.metadata.response_code {
        ResponseCode::NoError => "ok",
        ResponseCode::NXDomain => "no such name",
        ResponseCode::ServFail => "failed",
        _ => "refused",
    };
    let mut lines = vec![code.to_owned()];
    for (mark, records) in [("", &message.answers), ("? ", &message.authorities), ("+ ", &message.additionals)] {
        let mut some: Vec<String> =
            records.iter().map(|r| format!("{mark}{} {} {} {}", r.name, r.ttl, r.record_type(), r.data)).collect();
        some.sort();
        lines.append(&mut some);
    }
    lines.join("\n") + "\n"
}

fn ask(zone: &Zone, text: &str) -> String {
    let (outcome, bytes) = ask_by(zone, text, Transport::Udp, Some(4096));
    match outcome {
        Outcome::Answered => print(&bytes),
        Outcome::Forward => "forward\n".into(),
        Outcome::Alias(alias) => {
            let to = Message::from_vec(&alias.question(1)).unwrap();
            format!("{}then {}\n", print(&bytes), to.queries[0])
        }
        Outcome::Ignore => "ignore\n".into(),
    }
}

fn check(zone: &Zone, questions: &[&str], expected: Expect) {
    let answers: Vec<String> = questions.iter().map(|q| format!("# {q}\n{}", ask(zone, q))).collect();
    expected.assert_eq(&answers.concat());
}

/// A headless Service of two pods with names, and one that is not ready.
fn web(cluster: &mut Cluster) {
    cluster.service("web", json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}));
    cluster.slice(
        "web",
        "http:8080",
        "10.244.0.5 hostname=web-0
         10.244.1.6 hostname=web-1
         10.244.1.7 hostname=web-2 unready",
    );
}

#[test]
fn d_01_the_zone_itself() {
    let zone = zone_of(&Cluster::new());
    check(
        &zone,
        &["TXT dns-version.cluster.local.", "SOA cluster.local.", "NS cluster.local.", "A ns.dns.cluster.local."],
        expect![[r#"
            # TXT dns-version.cluster.local.
            ok
            dns-version.cluster.local. 5 TXT 1.1.0
            # SOA cluster.local.
            ok
            cluster.local. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 0
            # NS cluster.local.
            ok
            cluster.local. 5 NS ns.dns.cluster.local.
            # A ns.dns.cluster.local.
            ok
            ns.dns.cluster.local. 5 A 10.96.0.10
        "#]],
    );
}

#[test]
fn d_02_d_03_d_04_d_08_a_cluster_ip() {
    let mut cluster = Cluster::new();
    let ports = json!([{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    cluster.service("db", json!({"clusterIP": "10.96.3.4", "clusterIPs": ["10.96.3.4", "fd00::4"], "ports": ports}));
    cluster.service("one", json!({"clusterIP": "10.96.3.5", "ports": [{"port": 80}]}));
    check(
        &zone_of(&cluster),
        &[
            "A DB.Default.svc.Cluster.LOCAL.",
            "AAAA db.default.svc.cluster.local.",
            "SRV _http._tcp.db.default.svc.cluster.local.",
            "SRV _dns._udp.db.default.svc.cluster.local.",
            "SRV _dns._tcp.db.default.svc.cluster.local.",
            "SRV db.default.svc.cluster.local.",
            "SRV one.default.svc.cluster.local.",
            "PTR 4.3.96.10.in-addr.arpa.",
        ],
        expect![[r#"
            # A DB.Default.svc.Cluster.LOCAL.
            ok
            DB.Default.svc.Cluster.LOCAL. 5 A 10.96.3.4
            # AAAA db.default.svc.cluster.local.
            ok
            db.default.svc.cluster.local. 5 AAAA fd00::4
            # SRV _http._tcp.db.default.svc.cluster.local.
            ok
            _http._tcp.db.default.svc.cluster.local. 5 SRV 0 100 80 db.default.svc.cluster.local.
            + db.default.svc.cluster.local. 5 A 10.96.3.4
            + db.default.svc.cluster.local. 5 AAAA fd00::4
            # SRV _dns._udp.db.default.svc.cluster.local.
            ok
            _dns._udp.db.default.svc.cluster.local. 5 SRV 0 100 53 db.default.svc.cluster.local.
            + db.default.svc.cluster.local. 5 A 10.96.3.4
            + db.default.svc.cluster.local. 5 AAAA fd00::4
            # SRV _dns._tcp.db.default.svc.cluster.local.
            no such name
            ? cluster.local. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 3 7200 1800 86400 0
            # SRV db.default.svc.cluster.local.
            ok
            db.default.svc.cluster.local. 5 SRV 0 50 53 db.default.svc.cluster.local.
            db.default.svc.cluster.local. 5 SRV 0 50 80 db.default.svc.cluster.local.
            + db.default.svc.cluster.local. 5 A 10.96.3.4
            + db.default.svc.cluster.local. 5 AAAA fd00::4
            # SRV one.default.svc.cluster.local.
            ok
            one.default.svc.cluster.local. 5 SRV 0 100 80 one.default.svc.cluster.local.
            + one.default.svc.cluster.local. 5 A 10.96.3.5
            # PTR 4.3.96.10.in-addr.arpa.
            ok
            4.3.96.10.in-addr.arpa. 5 PTR db.default.svc.cluster.local.
        "#]],
    );
}

#[test]
fn d_05_d_06_d_07_d_09_a_headless_service_of_a_stateful_set() {
    let mut cluster = Cluster::new();
    web(&mut cluster);
    check(
        &zone_of(&cluster),
        &[
            "A web.default.svc.cluster.local.",
            "A web-0.web.default.svc.cluster.local.",
            "A web-2.web.default.svc.cluster.local.",
            "SRV _http._tcp.web.default.svc.cluster.local.",
            "SRV web.default.svc.cluster.local.",
            "PTR 6.1.244.10.in-addr.arpa.",
            "PTR 7.1.244.10.in-addr.arpa.",
        ],
        expect![[r#"
            # A web.default.svc.cluster.local.
            ok
            web.default.svc.cluster.local. 5 A 10.244.0.5
            web.default.svc.cluster.local. 5 A 10.244.1.6
            # A web-0.web.default.svc.cluster.local.
            ok
            web-0.web.default.svc.cluster.local. 5 A 10.244.0.5
            # A web-2.web.default.svc.cluster.local.
            no such name
            ? cluster.local. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 3 7200 1800 86400 0
            # SRV _http._tcp.web.default.svc.cluster.local.
            ok
            _http._tcp.web.default.svc.cluster.local. 5 SRV 0 50 8080 web-0.web.default.svc.cluster.local.
            _http._tcp.web.default.svc.cluster.local. 5 SRV 0 50 8080 web-1.web.default.svc.cluster.local.
            + web-0.web.default.svc.cluster.local. 5 A 10.244.0.5
            + web-1.web.default.svc.cluster.local. 5 A 10.244.1.6
            # SRV web.default.svc.cluster.local.
            ok
            web.default.svc.cluster.local. 5 SRV 0 50 8080 web-0.web.default.svc.cluster.local.
            web.default.svc.cluster.local. 5 SRV 0 50 8080 web-1.web.default.svc.cluster.local.
            + web-0.web.default.svc.cluster.local. 5 A 10.244.0.5
            + web-1.web.default.svc.cluster.local. 5 A 10.244.1.6
            # PTR 6.1.244.10.in-addr.arpa.
            ok
            6.1.244.10.in-addr.arpa. 5 PTR web-1.web.default.svc.cluster.local.
            # PTR 7.1.244.10.in-addr.arpa.
            no such name
            ? 244.10.in-addr.arpa. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 3 7200 1800 86400 0
        "#]],
    );
}

#[test]
fn d_05_none_ready_is_no_such_name() {
    let mut cluster = Cluster::new();
    cluster.service("web", json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}));
    cluster.slice("web", "http:8080", "10.244.0.5 hostname=web-0 unready");
    check(
        &zone_of(&cluster),
        &["A web.default.svc.cluster.local.", "SRV _http._tcp.web.default.svc.cluster.local."],
        expect![[r#"
            # A web.default.svc.cluster.local.
            no such name
            ? cluster.local. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 3 7200 1800 86400 0
            # SRV _http._tcp.web.default.svc.cluster.local.
            no such name
            ? cluster.local. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 3 7200 1800 86400 0
        "#]],
    );
}

#[test]
fn d_09_d_10_d_11_endpoints_with_and_without_names() {
    let mut cluster = Cluster::new();
    web(&mut cluster);
    cluster.service("db", json!({"clusterIP": "10.96.3.4", "ports": [{"port": 80}]}));
    cluster.slice("db", ":8080", "10.244.0.5 hostname=web-0\n10.244.0.9");
    cluster.service("six", json!({"clusterIP": "None"}));
    cluster.slice("six", "", "fd00::9");
    check(
        &zone_of(&cluster),
        &[
            "A web-0.db.default.svc.cluster.local.",
            "A 10-244-0-9.db.default.svc.cluster.local.",
            "AAAA fd00--9.six.default.svc.cluster.local.",
            "PTR 5.0.244.10.in-addr.arpa.",
            "PTR 9.0.244.10.in-addr.arpa.",
        ],
        expect![[r#"
            # A web-0.db.default.svc.cluster.local.
            ok
            web-0.db.default.svc.cluster.local. 5 A 10.244.0.5
            # A 10-244-0-9.db.default.svc.cluster.local.
            ok
            10-244-0-9.db.default.svc.cluster.local. 5 A 10.244.0.9
            # AAAA fd00--9.six.default.svc.cluster.local.
            ok
            fd00--9.six.default.svc.cluster.local. 5 AAAA fd00::9
            # PTR 5.0.244.10.in-addr.arpa.
            ok
            5.0.244.10.in-addr.arpa. 5 PTR web-0.db.default.svc.cluster.local.
            5.0.244.10.in-addr.arpa. 5 PTR web-0.web.default.svc.cluster.local.
            # PTR 9.0.244.10.in-addr.arpa.
            no such name
            ? 244.10.in-addr.arpa. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 0
        "#]],
    );
}

#[test]
fn d_08_the_weight_is_an_equal_share_and_at_least_one() {
    let mut cluster = Cluster::new();
    cluster.service("web", json!({"clusterIP": "None"}));
    let many: Vec<String> = (1..=120).map(|i| format!("10.244.2.{i} hostname=web-{i}")).collect();
    let weights = |cluster: &Cluster| {
        let (_, bytes) = ask_by(&zone_of(cluster), "SRV web.default.svc.cluster.local.", Transport::Tcp, None);
        let message = Message::from_vec(&bytes).unwrap();
        let mut weights: Vec<u16> = (message.answers.iter())
            .map(|r| match &r.data {
                rr::RData::SRV(srv) => srv.weight,
                other => panic!("{other:?}"),
            })
            .collect();
        weights.dedup();
        (message.answers.len(), weights)
    };
    cluster.slice("web", "http:80", &many[..3].join("\n"));
    assert_eq!(weights(&cluster), (3, vec![33]));
    cluster.slice("web", "http:80", &many.join("\n"));
    assert_eq!(weights(&cluster), (120, vec![1]));
}

#[test]
fn d_15_external_names_lead_out_or_are_followed_inside() {
    let mut cluster = Cluster::new();
    web(&mut cluster);
    let external =
        |name: &str| json!({"type": "ExternalName", "externalName": name, "ports": [{"name": "http", "port": 80}]});
    cluster.service("out", external("db.example.com"));
    cluster.service("in", external("web-0.web.default.svc.cluster.local"));
    cluster.service("chain", external("in.default.svc.cluster.local."));
    cluster.service("gone", external("nobody.default.svc.cluster.local"));
    cluster.service("loop", external("loop.default.svc.cluster.local"));
    cluster.service("number", external("192.0.2.1"));
    let zone = zone_of(&cluster);
    check(
        &zone,
        &[
            "A out.default.svc.cluster.local.",
            "CNAME out.default.svc.cluster.local.",
            "SRV _http._tcp.out.default.svc.cluster.local.",
            "A in.default.svc.cluster.local.",
            "A chain.default.svc.cluster.local.",
            "AAAA in.default.svc.cluster.local.",
            "A gone.default.svc.cluster.local.",
            "A number.default.svc.cluster.local.",
        ],
        expect![[r#"
            # A out.default.svc.cluster.local.
            ok
            out.default.svc.cluster.local. 5 CNAME db.example.com.
            then db.example.com. IN A
            # CNAME out.default.svc.cluster.local.
            ok
            out.default.svc.cluster.local. 5 CNAME db.example.com.
            # SRV _http._tcp.out.default.svc.cluster.local.
            no such name
            ? cluster.local. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 9 7200 1800 86400 0
            # A in.default.svc.cluster.local.
            ok
            in.default.svc.cluster.local. 5 CNAME web-0.web.default.svc.cluster.local.
            web-0.web.default.svc.cluster.local. 5 A 10.244.0.5
            # A chain.default.svc.cluster.local.
            ok
            chain.default.svc.cluster.local. 5 CNAME in.default.svc.cluster.local.
            in.default.svc.cluster.local. 5 CNAME web-0.web.default.svc.cluster.local.
            web-0.web.default.svc.cluster.local. 5 A 10.244.0.5
            # AAAA in.default.svc.cluster.local.
            ok
            in.default.svc.cluster.local. 5 CNAME web-0.web.default.svc.cluster.local.
            ? cluster.local. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 9 7200 1800 86400 0
            # A gone.default.svc.cluster.local.
            no such name
            gone.default.svc.cluster.local. 5 CNAME nobody.default.svc.cluster.local.
            ? cluster.local. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 9 7200 1800 86400 0
            # A number.default.svc.cluster.local.
            no such name
            ? cluster.local. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 9 7200 1800 86400 0
        "#]],
    );
    let looped = ask(&zone, "A loop.default.svc.cluster.local.");
    assert!(looped.starts_with("ok\nloop.default.svc.cluster.local. 5 CNAME"), "{looped}");
}

#[test]
fn d_15_what_upstream_says_is_added_to_the_alias() {
    let mut cluster = Cluster::new();
    cluster.service("out", json!({"type": "ExternalName", "externalName": "db.example.com"}));
    let zone = zone_of(&cluster);
    let query = question("A OUT.default.svc.cluster.local.", None);
    let mut out = Vec::new();
    let Outcome::Alias(alias) = zone.answer(&query, Transport::Udp, &mut out) else { panic!("it leads out") };
    let name = |text: &str| rr::Name::from_ascii(text).unwrap();
    let mut upstream = Message::from_vec(&alias.question(9)).unwrap();
    upstream.metadata.message_type = MessageType::Response;
    let to = rr::rdata::CNAME(name("real.example.com."));
    let records = [
        rr::Record::from_rdata(name("db.example.com."), 60, rr::RData::CNAME(to)),
        rr::Record::from_rdata(name("real.example.com."), 30, rr::RData::A(rr::rdata::A::new(192, 0, 2, 7))),
    ];
    upstream.add_answers(records);
    alias.finish(&query, Some(&upstream.to_vec().unwrap()), Transport::Udp, &mut out);
    expect![[r#"
        ok
        OUT.default.svc.cluster.local. 5 CNAME db.example.com.
        db.example.com. 60 CNAME real.example.com.
        real.example.com. 30 A 192.0.2.7
    "#]]
    .assert_eq(&print(&out));
    alias.finish(&query, None, Transport::Udp, &mut out);
    expect![[r#"
        ok
        OUT.default.svc.cluster.local. 5 CNAME db.example.com.
    "#]]
    .assert_eq(&print(&out));
}

#[test]
fn d_17_addresses_of_pods_in_names() {
    check(
        &zone_of(&Cluster::new()),
        &[
            "A 10-244-0-5.default.pod.cluster.local.",
            "AAAA 10-244-0-5.default.pod.cluster.local.",
            "AAAA fd00--5.default.pod.cluster.local.",
            "A 10-244-0-5.nobody.pod.cluster.local.",
            "A 10-244-0.default.pod.cluster.local.",
        ],
        expect![[r#"
            # A 10-244-0-5.default.pod.cluster.local.
            ok
            10-244-0-5.default.pod.cluster.local. 5 A 10.244.0.5
            # AAAA 10-244-0-5.default.pod.cluster.local.
            ok
            ? cluster.local. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 0
            # AAAA fd00--5.default.pod.cluster.local.
            ok
            fd00--5.default.pod.cluster.local. 5 AAAA fd00::5
            # A 10-244-0-5.nobody.pod.cluster.local.
            no such name
            ? cluster.local. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 0
            # A 10-244-0.default.pod.cluster.local.
            no such name
            ? cluster.local. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 0
        "#]],
    );
}

#[test]
fn d_18_a_headless_service_without_ports_has_addresses_alone() {
    let mut cluster = Cluster::new();
    cluster.service("web", json!({"clusterIP": "None"}));
    cluster.slice("web", "", "10.244.0.5 hostname=web-0");
    check(
        &zone_of(&cluster),
        &["A web-0.web.default.svc.cluster.local.", "SRV web.default.svc.cluster.local."],
        expect![[r#"
            # A web-0.web.default.svc.cluster.local.
            ok
            web-0.web.default.svc.cluster.local. 5 A 10.244.0.5
            # SRV web.default.svc.cluster.local.
            ok
            ? cluster.local. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 3 7200 1800 86400 0
        "#]],
    );
}

#[test]
fn d_19_no_such_name_or_nothing_of_that_type() {
    let mut cluster = Cluster::new();
    web(&mut cluster);
    check(
        &zone_of(&cluster),
        &[
            "AAAA web.default.svc.cluster.local.",
            "A _tcp.web.default.svc.cluster.local.",
            "A default.svc.cluster.local.",
            "A svc.cluster.local.",
            "A cluster.local.",
            "A nobody.default.svc.cluster.local.",
            "A web.nobody.svc.cluster.local.",
            "A web.default.svc.cluster.local.default.svc.cluster.local.",
            "PTR 9.9.244.10.in-addr.arpa.",
            "PTR 9.9.168.192.in-addr.arpa.",
            "A example.com.",
            "A mycluster.local.",
        ],
        expect![[r#"
            # AAAA web.default.svc.cluster.local.
            ok
            ? cluster.local. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 3 7200 1800 86400 0
            # A _tcp.web.default.svc.cluster.local.
            ok
            ? cluster.local. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 3 7200 1800 86400 0
            # A default.svc.cluster.local.
            ok
            ? cluster.local. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 3 7200 1800 86400 0
            # A svc.cluster.local.
            ok
            ? cluster.local. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 3 7200 1800 86400 0
            # A cluster.local.
            ok
            ? cluster.local. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 3 7200 1800 86400 0
            # A nobody.default.svc.cluster.local.
            no such name
            ? cluster.local. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 3 7200 1800 86400 0
            # A web.nobody.svc.cluster.local.
            no such name
            ? cluster.local. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 3 7200 1800 86400 0
            # A web.default.svc.cluster.local.default.svc.cluster.local.
            no such name
            ? cluster.local. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 3 7200 1800 86400 0
            # PTR 9.9.244.10.in-addr.arpa.
            no such name
            ? 244.10.in-addr.arpa. 0 SOA ns.dns.cluster.local. hostmaster.cluster.local. 3 7200 1800 86400 0
            # PTR 9.9.168.192.in-addr.arpa.
            forward
            # A example.com.
            forward
            # A mycluster.local.
            forward
        "#]],
    );
}

#[test]
fn a_name_goes_with_its_last_owner_and_its_parents_with_it() {
    let mut cluster = Cluster::new();
    web(&mut cluster);
    let mut zone = zone_of(&cluster);
    assert!(ask(&zone, "A web-0.web.default.svc.cluster.local.").starts_with("ok"));
    cluster.slice("web", "http:8080", "10.244.0.5 hostname=web-0");
    zone.follow(cluster.head());
    assert!(ask(&zone, "A web-1.web.default.svc.cluster.local.").starts_with("no such name"));
    cluster.delete("services", "default", "web");
    zone.follow(cluster.head());
    for gone in ["A _tcp.web.default.svc.cluster.local.", "A web.default.svc.cluster.local."] {
        assert!(ask(&zone, gone).starts_with("no such name"), "{gone}");
    }
    assert!(ask(&zone, "A default.svc.cluster.local.").starts_with("ok"));
    cluster.delete("namespaces", "", "default");
    zone.follow(cluster.head());
    assert!(ask(&zone, "A default.svc.cluster.local.").starts_with("no such name"));
    assert!(ask(&zone, "PTR 5.0.244.10.in-addr.arpa.").starts_with("no such name"));
}

#[test]
fn following_changes_gives_what_reading_the_whole_gives() {
    let mut cluster = Cluster::new();
    let mut followed = zone();
    let mut seed = 1u64;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % below
    };
    for step in 0..300 {
        let name = ["web", "db", "cache"][next(3) as usize];
        match next(6) {
            0 => cluster.service(name, json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]})),
            1 => cluster
                .service(name, json!({"clusterIP": format!("10.96.0.{}", 20 + next(9)), "ports": [{"port": 80}]})),
            2 => {
                cluster.service(name, json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"}))
            }
            3 if cluster.head().snapshot.find("services", "default", name).is_some() => {
                cluster.delete("services", "default", name)
            }
            _ => {
                let lines: Vec<String> =
                    (0..next(4)).map(|i| format!("10.244.0.{} hostname=p-{i}", 2 + next(5))).collect();
                cluster.slice_named(&format!("s-{}", next(3)), name, "http:8080", &lines.join("\n"));
            }
        }
        followed.follow(cluster.head());
        let whole = zone_of(&cluster);
        assert_eq!(followed.dump(), whole.dump(), "after step {step}");
    }
}
