//! SPDY: exec's streams, port-forward's pairs, the tunnel in WebSocket, and bad clients (rows K-07 and K-09).

use super::client::{Said, Spdy, control, data, message, read_message, wire, words};
use super::{Random, options, panics};
use std::time::Duration;
use stead_stream::handshake::{PortForwardProtocol, RemoteCommandProtocol};
use stead_stream::{Outcome, PortForward, RemoteCommand, StreamError, Streams, TerminalSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const V4: RemoteCommandProtocol = RemoteCommandProtocol::Spdy { status_json: true, resize: true };
const V2: RemoteCommandProtocol = RemoteCommandProtocol::Spdy { status_json: false, resize: false };
const CANCEL: u32 = 5;

type Starting = JoinHandle<Result<RemoteCommand, StreamError>>;

fn exec(protocol: RemoteCommandProtocol, streams: Streams) -> (Spdy, Starting) {
    let (client, server) = wire();
    let starting = tokio::spawn(async move { RemoteCommand::start(server, protocol, streams, &options()).await });
    (Spdy::new(client), starting)
}

fn forward() -> (Spdy, PortForward) {
    let (client, server) = wire();
    (Spdy::new(client), PortForward::start(server, PortForwardProtocol::Spdy, &[], &options()))
}

fn said(id: u32, text: &str, fin: bool) -> Option<Said> {
    Some(Said::Data(id, text.to_owned(), fin))
}

#[tokio::test]
async fn a_terminal_session_from_its_streams_to_its_end() {
    let (mut client, starting) = exec(V4, Streams { stdin: true, stdout: true, stderr: true, tty: true });
    for (id, name) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "resize")] {
        client.open(id, &[("streamtype", name)]).await;
        assert_eq!(client.hear().await, Some(Said::Reply(id)));
    }
    let mut session = starting.await.unwrap().unwrap();
    assert!(session.stderr.is_none());
    client.send(&control(6, 0, &words(&[9]))).await;
    assert_eq!(client.hear().await, Some(Said::Ping(9)));
    let mut resizes = session.resizes.take().unwrap();
    client.send(&data(7, b"{\"Width\":80,", false)).await;
    client.send(&data(7, b"\"Height\":24}\n", false)).await;
    assert_eq!(resizes.next().await, Some(TerminalSize { width: 80, height: 24 }));
    let mut input = String::new();
    client.send(&data(3, b"in", false)).await;
    client.send(&data(3, b"put", true)).await;
    session.stdin.take().unwrap().read_to_string(&mut input).await.unwrap();
    assert_eq!(input, "input");
    assert_eq!(client.hear().await, said(3, "", true), "the process has closed its stdin");
    session.stdout.as_mut().unwrap().write_all(b"out").await.unwrap();
    let finishing = tokio::spawn(async move { session.finish(&Outcome::Success).await });
    assert_eq!(client.hear().await, said(5, "out", false));
    assert_eq!(client.hear().await, said(5, "", true));
    assert_eq!(client.hear().await, said(1, r#"{"metadata":{},"status":"Success"}"#, false));
    assert_eq!(client.hear().await, said(1, "", true));
    assert_eq!(client.hear().await, Some(Said::GoAway(7, 0)));
    assert_eq!(client.hear().await, None);
    drop(client);
    finishing.await.unwrap().unwrap();
}

#[tokio::test]
async fn version_2_has_text_errors_and_no_resize_stream() {
    let (mut client, starting) = exec(V2, Streams { stdout: true, tty: true, ..Streams::default() });
    for (id, name) in [(1, "error"), (3, "stdout")] {
        client.open(id, &[("streamtype", name)]).await;
        client.hear().await;
    }
    let session = starting.await.unwrap().unwrap();
    assert!(session.resizes.is_none());
    tokio::spawn(async move { session.finish(&Outcome::Failed { message: "no".into() }).await });
    assert_eq!(client.hear().await, said(3, "", true));
    assert_eq!(
        client.hear().await,
        said(1, "Internal error occurred: error executing command in container: no", false)
    );
}

#[tokio::test(start_paused = true)]
async fn streams_that_do_not_come_or_do_not_belong() {
    let (mut client, starting) = exec(V4, Streams { stdout: true, ..Streams::default() });
    client.open(1, &[("streamtype", "error")]).await;
    client.open(3, &[("streamtype", "nonsense")]).await;
    client.open(5, &[]).await;
    client.open(4, &[("streamtype", "stdout")]).await;
    client.open(1, &[("streamtype", "stdout")]).await;
    client.send(&data(99, b"x", false)).await;
    assert_eq!(client.hear().await, Some(Said::Reply(1)));
    for (id, status) in [(3, 3), (5, 3), (4, 1), (1, 1), (99, 2)] {
        assert_eq!(client.hear().await, Some(Said::Rst(id, status)));
    }
    let error = starting.await.unwrap().err().unwrap();
    assert_eq!(error.to_string(), "timed out waiting for client to create streams");
    let (mut client, starting) = exec(V4, Streams { stdout: true, ..Streams::default() });
    client.open(1, &[("streamtype", "error")]).await;
    client.open(3, &[("streamtype", "error")]).await;
    assert_eq!(starting.await.unwrap().err().unwrap().to_string(), "duplicate stream type");
    let (client, starting) = exec(V4, Streams { stdout: true, ..Streams::default() });
    drop(client);
    assert_eq!(starting.await.unwrap().err().unwrap().to_string(), "the client is gone");
    let (_client, starting) = exec(V4, Streams { tty: true, stderr: true, ..Streams::default() });
    let expected = "you must specify at least 1 of stdin, stdout, stderr";
    assert_eq!(starting.await.unwrap().err().unwrap().to_string(), expected);
}

#[tokio::test]
async fn a_forwarded_connection_closes_each_direction_by_itself() {
    let (mut client, mut session) = forward();
    client.open(1, &[("streamtype", "error"), ("port", "80"), ("requestid", "0")]).await;
    client.open(3, &[("streamtype", "data"), ("port", "80"), ("requestid", "0")]).await;
    let mut connection = session.next().await.unwrap();
    assert_eq!(connection.port, 80);
    assert_eq!(client.hear().await, Some(Said::Reply(1)));
    assert_eq!(client.hear().await, Some(Said::Reply(3)));
    client.send(&data(3, b"request", true)).await;
    let mut request = String::new();
    connection.stream.read_to_string(&mut request).await.unwrap();
    assert_eq!(request, "request");
    connection.stream.write_all(b"answer").await.unwrap();
    connection.stream.shutdown().await.unwrap();
    drop(connection);
    assert_eq!(client.hear().await, said(3, "answer", false));
    assert_eq!(client.hear().await, said(3, "", true));
    assert_eq!(client.hear().await, said(1, "", true));
}

#[tokio::test]
async fn a_reset_ends_both_directions_of_one_connection_only() {
    let (mut client, mut session) = forward();
    let mut connections = Vec::new();
    for id in [1, 5] {
        // Without request ids the error stream comes first, the data stream next.
        client.open(id, &[("streamtype", "error"), ("port", "80")]).await;
        client.open(id + 2, &[("streamtype", "data"), ("port", "80")]).await;
        connections.push(session.next().await.unwrap());
    }
    client.send(&control(3, 0, &words(&[3, CANCEL]))).await;
    let mut got = Vec::new();
    connections[0].stream.read_to_end(&mut got).await.unwrap();
    assert!(connections[0].stream.write_all(b"x").await.is_err());
    client.send(&data(7, b"fine", true)).await;
    connections[1].stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"fine");
    connections[1].stream.write_all(b"x").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn pairs_that_stay_halves_and_streams_that_are_no_pairs() {
    let (mut client, mut session) = forward();
    client.open(1, &[("streamtype", "data"), ("port", "0"), ("requestid", "0")]).await;
    client.open(3, &[("streamtype", "data"), ("port", "65536"), ("requestid", "0")]).await;
    client.open(5, &[("streamtype", "stdin"), ("port", "1"), ("requestid", "0")]).await;
    for id in [1, 3, 5] {
        assert_eq!(client.hear().await, Some(Said::Rst(id, 3)));
    }
    client.open(7, &[("streamtype", "error"), ("port", "1"), ("requestid", "4")]).await;
    assert_eq!(client.hear().await, Some(Said::Reply(7)));
    let serving = tokio::spawn(async move { session.next().await.is_none() });
    assert_eq!(client.hear().await, said(7, "(request=4) timed out waiting for streams", false));
    assert_eq!(client.hear().await, said(7, "", true));
    drop(client);
    assert!(serving.await.unwrap(), "no connection, and the client is gone");
}

#[tokio::test]
async fn a_client_cannot_hold_streams_without_limit() {
    let (mut client, mut session) = forward();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Some(connection) = session.next().await {
            held.push(connection);
        }
    });
    let mut refused = None;
    for id in (1..10_000).step_by(2) {
        let request = (id / 4).to_string();
        let kind = if id % 4 == 1 { "error" } else { "data" };
        client.open(id, &[("streamtype", kind), ("port", "80"), ("requestid", &request)]).await;
        if let Some(Said::Rst(_, status)) = client.hear().await {
            refused = Some((id, status));
            break;
        }
    }
    assert_eq!(refused, Some((2 * 2048 + 1, 3)));
}

#[tokio::test]
async fn spdy_in_websocket_messages_of_any_shape() {
    let (mut socket, server) = wire();
    let mut session = PortForward::start(server, PortForwardProtocol::SpdyInWebSocket, &[], &options());
    let mut frames = Spdy::new(wire().0);
    let mut bytes = frames.syn_stream(1, &[("streamtype", "error"), ("port", "80"), ("requestid", "0")]);
    bytes.extend(frames.syn_stream(3, &[("streamtype", "data"), ("port", "80"), ("requestid", "0")]));
    bytes.extend(data(3, b"request", true));
    // Cut anywhere, with a ping and an empty message between, the last message in two fragments.
    let (first, rest) = bytes.split_at(11);
    let (second, third) = rest.split_at(rest.len() - 3);
    for frame in [message(0x82, first), message(0x89, b"?"), message(0x82, b""), message(0x02, second)] {
        socket.write_all(&frame).await.unwrap();
    }
    socket.write_all(&message(0x80, third)).await.unwrap();
    let mut connection = session.next().await.unwrap();
    let mut request = String::new();
    connection.stream.read_to_string(&mut request).await.unwrap();
    assert_eq!(request, "request");
    connection.stream.write_all(b"answer").await.unwrap();
    drop(connection);
    let (mut answer, mut pongs) = (Vec::new(), 0);
    while !answer.ends_with(&data(1, b"", true)) {
        match read_message(&mut socket).await.unwrap() {
            (0x82, payload) => answer.extend(payload),
            (0x8A, payload) => {
                assert_eq!(payload, b"?");
                pongs += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(pongs, 1);
    let expected = [data(3, b"answer", false), data(3, b"", true), data(1, b"", true)].concat();
    assert!(answer.ends_with(&expected), "{}", answer.escape_ascii());
    socket.write_all(&message(0x88, &1001u16.to_be_bytes())).await.unwrap();
    assert!(session.next().await.is_none());
    drop(session);
    assert_eq!(read_message(&mut socket).await, Some((0x88, 1001u16.to_be_bytes().to_vec())));
}

async fn damaged_bytes(mut client: DuplexStream, mut session: PortForward, bytes: Vec<u8>) {
    // The server may have closed already.
    let _ = client.write_all(&bytes).await;
    let _ = client.shutdown().await;
    let serving = async {
        while let Some(mut connection) = session.next().await {
            let _ = connection.stream.write_all(b"answer").await;
        }
    };
    timeout(Duration::from_secs(10), serving).await.expect("the session ends");
}

#[tokio::test]
async fn damaged_bytes_end_the_session_and_nothing_else() {
    let mut frames = Spdy::new(wire().0);
    let mut good = Vec::new();
    for id in [1, 5, 9] {
        good.extend(frames.syn_stream(id, &[("streamtype", "error"), ("port", "80"), ("requestid", "x")]));
        good.extend(frames.syn_stream(id + 2, &[("streamtype", "data"), ("port", "80"), ("requestid", "x")]));
        good.extend(data(id + 2, b"some data", id == 5));
        good.extend(control(6, 0, &words(&[id])));
        good.extend(control(3, 0, &words(&[id, CANCEL])));
    }
    let before = panics();
    let mut random = Random(9);
    for _ in 0..600 {
        let bytes = random.damaged(&good);
        for protocol in [PortForwardProtocol::Spdy, PortForwardProtocol::SpdyInWebSocket] {
            let (client, server) = wire();
            let session = PortForward::start(server, protocol, &[], &options());
            let bytes = match protocol {
                PortForwardProtocol::Spdy => bytes.clone(),
                PortForwardProtocol::SpdyInWebSocket | PortForwardProtocol::WebSocket { .. } => message(0x82, &bytes),
            };
            damaged_bytes(client, session, bytes).await;
        }
    }
    assert_eq!(panics(), before);
}
