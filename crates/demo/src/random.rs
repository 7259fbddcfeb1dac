//! The random generator: answers a number with the id of the copy that drew it, and logs it to $LOG_FILE.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result};
use http::StatusCode;
use serde_json::json;

use crate::lesson::{Lesson, own_name};
use crate::{files, serve};

pub fn run(lesson: &Lesson) -> Result<()> {
    let log = std::env::var_os("LOG_FILE").map(PathBuf::from);
    serve::serve(lesson.port, move |_| match draw() {
        Ok(number) => {
            let line = format!("{},{},{number}", jiff::Timestamp::now(), own_name());
            if let Some(Err(error)) = log.as_ref().map(|file| files::append(file, &line)) {
                return (StatusCode::INSUFFICIENT_STORAGE, format!("{error}\n"));
            }
            (StatusCode::OK, format!("{}\n", json!({"random": number, "id": own_name()})))
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")),
    })
}

fn draw() -> Result<i32> {
    let mut bytes = [0; 4];
    File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes)).context("read /dev/urandom")?;
    Ok(i32::from_le_bytes(bytes))
}
