//! The legacy logger: a program that writes its events to a file, so each copy needs a volume of its own.
//!
//! `GET /event?TEXT` logs an event, `GET /log` shows the log.

use anyhow::{Context, Result};
use http::StatusCode;

use crate::lesson::{Lesson, own_name};
use crate::{files, serve};

pub fn run(lesson: &Lesson) -> Result<()> {
    std::fs::create_dir_all(&lesson.dir).with_context(|| format!("make {}", lesson.dir.display()))?;
    let file = lesson.dir.join("events.log");
    let event = |text: &str| format!("{} {} {text}", jiff::Timestamp::now(), own_name());
    files::append(&file, &event("started")).with_context(|| format!("write {}", file.display()))?;
    serve::serve(lesson.port, move |ask| match ask.path.as_str() {
        "/log" => match std::fs::read_to_string(&file) {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        _ => {
            let line = event(if ask.query.is_empty() { &ask.path } else { &ask.query });
            match files::append(&file, &line) {
                Ok(()) => (StatusCode::OK, format!("{line}\n")),
                Err(error) => (StatusCode::INSUFFICIENT_STORAGE, format!("{error}\n")),
            }
        }
    })
}
