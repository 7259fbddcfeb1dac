//! The environment of a container, and `$(VAR)` in its values, command and arguments.
//!
//! Guarantees: `envFrom` first, then `env` in its order, each value seeing what stands before it; service variables (N-17) under
//! them; a missing required reference is an error with the kubelet's text and stops the start (CreateContainerConfigError).
//! Upstream: `makeEnvironmentVariables` of the kubelet, its envvars package, and third_party expansion.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{self as core, ConfigMap, Pod, Secret, Service};
use stead_api::Quantity;
use stead_store::Snapshot;

use crate::NodeConfig;
use crate::facts::quantity;
use crate::plan::Around;
use crate::state::PodState;

/// The variables of a container in the order in which they are set; later ones win.
///
/// # Errors
/// The text for `state.waiting.message`.
pub fn environment(
    pod: &PodState,
    typed: &Pod,
    container: &core::Container,
    around: &Around,
) -> Result<Vec<(String, String)>, String> {
    let services = services(typed, around.snapshot);
    let mut own: Vec<(String, String)> = Vec::new();
    for source in container.env_from.iter().flatten() {
        add_all(source, &pod.pod.namespace, around.snapshot, &mut own)?;
    }
    for variable in &container.env.clone().unwrap_or_default() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(text), _) if !text.is_empty() => Some(expand(text, &lookup(&own, &services))),
            (_, Some(source)) => referenced(pod, typed, container, source, around)?,
            (_, None) => Some(String::new()),
        };
        if let Some(value) = value {
            own.push((variable.name.clone(), value));
        }
    }
    let mut all: Vec<(String, String)> = vec![("HOSTNAME".into(), crate::files::hostname(typed, around.config))];
    all.extend(services);
    all.extend(own);
    Ok(all)
}

/// The newest value of a name: the container's own before the services'.
pub fn lookup<'a>(
    own: &'a [(String, String)],
    services: &'a BTreeMap<String, String>,
) -> impl Fn(&str) -> Option<String> + 'a {
    move |name| {
        let found = own.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value);
        found.or_else(|| services.get(name)).cloned()
    }
}

/// Replaces `$(NAME)`; `$$` is a dollar; references to nothing stay as they are.
pub fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

fn add_all(
    source: &core::EnvFromSource,
    namespace: &str,
    snapshot: &Snapshot,
    own: &mut Vec<(String, String)>,
) -> Result<(), String> {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    if let Some(reference) = &source.config_map_ref {
        match snapshot.find("configmaps", namespace, &reference.name) {
            Some(object) => {
                let map = object.view::<ConfigMap>();
                own.extend(map.data.iter().flatten().map(|(key, value)| (format!("{prefix}{key}"), value.clone())));
            }
            None if reference.optional == Some(true) => {}
            None => return Err(format!("configmap \"{}\" not found", reference.name)),
        }
    }
    if let Some(reference) = &source.secret_ref {
        match snapshot.find("secrets", namespace, &reference.name) {
            Some(object) => {
                let secret = object.view::<Secret>();
                own.extend(
                    secret
                        .data
                        .iter()
                        .flatten()
                        .map(|(key, value)| (format!("{prefix}{key}"), String::from_utf8_lossy(&value.0).into_owned())),
                );
            }
            None if reference.optional == Some(true) => {}
            None => return Err(format!("secret \"{}\" not found", reference.name)),
        }
    }
    Ok(())
}

fn referenced(
    pod: &PodState,
    typed: &Pod,
    container: &core::Container,
    source: &core::EnvVarSource,
    around: &Around,
) -> Result<Option<String>, String> {
    let (namespace, snapshot) = (&pod.pod.namespace, around.snapshot);
    if let Some(field) = &source.field_ref {
        let path = &field.field_path;
        return this_field(pod, typed, path, around.config)
            .map(Some)
            .ok_or_else(|| format!("unsupported fieldPath: {path}"));
    }
    if let Some(selector) = &source.resource_field_ref {
        return resource_field(typed, selector, Some(&container.name), around.config).map(Some);
    }
    if let Some(key) = &source.config_map_key_ref {
        let is_optional = key.optional == Some(true);
        let Some(object) = snapshot.find("configmaps", namespace, &key.name) else {
            return if is_optional { Ok(None) } else { Err(format!("configmap \"{}\" not found", key.name)) };
        };
        return match object.view::<ConfigMap>().data.as_ref().and_then(|data| data.get(&key.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if is_optional => Ok(None),
            None => Err(format!("couldn't find key {} in ConfigMap {namespace}/{}", key.key, key.name)),
        };
    }
    if let Some(key) = &source.secret_key_ref {
        let is_optional = key.optional == Some(true);
        let Some(object) = snapshot.find("secrets", namespace, &key.name) else {
            return if is_optional { Ok(None) } else { Err(format!("secret \"{}\" not found", key.name)) };
        };
        return match object.view::<Secret>().data.as_ref().and_then(|data| data.get(&key.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None if is_optional => Ok(None),
            None => Err(format!("couldn't find key {} in Secret {namespace}/{}", key.key, key.name)),
        };
    }
    Ok(None)
}

fn this_field(pod: &PodState, typed: &Pod, path: &str, config: &NodeConfig) -> Option<String> {
    match path {
        "status.podIP" | "status.podIPs" => Some(pod.ip().to_string()),
        _ => field(typed, path, config),
    }
}

/// A field of the pod as the downward API prints it (ID-09).
pub fn field(typed: &Pod, path: &str, config: &NodeConfig) -> Option<String> {
    let meta = &typed.metadata;
    let spec = typed.spec.as_ref();
    let text = |value: Option<&String>| Some(value.cloned().unwrap_or_default());
    match path {
        "metadata.name" => text(meta.name.as_ref()),
        "metadata.namespace" => text(meta.namespace.as_ref()),
        "metadata.uid" => text(meta.uid.as_ref()),
        "metadata.labels" => Some(pairs(meta.labels.as_ref())),
        "metadata.annotations" => Some(pairs(meta.annotations.as_ref())),
        "spec.nodeName" => text(spec.and_then(|s| s.node_name.as_ref())),
        "spec.serviceAccountName" => text(spec.and_then(|s| s.service_account_name.as_ref())),
        "status.hostIP" | "status.hostIPs" => Some(config.node_ip.to_string()),
        _ => {
            let (map, key) = path.strip_suffix("']").and_then(|p| p.split_once("['"))?;
            let map = match map {
                "metadata.labels" => meta.labels.as_ref(),
                "metadata.annotations" => meta.annotations.as_ref(),
                _ => return None,
            };
            text(map.and_then(|m| m.get(key)))
        }
    }
}

/// `key="value"` lines, quoted as Go's %q quotes.
fn pairs(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(k, v)| format!("{k}={}", quoted(v))).collect();
    lines.join("\n")
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `limits.cpu`, `requests.memory`, … divided and rounded up; a missing limit is what the node can give.
///
/// # Errors
/// When the container or the resource does not exist.
pub fn resource_field(
    typed: &Pod,
    selector: &core::ResourceFieldSelector,
    own_name: Option<&str>,
    config: &NodeConfig,
) -> Result<String, String> {
    let name = selector.container_name.as_deref().filter(|n| !n.is_empty()).or(own_name).unwrap_or_default();
    let spec = typed.spec.as_ref();
    let mut all = spec.into_iter().flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
    let container = all.find(|c| c.name == name).ok_or_else(|| format!("container {name} not found"))?;
    let (side, which) = selector
        .resource
        .split_once('.')
        .ok_or_else(|| format!("unsupported container resource : {}", selector.resource))?;
    let resources = container.resources.as_ref();
    let list = match side {
        "limits" => resources.and_then(|r| r.limits.as_ref()),
        "requests" => resources.and_then(|r| r.requests.as_ref()),
        _ => return Err(format!("unsupported container resource : {}", selector.resource)),
    };
    let given = list.and_then(|l| l.get(which)).and_then(quantity);
    let found =
        given.filter(|q| !q.is_zero()).or_else(|| (side == "limits").then(|| config.allocatable(which)).flatten());
    let value = found.unwrap_or(Quantity::ZERO);
    let divisor =
        selector.divisor.as_ref().and_then(quantity).filter(|d| !d.is_zero()).unwrap_or(Quantity::from_int(1));
    let (value, divisor) =
        if which == "cpu" { (value.milli_value(), divisor.milli_value()) } else { (value.value(), divisor.value()) };
    let divisor = divisor.max(1);
    Ok(((i128::from(value) + i128::from(divisor) - 1) / i128::from(divisor)).to_string())
}

/// The variables of the Services that the pod sees (N-17).
pub fn services(typed: &Pod, snapshot: &Snapshot) -> BTreeMap<String, String> {
    let namespace = typed.metadata.namespace.as_deref().unwrap_or_default();
    let all = typed.spec.as_ref().and_then(|s| s.enable_service_links) != Some(false);
    let mut variables = BTreeMap::new();
    if let Some(object) = snapshot.find("services", "default", "kubernetes") {
        add_service(&object.view::<Service>(), &mut variables);
    }
    if all {
        for object in snapshot.list("services", namespace) {
            add_service(&object.view::<Service>(), &mut variables);
        }
    }
    variables
}

fn add_service(service: &Service, variables: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { return };
    let name = service.metadata.name.as_deref().unwrap_or_default().to_uppercase().replace('-', "_");
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    variables.insert(format!("{name}_SERVICE_HOST"), ip.to_owned());
    for (index, port) in spec.ports.iter().flatten().enumerate() {
        let number = port.port;
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let lower = protocol.to_lowercase();
        if index == 0 {
            variables.insert(format!("{name}_SERVICE_PORT"), number.to_string());
            variables.insert(format!("{name}_PORT"), format!("{lower}://{host}:{number}"));
        }
        if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            let port_name = port_name.to_uppercase().replace('-', "_");
            variables.insert(format!("{name}_SERVICE_PORT_{port_name}"), number.to_string());
        }
        let prefix = format!("{name}_PORT_{number}_{protocol}");
        variables.insert(prefix.clone(), format!("{lower}://{host}:{number}"));
        variables.insert(format!("{prefix}_PROTO"), lower);
        variables.insert(format!("{prefix}_PORT"), number.to_string());
        variables.insert(format!("{prefix}_ADDR"), ip.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_expand_as_upstream() {
        let lookup = |name: &str| (name == "A").then(|| "x".to_owned());
        for (text, expected) in
            [("$(A)/$(B)", "x/$(B)"), ("$$(A)", "$(A)"), ("a$", "a$"), ("$(A", "$(A"), ("$A $()", "$A $()")]
        {
            assert_eq!(expand(text, &lookup), expected, "{text}");
        }
    }

    #[test]
    fn a_service_becomes_its_variables() {
        let service = serde_json::json!({"metadata": {"name": "my-db"}, "spec": {"clusterIP": "10.96.0.7",
            "ports": [{"name": "sql", "port": 5432}]}});
        let mut variables = BTreeMap::new();
        add_service(&serde_json::from_value(service).unwrap(), &mut variables);
        let text: Vec<String> = variables.iter().map(|(k, v)| format!("{k}={v}")).collect();
        expect_test::expect![[r#"
            MY_DB_PORT=tcp://10.96.0.7:5432
            MY_DB_PORT_5432_TCP=tcp://10.96.0.7:5432
            MY_DB_PORT_5432_TCP_ADDR=10.96.0.7
            MY_DB_PORT_5432_TCP_PORT=5432
            MY_DB_PORT_5432_TCP_PROTO=tcp
            MY_DB_SERVICE_HOST=10.96.0.7
            MY_DB_SERVICE_PORT=5432
            MY_DB_SERVICE_PORT_SQL=5432
        "#]]
        .assert_eq(&(text.join("\n") + "\n"));
    }
}
