//! Asks containers how they are: commands, HTTP, TCP and gRPC health checks; lifecycle hooks are the same questions.
//!
//! Upstream: kubelet's probers, down to the texts of their failures.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use stead_node::action::{Check, ContainerRef, HookAction, ProbeResult};

use crate::Host;
use crate::shim_exec::TIMED_OUT;

/// Of a response's body, for the event's text.
const BODY_BYTES_MAX: usize = 10 << 10;

impl Host {
    pub(crate) fn probe(&self, container: &ContainerRef, check: &Check, timeout: Duration) -> ProbeResult {
        if self.has_ended(container) {
            return ProbeResult::Unknown("container is not running".into());
        }
        match self.ask(container, check, timeout) {
            Ok(()) => ProbeResult::Success,
            Err(_) if self.has_ended(container) => ProbeResult::Unknown("container ended during the probe".into()),
            Err(why) => ProbeResult::Failure(why),
        }
    }

    pub(crate) fn run_hook(
        &self,
        container: &ContainerRef,
        action: &HookAction,
        timeout: Duration,
    ) -> Result<(), String> {
        match action {
            HookAction::Sleep(length) => {
                // A hook whose container ended needs no more sleep.
                self.inner.sleep_while_running(container, (*length).min(timeout));
                Ok(())
            }
            HookAction::Run(check) => self.ask(container, check, timeout),
        }
    }

    fn ask(&self, container: &ContainerRef, check: &Check, timeout: Duration) -> Result<(), String> {
        match check {
            Check::Exec { command } => {
                let result = self.run_command(container, command, timeout, BODY_BYTES_MAX);
                match result.map_err(|e| e.to_string())? {
                    (0, _) => Ok(()),
                    (TIMED_OUT, output) if output.is_empty() => {
                        Err(format!("command timed out: {command:?} timed out after {}", seconds(timeout)))
                    }
                    (code, output) if output.is_empty() => Err(format!("command {command:?} exited with {code}")),
                    (_, output) => Err(output),
                }
            }
            Check::Tcp { address } => {
                TcpStream::connect_timeout(address, timeout).map(drop).map_err(|e| dial_error(*address, &e))
            }
            Check::Http { https, host, port, path, headers } => http(*https, host, *port, path, headers, timeout),
            Check::Grpc { address, service } => crate::probe_grpc::check(*address, service, timeout),
        }
    }
}

fn seconds(timeout: Duration) -> String {
    format!("{}s", timeout.as_secs_f32())
}

pub(crate) fn dial_error(address: SocketAddr, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused",
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "i/o timeout",
        io::ErrorKind::HostUnreachable => "connect: no route to host",
        _ => return format!("dial tcp {address}: {error}"),
    };
    format!("dial tcp {address}: {why}")
}

fn http(
    https: bool,
    host: &str,
    port: u16,
    path: &str,
    headers: &[(String, String)],
    timeout: Duration,
) -> Result<(), String> {
    let scheme = if https { "https" } else { "http" };
    let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
    let shown_host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
    let url = format!("{scheme}://{shown_host}:{port}{path}");
    let late = || format!("Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)");
    let until = Instant::now() + timeout;
    let address = (host, port).to_socket_addrs().ok().and_then(|mut all| all.next());
    let address = address.ok_or_else(|| format!("Get {url:?}: dial tcp: lookup {host}: no such host"))?;
    let stream = TcpStream::connect_timeout(&address, timeout).map_err(|e| {
        if e.kind() == io::ErrorKind::TimedOut { late() } else { format!("Get {url:?}: {}", dial_error(address, &e)) }
    })?;
    let mut request = format!("GET {path} HTTP/1.1\r\n");
    let given = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    if !given("host") {
        request += &format!("Host: {shown_host}:{port}\r\n");
    }
    if !given("user-agent") {
        request += "User-Agent: kube-probe/1.36\r\n";
    }
    if !given("accept") {
        request += "Accept: */*\r\n";
    }
    for (name, value) in headers {
        if name.contains(['\r', '\n']) || value.contains(['\r', '\n']) {
            return Err(format!("net/http: invalid header field name {name:?}"));
        }
        request += &format!("{name}: {value}\r\n");
    }
    request += "Connection: close\r\n\r\n";
    let response = exchange(stream, https, host, request.as_bytes(), until).map_err(|e| match e.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => late(),
        io::ErrorKind::UnexpectedEof => format!("Get {url:?}: EOF"),
        _ => format!("Get {url:?}: {e}"),
    })?;
    let status = parse_status(&response).ok_or_else(|| format!("Get {url:?}: malformed HTTP response"))?;
    match status {
        200..=399 => Ok(()),
        code => Err(format!("HTTP probe failed with statuscode: {code}")),
    }
}

/// Sends and reads the head of the answer.
fn exchange(stream: TcpStream, https: bool, host: &str, request: &[u8], until: Instant) -> io::Result<Vec<u8>> {
    if https {
        let name = rustls::pki_types::ServerName::try_from(host.to_string())
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let client = rustls::ClientConnection::new(crate::tls::unverified(), name).map_err(io::Error::other)?;
        return converse(rustls::StreamOwned::new(client, stream), |s| &s.sock, request, until);
    }
    converse(stream, |s| s, request, until)
}

fn converse<S: Read + Write>(
    mut stream: S,
    socket: impl Fn(&S) -> &TcpStream,
    request: &[u8],
    until: Instant,
) -> io::Result<Vec<u8>> {
    let set_timeout = |stream: &S| {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        socket(stream).set_read_timeout(Some(left))?;
        socket(stream).set_write_timeout(Some(left))
    };
    set_timeout(&stream)?;
    stream.write_all(request)?;
    let mut response = Vec::new();
    let mut buffer = [0; 4096];
    while response.len() < BODY_BYTES_MAX && !response.windows(4).any(|w| w == b"\r\n\r\n") {
        set_timeout(&stream)?;
        match stream.read(&mut buffer)? {
            0 if response.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            0 => break,
            n => response.extend_from_slice(&buffer[..n]),
        }
    }
    Ok(response)
}

fn parse_status(response: &[u8]) -> Option<u16> {
    let line = response.split(|b| *b == b'\n').next()?;
    let text = std::str::from_utf8(line).ok()?;
    let mut parts = text.split_whitespace();
    parts.next().filter(|v| v.starts_with("HTTP/1."))?;
    parts.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server of one answer.
    fn serve(answer: &'static [u8]) -> (u16, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let (mut conn, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let n = conn.read(&mut request).unwrap();
            conn.write_all(answer).unwrap();
            String::from_utf8_lossy(&request[..n]).into_owned()
        });
        (port, thread)
    }

    fn check(answer: &'static [u8]) -> Result<(), String> {
        let (port, thread) = serve(answer);
        let result = http(false, "127.0.0.1", port, "/healthz", &[("X-A".into(), "b".into())], Duration::from_secs(5));
        let request = thread.join().unwrap();
        assert!(request.starts_with("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        assert!(request.contains("\r\nX-A: b\r\n"), "{request}");
        result.map_err(|e| e.replace(&port.to_string(), "PORT"))
    }

    #[test]
    fn http_answers_are_judged_by_their_status() {
        assert_eq!(check(b"HTTP/1.1 204 No Content\r\n\r\n"), Ok(()));
        assert_eq!(check(b"HTTP/1.0 302 Found\r\nLocation: /x\r\n\r\n"), Ok(()));
        assert_eq!(check(b"HTTP/1.1 503 No\r\n\r\nbusy"), Err("HTTP probe failed with statuscode: 503".into()));
        assert_eq!(check(b"hello"), Err("Get \"http://127.0.0.1:PORT/healthz\": malformed HTTP response".into()));
    }

    #[test]
    fn a_server_that_does_not_answer_is_late_and_one_that_is_not_there_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ask = || http(false, "127.0.0.1", port, "/", &[], Duration::from_millis(50)).unwrap_err();
        assert!(ask().contains("context deadline exceeded"));
        drop(listener);
        assert!(ask().ends_with(&format!("dial tcp 127.0.0.1:{port}: connect: connection refused")));
    }
}
