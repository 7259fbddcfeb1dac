//! The key-value store: one shard of a cache. `PUT /KEY`, `GET /KEY`, `DELETE /KEY`, and `GET /` for all keys.
//!
//! Which shard a key belongs to is the client's matter: `demo shard KEY N` computes it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use http::{Method, StatusCode};

use crate::lesson::{Lesson, own_name};
use crate::serve::{Answer, Ask};
use crate::{files, serve};

pub fn run(lesson: &Lesson) -> Result<()> {
    let dir = lesson.dir.join("keys");
    std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    serve::serve(lesson.port, move |ask| {
        answer(&dir, &ask).unwrap_or_else(|error| (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")))
    })
}

fn answer(dir: &Path, ask: &Ask) -> std::io::Result<Answer> {
    let key = ask.path.trim_start_matches('/');
    if key.is_empty() {
        return Ok((StatusCode::OK, keys(dir)?));
    }
    let Some(file) = file(dir, key) else {
        return Ok((StatusCode::BAD_REQUEST, "a key is made of letters, digits, - and _\n".into()));
    };
    match ask.method {
        Method::PUT | Method::POST => {
            files::replace(&file, &ask.body)?;
            Ok((StatusCode::OK, format!("{} keeps {key}\n", own_name())))
        }
        Method::DELETE => {
            files::remove(&file)?;
            Ok((StatusCode::OK, format!("{} forgot {key}\n", own_name())))
        }
        _ => match std::fs::read_to_string(&file) {
            Ok(value) => Ok((StatusCode::OK, format!("{value}\n"))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok((StatusCode::NOT_FOUND, format!("{} has no {key}\n", own_name())))
            }
            Err(error) => Err(error),
        },
    }
}

fn file(dir: &Path, key: &str) -> Option<PathBuf> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (key.len() <= 200 && key.chars().all(legal)).then(|| dir.join(format!("{key}.value")))
}

fn keys(dir: &Path) -> std::io::Result<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".value").map(str::to_owned))
        .collect();
    names.sort();
    Ok(names.into_iter().map(|name| name + "\n").collect())
}
