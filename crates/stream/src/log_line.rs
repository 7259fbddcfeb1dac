//! One line of a container log in CRI format: `2016-10-06T00:17:09.669794202Z stdout F text`.
//!
//! Contract: borrows from the line and parses nothing that is not asked for; a line of another form is `None`.
//! Rule: the CRI logging format (tag `P` means that the text goes on in the stream's next line).

use jiff::Timestamp;
use std::fmt::Write;

/// Which of a container's streams to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogStream {
    #[default]
    All,
    Stdout,
    Stderr,
}

pub(crate) struct LogLine<'a> {
    time: &'a str,
    pub stream: LogStream,
    /// The text ends here (tag `F`); else its line goes on.
    pub is_full: bool,
    pub text: &'a [u8],
}

impl<'a> LogLine<'a> {
    /// `line` is without its newline.
    pub fn parse(line: &'a [u8]) -> Option<LogLine<'a>> {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(fields.next()?).ok()?;
        let stream = match fields.next()? {
            b"stdout" => LogStream::Stdout,
            b"stderr" => LogStream::Stderr,
            _ => return None,
        };
        // Further tags may follow the first after a colon.
        let tag = fields.next()?.split(|byte| *byte == b':').next()?;
        Some(LogLine { time, stream, is_full: tag != b"P", text: fields.next()? })
    }

    pub fn time(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }

    /// Appends the time as kubectl shows it: UTC with nine digits.
    pub fn push_time(&self, out: &mut Vec<u8>) {
        let is_fixed = self.time.len() == "2016-10-06T00:17:09.669794202Z".len() && self.time.ends_with('Z');
        let mut text = String::new();
        match self.time() {
            Some(time) if !is_fixed => {
                // Writing to a string cannot fail.
                let _ = write!(text, "{time:.9}");
            }
            _ => text.push_str(self.time),
        }
        out.extend_from_slice(text.as_bytes());
        out.push(b' ');
    }
}
