//! Real kubectl against the library, over WebSocket and over SPDY (behaviour rows K-07, K-08, K-09).

mod support;

use std::process::Stdio;
use std::time::Duration;
use support::kubectl::{Home, Ran, Wire, command, run};
use support::server;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const BOTH: [Wire; 2] = [Wire::WebSocket, Wire::Spdy];
const TWENTY_MB: usize = 20 * 1000 * 1000;

async fn exec(wire: Wire, args: &[&str], stdin: &[u8]) -> Ran {
    let (server, home) = (server::start().await, Home::new());
    let args = [&["exec", "web-0"], args].concat();
    let ran = run(&home, server.address, wire, &args, stdin).await;
    let asked = match wire {
        Wire::WebSocket => "GET /api/v1/namespaces/default/pods/web-0/exec websocket",
        Wire::Spdy => "POST /api/v1/namespaces/default/pods/web-0/exec SPDY/3.1",
    };
    let seen = server.seen.lock().unwrap();
    let execs: Vec<_> = seen.iter().filter(|line| line.contains("/exec")).collect();
    assert_eq!(execs, [asked], "one upgrade, without a fallback");
    ran
}

fn noise(length: usize) -> Vec<u8> {
    (0..length as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[tokio::test]
async fn output_errors_and_the_exit_code() {
    for wire in BOTH {
        let ran = exec(wire, &["--", "sh", "-c", "echo out; echo err >&2; exit 7"], b"").await;
        assert_eq!(ran.text(), "7\nout\n---\nerr\ncommand terminated with exit code 7\n", "{wire:?}");
        let ran = exec(wire, &["--", "true"], b"").await;
        assert_eq!(ran.text(), "0\n---\n", "{wire:?}");
        let ran = exec(wire, &["--", "/no/such/program"], b"").await;
        assert_eq!(ran.code, 1, "{wire:?}");
        assert!(ran.stderr.contains("error executing command in container: No such file"), "{}", ran.stderr);
    }
}

#[tokio::test]
async fn the_end_of_stdin_reaches_the_process() {
    for wire in BOTH {
        let ran = exec(wire, &["-i", "--", "sh", "-c", "wc -c; exit 3"], b"hello").await;
        assert_eq!(ran.text(), "3\n5\n---\ncommand terminated with exit code 3\n", "{wire:?}");
    }
}

#[tokio::test]
async fn a_process_that_does_not_read_stdin_ends_all_the_same() {
    let input = noise(1_000_000);
    for wire in BOTH {
        let ran = exec(wire, &["-i", "--", "sh", "-c", "exec <&-; echo done"], &input).await;
        assert_eq!((ran.code, &ran.stdout[..]), (0, &b"done\n"[..]), "{wire:?} {}", ran.stderr);
    }
}

#[tokio::test]
async fn twenty_megabytes_both_ways_at_once() {
    let input = noise(TWENTY_MB);
    for wire in BOTH {
        let ran = exec(wire, &["-i", "--", "cat"], &input).await;
        assert_eq!(ran.code, 0, "{wire:?} {}", ran.stderr);
        assert!(ran.stdout == input, "{wire:?}: {} bytes", ran.stdout.len());
    }
}

#[tokio::test]
async fn attach_gives_and_takes() {
    for wire in BOTH {
        let (server, home) = (server::start().await, Home::new());
        let ran = run(&home, server.address, wire, &["attach", "web-0", "-i"], b"hello\n").await;
        assert_eq!(ran.code, 0, "{wire:?} {}", ran.stderr);
        assert_eq!(String::from_utf8_lossy(&ran.stdout), "attached\nhello\n", "{wire:?}");
    }
}

#[tokio::test]
async fn a_terminal_has_a_size_and_gives_its_exit_code() {
    for wire in BOTH {
        let (server, home) = (server::start().await, Home::new());
        let kubectl = command(
            &home,
            server.address,
            wire,
            &["exec", "-it", "web-0", "--", "sh", "-c", "tty -s && stty size; read x; echo got $x; exit 5"],
        );
        // script(1) gives kubectl a terminal of its own.
        let line: Vec<String> = std::iter::once(kubectl.as_std().get_program())
            .chain(kubectl.as_std().get_args())
            .map(|arg| format!("'{}'", arg.to_str().unwrap()))
            .collect();
        let line = format!("stty rows 33 cols 99; {}; echo code $?", line.join(" "));
        let mut script = tokio::process::Command::new("script");
        script.args(["-q", "-c", &line, "/dev/null"]);
        for (name, value) in kubectl.as_std().get_envs() {
            script.env(name, value.unwrap());
        }
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut text = String::new();
        let text = &mut text;
        let reading = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                *text += line.trim_end();
                text.push('\n');
                if line.contains("33 99") {
                    stdin.write_all(b"typed\n").await.unwrap();
                }
            }
        };
        let read = tokio::time::timeout(Duration::from_secs(60), reading).await;
        assert!(read.is_ok(), "{wire:?} hangs: {text}");
        assert!(text.contains("33 99\n"), "{wire:?}: {text}");
        assert!(text.contains("got typed\n"), "{wire:?}: {text}");
        assert!(text.ends_with("command terminated with exit code 5\ncode 5\n"), "{wire:?}: {text}");
    }
}

#[tokio::test]
async fn cp_there_and_back() {
    for wire in BOTH {
        let (server, home) = (server::start().await, Home::new());
        let at = |name: &str| home.0.join(name).to_str().unwrap().to_owned();
        let data = noise(3_000_000);
        std::fs::write(at("here"), &data).unwrap();
        let ran = run(&home, server.address, wire, &["cp", &at("here"), &format!("web-0:{}", at("there"))], b"").await;
        assert_eq!(ran.code, 0, "{wire:?} {}", ran.stderr);
        assert!(std::fs::read(at("there")).unwrap() == data, "{wire:?}");
        let ran = run(&home, server.address, wire, &["cp", &format!("web-0:{}", at("there")), &at("back")], b"").await;
        assert_eq!(ran.code, 0, "{wire:?} {}", ran.stderr);
        assert!(std::fs::read(at("back")).unwrap() == data, "{wire:?}");
    }
}

/// Answers what it is told, until it is told no more.
async fn echo_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut reader, mut writer) = socket.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = writer.shutdown().await;
            });
        }
    });
    port
}

async fn echo(port: u16, data: Vec<u8>) -> Vec<u8> {
    let (mut reader, mut writer) = TcpStream::connect(("127.0.0.1", port)).await.unwrap().into_split();
    let sending = tokio::spawn(async move {
        writer.write_all(&data).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    reader.read_to_end(&mut got).await.unwrap();
    sending.await.unwrap();
    got
}

#[tokio::test]
async fn many_forwarded_connections_share_one_session() {
    for wire in BOTH {
        let (server, home) = (server::start().await, Home::new());
        let target = echo_server().await;
        let mut child = command(&home, server.address, wire, &["port-forward", "pod/web-0", &format!(":{target}")])
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().expect("a line");
        let local: u16 = line
            .strip_prefix("Forwarding from 127.0.0.1:")
            .and_then(|rest| rest.split(' ').next())
            .and_then(|port| port.parse().ok())
            .unwrap_or_else(|| panic!("{line}"));
        let all = async {
            let big = tokio::spawn(echo(local, noise(TWENTY_MB)));
            let small: Vec<_> = (0..20).map(|i| tokio::spawn(echo(local, vec![i; 1000 * usize::from(i)]))).collect();
            for (i, echoed) in small.into_iter().enumerate() {
                assert!(echoed.await.unwrap() == vec![i as u8; 1000 * i], "{wire:?} {i}");
            }
            assert!(big.await.unwrap() == noise(TWENTY_MB), "{wire:?}");
        };
        tokio::time::timeout(Duration::from_secs(60), all).await.unwrap_or_else(|_| panic!("{wire:?} hangs"));
        let upgrades = server.seen.lock().unwrap().iter().filter(|l| l.contains("/portforward")).count();
        assert_eq!(upgrades, 1, "{wire:?}");
    }
}

#[tokio::test]
async fn a_port_nobody_listens_on_is_reported() {
    for wire in BOTH {
        let (server, home) = (server::start().await, Home::new());
        // Bound and dropped at once: free, most likely for as long as the test runs.
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let mut child =
            command(&home, server.address, wire, &["port-forward", "pod/web-0", &format!(":{free}")]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().expect("a line");
        let local: u16 = line.split([':', ' ']).filter_map(|word| word.parse().ok()).next().unwrap();
        let mut socket = TcpStream::connect(("127.0.0.1", local)).await.unwrap();
        let mut got = Vec::new();
        // kubectl resets or closes the connection.
        let _ =
            tokio::time::timeout(Duration::from_secs(30), socket.read_to_end(&mut got)).await.expect("kubectl hangs");
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        let found = tokio::time::timeout(Duration::from_secs(30), async {
            while let Some(line) = errors.next_line().await.unwrap() {
                if line.contains("cannot connect: Connection refused") {
                    return true;
                }
            }
            false
        });
        assert!(found.await.expect("kubectl hangs"), "{wire:?}");
    }
}
