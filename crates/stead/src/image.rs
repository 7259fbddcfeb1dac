//! `stead image load|pull|ls|rm`: the images of the cluster's nodes.
//!
//! Works on the store on disk, whether the cluster is up or not; nodes look there when they need an image.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use stead_cli::args::{DATA_DIR, Flags};
use stead_host::ImageStore;
use stead_node::action::{Credentials, Image};

const USAGE: &str = "usage: stead image load FILE… | pull NAME [--username U --password P | --password-stdin] | ls | rm NAME  [--data-dir DIR]";

/// The arguments, taken apart.
struct Arguments {
    data_dir: PathBuf,
    username: Option<String>,
    password: Option<String>,
    words: Vec<String>,
}

pub fn run(args: &[String]) -> Result<()> {
    let arguments = parse(args)?;
    let words: Vec<&str> = arguments.words.iter().map(String::as_str).collect();
    let store = || {
        ImageStore::open(&arguments.data_dir.join("images"))
            .with_context(|| format!("open the images of {}", arguments.data_dir.display()))
    };
    match words[..] {
        ["load", ref files @ ..] if !files.is_empty() => files.iter().try_for_each(|file| load(&store()?, file)),
        ["pull", name] => pull(&store()?, name, credentials(&arguments)?.as_ref()),
        ["ls"] => {
            print!("{}", table(&store()?.list()));
            Ok(())
        }
        ["rm", name] => remove(&store()?, name),
        _ => bail!("{USAGE}"),
    }
}

fn parse(args: &[String]) -> Result<Arguments> {
    let mut out = Arguments { data_dir: DATA_DIR.into(), username: None, password: None, words: Vec::new() };
    let mut flags = Flags::new(args);
    while let Some((flag, given)) = flags.next() {
        match flag {
            "--data-dir" => out.data_dir = flags.value(flag, given)?.into(),
            "--username" => out.username = Some(flags.value(flag, given)?),
            "--password" => out.password = Some(flags.value(flag, given)?),
            "--password-stdin" => {
                let mut line = String::new();
                std::io::stdin().read_line(&mut line).context("read the password")?;
                out.password = Some(line.trim_end_matches(['\r', '\n']).to_owned());
            }
            flag if flag.starts_with("--") => bail!("there is no flag {flag}; {USAGE}"),
            word => out.words.push(word.to_owned()),
        }
    }
    Ok(out)
}

fn credentials(arguments: &Arguments) -> Result<Option<Credentials>> {
    match (&arguments.username, &arguments.password) {
        (Some(username), Some(password)) => {
            Ok(Some(Credentials { username: username.clone(), password: password.clone() }))
        }
        (None, None) => Ok(None),
        _ => bail!("--username and --password go together"),
    }
}

fn load(store: &ImageStore, file: &str) -> Result<()> {
    let bar = Bar::new(file);
    let images = stead_host::load_images(store, file.as_ref(), &|done, all| bar.show(done, all));
    bar.end();
    for image in images.with_context(|| format!("load {file}"))? {
        println!("loaded {}", image.names.first().unwrap_or(&image.id));
    }
    Ok(())
}

fn pull(store: &ImageStore, name: &str, credentials: Option<&Credentials>) -> Result<()> {
    let bar = Bar::new(name);
    let image = stead_host::pull_image(store, name, credentials, &[], &|done, all| bar.show(done, all));
    bar.end();
    let image = image?;
    println!("pulled {}", image.names.first().unwrap_or(&image.id));
    Ok(())
}

fn remove(store: &ImageStore, name: &str) -> Result<()> {
    if !store.remove(name, &BTreeSet::new())? {
        bail!("there is no image {name}; `stead image ls` lists them");
    }
    println!("removed {name}");
    Ok(())
}

fn table(images: &[Image]) -> String {
    let mut out = format!("{:<60} {:<14} SIZE\n", "IMAGE", "ID");
    for image in images {
        let id = image.id.trim_start_matches("sha256:").get(..12).unwrap_or_default();
        for name in &image.names {
            out.push_str(&format!("{name:<60} {id:<14} {:.1} MB\n", image.size_bytes as f64 / 1e6));
        }
    }
    out
}

/// A progress bar on a terminal; silent elsewhere.
struct Bar {
    what: String,
    on: bool,
}

impl Bar {
    const CELLS: u64 = 30;

    fn new(what: &str) -> Bar {
        Bar { what: what.to_owned(), on: std::io::stderr().is_terminal() }
    }

    fn show(&self, done: u64, all: u64) {
        if self.on {
            let filled = (done * Bar::CELLS).checked_div(all).unwrap_or(0).min(Bar::CELLS) as usize;
            let bar = "=".repeat(filled) + &" ".repeat(Bar::CELLS as usize - filled);
            eprint!("\r{} [{bar}] {} of {} MB", self.what, done >> 20, all >> 20);
            let _ = std::io::stderr().flush();
        }
    }

    fn end(&self) {
        if self.on {
            eprintln!();
        }
    }
}
