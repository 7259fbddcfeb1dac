//! `cargo xtask descriptions`: what `kubectl explain` says of each kind and field.
//!
//! The texts are those that the `k8s-openapi` crate (Apache-2.0) carries for its `schemars` feature. They are read from the
//! crate's source, as cargo fetched it, so that the feature need not be built: each `JsonSchema` implementation names
//! its definition and then holds one `"description"` per property. The output, `schema/descriptions.gz`, is gzipped lines:
//! `name<TAB>text` for a definition, `<TAB>property<TAB>text` for its properties, the texts as JSON strings.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

const OUTPUT: &str = "schema/descriptions.gz";
const DEFINITIONS: &str = "schema/definitions.txt";
const VERSION_FOLDER: &str = "src/v1_36";

#[derive(Default)]
struct Texts {
    own: String,
    properties: BTreeMap<String, String>,
}

pub fn run() -> Result<()> {
    let known = std::fs::read_to_string(DEFINITIONS).with_context(|| format!("read {DEFINITIONS}"))?;
    let mut found = BTreeMap::new();
    visit(&crate_folder()?.join(VERSION_FOLDER), &mut found)?;
    let mut lines = String::new();
    for name in known.lines().filter_map(|line| line.split('\t').next()) {
        let Some(Texts { own, properties }) = found.get(name) else { continue };
        lines.push_str(&format!("{name}\t{own}\n"));
        for (property, text) in properties {
            lines.push_str(&format!("\t{property}\t{text}\n"));
        }
    }
    let output = File::create(OUTPUT).with_context(|| format!("write {OUTPUT}"))?;
    let mut packed = flate2::GzBuilder::new().mtime(0).write(output, flate2::Compression::best());
    packed.write_all(lines.as_bytes())?;
    packed.finish()?;
    Ok(())
}

/// Where cargo keeps the source of k8s-openapi.
fn crate_folder() -> Result<PathBuf> {
    let output =
        Command::new("cargo").args(["metadata", "--format-version", "1"]).output().context("cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let manifest = packages.filter(|one| one["name"] == "k8s-openapi").find_map(|one| one["manifest_path"].as_str());
    let manifest = Path::new(manifest.context("k8s-openapi is not a dependency")?);
    Ok(manifest.parent().context("the manifest has no folder")?.to_owned())
}

fn visit(path: &Path, found: &mut BTreeMap<String, Texts>) -> Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).with_context(|| format!("read {}", path.display()))? {
            visit(&entry?.path(), found)?;
        }
        return Ok(());
    }
    let source = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    read(&source, found).with_context(|| format!("in {}", path.display()))
}

/// Collects the texts of the implementations in one file, which is formatted by a machine: depth is indentation.
fn read(source: &str, found: &mut BTreeMap<String, Texts>) -> Result<()> {
    let mut name: Option<String> = None;
    let mut property = String::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        let line = line.trim_start();
        if line.starts_with("fn schema_name()") {
            let text = lines.next().unwrap_or_default().trim();
            name = text.strip_prefix('"').and_then(|text| text.strip_suffix("\".into()")).map(str::to_owned);
            continue;
        }
        let Some(name) = &name else { continue };
        let texts = found.entry(name.clone()).or_default();
        if indent == 16 && line.starts_with('"') {
            property = line.split('"').nth(1).unwrap_or_default().to_owned();
        } else if let Some(text) = line.strip_prefix("\"description\": ") {
            let text = plain(text.trim_end_matches(','))?;
            match indent {
                12 => texts.own = text,
                20 => drop(texts.properties.insert(property.clone(), text)),
                _ => {}
            }
        } else if let Some((_, text)) = line.split_once("insert(\"description\".into(), ")
            && indent == 20
        {
            texts.properties.insert(property.clone(), plain(text.trim_end_matches(".into());"))?);
        }
    }
    Ok(())
}

/// A Rust string literal as a JSON string.
fn plain(literal: &str) -> Result<String> {
    let inner = literal.strip_prefix('"').and_then(|text| text.strip_suffix('"')).context("not a string literal")?;
    let mut text = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, false) => text.push(c),
            _ => match chars.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('r') => text.push('\r'),
                Some(c @ ('"' | '\\' | '\'')) => text.push(c),
                Some('u') => {
                    let code: String = chars.by_ref().skip(1).take_while(|c| *c != '}').collect();
                    text.extend(u32::from_str_radix(&code, 16).ok().and_then(char::from_u32));
                }
                other => bail!("unknown escape {other:?}"),
            },
        }
    }
    Ok(Value::String(text).to_string())
}
