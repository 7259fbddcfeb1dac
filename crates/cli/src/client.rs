//! Plain HTTP over the data directory's socket: who may open it is the administrator.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Where the socket is, below the data directory.
pub const SOCKET: &str = "run/api.sock";
/// The largest answer read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Whether a server answers for this data directory. One that was just killed still takes connections, but answers nothing.
pub fn is_up(data_dir: &Path) -> bool {
    get(data_dir, "/-/status").is_ok()
}

/// One request; the answer's code and body.
pub fn request(data_dir: &Path, method: &str, path: &str, content_type: &str, body: &str) -> Result<(u16, Value)> {
    let mut answer = open(data_dir, method, path, content_type, body)?;
    let mut text = String::new();
    answer.body.take(ANSWER_BYTES_MAX).read_to_string(&mut text).context("read the server's answer")?;
    let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok((std::mem::take(&mut answer.code), value))
}

/// A GET whose failure is an error with the server's message.
pub fn get(data_dir: &Path, path: &str) -> Result<Value> {
    match request(data_dir, "GET", path, "", "")? {
        (200..=299, value) => Ok(value),
        (_, value) => bail!("{}", value["message"].as_str().unwrap_or("the server refused")),
    }
}

/// An answer that is being read.
pub struct Answer {
    pub code: u16,
    pub body: Box<dyn Read>,
}

/// Sends a request and reads the head of the answer.
pub fn open(data_dir: &Path, method: &str, path: &str, content_type: &str, body: &str) -> Result<Answer> {
    let socket = data_dir.join(SOCKET);
    let mut stream = UnixStream::connect(&socket)
        .with_context(|| format!("no cluster runs on {}; start it with `stead up`", data_dir.display()))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: stead\r\nConnection: close\r\nUser-Agent: stead\r\nAccept: application/json\r\n\
         Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let code = line.split(' ').nth(1).and_then(|c| c.parse().ok()).context("the server's answer is not HTTP")?;
    let mut chunked = false;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.trim_end() {
            "" => break,
            header => chunked |= header.eq_ignore_ascii_case("transfer-encoding: chunked"),
        }
    }
    let body: Box<dyn Read> =
        if chunked { Box::new(Chunked { reader, left: 0, ended: false }) } else { Box::new(reader) };
    Ok(Answer { code, body })
}

/// The chunked transfer coding, decoded.
struct Chunked {
    reader: BufReader<UnixStream>,
    left: usize,
    ended: bool,
}

impl Read for Chunked {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 && !self.ended {
            let mut line = String::new();
            self.reader.read_line(&mut line)?;
            if line.trim_end().is_empty() {
                line.clear();
                self.reader.read_line(&mut line)?;
            }
            let size = usize::from_str_radix(line.trim_end(), 16);
            self.left = size.map_err(|_| std::io::Error::other("broken chunk from the server"))?;
            self.ended = self.left == 0;
        }
        if self.ended {
            return Ok(0);
        }
        let most = out.len().min(self.left);
        let read = self.reader.read(&mut out[..most])?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read;
        Ok(read)
    }
}
