//! The gRPC health check, as little HTTP/2 as it needs: one request, the answer's first message.
//!
//! Upstream: grpc.health.v1.Health/Check; kubelet's gRPC prober.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
const FRAME_BYTES_MAX: usize = 1 << 14;

pub fn check(address: SocketAddr, service: &str, timeout: Duration) -> Result<(), String> {
    let until = Instant::now() + timeout;
    let late =
        || format!("timeout: failed to connect service {:?} within {}s", address.to_string(), timeout.as_secs_f32());
    let stream = TcpStream::connect_timeout(&address, timeout).map_err(|_| late())?;
    match serving_status(stream, address, service, until) {
        Ok(Some(1)) => Ok(()),
        Ok(Some(status)) => {
            let name = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"].get(status as usize);
            Err(format!("service unhealthy (responded with {:?})", name.unwrap_or(&"UNKNOWN")))
        }
        Ok(None) => {
            Err("error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".into())
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => Err(late()),
        Err(e) => Err(format!("rpc error: {e}")),
    }
}

/// The status in the answer, `None` when it has no message.
fn serving_status(
    mut stream: TcpStream,
    address: SocketAddr,
    service: &str,
    until: Instant,
) -> io::Result<Option<u64>> {
    set_timeout(&stream, until)?;
    let mut request = PREFACE.to_vec();
    frame(&mut request, SETTINGS, 0, 0, &[]);
    frame(&mut request, HEADERS, END_HEADERS, 1, &headers(address));
    frame(&mut request, DATA, END_STREAM, 1, &message(service));
    stream.write_all(&request)?;
    loop {
        set_timeout(&stream, until)?;
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        if length > FRAME_BYTES_MAX {
            return Err(io::Error::other("frame too large"));
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let (kind, flags) = (head[3], head[4]);
        match kind {
            DATA if !body.is_empty() => return Ok(Some(status_of(&body))),
            DATA | HEADERS if flags & END_STREAM != 0 => return Ok(None),
            RESET | GOAWAY => return Err(io::Error::other("the server hung up")),
            SETTINGS | PING if flags & ACK == 0 => {
                let mut answer = Vec::new();
                frame(&mut answer, kind, ACK, 0, if kind == PING { &body } else { &[] });
                stream.write_all(&answer)?;
            }
            _ => {}
        }
    }
}

fn set_timeout(stream: &TcpStream, until: Instant) -> io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    stream.set_read_timeout(Some(left))?;
    stream.set_write_timeout(Some(left))
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, body: &[u8]) {
    let length = body.len() as u32;
    out.extend_from_slice(&length.to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(body);
}

/// HPACK without compression: each field literal, never indexed, new name.
fn headers(address: SocketAddr) -> Vec<u8> {
    let authority = address.to_string();
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", &authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "kube-probe/1.36"),
    ];
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0x10);
        for text in [name, value] {
            // Every text here is shorter than 127 bytes, so its length is one byte.
            out.push(text.len() as u8);
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// HealthCheckRequest{service = 1} behind gRPC's five-byte prefix.
fn message(service: &str) -> Vec<u8> {
    let mut request = Vec::new();
    if !service.is_empty() {
        request.push(0x0a);
        let mut length = service.len();
        while length > 0x7f {
            request.push(length as u8 | 0x80);
            length >>= 7;
        }
        request.push(length as u8);
        request.extend_from_slice(service.as_bytes());
    }
    let mut out = vec![0];
    out.extend_from_slice(&(request.len() as u32).to_be_bytes());
    out.extend(request);
    out
}

/// HealthCheckResponse{status = 1}; a default of 0 is not sent.
fn status_of(body: &[u8]) -> u64 {
    match body.get(5..) {
        Some([0x08, status, ..]) => u64::from(*status),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u8) -> Result<(), String> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut conn, _) = listener.accept().unwrap();
            let mut request = vec![0; PREFACE.len() + 9];
            conn.read_exact(&mut request).unwrap();
            assert!(request.starts_with(PREFACE));
            let mut out = Vec::new();
            frame(&mut out, SETTINGS, 0, 0, &[]);
            frame(&mut out, HEADERS, END_HEADERS, 1, &[0x88]);
            frame(&mut out, DATA, 0, 1, &[0, 0, 0, 0, 2, 8, status]);
            conn.write_all(&out).unwrap();
            let _ = conn.read(&mut [0; 1024]);
        });
        let result = check(address, "db", Duration::from_secs(5));
        server.join().unwrap();
        result
    }

    #[test]
    fn only_serving_is_healthy() {
        assert_eq!(answer(1), Ok(()));
        assert_eq!(answer(2), Err("service unhealthy (responded with \"NOT_SERVING\")".into()));
    }
}
