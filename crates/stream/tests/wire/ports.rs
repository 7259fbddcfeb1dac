//! Port-forward over plain channels, as the Python and JavaScript clients speak it (behaviour row K-09).

use super::client::{message, read_message, wire};
use super::options;
use stead_stream::handshake::PortForwardProtocol;
use stead_stream::{ForwardedConnection, PortForward};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

fn start(ports: &[u16]) -> (DuplexStream, PortForward) {
    let (client, server) = wire();
    (client, PortForward::start(server, PortForwardProtocol::WebSocket { base64: false }, ports, &options()))
}

/// As a server does whose pod refuses: the connection is over with this.
async fn fail(connection: ForwardedConnection) {
    let ForwardedConnection { error, .. } = connection;
    error.report("refused").await;
}

#[tokio::test]
async fn each_port_has_two_channels_that_begin_with_its_number() {
    let (mut client, mut session) = start(&[80, 8443]);
    let (mut web, mut tls) = (session.next().await.unwrap(), session.next().await.unwrap());
    assert_eq!((web.port, tls.port), (80, 8443));
    for expected in [&b"\x00\x50\x00"[..], b"\x01\x50\x00", b"\x02\xfb\x20", b"\x03\xfb\x20"] {
        assert_eq!(read_message(&mut client).await, Some((0x82, expected.to_vec())));
    }
    // Each way, each its own.
    client.write_all(&message(0x82, b"\x02to tls")).await.unwrap();
    client.write_all(&message(0x82, b"\x00to web")).await.unwrap();
    client.write_all(&message(0x82, b"\x01errors have no way in")).await.unwrap();
    client.write_all(&message(0x82, b"\x09nor have channels that are none")).await.unwrap();
    let mut text = [0; 6];
    web.stream.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"to web");
    tls.stream.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"to tls");
    tls.stream.write_all(b"from tls").await.unwrap();
    assert_eq!(read_message(&mut client).await, Some((0x82, b"\x02from tls".to_vec())));
    // A port that fails says so on its second channel; the other goes on.
    assert!(!web.half_closes);
    fail(web).await;
    assert_eq!(read_message(&mut client).await, Some((0x82, b"\x01refused".to_vec())));
    tls.stream.write_all(b"still here").await.unwrap();
    assert_eq!(read_message(&mut client).await, Some((0x82, b"\x02still here".to_vec())));
    // With the last connection the session ends, and says so.
    drop(tls);
    let ending = tokio::spawn(async move { session.next().await.is_none() });
    assert_eq!(read_message(&mut client).await, Some((0x88, vec![3, 0xe8])));
    drop(client);
    assert!(ending.await.unwrap());
}

#[tokio::test]
async fn a_client_that_goes_ends_its_connections() {
    let (client, mut session) = start(&[80]);
    let mut web = session.next().await.unwrap();
    drop(client);
    let mut rest = Vec::new();
    web.stream.read_to_end(&mut rest).await.unwrap();
    assert!(session.next().await.is_none());
    assert!(web.stream.write_all(b"late").await.is_err());
}

#[tokio::test]
async fn more_ports_than_a_byte_can_name_are_left_out() {
    let ports: Vec<u16> = (1..=300).collect();
    let (_client, mut session) = start(&ports);
    let mut connections = Vec::new();
    for _ in 0..128 {
        connections.push(session.next().await.unwrap());
    }
    assert_eq!(connections.last().unwrap().port, 128);
}
