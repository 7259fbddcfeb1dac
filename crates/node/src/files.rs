//! The sandbox of a pod: its host name (D-22), resolv.conf and /etc/hosts (D-21), its limits.
//!
//! Upstream: `GeneratePodHostNameAndDomain`, network/dns and `ensureHostsFile` of the kubelet.

use k8s_openapi::api::core::v1::{Pod, PodDNSConfig, PodSpec};

use crate::NodeConfig;
use crate::action::{NodeFile, SandboxSpec};
use crate::limits;
use crate::state::PodState;

const HOSTNAME_MAX: usize = 63;

/// What `EnsureSandbox` needs.
pub fn sandbox(pod: &PodState, typed: &Pod, spec: &PodSpec, config: &NodeConfig, attempt: u32) -> SandboxSpec {
    let security = spec.security_context.as_ref();
    let sysctls = security.and_then(|s| s.sysctls.as_ref());
    SandboxSpec {
        pod: pod.pod.clone(),
        attempt,
        hostname: hostname(typed, config),
        host_network: spec.host_network == Some(true),
        host_pid: spec.host_pid == Some(true),
        host_ipc: spec.host_ipc == Some(true),
        share_process_namespace: spec.share_process_namespace == Some(true),
        resolv_conf: resolv_conf(spec, &pod.pod.namespace, config),
        sysctls: sysctls.into_iter().flatten().map(|s| (s.name.clone(), s.value.clone())).collect(),
        resources: limits::pod_resources(spec),
    }
}

/// The pod's host name and, when it has a subdomain, its domain.
fn names(typed: &Pod, config: &NodeConfig) -> (String, Option<String>) {
    let spec = typed.spec.as_ref();
    let given = |text: Option<&String>| text.filter(|t| !t.is_empty()).cloned();
    if let Some(name) = given(spec.and_then(|s| s.hostname_override.as_ref())) {
        return (name, None);
    }
    let own = given(spec.and_then(|s| s.hostname.as_ref()));
    let name = own.unwrap_or_else(|| {
        let name: String = typed.metadata.name.as_deref().unwrap_or_default().chars().take(HOSTNAME_MAX).collect();
        name.trim_end_matches(['-', '.']).to_owned()
    });
    let namespace = typed.metadata.namespace.as_deref().unwrap_or_default();
    let subdomain = given(spec.and_then(|s| s.subdomain.as_ref()));
    (name, subdomain.map(|sub| format!("{sub}.{namespace}.svc.{}", config.domain)))
}

/// What `hostname` prints in the pod.
pub fn hostname(typed: &Pod, config: &NodeConfig) -> String {
    if is_host_network(typed) {
        return config.name.clone();
    }
    match names(typed, config) {
        (name, Some(domain)) if typed.spec.as_ref().is_some_and(|s| s.set_hostname_as_fqdn == Some(true)) => {
            format!("{name}.{domain}")
        }
        (name, _) => name,
    }
}

fn is_host_network(typed: &Pod) -> bool {
    typed.spec.as_ref().is_some_and(|s| s.host_network == Some(true))
}

/// /etc/hosts of the pod's containers.
pub fn hosts(pod: &PodState, typed: &Pod, config: &NodeConfig) -> NodeFile {
    let mut aliases = String::new();
    for (index, alias) in typed.spec.iter().flat_map(|s| s.host_aliases.iter().flatten()).enumerate() {
        if index == 0 {
            aliases.push_str("\n# Entries added by HostAliases.\n");
        }
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        aliases.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    if is_host_network(typed) {
        return NodeFile::FromNode { append: aliases };
    }
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    let ip = pod.ip();
    match names(typed, config) {
        (name, Some(domain)) => text.push_str(&format!("{ip}\t{name}.{domain}\t{name}\n")),
        (name, None) => text.push_str(&format!("{ip}\t{name}\n")),
    }
    NodeFile::Text(text + &aliases)
}

/// resolv.conf after `dnsPolicy` and `dnsConfig`.
fn resolv_conf(spec: &PodSpec, namespace: &str, config: &NodeConfig) -> NodeFile {
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let is_cluster = match policy {
        "ClusterFirst" => spec.host_network != Some(true),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let mut dns = Resolv::default();
    if is_cluster {
        let domain = &config.domain;
        dns.servers.push(config.dns_ip.to_string());
        dns.searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
        dns.options.push(("ndots".into(), Some("5".into())));
    }
    if let Some(more) = &spec.dns_config {
        dns.add(more);
    }
    if is_cluster || policy == "None" { NodeFile::Text(dns.text()) } else { NodeFile::FromNode { append: dns.text() } }
}

#[derive(Default)]
struct Resolv {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<(String, Option<String>)>,
}

impl Resolv {
    fn add(&mut self, more: &PodDNSConfig) {
        for server in more.nameservers.iter().flatten() {
            if !self.servers.contains(server) {
                self.servers.push(server.clone());
            }
        }
        for search in more.searches.iter().flatten() {
            if !self.searches.contains(search) {
                self.searches.push(search.clone());
            }
        }
        for option in more.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            self.options.retain(|(known, _)| *known != name);
            self.options.push((name, option.value.clone()));
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        for server in &self.servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            let options: Vec<String> = self
                .options
                .iter()
                .map(|(name, value)| value.as_ref().map_or(name.clone(), |value| format!("{name}:{value}")))
                .collect();
            text.push_str(&format!("options {}\n", options.join(" ")));
        }
        text
    }
}
