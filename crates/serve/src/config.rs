//! What a cluster is started with: flags over what was kept from the last start, checked before anything is touched.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use stead_net::Cidr;
use stead_node::Threshold;

use crate::files::{make_dirs, write_private};

/// The least free space to start with; below it the store could not even write its first batch.
const FREE_BYTES_MIN: u64 = 64 << 20;

/// The flags of a start; None keeps what the cluster has.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub data_dir: PathBuf,
    /// Abstract socket to tell `ready` or `error …` to.
    pub notify: Option<String>,
    pub api_port: Option<u16>,
    pub nodes: Option<u32>,
    pub fake_nodes: Option<u32>,
    pub no_node: bool,
    pub service_cidr: Option<Cidr>,
    pub pod_cidr: Option<Cidr>,
    pub dns_ip: Option<Ipv4Addr>,
    pub domain: Option<String>,
    pub disk_pressure: Option<Threshold>,
    pub encryption_config: Option<PathBuf>,
    /// Of this start alone.
    pub audit: crate::audit::Options,
}

/// A cluster's facts, kept in `cluster.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Six hexadecimal digits that name interfaces, rules and cgroups of this cluster.
    pub id: String,
    pub api_port: u16,
    pub nodes: u32,
    pub fake_nodes: u32,
    pub service_cidr: Cidr,
    pub pod_cidr: Cidr,
    pub dns_ip: Ipv4Addr,
    pub domain: String,
    /// From when on the nodes have disk pressure.
    pub disk_pressure: Threshold,
    /// The EncryptionConfiguration; once there is one, the store cannot be read without it.
    pub encryption_config: Option<PathBuf>,
}

/// The file of a data directory that says what cluster it is.
pub const DESCRIPTION: &str = "cluster.json";
const API_PORT: u16 = 6443;
const SERVICE_CIDR: &str = "10.96.0.0/16";
const POD_CIDR: &str = "10.244.0.0/16";
/// Each node has a /24 of the pod range.
pub const NODE_PREFIX: u8 = 24;

impl Config {
    /// The kept facts under the flags. Ranges that another cluster on this machine uses are stepped over, unless asked for.
    ///
    /// # Errors
    /// When a flag contradicts what a cluster cannot change.
    pub fn settle(options: &Options, taken: &[Cidr], fresh_id: &str) -> Result<Config> {
        let kept = Config::load(&options.data_dir)?;
        let is_new = kept.is_none();
        let mut config = kept.unwrap_or_else(|| {
            let service_cidr = options.service_cidr.unwrap_or_else(|| free_range(SERVICE_CIDR, taken));
            Config {
                id: fresh_id.to_owned(),
                api_port: API_PORT,
                nodes: 1,
                fake_nodes: 0,
                service_cidr,
                pod_cidr: options.pod_cidr.unwrap_or_else(|| free_range(POD_CIDR, taken)),
                dns_ip: options.dns_ip.unwrap_or_else(|| offset(service_cidr, 10)),
                domain: options.domain.clone().unwrap_or_else(|| "cluster.local".into()),
                disk_pressure: Threshold::DISK_PRESSURE,
                encryption_config: None,
            }
        });
        let fixed = |flag: &str, same: bool| match same || is_new {
            true => Ok(()),
            false => bail!("{flag} cannot change once a cluster is made; use another --data-dir for another cluster"),
        };
        fixed("--service-cidr", options.service_cidr.is_none_or(|c| c == config.service_cidr))?;
        fixed("--pod-cidr", options.pod_cidr.is_none_or(|c| c == config.pod_cidr))?;
        fixed("--dns-ip", options.dns_ip.is_none_or(|ip| ip == config.dns_ip))?;
        fixed("--domain", options.domain.as_ref().is_none_or(|d| *d == config.domain))?;
        config.api_port = options.api_port.unwrap_or(config.api_port);
        config.disk_pressure = options.disk_pressure.unwrap_or(config.disk_pressure);
        config.encryption_config = options.encryption_config.clone().or(config.encryption_config);
        config.fake_nodes = options.fake_nodes.unwrap_or(config.fake_nodes);
        config.nodes = if options.no_node { 0 } else { options.nodes.unwrap_or(config.nodes.max(is_new.into())) };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        if !self.service_cidr.contains(self.dns_ip) {
            bail!("--dns-ip {} is not in the service range {}", self.dns_ip, self.service_cidr);
        }
        let most = 1u32 << (NODE_PREFIX.saturating_sub(self.pod_cidr.prefix_len())).min(16);
        if self.nodes > most {
            bail!(
                "the pod range {} has room for {most} nodes, not {}; choose a larger --pod-cidr",
                self.pod_cidr,
                self.nodes
            );
        }
        if self.api_port == 0 {
            bail!("there is no port 0; choose another with --api-port N");
        }
        Ok(())
    }

    /// The pod range of the n-th node.
    pub fn node_cidr(&self, n: u32) -> Cidr {
        let first = offset(self.pod_cidr, n << (32 - NODE_PREFIX));
        Cidr::new(first, NODE_PREFIX).unwrap_or_else(|| Cidr::host(first))
    }

    /// The n-th node's address: the first of its pod range.
    pub fn node_ip(&self, n: u32) -> Ipv4Addr {
        offset(self.node_cidr(n), 1)
    }

    /// The kept facts; None before the first start.
    pub fn load(data_dir: &Path) -> Result<Option<Config>> {
        let path = data_dir.join(DESCRIPTION);
        let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
        let value: Value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
        Config::of_json(&value).map(Some).with_context(|| format!("{} is not a cluster's description", path.display()))
    }

    /// Keeps the facts for the next start.
    pub fn save(&self, data_dir: &Path) -> Result<()> {
        write_private(&data_dir.join(DESCRIPTION), format!("{:#}\n", self.to_json()).as_bytes())
    }

    fn to_json(&self) -> Value {
        json!({"id": self.id, "apiPort": self.api_port, "nodes": self.nodes, "fakeNodes": self.fake_nodes,
            "serviceCidr": self.service_cidr.to_string(), "podCidr": self.pod_cidr.to_string(),
            "dnsIp": self.dns_ip.to_string(), "domain": self.domain,
            "evictionHard": self.disk_pressure.to_string(), "encryptionConfig": self.encryption_config})
    }

    fn of_json(value: &Value) -> Option<Config> {
        let text = |name: &str| value[name].as_str();
        let number = |name: &str| value[name].as_u64();
        Some(Config {
            id: text("id")?.to_owned(),
            api_port: number("apiPort")?.try_into().ok()?,
            nodes: number("nodes")?.try_into().ok()?,
            fake_nodes: number("fakeNodes")?.try_into().ok()?,
            service_cidr: text("serviceCidr")?.parse().ok()?,
            pod_cidr: text("podCidr")?.parse().ok()?,
            dns_ip: text("dnsIp")?.parse().ok()?,
            domain: text("domain")?.to_owned(),
            // Absent in descriptions of earlier versions.
            disk_pressure: text("evictionHard").map_or(Some(Threshold::DISK_PRESSURE), Threshold::parse)?,
            encryption_config: text("encryptionConfig").map(PathBuf::from),
        })
    }
}

/// `10.96.0.0/16`: a range that a cluster can use.
pub fn parse_cidr(text: &str) -> Option<Cidr> {
    text.parse()
        .ok()
        .filter(|range: &Cidr| (8..=NODE_PREFIX).contains(&range.prefix_len()) && range.to_string() == text)
}

/// `nodefs.available<10%`, as the kubelet's flag; the one signal there is.
pub fn parse_eviction_hard(text: &str) -> Option<Threshold> {
    Threshold::parse(text.strip_prefix("nodefs.available<")?)
}

fn offset(range: Cidr, by: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range.first()).wrapping_add(by))
}

/// The range itself, or the next one of its size that nobody uses.
fn free_range(preferred: &str, taken: &[Cidr]) -> Cidr {
    let preferred: Cidr = preferred.parse().expect("our own constants are ranges");
    let size = 1u32 << (32 - preferred.prefix_len());
    let candidates = (0..100).filter_map(|n| Cidr::new(offset(preferred, n * size), preferred.prefix_len()));
    candidates.into_iter().find(|c| !taken.iter().any(|t| t.overlaps(*c))).unwrap_or(preferred)
}

/// What must be true of the machine; each failure is one line that says what to do.
pub fn preflight(options: &Options, needs_root: bool) -> Result<()> {
    let dir = &options.data_dir;
    if needs_root && !rustix::process::geteuid().is_root() {
        bail!(
            "root is needed to run containers: use `sudo stead up`, or `stead up --no-node --data-dir DIR` for the control plane alone"
        );
    }
    make_dirs(dir, 0o755).with_context(|| format!("{} cannot be made; choose another --data-dir", dir.display()))?;
    let space = rustix::fs::statvfs(dir).with_context(|| format!("look at the disk of {}", dir.display()))?;
    let free = space.f_bavail * space.f_frsize;
    if free < FREE_BYTES_MIN {
        bail!(
            "the disk of {} is full ({} MB free): free at least {} MB or choose another --data-dir",
            dir.display(),
            free >> 20,
            FREE_BYTES_MIN >> 20
        );
    }
    Ok(())
}

/// Listens on the API's port on all addresses.
pub fn bind_api(port: u16) -> Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!("port {port} is in use; choose another with --api-port N"),
        std::io::ErrorKind::PermissionDenied => {
            anyhow::anyhow!("port {port} needs root; choose one above 1023 with --api-port N")
        }
        _ => anyhow::anyhow!("port {port} cannot be listened on: {error}"),
    })
}

/// The name of the n-th node.
pub fn node_name(n: u32) -> String {
    format!("node-{n}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(name: &str) -> Options {
        let data_dir = std::env::temp_dir().join(format!("stead-config-{name}-{}", std::process::id()));
        fs::create_dir_all(&data_dir).unwrap();
        Options { data_dir, ..Options::default() }
    }

    #[test]
    fn a_second_cluster_steps_over_ranges_in_use() {
        let options = options("second");
        let taken = [SERVICE_CIDR, POD_CIDR].map(|range| range.parse().unwrap());
        let config = Config::settle(&options, &taken, "abcdef").unwrap();
        assert_eq!(config.service_cidr.to_string(), "10.97.0.0/16");
        assert_eq!(config.pod_cidr.to_string(), "10.245.0.0/16");
        assert_eq!(config.dns_ip.to_string(), "10.97.0.10");
        assert_eq!(
            (config.node_ip(2).to_string(), config.node_cidr(2).to_string()),
            ("10.245.2.1".into(), "10.245.2.0/24".into())
        );
        config.save(&options.data_dir).unwrap();
        let again = Config::settle(&options, &[], "other1").unwrap();
        assert_eq!(again, config, "what was chosen stays");
        let moved = Options { service_cidr: parse_cidr("10.9.0.0/16"), ..options.clone() };
        assert!(Config::settle(&moved, &[], "x").unwrap_err().to_string().contains("--service-cidr cannot change"));
        fs::remove_dir_all(&options.data_dir).unwrap();
    }

    #[test]
    fn disk_pressure_is_asked_for_in_the_kubelets_words_and_kept() {
        assert_eq!(parse_eviction_hard("nodefs.available<10%"), Some(Threshold::Percent(10)));
        assert_eq!(parse_eviction_hard("nodefs.available<1Gi"), Some(Threshold::Bytes(1 << 30)));
        for wrong in
            ["10%", "memory.available<1Gi", "nodefs.available<", "nodefs.available<200%", "nodefs.available<-1"]
        {
            assert_eq!(parse_eviction_hard(wrong), None, "{wrong}");
        }
        let options = Options { disk_pressure: Some(Threshold::Bytes(7)), ..options("pressure") };
        Config::settle(&options, &[], "abcdef").unwrap().save(&options.data_dir).unwrap();
        let again = Options { disk_pressure: None, ..options.clone() };
        assert_eq!(Config::settle(&again, &[], "x").unwrap().disk_pressure, Threshold::Bytes(7));
        fs::remove_dir_all(&options.data_dir).unwrap();
    }

    #[test]
    fn a_range_names_its_first_address() {
        assert!(parse_cidr("10.96.0.0/16").is_some());
        for wrong in ["10.96.0.1/16", "10.96.0.0", "10.96.0.0/33", "x/16", "10.96.0.0/4"] {
            assert!(parse_cidr(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_port_in_use_says_what_to_do() {
        let held = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = held.local_addr().unwrap().port();
        assert_eq!(
            bind_api(port).unwrap_err().to_string(),
            format!("port {port} is in use; choose another with --api-port N")
        );
    }
}
