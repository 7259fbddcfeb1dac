//! What every lesson is told, and how it calls itself.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// The flags that lessons share.
pub struct Lesson {
    pub dir: PathBuf,
    pub port: u16,
}

impl Lesson {
    pub fn parse(flags: &[String], dir: &str) -> Result<Lesson> {
        let mut lesson = Lesson { dir: dir.into(), port: 8080 };
        let mut flags = flags.iter();
        while let Some(flag) = flags.next() {
            let value = flags.next().with_context(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--dir" => lesson.dir = value.into(),
                "--port" => lesson.port = value.parse().with_context(|| format!("{value} is no port"))?,
                _ => bail!("there is no flag {flag}"),
            }
        }
        Ok(lesson)
    }
}

/// The pod's name, which is its host name.
pub fn own_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
