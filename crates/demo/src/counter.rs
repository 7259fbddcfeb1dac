//! The counter: state that belongs to one pod. Each visit adds one to a number on the pod's own volume.

use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result};
use http::StatusCode;

use crate::lesson::{Lesson, own_name};
use crate::{files, serve};

pub fn run(lesson: &Lesson) -> Result<()> {
    let file = lesson.dir.join("count");
    std::fs::create_dir_all(&lesson.dir).with_context(|| format!("make {}", lesson.dir.display()))?;
    let count = Mutex::new(read(&file)?);
    serve::serve(lesson.port, move |ask| {
        let mut count = count.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if ask.path != "/count" {
            if let Err(error) = files::replace(&file, (*count + 1).to_string().as_bytes()) {
                return (StatusCode::INSUFFICIENT_STORAGE, format!("{}: {error}\n", own_name()));
            }
            *count += 1;
        }
        (StatusCode::OK, format!("{} has counted {}\n", own_name(), *count))
    })
}

fn read(file: &Path) -> Result<u64> {
    match std::fs::read_to_string(file) {
        Ok(text) => text.trim().parse().with_context(|| format!("{} holds no number", file.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
    }
}
