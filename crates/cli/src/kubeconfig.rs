//! Merges the cluster's context into the user's kubeconfig and takes it out again.
//!
//! Guarantees: other clusters, users, contexts and settings stay as they are; the file is replaced as a whole and keeps its mode
//! (0600 when it is new); a file that cannot be understood is left alone.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use stead_api::document::{parse_yaml, print_yaml};

/// The context's name; a second cluster merged into the same file gets its data directory's name behind it.
const NAME: &str = "stead";

/// The file to merge into: the flag, the first of $KUBECONFIG, or ~/.kube/config.
pub fn file(flag: Option<&Path>) -> PathBuf {
    if let Some(path) = flag {
        return path.to_owned();
    }
    let variable = std::env::var("KUBECONFIG").unwrap_or_default();
    match variable.split(':').find(|part| !part.is_empty()) {
        Some(first) => first.into(),
        None => PathBuf::from(std::env::var("HOME").unwrap_or_else(|_| "/root".into())).join(".kube/config"),
    }
}

/// Merges the server's own kubeconfig; answers the context's name.
pub fn merge(file: &Path, data_dir: &Path) -> Result<String> {
    let own = read(&data_dir.join("kubeconfig"))?;
    let mut config =
        if file.exists() { read(file)? } else { json!({"apiVersion": "v1", "kind": "Config", "preferences": {}}) };
    let name = context_name(&config, &own, data_dir);
    for (list, inner) in [("clusters", "cluster"), ("users", "user"), ("contexts", "context")] {
        let mut value = own[list][0][inner].clone();
        if inner == "context" {
            value = json!({"cluster": name, "user": name});
        }
        set(&mut config, list, &name, json!({"name": name, inner: value}));
    }
    config["current-context"] = json!(name);
    write(file, &config)?;
    Ok(name)
}

/// Takes the cluster of this data directory out again, whatever its name is in the file.
pub fn remove(file: &Path, data_dir: &Path) -> Result<()> {
    let (Ok(own), Ok(mut config)) = (read(&data_dir.join("kubeconfig")), read(file)) else { return Ok(()) };
    let authority = &own["clusters"][0]["cluster"]["certificate-authority-data"];
    let ours: Vec<String> = entries(&config, "clusters")
        .filter(|c| c["cluster"]["certificate-authority-data"] == *authority)
        .filter_map(|c| c["name"].as_str().map(str::to_owned))
        .collect();
    if ours.is_empty() {
        return Ok(());
    }
    for list in ["clusters", "users", "contexts"] {
        if let Some(items) = config[list].as_array_mut() {
            items.retain(|item| !ours.iter().any(|name| item["name"] == **name));
        }
    }
    if ours.iter().any(|name| config["current-context"] == **name) {
        config["current-context"] = json!("");
    }
    write(file, &config)
}

fn entries<'a>(config: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    config[list].as_array().into_iter().flatten()
}

/// `stead`, unless that names another cluster that still exists beside this one.
fn context_name(config: &Value, own: &Value, data_dir: &Path) -> String {
    let authority = |c: &Value| c["cluster"]["certificate-authority-data"].clone();
    let ours = authority(&own["clusters"][0]);
    if let Some(known) = entries(config, "clusters").find(|c| authority(c) == ours).and_then(|c| c["name"].as_str()) {
        return known.to_owned();
    }
    let server = &own["clusters"][0]["cluster"]["server"];
    let taken = entries(config, "clusters").any(|c| c["name"] == NAME && c["cluster"]["server"] != *server);
    match data_dir.file_name() {
        Some(last) if taken && data_dir != Path::new(crate::args::DATA_DIR) => {
            format!("{NAME}-{}", last.to_string_lossy())
        }
        _ => NAME.to_owned(),
    }
}

fn set(config: &mut Value, list: &str, name: &str, entry: Value) {
    if !config[list].is_array() {
        config[list] = json!([]);
    }
    let Some(items) = config[list].as_array_mut() else { return };
    match items.iter_mut().find(|item| item["name"] == name) {
        Some(item) => *item = entry,
        None => items.push(entry),
    }
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    if text.trim().is_empty() {
        return Ok(json!({"apiVersion": "v1", "kind": "Config"}));
    }
    let wrong =
        || format!("{} is not a kubeconfig; it was left as it is, name another with --kubeconfig", path.display());
    let document = parse_yaml(&text).map_err(|error| anyhow::anyhow!("{error}")).with_context(wrong)?;
    document.value.is_object().then_some(document.value).with_context(wrong)
}

fn write(path: &Path, config: &Value) -> Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    }
    let mode = fs::metadata(&path).map_or(0o600, |m| m.permissions().mode());
    let fresh = path.with_extension(format!("stead-{}", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode & 0o777).open(&fresh)?;
    file.write_all(print_yaml(config).as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, &path).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(dir: &Path, authority: &str, port: u16) {
        fs::create_dir_all(dir).unwrap();
        let text = json!({"clusters": [{"name": "stead", "cluster": {"server": format!("https://127.0.0.1:{port}"),
            "certificate-authority-data": authority}}], "users": [{"name": "stead", "user": {"client-key-data": "k"}}],
            "contexts": [{"name": "stead", "context": {}}]});
        fs::write(dir.join("kubeconfig"), text.to_string()).unwrap();
    }

    #[test]
    fn what_is_there_stays_and_two_clusters_live_side_by_side() {
        let dir = std::env::temp_dir().join(format!("stead-kubeconfig-{}", std::process::id()));
        let (one, two, file) = (dir.join("one"), dir.join("two"), dir.join("config"));
        own(&one, "AAA", 6443);
        own(&two, "BBB", 7443);
        let theirs = "apiVersion: v1\nkind: Config\ncurrent-context: prod\nclusters:\n- name: prod\n  cluster: {server: https://prod}\n\
                      contexts:\n- context: {cluster: prod, user: me, namespace: x}\n  name: prod\nusers: []\n";
        fs::write(&file, theirs).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(merge(&file, &one).unwrap(), "stead");
        assert_eq!(merge(&file, &two).unwrap(), "stead-two");
        assert_eq!(merge(&file, &one).unwrap(), "stead");
        let merged = read(&file).unwrap();
        assert_eq!(merged["contexts"][0]["context"]["namespace"], "x");
        assert_eq!(entries(&merged, "clusters").count(), 3);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        remove(&file, &one).unwrap();
        remove(&file, &two).unwrap();
        let left = read(&file).unwrap();
        assert_eq!((entries(&left, "clusters").count(), entries(&left, "users").count()), (1, 0));
        fs::write(&file, "clusters: [").unwrap();
        assert!(merge(&file, &one).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "clusters: [");
        fs::remove_dir_all(&dir).unwrap();
    }
}
