//! What the server tells its operator: lines on standard error, which is `stead.log` or the init system's journal.

use std::fmt::Display;
use std::io::Write;

/// One line. Unlike `eprintln!` it does not end the thread when the log's own disk is full.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "stead: {line}");
}
