//! The nodes of this process: a machine and an agent each, the network between them, and the DNS server.
//!
//! Guarantees (Isolated): ending the process stops no container; `stop` without `keep_containers` ends them all, with the
//! grace their pods ask for, so that databases shut down in order.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use stead_host::network::{Network, NetworkConfig, NodeRange};
use stead_host::{Host, HostConfig, ImageStore};
use stead_net::Cidr;
use stead_node::action::{Action, ContainerState, Observation};
use stead_node::{Input, NodeAgent, NodeConfig, node_user};
use tokio::runtime::Handle;

use crate::Server;
use crate::agent::{AgentThread, Word, words};
use crate::config::Config;

/// As many pods as a node's range has addresses for, without its own first one and the broadcast's.
const PODS_MAX: u32 = 250;
/// The grace of containers whose pod is not known.
const GRACE_SECONDS: u64 = 10;

/// One node: the machine below and the agent's thread.
struct Node {
    name: String,
    host: Arc<Host>,
    thread: AgentThread,
}

pub struct Nodes {
    server: Arc<Server>,
    nodes: Vec<Node>,
    services: Option<crate::services::Services>,
}

/// Where a node keeps what is its own.
fn node_dir(data_dir: &Path, name: &str) -> PathBuf {
    data_dir.join("nodes").join(name)
}

/// The name of the n-th node.
pub fn node_name(n: u32) -> String {
    format!("node-{n}")
}

/// The images of the cluster's nodes.
pub fn image_store(data_dir: &Path) -> Result<ImageStore> {
    Ok(ImageStore::open(&data_dir.join("images"))?)
}

fn open_network(data_dir: &Path, config: &Config) -> Result<Network> {
    let nodes = (0..config.nodes).map(|n| NodeRange { name: node_name(n), range: config.node_cidr(n) }).collect();
    let network = NetworkConfig {
        cluster_id: config.id.clone(),
        run_dir: data_dir.join("run"),
        pod_range: config.pod_cidr,
        service_range: config.service_cidr,
        dns_ip: config.dns_ip,
        nodes,
    };
    Network::open(network).context("the cluster's network could not be made")
}

impl Nodes {
    /// Starts the nodes that run containers, and those that only pretend to.
    pub fn start(server: &Arc<Server>, config: &Config, data_dir: &Path, runtime: &Handle) -> Result<Nodes> {
        let mut nodes = Nodes { server: Arc::clone(server), nodes: Vec::new(), services: None };
        if config.nodes > 0 {
            let network = Arc::new(open_network(data_dir, config)?);
            let images = Arc::new(image_store(data_dir)?);
            for n in 0..config.nodes {
                nodes.nodes.push(start_node(n, server, config, data_dir, &network, &images, runtime)?);
            }
            nodes.services = Some(crate::services::start(server, config, &network)?);
        }
        let hosts = nodes.nodes.iter().map(|node| (node.name.clone(), Arc::clone(&node.host))).collect();
        server.hosts.set(hosts).map_err(|_| anyhow::anyhow!("the nodes were started twice"))?;
        crate::fake::start(server, config)?;
        Ok(nodes)
    }

    /// Ends the agents, and unless they are kept, the containers.
    pub fn stop(&mut self, keep_containers: bool) {
        for node in &mut self.nodes {
            node.thread.stop();
        }
        if !keep_containers {
            for node in &self.nodes {
                stop_containers(&node.host, |uid| grace(&self.server, uid));
            }
        }
        self.services = None;
    }
}

fn start_node(
    n: u32,
    server: &Arc<Server>,
    config: &Config,
    data_dir: &Path,
    network: &Arc<Network>,
    images: &Arc<ImageStore>,
    runtime: &Handle,
) -> Result<Node> {
    let name = node_name(n);
    let (sender, inbox) = words();
    let (unasked, ends) = (sender.clone(), Arc::downgrade(server));
    let host = HostConfig {
        data_dir: node_dir(data_dir, &name),
        cluster_id: config.id.clone(),
        node: name.clone(),
        images: Some(Arc::clone(images)),
        network: Some(Arc::clone(network)),
        insecure_registries: Vec::new(),
    };
    let host = Host::open(host, move |observation| {
        if let (Observation::Exited(container), Some(server)) = (&observation, ends.upgrade()) {
            server.ends.ended(&container.container);
        }
        let _ = unasked.send(Word::Input(Box::new(Input::Observed(observation))));
    });
    let host = Arc::new(host.with_context(|| format!("node {name} could not be started"))?);
    let world = host.observe().with_context(|| format!("look at what runs on {name}"))?;
    let agent = NodeAgent::new(node_config(n, config, data_dir, &host), u64::from(std::process::id()));
    sender.send(Word::Input(Box::new(Input::World(world)))).ok();
    let performer = Arc::clone(&host);
    let machine = Arc::new(move |action| performer.perform(action));
    let thread = AgentThread::start(agent, machine, server, runtime, (sender, inbox))?;
    Ok(Node { name, host, thread })
}

fn node_config(n: u32, config: &Config, data_dir: &Path, host: &Host) -> NodeConfig {
    let name = node_name(n);
    NodeConfig {
        node_ip: IpAddr::V4(config.node_ip(n)),
        pod_cidr: config.node_cidr(n).to_string(),
        dns_ip: IpAddr::V4(config.dns_ip),
        domain: config.domain.clone(),
        volumes_dir: node_dir(data_dir, &name).join("volumes"),
        machine: host.machine().clone(),
        max_pods: PODS_MAX,
        labels: Default::default(),
        port: config.api_port,
        version: format!("{}.0+stead", crate::KUBERNETES_VERSION),
        user: node_user(&name),
        fence_after: None,
        name,
    }
}

/// How long a pod's containers may take to end.
fn grace(server: &Server, uid: &str) -> u64 {
    let head = server.plane.head();
    let pod = head.store.snapshot.list("pods", "").find(|pod| pod.meta.uid == uid);
    let seconds = pod.and_then(|pod| pod.view::<Pod>().spec.as_ref()?.termination_grace_period_seconds);
    seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(GRACE_SECONDS)
}

/// Ends every container of a host, all at once, then the sandboxes.
fn stop_containers(host: &Arc<Host>, grace: impl Fn(&str) -> u64) {
    let Ok(world) = host.observe() else { return };
    let stops: Vec<_> = world
        .containers
        .iter()
        .filter(|c| matches!(c.state, ContainerState::Running { .. }))
        .map(|c| {
            let grace = Duration::from_secs(grace(&c.container.pod));
            let (host, container) = (Arc::clone(host), c.container.clone());
            std::thread::spawn(move || host.perform(Action::StopContainer { container, signal: None, grace }))
        })
        .collect();
    for stop in stops {
        let _ = stop.join();
    }
    for sandbox in world.sandboxes {
        host.perform(Action::StopSandbox { pod: sandbox.pod.uid });
    }
}

/// Ends what a server that is gone left running, and takes the cluster's network away.
pub fn sweep(data_dir: &Path) -> Result<()> {
    let Some(config) = Config::load(data_dir)?.filter(|config| config.nodes > 0) else {
        // Without a node that runs anything there is nothing on the machine but files.
        return Ok(());
    };
    let network = Arc::new(open_network(data_dir, &config)?);
    let images = Arc::new(image_store(data_dir)?);
    for entry in std::fs::read_dir(data_dir.join("nodes")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let host = HostConfig {
            data_dir: entry.path(),
            cluster_id: config.id.clone(),
            node: name.clone(),
            images: Some(Arc::clone(&images)),
            network: Some(Arc::clone(&network)),
            insecure_registries: Vec::new(),
        };
        let host = Arc::new(Host::open(host, |_| {})?);
        stop_containers(&host, |_| GRACE_SECONDS);
        host.remove_all().with_context(|| format!("take the pods of {name} away"))?;
    }
    network.remove_all().context("take the cluster's network away")
}

/// Ranges that this machine uses already.
pub fn ranges_in_use() -> Vec<Cidr> {
    stead_host::network::ranges_in_use().unwrap_or_default()
}

/// The addresses of this machine's default way out, to be named by the serving certificate.
pub fn host_addresses() -> Vec<IpAddr> {
    // Connecting a datagram socket sends nothing; it only asks the routing table.
    let asked = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.connect((Ipv4Addr::new(192, 0, 2, 254), 9)).and_then(|()| socket.local_addr()));
    asked.into_iter().map(|address| address.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified()).collect()
}
