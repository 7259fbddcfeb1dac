//! WebSocket channels: versions 1, 4 and 5, control frames, and bad clients (behaviour row K-07).

use super::client::{WIRE_BYTES, message, read_message, transcript, wire};
use super::{Random, options, panics};
use expect_test::expect;
use std::time::Duration;
use stead_stream::handshake::RemoteCommandProtocol;
use stead_stream::{Outcome, RemoteCommand, Streams, TerminalSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{sleep, timeout};

const V5: RemoteCommandProtocol =
    RemoteCommandProtocol::WebSocket { close_signal: true, status_json: true, base64: false };
const V4: RemoteCommandProtocol =
    RemoteCommandProtocol::WebSocket { close_signal: false, status_json: true, base64: false };
const V1_BASE64: RemoteCommandProtocol =
    RemoteCommandProtocol::WebSocket { close_signal: false, status_json: false, base64: true };
const ALL: Streams = Streams { stdin: true, stdout: true, stderr: true, tty: false };

async fn start(protocol: RemoteCommandProtocol, streams: Streams) -> (DuplexStream, RemoteCommand) {
    let (client, server) = wire();
    (client, RemoteCommand::start(server, protocol, streams, &options()).await.unwrap())
}

fn exited(code: i32) -> Outcome {
    Outcome::Exited { code, command: vec!["x".into()] }
}

#[tokio::test]
async fn the_outcome_follows_all_output() {
    let (mut client, mut session) = start(V5, ALL).await;
    let (mut stdout, mut stderr) = (session.stdout.take().unwrap(), session.stderr.take().unwrap());
    let mut stdin = session.stdin.take().unwrap();
    for frame in [message(0x82, b"\x00in"), message(0x02, b"\x00p"), message(0x80, b"ut"), message(0x82, b"\xff\x00")] {
        client.write_all(&frame).await.unwrap();
    }
    let mut input = String::new();
    stdin.read_to_string(&mut input).await.unwrap();
    assert_eq!(input, "input");
    stdout.write_all(b"out").await.unwrap();
    stderr.write_all(b"err").await.unwrap();
    // The outputs are still held: what was written counts, not who holds what.
    let finishing = tokio::spawn(async move { session.finish(&exited(3)).await });
    expect![[r#"
        82 \x01
        82 \x01out
        82 \x02err
        82 \x03{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: error executing command [x], exit code 3","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}
        88 \x03\xe8
    "#]]
    .assert_eq(&transcript(&mut client).await);
    drop(client);
    finishing.await.unwrap().unwrap();
    assert!(stdout.write_all(b"late").await.is_err());
}

#[tokio::test]
async fn version_4_has_no_close_signal() {
    let (mut client, mut session) = start(V4, ALL).await;
    let mut stdin = session.stdin.take().unwrap();
    client.write_all(&message(0x82, b"\xff\x00")).await.unwrap();
    client.write_all(&message(0x82, b"\x00go on")).await.unwrap();
    let mut input = [0; 5];
    stdin.read_exact(&mut input).await.unwrap();
    assert_eq!(&input, b"go on");
}

#[tokio::test]
async fn base64_and_plain_text_errors_of_version_1() {
    let (mut client, mut session) = start(V1_BASE64, ALL).await;
    let (mut stdin, mut stdout) = (session.stdin.take().unwrap(), session.stdout.take().unwrap());
    client.write_all(&message(0x81, b"0aGVsbG8=")).await.unwrap();
    client.write_all(&message(0x81, b"0!not base64!")).await.unwrap();
    client.write_all(&message(0x81, b"0IQ==")).await.unwrap();
    let mut input = [0; 6];
    stdin.read_exact(&mut input).await.unwrap();
    assert_eq!(&input, b"hello!");
    stdout.write_all(b"bye").await.unwrap();
    tokio::spawn(async move { session.finish(&Outcome::Failed { message: "no".into() }).await });
    expect![[r#"
        81 1
        81 1Ynll
        81 3SW50ZXJuYWwgZXJyb3Igb2NjdXJyZWQ6IGVycm9yIGV4ZWN1dGluZyBjb21tYW5kIGluIGNvbnRhaW5lcjogbm8=
        88 \x03\xe8
    "#]]
    .assert_eq(&transcript(&mut client).await);
}

#[tokio::test]
async fn sizes_of_the_terminal_and_a_terminal_has_no_stderr() {
    let (mut client, mut session) = start(V5, Streams { tty: true, ..ALL }).await;
    assert!(session.stderr.is_none());
    let mut resizes = session.resizes.take().unwrap();
    client.write_all(&message(0x82, b"\x04{\"Width\":80,\"Height\":24}")).await.unwrap();
    assert_eq!(resizes.next().await, Some(TerminalSize { width: 80, height: 24 }));
    client.write_all(&message(0x82, b"\x04garbage")).await.unwrap();
    client.write_all(&message(0x82, &[b"\x04".to_vec(), vec![b' '; 5000]].concat())).await.unwrap();
    client.write_all(&message(0x82, b"\x04{\"Width\":81}")).await.unwrap();
    assert_eq!(resizes.next().await, Some(TerminalSize { width: 81, height: 0 }));
    drop(client);
    assert_eq!(resizes.next().await, None);
}

#[tokio::test]
async fn pings_close_codes_and_forbidden_frames_are_answered() {
    for (sent, expected) in [
        (message(0x88, &4000u16.to_be_bytes()), r"88 \x0f\xa0"),
        (message(0x88, b""), r"88 \x03\xe8"),
        (message(0x80, b"x"), r"88 \x03\xea"),
        (vec![0x82, 0x01, 0x00], r"88 \x03\xea"),
        (vec![0x82, 0xFF, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], r"88 \x03\xf1"),
    ] {
        let (mut client, mut session) = start(V5, ALL).await;
        let mut gone = session.client_gone();
        client.write_all(&message(0x89, b"hi")).await.unwrap();
        client.write_all(&sent).await.unwrap();
        let heard = timeout(Duration::from_secs(10), transcript(&mut client)).await.unwrap();
        assert_eq!(heard, format!("82 \\x01\n8a hi\n{expected}\n"));
        gone.wait().await;
        let mut input = Vec::new();
        session.stdin.take().unwrap().read_to_end(&mut input).await.unwrap();
        assert!(input.is_empty());
        assert!(session.finish(&Outcome::Success).await.is_err());
    }
}

#[tokio::test]
async fn output_waits_for_a_client_that_does_not_read() {
    let (mut client, mut session) = start(V5, ALL).await;
    let (mut stdout, mut stdin) = (session.stdout.take().unwrap(), session.stdin.take().unwrap());
    let total = 4_000_000;
    let writer = tokio::spawn(async move {
        stdout.write_all(&vec![b'x'; total]).await.unwrap();
        session.finish(&Outcome::Success).await.unwrap();
    });
    // Input goes on although no output is taken.
    client.write_all(&message(0x82, b"\x00still here")).await.unwrap();
    let mut input = [0; 10];
    stdin.read_exact(&mut input).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    assert!(!writer.is_finished(), "{total} bytes do not fit any buffer");
    let mut got = 0;
    while let Some((_, payload)) = read_message(&mut client).await {
        got += if payload.first() == Some(&1) { payload.len() - 1 } else { 0 };
    }
    assert_eq!(got, total);
    drop(client);
    writer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_is_not_given_up_while_stdin_is_slow() {
    let (mut client, mut session) = start(V5, ALL).await;
    let stdin = session.stdin.take().unwrap();
    let (mut hear, mut say) = tokio::io::split(client);
    let sending = tokio::spawn(async move {
        say.write_all(&message(0x82, &vec![0; 10 * WIRE_BYTES + 200_000])).await.unwrap();
        say
    });
    sleep(Duration::from_secs(35)).await;
    let mut heard = [0; 3 + 3 * 2];
    hear.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, *b"\x82\x01\x01\x8a\x00\x8a\x00\x8a\x00", "the greeting, then a pong each ten seconds");
    // The process ends without reading: what comes is thrown away.
    drop(stdin);
    client = hear.unsplit(sending.await.unwrap());
    tokio::spawn(async move { session.finish(&Outcome::Success).await });
    assert!(transcript(&mut client).await.ends_with("88 \\x03\\xe8\n"));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends() {
    let (mut client, session) = start(V5, ALL).await;
    let mut gone = session.client_gone();
    for _ in 0..5 {
        sleep(Duration::from_secs(1800)).await;
        client.write_all(&message(0x8A, b"")).await.unwrap();
    }
    assert!(timeout(Duration::from_secs(1), gone.wait()).await.is_err(), "a byte now and then is enough");
    timeout(Duration::from_secs(2 * 3600 + 1), gone.wait()).await.expect("idle");
}

#[tokio::test]
async fn damaged_bytes_end_the_session_and_nothing_else() {
    let good: Vec<u8> = [
        message(0x82, b"\x00some input for the process"),
        message(0x82, b"\x04{\"Width\":80,\"Height\":24}"),
        message(0x89, b"ping"),
        message(0x02, b"\x00in"),
        message(0x80, b"parts"),
        message(0x82, b"\xff\x00"),
    ]
    .concat();
    let before = panics();
    let mut random = Random(5);
    for round in 0..600 {
        let protocol = [V5, V4, V1_BASE64][round % 3];
        let (client, mut session) = start(protocol, Streams { tty: round % 2 == 0, ..ALL }).await;
        let (mut hear, mut say) = tokio::io::split(client);
        let mut stdin = session.stdin.take().unwrap();
        tokio::spawn(async move { hear.read_to_end(&mut Vec::new()).await });
        let reading = tokio::spawn(async move { stdin.read_to_end(&mut Vec::new()).await });
        // The server may have closed already.
        let _ = say.write_all(&random.damaged(&good)).await;
        let _ = say.shutdown().await;
        timeout(Duration::from_secs(10), reading).await.expect("stdin ends").unwrap().unwrap();
        let _ = timeout(Duration::from_secs(10), session.finish(&Outcome::Success)).await.expect("the session ends");
    }
    assert_eq!(panics(), before);
}
