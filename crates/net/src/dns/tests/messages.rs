//! Messages as bytes: limits, flags, and what is no query.

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::RecordType;
use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn what_does_not_fit_is_cut_and_says_so() {
    let mut cluster = Cluster::new();
    cluster.service("web", json!({"clusterIP": "None"}));
    let many: Vec<String> = (1..=100).map(|i| format!("10.244.2.{i} hostname=web-{i}")).collect();
    cluster.slice("web", "http:80", &many.join("\n"));
    let zone = zone_of(&cluster);
    for (transport, edns, whole) in [
        (Transport::Udp, None, false),
        (Transport::Udp, Some(4096), false),
        (Transport::Tcp, None, true),
        (Transport::Tcp, Some(512), true),
    ] {
        let (_, bytes) = ask_by(&zone, "A web.default.svc.cluster.local.", transport, edns);
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(message.metadata.truncation, !whole);
        assert_eq!(message.answers.len() == 100, whole);
        assert!(!message.answers.is_empty(), "what fits is there");
        let limit = match (transport, edns) {
            (Transport::Udp, None) => 512,
            (Transport::Udp, Some(_)) => 1232,
            (Transport::Tcp, _) => 65_535,
        };
        assert!(bytes.len() <= limit);
        assert_eq!(message.edns.is_some(), edns.is_some());
    }
    let (_, srv) = ask_by(&zone, "SRV _http._tcp.web.default.svc.cluster.local.", Transport::Tcp, None);
    let message = Message::from_vec(&srv).unwrap();
    assert_eq!((message.answers.len(), message.additionals.len()), (100, 100));
}

#[test]
fn addresses_come_in_turns() {
    let mut cluster = Cluster::new();
    web(&mut cluster);
    let zone = zone_of(&cluster);
    let mut firsts = Vec::new();
    for id in 0..2u16 {
        let mut query = question("A web.default.svc.cluster.local.", None);
        query[..2].copy_from_slice(&id.to_be_bytes());
        let mut out = Vec::new();
        zone.answer(&query, Transport::Udp, &mut out);
        firsts.push(Message::from_vec(&out).unwrap().answers[0].data.to_string());
    }
    assert_eq!(firsts, ["10.244.0.5", "10.244.1.6"]);
}

#[test]
fn the_question_comes_back_as_it_was_asked() {
    let mut cluster = Cluster::new();
    web(&mut cluster);
    let query = question("A wEb.DeFault.sVc.cluSter.local.", None);
    let mut out = Vec::new();
    zone_of(&cluster).answer(&query, Transport::Udp, &mut out);
    assert_eq!(out[12..query.len()], query[12..]);
    assert_eq!((out[2] & 0x85, out[3] & 0x80), (0x85, 0x80), "QR, AA, RD and RA");
}

#[test]
fn what_is_no_query_is_refused_or_ignored() {
    let zone = zone_of(&Cluster::new());
    let good = question("A cluster.local.", Some(1232));
    let code = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut message = good.clone();
        change(&mut message);
        let mut out = Vec::new();
        match zone.answer(&message, Transport::Udp, &mut out) {
            Outcome::Ignore => None,
            _ => Some(Message::from_vec(&out).unwrap().metadata.response_code),
        }
    };
    assert_eq!(code(&|_| ()), Some(ResponseCode::NoError));
    assert_eq!(code(&|m| m.truncate(11)), None);
    assert_eq!(code(&|m| m[2] |= 0x80), None, "an answer");
    assert_eq!(code(&|m| m[2] |= 0x28), Some(ResponseCode::NotImp), "an update");
    assert_eq!(code(&|m| m[5] = 2), Some(ResponseCode::FormErr));
    assert_eq!(code(&|m| m.truncate(20)), Some(ResponseCode::FormErr));
    assert_eq!(code(&|m| m[12] = 0xc0), Some(ResponseCode::FormErr));
    assert_eq!(code(&|m| m[30] = 3), Some(ResponseCode::Refused), "class CHAOS");
    let version = good.len() - 5;
    assert_eq!(code(&|m| m[version] = 1).map(u16::from), Some(16), "BADVERS");
}

#[test]
fn a_forwarded_answer_that_does_not_fit_is_cut() {
    let query = question("TXT example.com.", None);
    let mut answer = query.clone();
    answer[2] |= 0x80;
    answer.resize(700, 0);
    fit_forwarded(&query, Transport::Udp, &mut answer);
    let message = Message::from_vec(&answer).unwrap();
    assert!(message.metadata.truncation);
    assert_eq!(message.metadata.message_type, MessageType::Response);
    server_failure(&query, Transport::Udp, &mut answer);
    assert_eq!(print(&answer), "failed\n");
    assert_eq!(RecordType::TXT, Message::from_vec(&answer).unwrap().queries[0].query_type());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_every_answer_can_be_read(
        noise in proptest::collection::vec(any::<u8>(), 0..80),
        at in 0usize..60,
        udp in proptest::option::of(0u16..2000),
        which in 0usize..6,
    ) {
        let mut cluster = Cluster::new();
        web(&mut cluster);
        cluster.service("out", json!({"type": "ExternalName", "externalName": "db.example.com"}));
        let zone = zone_of(&cluster);
        let names = ["A web.default.svc.cluster.local.", "SRV web.default.svc.cluster.local.", "PTR 5.0.244.10.in-addr.arpa.",
            "A x.cluster.local.", "A out.default.svc.cluster.local.", "ANY web.default.svc.cluster.local."];
        let mut query = question(names[which], udp);
        let at = at.min(query.len());
        query.splice(at..(at + noise.len() / 8).min(query.len()), noise.clone());
        for message in [&query, &noise] {
            let mut out = Vec::new();
            match zone.answer(message, Transport::Udp, &mut out) {
                Outcome::Answered => prop_assert!(Message::from_vec(&out).is_ok(), "{out:?}"),
                Outcome::Alias(alias) => alias.finish(message, Some(&noise), Transport::Udp, &mut out),
                _ => {}
            }
        }
    }
}
