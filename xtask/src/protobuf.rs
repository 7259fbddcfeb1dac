//! `cargo xtask protobuf FOLDER`: the field numbers of Kubernetes' protobuf messages.
//!
//! `FOLDER` is the source of the `k8s-pb` crate (Apache-2.0), whose generated structs carry each field's number. Kept are facts alone:
//! for each definition of `schema/definitions.txt` a line `name<TAB>1=metadata 2=spec …` that pairs numbers with JSON names. Go inlines
//! some structs in JSON that are messages of their own on the wire (a Volume's source): such a field is `2=/` and has a line
//! of its own under `name/2`, matched against the same JSON names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

const DEFINITIONS: &str = "schema/definitions.txt";
const OUTPUT: &str = "schema/protobuf.txt";

struct Field {
    number: u32,
    name: String,
    /// The full name of the message it holds, when it holds one.
    message: Option<String>,
}

/// By full name in lower case: generated names differ from Kubernetes' in case (`HttpGetAction`).
type Messages = BTreeMap<String, Vec<Field>>;

pub fn run(folder: &Path) -> Result<()> {
    let mut messages = Messages::new();
    visit(&folder.join("src"), &mut Vec::new(), &mut messages)?;
    let definitions = std::fs::read_to_string(DEFINITIONS).with_context(|| format!("read {DEFINITIONS}"))?;
    let mut lines = BTreeMap::new();
    for (name, text) in definitions.lines().filter_map(|line| line.split_once('\t')) {
        let facts: Value = serde_json::from_str(text).with_context(|| format!("definition {name}"))?;
        let properties = facts["properties"].as_object();
        let names: BTreeMap<String, &str> =
            properties.into_iter().flatten().map(|(n, _)| (plain(n), n.as_str())).collect();
        add(name, name, &names, &messages, &mut lines);
    }
    let mut output = String::new();
    for (name, line) in &lines {
        writeln!(output, "{name}\t{line}")?;
    }
    std::fs::write(OUTPUT, output).with_context(|| format!("write {OUTPUT}"))
}

/// Writes the line of a message under `entry`, and those of the messages inlined in it.
fn add(
    entry: &str,
    message: &str,
    names: &BTreeMap<String, &str>,
    messages: &Messages,
    lines: &mut BTreeMap<String, String>,
) {
    let Some(fields) = messages.get(&message.to_ascii_lowercase()) else { return };
    if names.is_empty() {
        return;
    }
    let mut line = Vec::new();
    for field in fields {
        match (names.get(&plain(&field.name)), &field.message) {
            (Some(name), _) => line.push(format!("{}={name}", field.number)),
            (None, Some(inner)) => {
                line.push(format!("{}=/", field.number));
                add(&format!("{entry}/{}", field.number), inner, names, messages, lines);
            }
            (None, None) => {}
        }
    }
    if !line.is_empty() {
        lines.insert(entry.to_owned(), line.join(" "));
    }
}

/// Names without what differs between JSON and generated code: case, `_`, `-`, `$`.
fn plain(name: &str) -> String {
    name.trim_start_matches("r#").chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn visit(path: &Path, modules: &mut Vec<String>, messages: &mut Messages) -> Result<()> {
    for entry in std::fs::read_dir(path).with_context(|| format!("read {}", path.display()))? {
        let entry = entry?.path();
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if entry.is_dir() {
            modules.push(name);
            visit(&entry, modules, messages)?;
            modules.pop();
        } else if name == "mod.rs" {
            let source = std::fs::read_to_string(&entry).with_context(|| format!("read {}", entry.display()))?;
            read(&source, modules, messages);
        }
    }
    Ok(())
}

/// `api::apps::v1` → `io.k8s.api.apps.v1`.
fn full_name(modules: &[String], name: &str) -> String {
    let package = modules.join(".").replace("apiextensions_apiserver", "apiextensions-apiserver");
    format!("io.k8s.{}.{name}", package.replace("kube_aggregator", "kube-aggregator"))
}

fn read(source: &str, modules: &[String], messages: &mut Messages) {
    let mut current: Option<String> = None;
    let mut number = None;
    let mut is_message = false;
    let mut pending = String::new();
    for line in source.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("pub struct ").and_then(|rest| rest.split([' ', '{']).next()) {
            current = Some(full_name(modules, name));
        } else if line.starts_with("#[prost(") {
            number = line.split("tag = \"").nth(1).and_then(|rest| rest.split('"').next()?.parse().ok());
            is_message = line.starts_with("#[prost(message");
        } else if let (Some(tag), Some(owner)) = (number, &current)
            && !line.starts_with("///")
        {
            pending.push_str(line);
            if !line.ends_with(',') {
                continue;
            }
            let text = std::mem::take(&mut pending);
            number = None;
            let Some((name, of)) = text.strip_prefix("pub ").and_then(|rest| rest.split_once(':')) else { continue };
            let message = if is_message { Some(target(of, modules)) } else { None };
            let field = Field { number: tag, name: name.trim().to_owned(), message };
            messages.entry(owner.to_ascii_lowercase()).or_default().push(field);
        }
    }
}

/// The message that a field's Rust type names, relative to the module.
fn target(of: &str, modules: &[String]) -> String {
    let inner = of.rsplit_once("Option<").or_else(|| of.rsplit_once("Box<")).or_else(|| of.rsplit_once("Vec<"));
    let path = inner.map_or(of, |(_, inner)| inner).trim_end_matches([',', '>', ' ']).trim();
    let mut place = modules.to_vec();
    let mut parts: Vec<&str> = path.split("::").collect();
    let name = parts.pop().unwrap_or_default();
    for part in parts {
        match part {
            "super" => drop(place.pop()),
            part => place.push(part.to_owned()),
        }
    }
    full_name(&place, name)
}
