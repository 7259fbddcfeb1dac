//! `stead status`: what runs, in a few lines.

use std::path::Path;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::client;

pub fn run(data_dir: &Path) -> Result<()> {
    if !client::is_up(data_dir) {
        match data_dir.join("store").exists() {
            true => bail!("the cluster in {} is down; `stead up` starts it", data_dir.display()),
            false => bail!("there is no cluster in {}; `stead up` makes one", data_dir.display()),
        }
    }
    let own = client::get(data_dir, "/-/status")?;
    println!(
        "stead     up {} at {}, pid {}, {} MB",
        own["uptime"].as_str().unwrap_or_default(),
        own["server"].as_str().unwrap_or_default(),
        own["pid"],
        own["memoryMegabytes"]
    );
    println!("data      {}", data_dir.display());
    if let Some(trouble) = own["trouble"].as_str() {
        println!("trouble   {trouble}");
    }
    let nodes = client::get(data_dir, "/api/v1/nodes")?;
    println!("nodes     {}", summary(&nodes, ready_node));
    let pods = client::get(data_dir, "/api/v1/pods")?;
    println!("pods      {}", summary(&pods, ready_pod));
    let sets = client::get(data_dir, "/apis/apps/v1/statefulsets")?;
    for set in sets["items"].as_array().into_iter().flatten() {
        let (meta, spec, status) = (&set["metadata"], &set["spec"], &set["status"]);
        let name =
            format!("{}/{}", meta["namespace"].as_str().unwrap_or_default(), meta["name"].as_str().unwrap_or_default());
        println!("set       {name} {}/{} ready", status["readyReplicas"].as_u64().unwrap_or(0), spec["replicas"]);
    }
    Ok(())
}

fn summary(list: &Value, ready: fn(&Value) -> bool) -> String {
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    format!("{} of {} ready", items.iter().filter(|item| ready(item)).count(), items.len())
}

fn condition(object: &Value, name: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == name && c["status"] == "True")
}

fn ready_node(node: &Value) -> bool {
    condition(node, "Ready")
}

fn ready_pod(pod: &Value) -> bool {
    condition(pod, "Ready")
}
