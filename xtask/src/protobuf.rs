//! `cargo xtask protobuf SOURCES`: the facts of Kubernetes' protobuf encoding, one message a line.
//!
//! `SOURCES` is the folder `k8s.io` with `api`, `apimachinery`, `apiextensions-apiserver` and `kube-aggregator` of v1.36, as Debian's
//! packages `golang-k8s-api-dev` and so on install it (Apache-2.0). Each
//! `generated.proto` tells the fields' numbers and types; the tags of the Go structs beside it tell their JSON names and
//! whether a zero value is left out. Only what the definitions in `schema/` name is kept, with the messages it is made of, and every
//! property found there must be found here.
//!
//! The output, `schema/protobuf.txt`, is sorted lines of `message<TAB>field…`; a field is `NUMBER:NAME:MARKS TYPE` without the
//! blank:
//! - NAME is empty for a message whose fields stand in the JSON of the one that holds it (an embedded struct);
//! - marks: `?` a pointer (present or not), `!` written even when zero, `*` a list, `%` a map from strings;
//! - types: `s` string, `y` bytes, `b` bool, `i` int32, `l` int64, `d` double; or a message: `.Name` of the same package, else in full.
//!
//! A line `message<TAB>=FIELD` is a named list: the message's JSON is that field's value.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

const OUTPUT: &str = "schema/protobuf.txt";
const DEFINITIONS: &str = "schema/definitions.txt";

/// Messages that the definitions do not name.
const MORE: &[&str] = &[
    "io.k8s.api.apidiscovery.v2.APIGroupDiscoveryList",
    "io.k8s.api.apidiscovery.v2beta1.APIGroupDiscoveryList",
    "io.k8s.apimachinery.pkg.apis.meta.v1.CreateOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.PatchOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.UpdateOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata",
    "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadataList",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
    "io.k8s.apimachinery.pkg.apis.meta.v1beta1.PartialObjectMetadataList",
];

/// Messages with a JSON form of their own: their decoding is code, not a table.
const SPECIAL: &[&str] = &[
    "io.k8s.apimachinery.pkg.api.resource.Quantity",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
    "io.k8s.apimachinery.pkg.runtime.RawExtension",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
];

/// Packages of definitions that are not sent as protobuf.
const WITHOUT: &[&str] = &["io.k8s.apimachinery.pkg.version."];

#[derive(Debug)]
struct Field {
    number: u32,
    marks: String,
    /// A letter, or the full name of a message.
    of: String,
    /// The JSON name once it is known; empty for an embedded struct.
    json: Option<String>,
}

type Messages = BTreeMap<String, Vec<Field>>;

/// What the Go sources of all packages say.
#[derive(Default)]
struct Sources {
    messages: Messages,
    /// `type MatchCondition v1.MatchCondition`: the message, and the one whose struct it is.
    same: BTreeMap<String, String>,
}

pub fn run(sources: &Path) -> Result<()> {
    let messages = read(sources)?;
    let definitions = std::fs::read_to_string(DEFINITIONS).with_context(|| format!("read {DEFINITIONS}"))?;
    let mut pending: Vec<String> = MORE.iter().map(|name| (*name).to_owned()).collect();
    for line in definitions.lines() {
        let (name, text) = line.split_once('\t').context("a line without a tab")?;
        if SPECIAL.contains(&name) || WITHOUT.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        compare(&messages, name, &serde_json::from_str(text)?)?;
        pending.push(name.to_owned());
    }
    let mut wanted = BTreeSet::new();
    while let Some(name) = pending.pop() {
        let fields = messages.get(&name).with_context(|| format!("there is no message {name}"))?;
        if wanted.insert(name) {
            let inner = fields.iter().map(|field| &field.of);
            pending.extend(inner.filter(|of| of.len() > 1 && !SPECIAL.contains(&of.as_str())).cloned());
        }
    }
    let mut output = String::new();
    for name in wanted {
        print(&mut output, &name, &messages[&name])?;
    }
    std::fs::write(OUTPUT, output).with_context(|| format!("write {OUTPUT}"))
}

fn read(folder: &Path) -> Result<Messages> {
    let mut sources = Sources::default();
    for part in ["api", "apimachinery", "apiextensions-apiserver", "kube-aggregator"] {
        visit(&folder.join(part), &mut sources)?;
    }
    let Sources { mut messages, same } = sources;
    for (name, other) in same {
        let Some(known) = messages.get(&other) else { continue };
        let tags: Vec<_> = known.iter().map(|field| (field.number, field.marks.clone(), field.json.clone())).collect();
        for field in messages.get_mut(&name).into_iter().flatten() {
            if let Some((_, marks, json)) = tags.iter().find(|(number, ..)| *number == field.number) {
                (field.marks, field.json) = (marks.clone(), json.clone());
            }
        }
    }
    Ok(messages)
}

fn print(output: &mut String, name: &str, fields: &[Field]) -> Result<()> {
    let package = &name[..=name.rfind('.').context("a message without a package")?];
    write!(output, "{name}\t")?;
    for (index, field) in fields.iter().enumerate() {
        let Some(json) = &field.json else {
            // A message that no struct stands for is a named list.
            if fields.len() > 1 || field.marks != "*" {
                bail!("{name}: no struct tags field {}", field.number);
            }
            write!(output, "={}::*{}", field.number, field.of)?;
            continue;
        };
        let of = field.of.strip_prefix(package).map_or(field.of.clone(), |short| format!(".{short}"));
        let blank = if index > 0 { " " } else { "" };
        write!(output, "{blank}{}:{json}:{}{of}", field.number, field.marks)?;
    }
    output.push('\n');
    Ok(())
}

/// Every property of a definition must be a field of the message.
fn compare(messages: &Messages, name: &str, definition: &Value) -> Result<()> {
    let mut names = BTreeSet::new();
    let mut pending = vec![name];
    while let Some(name) = pending.pop() {
        let fields = messages.get(name).with_context(|| format!("there is no message {name}"))?;
        for field in fields {
            match field.json.as_deref() {
                Some("") => pending.push(&field.of),
                Some(json) => drop(names.insert(json)),
                None => bail!("{name}: no struct tags field {}", field.number),
            }
        }
    }
    let properties = definition["properties"].as_object().into_iter().flatten().map(|(property, _)| property.as_str());
    let own: BTreeSet<&str> = properties.filter(|property| !matches!(*property, "apiVersion" | "kind")).collect();
    if let Some(missing) = own.iter().find(|property| !names.contains(**property)) {
        bail!("{name}: no field stands for {missing}");
    }
    Ok(())
}

fn visit(folder: &Path, sources: &mut Sources) -> Result<()> {
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        match path.is_dir() {
            true => visit(&path, sources)?,
            false => files.push(path),
        }
    }
    let named = |path: &PathBuf, end: &str| path.to_str().is_some_and(|path| path.ends_with(end));
    let Some(proto) = files.iter().find(|path| named(path, "/generated.proto")) else { return Ok(()) };
    let text = std::fs::read_to_string(proto).with_context(|| format!("read {}", proto.display()))?;
    let mut found = read_proto(&text).with_context(|| format!("in {}", proto.display()))?;
    let package = package_of(&text).context("no package")?;
    for path in files.iter().filter(|path| named(path, ".go") && !named(path, "_test.go")) {
        let source = std::fs::read_to_string(path)?;
        read_tags(&source, &package, &mut found);
        sources.same.extend(same_structs(&source, &package));
    }
    sources.messages.append(&mut found);
    Ok(())
}

/// `k8s.io.api.core.v1` as the definitions write it: `io.k8s.api.core.v1`.
fn swapped(name: &str) -> String {
    let rest = name.trim_start_matches('.').trim_start_matches("k8s.io.");
    let rest = rest.replace("apiextensions_apiserver", "apiextensions-apiserver");
    format!("io.k8s.{}", rest.replace("kube_aggregator", "kube-aggregator"))
}

fn package_of(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("package "))?;
    Some(swapped(line.trim_end_matches(';')))
}

/// The messages of a `generated.proto`, whose layout is a machine's.
fn read_proto(text: &str) -> Result<Messages> {
    let package = package_of(text).context("no package")?;
    let mut messages = Messages::new();
    let mut current: Option<String> = None;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("message ") {
            let name = format!("{package}.{}", name.trim_end_matches([' ', '{']));
            messages.insert(name.clone(), Vec::new());
            current = Some(name);
            continue;
        }
        let declaration = line.strip_suffix(';').and_then(|line| line.rsplit_once(" = "));
        let (Some(name), Some((declared, number)), false) = (&current, declaration, line.starts_with("//")) else {
            continue;
        };
        let (declared, _) = declared.rsplit_once(' ').with_context(|| format!("unknown declaration {line}"))?;
        let (marks, of) = match declared.split_once(' ') {
            Some(("optional", of)) => ("", of),
            Some(("repeated", of)) => ("*", of),
            Some(("map<string,", of)) => ("%", of.trim_end_matches('>')),
            _ => bail!("unknown declaration {line}"),
        };
        let of = match of {
            "string" => "s".to_owned(),
            "bytes" => "y".to_owned(),
            "bool" => "b".to_owned(),
            "int32" => "i".to_owned(),
            "int64" => "l".to_owned(),
            "double" => "d".to_owned(),
            other if other.starts_with('.') => swapped(other),
            other => format!("{package}.{other}"),
        };
        let field = Field { number: number.parse()?, marks: marks.to_owned(), of, json: None };
        messages.get_mut(name).context("no message")?.push(field);
    }
    messages.values_mut().for_each(|fields| fields.sort_by_key(|field| field.number));
    Ok(messages)
}

/// Takes names and marks from the tags of Go structs: `Name *string` and `json:"name,omitempty" protobuf:"bytes,1,opt"`.
fn read_tags(source: &str, package: &str, messages: &mut Messages) {
    let mut current: Option<String> = None;
    for line in source.lines() {
        if let Some(rest) = line.strip_prefix("type ") {
            current = rest.strip_suffix(" struct {").map(|name| format!("{package}.{name}"));
        }
        let trimmed = line.trim();
        let Some((name, fields)) = current.as_ref().and_then(|name| Some((name, messages.get_mut(name)?))) else {
            continue;
        };
        let (Some(json), Some(tag)) = (tag(trimmed, "json"), tag(trimmed, "protobuf")) else { continue };
        if trimmed.starts_with("//") {
            continue;
        }
        let Some(number) = tag.split(',').nth(1).and_then(|number| number.parse::<u32>().ok()) else { continue };
        let Some(field) = fields.iter_mut().find(|field| field.number == number) else {
            eprintln!("{name}: no message has field {number}");
            continue;
        };
        let mut words = json.split(',');
        let json_name = words.next().unwrap_or_default();
        let may_be_left_out = words.any(|word| matches!(word, "omitempty" | "omitzero" | "inline"));
        // An embedded struct has its type alone; others have a name and a type.
        let go_type = trimmed.split('`').next().unwrap_or_default().split_whitespace().nth(1).unwrap_or_default();
        match (go_type.starts_with('*'), may_be_left_out) {
            (true, _) => field.marks.insert(0, '?'),
            (false, false) => field.marks.insert(0, '!'),
            (false, true) => {}
        }
        field.json = Some(json_name.to_owned());
    }
}

/// Types that are declared as the struct of another version.
fn same_structs(source: &str, package: &str) -> Vec<(String, String)> {
    let group = package.rsplit_once('.').map_or(package, |(group, _)| group);
    let declarations = source.lines().filter_map(|line| line.strip_prefix("type ")?.split_once(' '));
    let of_versions = declarations.filter(|(_, of)| of.starts_with('v') && of.contains('.'));
    of_versions.map(|(name, of)| (format!("{package}.{name}"), format!("{group}.{of}"))).collect()
}

/// What a struct tag says under a key.
fn tag<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once('`')?.1.split_once(&format!("{key}:\""))?;
    rest.split('"').next()
}
