//! What an object uses of what quotas can limit.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;
use stead_api::Quantity;
use stead_kinds::Kind;
use stead_kinds::pod::amounts::{Amounts, Side, of_container, of_pod};

/// Kinds that may be limited by their bare name.
const BY_NAME: &[&str] = &[
    "resourcequotas",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "services",
    "persistentvolumeclaims",
    "pods",
];
const BY_CLASS: &str = ".storageclass.storage.k8s.io/";

/// `count/deployments.apps`, `count/pods`.
fn count_name(kind: &Kind) -> String {
    if kind.group.is_empty() {
        format!("count/{}", kind.plural)
    } else {
        format!("count/{}.{}", kind.plural, kind.group)
    }
}

/// Whether objects of this kind use anything that these names limit.
pub(super) fn counts_for(kind: &Kind, names: &BTreeSet<&str>) -> bool {
    if !kind.namespaced || kind.verbs != stead_kinds::Verbs::All {
        return false;
    }
    let is_compute = |name: &&str| {
        let bare = name.strip_prefix("requests.").or(name.strip_prefix("limits.")).unwrap_or(name);
        matches!(bare, "cpu" | "memory" | "ephemeral-storage")
            || bare.starts_with("hugepages-")
            || (bare != *name && bare.contains('/'))
    };
    names.contains(count_name(kind).as_str())
        || (BY_NAME.contains(&kind.storage) && names.contains(kind.storage))
        || match kind.storage {
            "pods" => names.iter().any(is_compute),
            "services" => names.iter().any(|name| name.starts_with("services.")),
            "persistentvolumeclaims" => names.iter().any(|name| *name == "requests.storage" || name.contains(BY_CLASS)),
            _ => false,
        }
}

/// Everything that an object uses, by the names that quotas know.
pub fn of_object(kind: &Kind, value: &Value, now: Timestamp) -> Amounts {
    let one = Quantity::from_int(1);
    let mut used = Amounts::from([(count_name(kind), one)]);
    match kind.storage {
        "pods" => of_a_pod(value, now, &mut used),
        "services" => of_service(&value["spec"], &mut used),
        "persistentvolumeclaims" => of_claim(value, &mut used),
        storage if BY_NAME.contains(&storage) => drop(used.insert(storage.to_owned(), one)),
        _ => {}
    }
    used
}

/// A pod that has ended uses nothing but its place among the objects.
fn of_a_pod(value: &Value, now: Timestamp, used: &mut Amounts) {
    let phase = value["status"]["phase"].as_str().unwrap_or_default();
    let is_overdue = value["metadata"]["deletionTimestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    // A pod whose grace is over no longer counts, even if its node has not said so.
    if matches!(phase, "Failed" | "Succeeded") || is_overdue.is_some_and(|end| end < now) {
        return;
    }
    used.insert("pods".into(), Quantity::from_int(1));
    let spec = &value["spec"];
    for (side, prefix) in [(Side::Requests, "requests."), (Side::Limits, "limits.")] {
        for (name, amount) in of_pod(spec, side) {
            let is_standard = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage");
            let is_bare = is_standard || name.starts_with("hugepages-");
            if side == Side::Requests && is_bare {
                used.insert(name.clone(), amount);
            }
            if is_standard || side == Side::Requests {
                used.insert(format!("{prefix}{name}"), amount);
            }
        }
    }
}

fn of_service(spec: &Value, used: &mut Amounts) {
    let ports = spec["ports"].as_array().map_or(0, Vec::len);
    let mut put = |name: &str, count: usize| {
        used.insert(name.to_owned(), Quantity::from_int(i64::try_from(count).unwrap_or(i64::MAX)));
    };
    put("services", 1);
    match spec["type"].as_str() {
        Some("NodePort") => put("services.nodeports", ports),
        Some("LoadBalancer") => {
            put("services.loadbalancers", 1);
            let has_ports = spec["allocateLoadBalancerNodePorts"] != false;
            let own = spec["ports"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|port| port["nodePort"].as_i64().unwrap_or(0) != 0);
            put("services.nodeports", if has_ports { ports } else { own.count() });
        }
        _ => {}
    }
}

fn of_claim(value: &Value, used: &mut Amounts) {
    let one = Quantity::from_int(1);
    let spec = &value["spec"];
    used.insert("persistentvolumeclaims".into(), one);
    let old_class = value["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str();
    let class = old_class.or(spec["storageClassName"].as_str()).unwrap_or_default();
    if !class.is_empty() {
        used.insert(format!("{class}{BY_CLASS}persistentvolumeclaims"), one);
    }
    if let Ok(size) = Quantity::from_value(&spec["resources"]["requests"]["storage"]) {
        used.insert("requests.storage".into(), size);
        if !class.is_empty() {
            used.insert(format!("{class}{BY_CLASS}requests.storage"), size);
        }
    }
}

/// What containers of a pod must say because a quota limits it, by name with the containers that do not.
pub fn required(kind: &Kind, value: &Value, names: &BTreeSet<&str>) -> BTreeMap<String, Vec<String>> {
    let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if kind.storage != "pods" {
        return missing;
    }
    let demanded = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
    let spec = &value["spec"];
    let whole = [of_container(spec, Side::Requests), of_container(spec, Side::Limits)];
    for name in demanded.into_iter().filter(|name| names.contains(name)) {
        let (side, resource) = match name.strip_prefix("limits.") {
            Some(resource) => (Side::Limits, resource),
            None => (Side::Requests, name.trim_start_matches("requests.")),
        };
        if whole[usize::from(side == Side::Limits)].contains_key(resource) {
            continue;
        }
        for field in ["containers", "initContainers"] {
            for container in spec[field].as_array().into_iter().flatten() {
                if !of_container(container, side).contains_key(resource) {
                    let container = container["name"].as_str().unwrap_or_default().to_owned();
                    missing.entry(name.to_owned()).or_default().push(container);
                }
            }
        }
    }
    missing.values_mut().for_each(|containers| containers.sort());
    missing
}
